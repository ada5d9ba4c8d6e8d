package router

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/internal/brokertest"
)

const (
	// benchMessages are sent in one turn of ours and in one of the raw client.
	benchMessages = 10_000
	// benchSenders publish at the same time: each in calls of benchCall messages, where
	// it is not the publishing that is measured.
	benchSenders = 64
	benchCall    = 100
	// benchAhead bounds the events that are published and not handled yet: gochannel
	// keeps 1,024 for a function that is slow.
	benchAhead    = 1000
	benchPatience = time.Minute
)

// rawBroker is what a program does that speaks to the broker by its client alone, as
// quickly as the client's documents say it can: the mark to hold the router against.
type rawBroker interface {
	// prepare makes a new topic, and for a task its queue.
	prepare(b *testing.B, topic string, d Delivery)
	// publish sends payloads in order and returns when the broker has confirmed them.
	// Many call it at the same time.
	publish(b *testing.B, topic string, d Delivery, payloads [][]byte)
	// consume reads, decodes and acks n messages. It calls ready when it would miss nothing.
	consume(b *testing.B, topic string, d Delivery, n int, ready func())
}

// BenchmarkBroker moves messages over each broker, by the router and by the raw client,
// in turns within one run:
//
//   - publish: 64 senders, each waiting for the confirm of one task before the next;
//   - task: 10,000 tasks wait; a function, or a reader, takes and acks them;
//   - event: they are published by 64 senders, one in a call, while a function, or a reader, takes them.
//
// It reports messages/s and the CPU time of this process for each message, in µs, and
// what part of the raw client's throughput the router has (of-raw). The server of
// embedded NATS and gochannel are in this process.
func BenchmarkBroker(b *testing.B) {
	for _, broker := range []struct {
		name string
		open func(b *testing.B) (Config, rawBroker)
	}{
		{"gochannel", func(b *testing.B) (Config, rawBroker) { return testConfig(b, "gochannel"), nil }},
		{"embedded", func(b *testing.B) (Config, rawBroker) { return testConfig(b, "nats"), nil }},
		{"nats", func(b *testing.B) (Config, rawBroker) {
			cfg := testConfig(b, "nats")
			cfg.NATS.URL = brokertest.Start(b, brokertest.NATS).URL()
			return cfg, newRawNATS(b, cfg.NATS.URL)
		}},
		{"redis", func(b *testing.B) (Config, rawBroker) {
			cfg := testConfig(b, "redis")
			cfg.Redis.URL = brokertest.Start(b, brokertest.Redis).URL()
			return cfg, newRawRedis(b, cfg.Redis.URL)
		}},
		{"amqp", func(b *testing.B) (Config, rawBroker) {
			cfg := testConfig(b, "amqp")
			cfg.AMQP.URL = brokertest.Start(b, brokertest.AMQP).URL()
			return cfg, newRawAMQP(b, cfg.AMQP.URL)
		}},
	} {
		b.Run(broker.name, func(b *testing.B) {
			cfg, raw := broker.open(b)
			for _, kind := range []struct {
				name string
				ours func(b *testing.B, cfg Config, w *stopwatch)
				raw  func(b *testing.B, raw rawBroker, topic string, w *stopwatch)
			}{
				{"publish", benchPublish, rawPublish},
				{"event", benchEvent, rawEvent},
				{"task", benchTask, rawTask},
			} {
				b.Run(kind.name, func(b *testing.B) {
					var ours, theirs stopwatch
					for b.Loop() {
						cfg := cfg
						cfg.TopicPrefix, cfg.Metrics = testPrefix(), nil
						kind.ours(b, cfg, &ours)
						if raw != nil {
							kind.raw(b, raw, testPrefix(), &theirs)
						}
					}
					b.ReportMetric(0, "ns/op") // a turn is of no interest
					ours.report(b, "")
					if raw != nil {
						theirs.report(b, "-raw")
						b.ReportMetric(theirs.took.Seconds()/ours.took.Seconds(), "of-raw")
					}
				})
			}
		})
	}
}

// stopwatch adds up turns of benchMessages each.
type stopwatch struct {
	turns     int
	took, cpu time.Duration
}

// start begins a turn and returns what ends it.
func (w *stopwatch) start() (stop func()) {
	runtime.GC() // what came before is not ours to pay for
	began, spent := time.Now(), processCPU()
	return func() {
		w.took += time.Since(began)
		w.cpu += processCPU() - spent
		w.turns++
	}
}

func (w *stopwatch) report(b *testing.B, suffix string) {
	n := float64(w.turns * benchMessages)
	b.ReportMetric(n/w.took.Seconds(), "msg/s"+suffix)
	b.ReportMetric(float64(w.cpu.Microseconds())/n, "cpu-µs/msg"+suffix)
}

func benchTasks(n int) []proto.Message {
	ms := make([]proto.Message, n)
	for i := range ms {
		ms[i] = &tasks.ArchiveMessage{Message: benchChat(i)}
	}
	return ms
}

func benchEvents(n int) []proto.Message {
	ms := make([]proto.Message, n)
	for i := range ms {
		ms[i] = benchChat(i)
	}
	return ms
}

func benchChat(i int) *chat.ChatMessage {
	return &chat.ChatMessage{Id: uuid.NewString(), Sender: fmt.Sprintf("user %d", i%100), Content: "a message of the usual length, as people write them all day"}
}

