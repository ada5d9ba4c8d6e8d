package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"burrow/gen/edge"
)

// TestKilledNode kills one of two nodes: its users are gone within the lease and a second, those who
// are at the other node too are not, and nobody else is touched.
func TestKilledNode(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a lease")
	}
	const lease = 5 * time.Second
	for _, b := range []*broker{external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel() // They wait for the lease.
			in := install(t, b, "BURROW_AUTH_MODE=open", "BURROW_PRESENCE_LEASE="+lease.String())
			doomed, other := in.spawn(t, "burrow is open"), in.spawn(t, "burrow is open")
			var theirs, ours, both []string
			join := func(node *child, name string) {
				c, err := dialLean(node.addr(), name, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.close)
				go drain(c)
			}
			for i := range 20 {
				theirs, ours, both = append(theirs, fmt.Sprint("theirs ", i)), append(ours, fmt.Sprint("ours ", i)), append(both, fmt.Sprint("both ", i))
				join(doomed, theirs[i])
				join(other, ours[i])
				join(doomed, both[i])
				join(other, both[i])
			}
			w := watchPresence(t, other.addr(), "witness")
			all := slices.Sorted(slices.Values(slices.Concat(theirs, ours, both, []string{"witness"})))
			w.until(patience, "everybody is online", func() bool { return slices.Equal(w.names(), all) })
			w.forget()

			late := newLateness()
			doomed.kill()
			killed := time.Now()
			rest := slices.Sorted(slices.Values(slices.Concat(ours, both, []string{"witness"})))
			w.until(patience, "the users of the killed node are gone", func() bool { return slices.Equal(w.names(), rest) })
			took := time.Since(killed)
			busy := late.stop()
			t.Logf("gone after %.2f s, with a lease of %s; timers were %s late together", took.Seconds(), lease, busy)
			if took > 2*lease+busy { // A second late on an idle machine, and no second lease on any.
				t.Errorf("they were gone %s after the kill, later than a second lease of %s", took, lease)
			}
			came, left := w.changes()
			if len(came) > 0 || !slices.Equal(slices.Sorted(slices.Values(left)), slices.Sorted(slices.Values(theirs))) {
				t.Errorf("%v came and %v left, want only the users of the killed node to leave", came, left)
			}
			if code := other.interrupt(); code != exitOK {
				t.Errorf("exit code of the other node: %d", code)
			}
		})
	}
}

// TestTabsAndReloads closes the tabs of a user one after the other, and has another reload the page:
// the one leaves after the last tab and the grace, of the other nobody hears.
func TestTabsAndReloads(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the grace")
	}
	const grace = 3 * time.Second
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel() // They wait for the grace.
			in := install(t, b, "BURROW_AUTH_MODE=open", "BURROW_PRESENCE_GRACE="+grace.String())
			nodes := in.startAll(t, b.nodes)
			here, there := nodes[0].addr, nodes[len(nodes)-1].addr
			dial := func(addr, name string) *lean {
				t.Helper()
				c, err := dialLean(addr, name, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.close)
				go drain(c)
				return c
			}
			tabs := []*lean{dial(here, "tabby"), dial(here, "tabby"), dial(there, "tabby")}
			page := dial(there, "reloader")
			w := watchPresence(t, there, "witness")
			w.until(patience, "all three are online", func() bool {
				return slices.Equal(w.names(), []string{"reloader", "tabby", "witness"})
			})
			w.forget()

			tabs[0].close()
			tabs[2].close()
			for range 5 { // Reloads, each well within the grace.
				page.close()
				page = dial(there, "reloader")
			}
			// What is heard of after the reloads and a grace is heard of in order: somebody else comes.
			timer := time.NewTimer(2 * grace)
			defer timer.Stop()
			<-timer.C
			dial(here, "marker")
			w.until(patience, "the marker is online", func() bool { return slices.Contains(w.names(), "marker") })
			if came, left := w.changes(); !slices.Equal(came, []string{"marker"}) || len(left) > 0 {
				t.Errorf("%v came and %v left, want nobody but the marker", came, left)
			}
			closed := time.Now()
			tabs[1].close()
			w.until(patience, "tabby is gone", func() bool { return !slices.Contains(w.names(), "tabby") })
			if took := time.Since(closed); took < grace {
				t.Errorf("tabby was gone %s after the last tab, within the grace of %s", took, grace)
			}
			if _, left := w.changes(); !slices.Equal(left, []string{"tabby"}) {
				t.Errorf("%v left", left)
			}
			for _, n := range nodes {
				n.stop()
			}
		})
	}
}

// drain reads until the connection ends.
func drain(c *lean) {
	for {
		if _, err := c.read(); err != nil {
			return
		}
	}
}

// watcher knows who is online as a client does: from the list at first, and the changes.
type watcher struct {
	t testing.TB

	mu         sync.Mutex
	online     map[string]bool
	total      int
	came, left []string
	frames     []time.Time // When the frames about it came.
}

func watchPresence(t testing.TB, addr, name string) *watcher {
	t.Helper()
	c, err := dialLean(addr, name, "")
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, online: map[string]bool{}}
	done := make(chan struct{})
	t.Cleanup(func() { c.close(); <-done })
	go func() {
		defer close(done)
		for {
			frames, err := c.frames()
			if err != nil {
				return
			}
			for _, f := range frames {
				w.take(f)
			}
		}
	}()
	return w
}

func (w *watcher) take(f *edge.ServerFrame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f.GetPresence() != nil:
		for _, name := range f.GetPresence().GetUsers() {
			w.online[name] = true
		}
		w.total = int(f.GetPresence().GetTotal())
	case f.GetStatus() != nil:
		for _, name := range f.GetStatus().GetOnline() {
			if w.online[name] {
				w.t.Errorf("%s came, and was there", name)
			}
			w.online[name] = true
		}
		for _, name := range f.GetStatus().GetOffline() {
			if !w.online[name] {
				w.t.Errorf("%s left, and was not there", name)
			}
			delete(w.online, name)
		}
		w.came = append(w.came, f.GetStatus().GetOnline()...)
		w.left = append(w.left, f.GetStatus().GetOffline()...)
		w.total = int(f.GetStatus().GetTotal())
	default:
		return
	}
	w.frames = append(w.frames, time.Now())
}

// names returns who is online, sorted.
func (w *watcher) names() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.online {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// forget forgets the changes until now.
func (w *watcher) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.came, w.left = nil, nil
}

func (w *watcher) changes() (came, left []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.came), slices.Clone(w.left)
}

// until waits until ok, which looks at w.
func (w *watcher) until(within time.Duration, what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, within, what, ok)
}

// lateness sums up how late timers are, on a machine that has other things to do.
type lateness struct {
	quit chan struct{}
	sum  chan time.Duration
}

func newLateness() *lateness {
	l := &lateness{make(chan struct{}), make(chan time.Duration, 1)}
	go func() {
		const step = 20 * time.Millisecond
		var sum time.Duration
		for last := time.Now(); ; {
			select {
			case <-l.quit:
				l.sum <- sum
				return
			case <-time.After(step):
			}
			now := time.Now()
			sum += now.Sub(last) - step
			last = now
		}
	}()
	return l
}

// stop returns how late they were together.
func (l *lateness) stop() time.Duration {
	close(l.quit)
	return <-l.sum
}
