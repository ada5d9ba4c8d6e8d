// Package routertest holds the promises of the router, as tests that every broker
// has to pass. Whoever adds a broker describes it as a Broker and gives it to Run;
// what it cannot promise is declared there, with the reason, and shown in the table.
//
// It uses what router exports and nothing else.
package routertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"burrow/router"
)

// Broker is what the suite has to know of one broker.
type Broker struct {
	// Name heads the column of the table.
	Name string
	// Config returns the configuration of an installation of its own: a fresh topic
	// prefix, a fresh data directory, a Memory that its nodes share. It is called once
	// for each promise, skips where there is no broker, and removes with t.Cleanup
	// what the installation leaves.
	Config func(t testing.TB) router.Config
	// Redelivery is how long after the death of a process its tasks come again.
	Redelivery time.Duration
	// PublishRaw sends poison to a topic past the router. For a broker with Exclusive
	// set it is called while no node runs.
	PublishRaw func(t testing.TB, cfg router.Config, topic string, poison Poison)
	// Leftovers lists what is on the broker for single nodes: queues, consumers and
	// groups of event readers, and workers. What belongs to a function and waits for
	// its next worker is none. With Exclusive it is called while no node runs.
	Leftovers func(t testing.TB, cfg router.Config) []Leftover
	// Stall stops the traffic between the nodes and the broker, without an end of the
	// connections, until resume is called.
	Stall func(t testing.TB, cfg router.Config) (resume func())
	// Cut ends all connections between the nodes and the broker.
	Cut func(t testing.TB, cfg router.Config)
	// Exclusive says that one node at a time has the broker for itself.
	Exclusive bool
	// Lacks declares what the broker does not promise: by Need or by the name of a
	// promise, with the reason.
	Lacks map[string]string
}

// Needs of promises that a broker may lack, keys of Broker.Lacks.
const (
	// SeveralNodes: nodes work on one installation at the same time.
	SeveralNodes = "several nodes"
	// Durable: what was confirmed outlives every process. As Features says.
	Durable = "durable"
	// Processes: a node can be a process of its own, which can be killed.
	Processes = "processes"
	// RawTasks: a raw client can publish tasks (PublishRaw).
	RawTasks = "raw tasks"
	// RawEvents: a raw client can publish events while nodes run.
	RawEvents = "raw events"
	// Outside: there is something outside of the nodes to look at (Leftovers).
	Outside = "outside"
	// Link: there is a link to the broker that can fail (Stall and Cut).
	Link = "link"
)

// Poison is a kind of entry that no node of ours would write.
type Poison int

// The kinds of poison. Each is to be sent as the wire format of the broker allows.
const (
	// Garbage is a proper entry whose payload is no protobuf message.
	Garbage Poison = iota
	// Empty is an entry with as little in it as the broker takes.
	Empty
	// NoID is an entry with a payload that is a message, and nothing else.
	NoID
	// WrongTypes is an entry whose fields or headers are not of the expected types.
	WrongTypes
)

// Payload is what an entry of this kind carries.
func (p Poison) Payload() []byte {
	switch p {
	case Garbage, WrongTypes:
		return []byte("\xff\xff\xffgarbage")
	case NoID:
		return []byte("\x0a\x05no id") // text: "no id"
	}
	return nil
}

// Leftover is something on a broker that belongs to one node.
type Leftover struct {
	Name string
	// Expires is after how long without its node the broker, or any other node,
	// removes it; 0 means never.
	Expires time.Duration
}

// Promise is one row of the table.
type Promise struct {
	// Name is a short sentence, unique.
	Name string
	// Group is the heading over it.
	Group string

	needs []string
	alone bool // measures, so nothing else may run
	long  bool // waits for half a minute: begun first
	run   func(in *installation)
}

// Promises returns all of them, in the order of the table.
func Promises() []Promise {
	return slices.Concat(
		group("Events", events),
		group("Tasks", jobs),
		group("Order", order),
		group("Failure", failures),
		group("Wildcards", wildcards),
		group("Foreign entries", foreign),
		group("Crash and stop", stops),
		group("Publishing", publishing),
		group("Slow readers", slow),
		group("Broken links", links),
	)
}

func group(name string, promises []Promise) []Promise {
	promises = slices.Clone(promises)
	for i := range promises {
		promises[i].Group = name
	}
	return promises
}

// Run tests the promises on brokers: those that measure first, then all others at
// the same time. Where the flag -parallel is small that takes long, for some wait
// for half a minute; Main sets it.
func Run(t *testing.T, brokers ...Broker) {
	for _, b := range brokers {
		b.checkDeclaration(t)
	}
	promises := Promises()
	slices.SortStableFunc(promises, func(a, b Promise) int {
		switch {
		case a.long == b.long:
			return 0
		case a.long:
			return -1
		}
		return 1
	})
	for _, alone := range []bool{true, false} {
		t.Run(map[bool]string{true: "alone", false: "together"}[alone], func(t *testing.T) {
			for _, b := range brokers {
				t.Run(b.Name, func(t *testing.T) {
					if !alone {
						t.Parallel()
					}
					for _, p := range promises {
						if p.alone == alone {
							t.Run(p.Name, func(t *testing.T) { b.test(t, p) })
						}
					}
				})
			}
		})
	}
}

// checkDeclaration finds what is declared and means nothing.
func (b *Broker) checkDeclaration(t *testing.T) {
	t.Helper()
	known := []string{SeveralNodes, Durable, Processes, RawTasks, RawEvents, Outside, Link}
	for _, p := range Promises() {
		known = append(known, p.Name)
	}
	for name, reason := range b.Lacks {
		if !slices.Contains(known, name) {
			t.Errorf("%s lacks %q, which is neither a need nor a promise", b.Name, name)
		}
		if reason == "" {
			t.Errorf("%s lacks %q without a reason", b.Name, name)
		}
	}
	for need, missing := range map[string]bool{
		RawTasks: b.PublishRaw == nil, Outside: b.Leftovers == nil, Link: b.Stall == nil || b.Cut == nil,
	} {
		if missing && b.Lacks[need] == "" {
			t.Errorf("%s: what the suite needs for %q is not there, and not declared as lacking", b.Name, need)
		}
	}
}

// lacks returns why p does not apply, or "".
func (b *Broker) lacks(p Promise) string {
	if reason := b.Lacks[p.Name]; reason != "" {
		return reason
	}
	for _, need := range p.needs {
		if reason := b.Lacks[need]; reason != "" {
			return reason
		}
	}
	return ""
}

func (b *Broker) test(t *testing.T, p Promise) {
	results.record(t, *b, p)
	if !p.alone {
		t.Parallel()
	}
	if reason := b.lacks(p); reason != "" {
		t.Skip("not promised: " + reason)
	}
	p.run(install(t, b))
}

// checkFeatures compares what the driver says of itself with the declaration.
func (b *Broker) checkFeatures(t testing.TB, f router.Features) {
	t.Helper()
	for need, has := range map[string]bool{Durable: f.Durable, Processes: f.Shared || f.Durable} {
		if has == (b.Lacks[need] != "") {
			t.Errorf("%s: the driver's features are %+v, and the suite was told that it lacks %q: %q", b.Name, f, need, b.Lacks[need])
		}
	}
	if b.Exclusive && f.Shared {
		t.Error(fmt.Errorf("%s is shared and declared as exclusive", b.Name))
	}
}
