package main

import (
	"fmt"
	"slices"
	"testing"

	"burrow/gen/edge"
)

// TestAway has one person on two nodes, who is away only when she is on both.
func TestAway(t *testing.T) {
	in := install(t, external)
	nodes := in.startAll(t, 2)
	alice := signIn(t, nodes[0].addr, "alice")
	here, there := alice.dialV1(nodes[0].addr, ""), alice.dialV1(nodes[1].addr, "")
	var watchers []*v1
	for i, n := range nodes {
		watchers = append(watchers, signIn(t, n.addr, fmt.Sprint("watch", i)).dialV1(n.addr, ""))
	}
	online := func(f *edge.ServerFrame) bool {
		return slices.Contains(f.GetStatus().GetOnline(), "alice") || slices.Contains(f.GetPresence().GetUsers(), "alice")
	}
	count := func(w *v1) (away, back int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range w.frames {
			for _, list := range [][]string{f.GetStatus().GetAway(), f.GetPresence().GetAway()} {
				if slices.Contains(list, "alice") {
					away++
				}
			}
			if slices.Contains(f.GetStatus().GetBack(), "alice") {
				back++
			}
		}
		return away, back
	}
	say := func(c *v1, away bool) {
		c.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Activity{Activity: &edge.Activity{Away: away}}})
	}
	for _, w := range watchers {
		w.await("alice is online", online)
	}
	say(here, true)
	say(there, true)
	for _, w := range watchers {
		w.await("alice is away", func(f *edge.ServerFrame) bool { return slices.Contains(f.GetStatus().GetAway(), "alice") })
	}
	say(there, false)
	for _, w := range watchers {
		w.await("alice is back", func(f *edge.ServerFrame) bool { return slices.Contains(f.GetStatus().GetBack(), "alice") })
		if away, back := count(w); away == 0 || back == 0 || away-back > 1 || back > away {
			t.Errorf("told %d times that she is away, and %d that she is back", away, back)
		}
	}
}