func payloadsOf(b *testing.B, ms []proto.Message) [][]byte {
	b.Helper()
	out := make([][]byte, len(ms))
	for i, m := range ms {
		var err error
		if out[i], err = proto.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// decodeRaw is what every reader of typed messages has to do.
func decodeRaw(b *testing.B, d Delivery, payload []byte) {
	var m proto.Message = new(chat.ChatMessage)
	if d == Task {
		m = new(tasks.ArchiveMessage)
	}
	if err := proto.Unmarshal(payload, m); err != nil {
		b.Error(err)
	}
}

// inTurns has senders work through n things, call of them at a time.
func inTurns(n, senders, call int, send func(from, to int)) {
	var next atomic.Int64
	var done sync.WaitGroup
	for range senders {
		done.Go(func() {
			for {
				to := int(next.Add(int64(call)))
				if to-call >= n {
					return
				}
				send(to-call, min(to, n))
			}
		})
	}
	done.Wait()
}

// benchRouter opens a router whose function "bench" calls handled and counts; done is
// closed at the benchMessages-th message.
func benchRouter(b *testing.B, cfg Config, d Delivery, handled func()) (r *Router, done chan struct{}) {
	b.Helper()
	cfg.Route = func(m proto.Message) (string, string) {
		switch m := m.(type) {
		case *chat.ChatMessage:
			return m.GetId(), m.GetSender()
		case *tasks.ArchiveMessage:
			return m.GetMessage().GetId(), ""
		}
		return "", ""
	}
	r, err := New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	done = make(chan struct{})
	var n atomic.Int64
	count := func() error {
		handled()
		if n.Add(1) == benchMessages {
			close(done)
		}
		return nil
	}
	if d == Task {
		err = Handle(r, "bench", func(context.Context, *tasks.ArchiveMessage) error { return count() })
	} else {
		err = Handle(r, "bench", func(context.Context, *chat.ChatMessage) error { return count() })
	}
	if err != nil {
		b.Fatal(err)
	}
	return r, done
}

// runRouter runs r and returns what ends it.
func runRouter(b *testing.B, r *Router) (stop func()) {
	b.Helper()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.Background()) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), benchPatience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			b.Error(err)
		}
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

func await(b *testing.B, what string, done <-chan struct{}) {
	b.Helper()
	select {
	case <-done:
	case <-time.After(benchPatience):
		b.Fatalf("%s: not after %s", what, benchPatience)
	}
}

func publishAll(b *testing.B, r *Router, ms []proto.Message, senders, call int) {
	inTurns(len(ms), senders, call, func(from, to int) {
		if err := r.Publish(context.Background(), ms[from:to]...); err != nil {
			b.Error(err)
		}
	})
}

func benchPublish(b *testing.B, cfg Config, w *stopwatch) {
	cfg.Functions = []string{} // declared only: nobody reads
	r, _ := benchRouter(b, cfg, Task, func() {})
	stopRouter := runRouter(b, r)
	await(b, "the start", r.Running())
	ms := benchTasks(benchMessages)
	stop := w.start()
	publishAll(b, r, ms, benchSenders, 1)
	stop()
	stopRouter()
}

func benchEvent(b *testing.B, cfg Config, w *stopwatch) {
	ahead := make(chan struct{}, benchAhead)
	r, done := benchRouter(b, cfg, Event, func() { <-ahead })
	stopRouter := runRouter(b, r)
	await(b, "the start", r.Running())
	ms := benchEvents(benchMessages)
	stop := w.start()
	inTurns(len(ms), benchSenders, 1, func(from, to int) {
		for range to - from {
			ahead <- struct{}{}
		}
		if err := r.Publish(context.Background(), ms[from:to]...); err != nil {
			b.Error(err)
		}
	})
	await(b, "the last event", done)
	stop()
	stopRouter()
}

func benchTask(b *testing.B, cfg Config, w *stopwatch) {
	if cfg.Driver == "gochannel" {
		cfg.Memory = NewMemory() // outlives the router that publishes
	}
	publisher := cfg
	publisher.Functions = []string{}
	r, _ := benchRouter(b, publisher, Task, func() {})
	stopRouter := runRouter(b, r)
	await(b, "the start", r.Running())
	publishAll(b, r, benchTasks(benchMessages), 8, benchCall)
	stopRouter()

	r, done := benchRouter(b, cfg, Task, func() {})
	stop := w.start()
	stopRouter = runRouter(b, r)
	await(b, "the last task", done)
	stop()
	stopRouter()
}

func rawPublish(b *testing.B, raw rawBroker, topic string, w *stopwatch) {
	raw.prepare(b, topic, Task)
	payloads := payloadsOf(b, benchTasks(benchMessages))
	stop := w.start()
	inTurns(len(payloads), benchSenders, 1, func(from, to int) { raw.publish(b, topic, Task, payloads[from:to]) })
	stop()
}

func rawEvent(b *testing.B, raw rawBroker, topic string, w *stopwatch) {
	raw.prepare(b, topic, Event)
	payloads := payloadsOf(b, benchEvents(benchMessages))
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		raw.consume(b, topic, Event, benchMessages, func() { close(ready) })
	}()
	await(b, "the reader", ready)
	stop := w.start()
	inTurns(len(payloads), benchSenders, 1, func(from, to int) { raw.publish(b, topic, Event, payloads[from:to]) })
	await(b, "the last event", done)
	stop()
}

func rawTask(b *testing.B, raw rawBroker, topic string, w *stopwatch) {
	raw.prepare(b, topic, Task)
	payloads := payloadsOf(b, benchTasks(benchMessages))
	inTurns(len(payloads), 8, benchCall, func(from, to int) { raw.publish(b, topic, Task, payloads[from:to]) })
	stop := w.start()
	raw.consume(b, topic, Task, benchMessages, func() {})
	stop()
}
