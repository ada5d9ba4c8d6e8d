// Package heap gives memory back to the system when a rush has passed.
//
// Go keeps what the heap had grown to, for the next rush: a process to which 5,000 people have
// connected holds nearly twice what they need, for as long as they stay and say nothing.
package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often Trim looks. What is there to see changes slowly, and a look takes some
	// microseconds.
	every = 2 * time.Second
	// quiet is how much a process that has nothing to do may allocate between two looks: what
	// looks after itself does that too.
	quiet = 1 << 20
	// pause is the least time between two collections, for those that are busy every few seconds.
	pause = time.Minute
	// least is what is worth a collection, if it is a fifth of heap and stacks as well.
	least = 8 << 20
)

// Trim collects garbage and gives what is free to the system whenever the process has been quiet
// for two seconds, if that is worth it, and once a minute at most. It returns when ctx ends. It is
// about the whole process: one is enough.
func Trim(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	now := newState()
	var trimmed time.Time
	for {
		before := now.read(allocated)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now.update()
		if now.read(allocated)-before < quiet && now.worthIt() && time.Since(trimmed) >= pause {
			debug.FreeOSMemory()
			trimmed = time.Now()
			now.update()
		}
	}
}

// Of runtime/metrics, in the order of names.
const (
	allocated = iota // Since the start.
	objects          // Those alive and those not yet collected.
	live             // Found alive by the last collection; 0 before the first one.
	free             // Not used, and not given back.
	unused           // Beside objects in their blocks: cannot be given back.
	stacks
)

var names = [...]string{
	allocated: "/gc/heap/allocs:bytes",
	objects:   "/memory/classes/heap/objects:bytes",
	live:      "/gc/heap/live:bytes",
	free:      "/memory/classes/heap/free:bytes",
	unused:    "/memory/classes/heap/unused:bytes",
	stacks:    "/memory/classes/heap/stacks:bytes",
}

// state is what the runtime knows about the heap.
type state [len(names)]metrics.Sample

func newState() *state {
	s := new(state)
	for i, name := range names {
		s[i].Name = name
	}
	s.update()
	return s
}

func (s *state) update() { metrics.Read(s[:]) }

func (s *state) read(i int) uint64 {
	if s[i].Value.Kind() != metrics.KindUint64 {
		return 0 // A Go that has no such metric.
	}
	return s[i].Value.Uint64()
}

// worthIt reports whether enough would be given back.
func (s *state) worthIt() bool {
	return worthIt(s.read(objects), s.read(live), s.read(free), s.read(unused), s.read(stacks))
}

func worthIt(objects, live, free, unused, stacks uint64) bool {
	rest := free
	if live > 0 && objects > live {
		rest += objects - live
	}
	return rest >= least && rest >= (objects+free+unused+stacks)/5
}
