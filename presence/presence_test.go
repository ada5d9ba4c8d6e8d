package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"burrow/presence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReloadWithinGraceIsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		a.want(t, "alice")
		for range 3 {
			a.Leave("alice", false)
			time.Sleep(4 * time.Second)
			a.Join("alice")
			time.Sleep(7 * time.Second)
		}
		a.want(t, "alice")
		a.wantTold(t, "+alice")
		other.wantTold(t, "+alice")
		if got := b.statuses(); !slices.Equal(got, []string{"+alice"}) {
			t.Errorf("published %q", got)
		}

		a.Leave("alice", false)
		time.Sleep(5*time.Second - time.Nanosecond)
		a.want(t, "alice")
		time.Sleep(time.Nanosecond)
		a.want(t)
		other.want(t)
		other.wantTold(t, "+alice", "-alice")
		a.crash()
		other.crash()
	})
}

func TestUserIsOnlineUntilTheLastTabIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Grace = 0
		b := newBus()
		a := b.start("a", cfg)
		a.Join("alice")
		a.Join("alice")
		a.Leave("alice", false)
		a.want(t, "alice")
		a.Leave("alice", false)
		a.want(t)
		a.Leave("alice", false) // one too many, and of nobody
		a.Leave("bob", false)
		a.want(t)
		a.Join("alice")
		a.want(t, "alice")
		a.wantTold(t, "+alice", "-alice", "+alice")
		a.crash()
	})
}

func TestUserOnTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, c, watcher := b.start("a", config()), b.start("c", config()), b.start("w", config())
		a.Join("alice")
		c.Join("alice")
		a.Leave("alice", false)
		time.Sleep(6 * time.Second)
		for _, m := range []*member{a, c, watcher} {
			m.want(t, "alice")
			m.wantTold(t, "+alice")
		}
		c.Leave("alice", false)
		time.Sleep(6 * time.Second)
		for _, m := range []*member{a, c, watcher} {
			m.want(t)
			m.wantTold(t, "+alice", "-alice")
			m.crash()
		}
	})
}

func TestNewNodeLearnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a := b.start("a", config())
		a.Join("alice")
		time.Sleep(time.Second)
		late := b.start("late", config())
		late.want(t, "alice")
		a.crash()
		late.crash()
	})
}

func TestCrashedNodeIsGoneWithinItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		synctest.Wait()
		a.Join("bob")
		synctest.Wait()
		other.Join("bob")
		time.Sleep(12 * time.Second) // its last heartbeat was less than 5 s ago
		a.crash()
		time.Sleep(10 * time.Second)
		other.want(t, "alice", "bob")
		time.Sleep(5 * time.Second)
		other.want(t, "bob")
		other.wantTold(t, "+alice", "+bob", "-alice")
		other.crash()
	})
}

func TestOrderlyLeaveIsKnownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		other.Join("bob")
		synctest.Wait()
		a.leave(t)
		other.want(t, "bob")
		if err := a.Run(t.Context()); err != nil {
			t.Errorf("Run after Shutdown: %v", err)
		}

		// What comes late raises no ghost.
		b.mu.Lock()
		sent := slices.Clone(b.sent)
		b.mu.Unlock()
		for _, event := range sent {
			other.apply(event)
		}
		other.want(t, "bob")
		other.crash()
	})
}

func TestRestartWipesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		synctest.Wait()
		a.Join("carol")
		synctest.Wait()
		other.Join("bob")
		synctest.Wait()
		b.mu.Lock()
		before := slices.Clone(b.sent)
		b.mu.Unlock()

		a.crash()
		time.Sleep(time.Second)
		b.set(func() { b.hush = true }) // its first state and request are lost
		again := b.start("a", config())
		synctest.Wait()
		b.set(func() { b.hush = false })
		again.Join("alice")
		other.want(t, "alice", "bob") // carol has no session any more
		other.wantTold(t, "+alice", "+carol", "+bob", "-carol")
		for _, event := range before {
			other.apply(event)
		}
		other.want(t, "alice", "bob")
		time.Sleep(5 * time.Second)
		again.want(t, "alice", "bob")
		again.crash()
		other.crash()
	})
}

func TestLostEventsHealByTheNextHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		synctest.Wait()
		b.set(func() { b.hush = true })
		a.Join("bob")
		a.Leave("alice", false)
		time.Sleep(9 * time.Second) // a heartbeat is lost too
		other.want(t, "alice")
		b.set(func() { b.hush = false })
		time.Sleep(5 * time.Second)
		other.want(t, "bob")
		a.crash()
		other.crash()
	})
}

func TestDeadBrokerHoldsNobodyUp(t *testing.T) {
	for _, how := range []string{"it refuses", "it hangs"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBus()
				a, other := b.start("a", config()), b.start("b", config())
				synctest.Wait()
				b.set(func() { b.down, b.hang = how == "it refuses", how == "it hangs" })
				time.Sleep(6 * time.Second)

				begin := time.Now()
				var want []string
				for i := range 3000 { // more than may wait
					want = append(want, fmt.Sprintf("user-%04d", i))
					a.Join(want[i])
				}
				a.Join("gone")
				a.Leave("gone", false)
				if d := time.Since(begin); d > 0 {
					t.Errorf("joining took %s", d)
				}
				if _, total := a.Online(); total != 3001 {
					t.Errorf("%d users are online here, want 3001", total)
				}
				time.Sleep(6 * time.Second)
				b.set(func() { b.down, b.hang = false, false })
				time.Sleep(10 * time.Second)
				got, total := other.Online()
				if total != 3000 || !slices.Equal(got, want[:200]) {
					t.Errorf("online: %d users, the first %d of them listed; want 3000 and 200", total, len(got))
				}
				a.crash()
				other.crash()
			})
		})
	}
}

func TestShutdownWithADeadBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a := b.start("a", config())
		a.Join("alice")
		b.set(func() { b.down = true })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if err := a.Shutdown(ctx); !errors.Is(err, errDown) {
			t.Errorf("Shutdown: %v, want %v", err, errDown)
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("Shutdown took %s", d)
		}
		a.crash()
	})
}

func TestRunTwiceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newBus().start("a", config())
		synctest.Wait()
		if err := a.Run(t.Context()); err == nil {
			t.Error("the second Run returned nil")
		}
		a.crash()
	})
}

// remote drives the Apply methods of one tracker by hand.
func remote(t *testing.T, test func(t *testing.T, m *member)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newBus().start("self", config())
		synctest.Wait()
		test(t, m)
		m.crash()
	})
}

func status(user string, online bool, version uint64) presence.Status {
	return presence.Status{User: user, Online: online, Node: "far", Incarnation: 7, Version: version}
}

func state(version uint64, users ...string) presence.State {
	return presence.State{Node: "far", Incarnation: 7, Version: version, Users: users, Parts: 1}
}

func TestOrderAcrossTopicsDoesNotMatter(t *testing.T) {
	// alice +1, bob +2, alice -3, carol +4, alice +5, bob -6: the statuses and a
	// state of any version in between, in every order.
	events := []any{
		status("alice", true, 1), status("bob", true, 2), status("alice", false, 3),
		status("alice", true, 5), status("bob", false, 6), state(4, "bob", "carol"),
	}
	remote(t, func(t *testing.T, m *member) {
		incarnation := uint64(7)
		permute(events, func(events []any) {
			incarnation++
			for _, event := range events {
				switch e := event.(type) {
				case presence.Status:
					e.Incarnation = incarnation
					event = e
				case presence.State:
					e.Incarnation = incarnation
					event = e
				}
				m.apply(event)
				m.apply(event) // and twice
			}
			synctest.Wait()
			if wrong := m.check("alice", "carol"); wrong != "" {
				t.Fatalf("%v: %s", events, wrong)
			}
		})
	})
}

func permute(events []any, visit func([]any)) {
	var rec func(k int)
	rec = func(k int) {
		if k == len(events) {
			visit(events)
			return
		}
		for i := k; i < len(events); i++ {
			events[k], events[i] = events[i], events[k]
			rec(k + 1)
			events[k], events[i] = events[i], events[k]
		}
	}
	rec(0)
}

func TestStateBesideStatusDoesNotFlicker(t *testing.T) {
	remote(t, func(t *testing.T, m *member) {
		m.apply(status("alice", true, 2)) // there is a gap before it
		m.apply(state(1))                 // an older state that does not know alice yet
		m.apply(state(2, "alice"))
		m.apply(state(2, "alice"))
		m.apply(state(1))
		m.apply(status("alice", true, 2))
		m.wantTold(t, "+alice")
		m.want(t, "alice")
		m.apply(status("alice", false, 4)) // overtakes +bob 3
		m.apply(status("bob", true, 3))
		m.apply(status("alice", true, 2))
		m.want(t, "bob")
	})
}

func TestNodeThatComesBackAfterItsLease(t *testing.T) {
	remote(t, func(t *testing.T, m *member) {
		m.apply(state(5, "alice"))
		time.Sleep(15 * time.Second)
		m.want(t)
		m.apply(status("ghost", true, 4)) // stale, though the node is gone
		m.apply(state(4, "ghost"))
		m.want(t)
		m.apply(state(5, "alice")) // the same node, nothing changed there
		m.want(t, "alice")
		m.wantTold(t, "+alice", "-alice", "+alice")
		time.Sleep(15 * time.Second)
		m.want(t)
		time.Sleep(time.Hour) // forgotten by now
		m.apply(status("alice", true, 6))
		m.want(t, "alice")
	})
}

func TestLeaseOfANodeThatCameBackSoonAfterItLeft(t *testing.T) {
	remote(t, func(t *testing.T, m *member) {
		m.apply(state(1, "alice"))
		time.Sleep(14 * time.Second)
		m.apply(presence.State{Node: "far", Incarnation: 7, Version: 2, Leaving: true})
		time.Sleep(2 * time.Second)
		m.apply(presence.State{Node: "far", Incarnation: 8, Version: 1, Users: []string{"bob"}})
		time.Sleep(15*time.Second - time.Nanosecond)
		m.want(t, "bob")
		time.Sleep(time.Nanosecond)
		m.want(t)
	})
}

func TestStateInParts(t *testing.T) {
	part := func(version uint64, i, of uint32, users ...string) presence.State {
		return presence.State{Node: "far", Incarnation: 7, Version: version, Users: users, Part: i, Parts: of}
	}
	remote(t, func(t *testing.T, m *member) {
		m.apply(state(1, "alice", "zoe"))
		m.apply(part(5, 1, 3, "carol"))
		m.apply(part(5, 0, 3, "alice", "bob"))
		m.apply(part(5, 0, 3, "alice", "bob")) // doubled
		m.apply(part(5, 3, 3, "nonsense"))
		m.want(t, "alice", "zoe")          // not all there yet
		m.apply(status("bob", false, 6))   // newer than the state
		m.apply(status("zoe", false, 3))   // part of the state
		m.apply(part(4, 2, 3, "nonsense")) // of an older state
		m.want(t, "alice")
		m.apply(part(5, 2, 3, "dave"))
		m.want(t, "alice", "carol", "dave")
		m.apply(part(8, 0, 2, "alice")) // its other part is lost
		m.apply(part(9, 1, 2, "carol"))
		m.apply(part(9, 0, 2, "bob"))
		m.want(t, "bob", "carol")
		m.apply(part(9, 1, 2, "carol"))
		time.Sleep(14 * time.Second)
		m.apply(part(9, 1, 2, "carol")) // half a state is a sign of life
		time.Sleep(14 * time.Second)
		m.want(t, "bob", "carol")
		m.apply(presence.State{Node: "far", Incarnation: 8, Version: 1, Users: []string{"new"}, Part: 0, Parts: 2})
		m.want(t) // another incarnation has none of the old users
		m.apply(presence.State{Node: "far", Incarnation: 8, Version: 1, Users: []string{"newer"}, Part: 1, Parts: 2})
		m.want(t, "new", "newer")
	})
}

func TestLargeStatesAreSentInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.SnapshotUsers = 100
		b := newBus()
		a := b.start("a", cfg)
		synctest.Wait()
		b.set(func() { b.hush = true })
		var want []string
		for i := range 250 {
			// Names that are long enough to fill a part by their bytes alone.
			want = append(want, fmt.Sprintf("%03d", i)+strings.Repeat("é", 2000))
			a.Join(want[i])
		}
		synctest.Wait()
		b.set(func() { b.hush, b.sent = false, nil })
		other := b.start("b", cfg)
		time.Sleep(time.Second)
		if got, total := other.Online(); total != 250 || !slices.Equal(got, want[:200]) {
			t.Errorf("%d of %d users listed, want 200 of 250", len(got), total)
		}
		b.mu.Lock()
		parts := 0
		for _, event := range b.sent {
			if s, ok := event.(presence.State); ok && s.Node == "a" {
				parts++
				size := 0
				for _, user := range s.Users {
					size += len(user)
				}
				if s.Parts < 3 || len(s.Users) > 100 || size > 300<<10 {
					t.Errorf("part %d of %d has %d users and %d bytes", s.Part, s.Parts, len(s.Users), size)
				}
			}
		}
		b.mu.Unlock()
		if parts < 3 {
			t.Errorf("%d parts", parts)
		}
		a.crash()
		other.crash()
	})
}

func TestWordOfAProgramWithoutANodeHoldsForOneLease(t *testing.T) {
	remote(t, func(t *testing.T, m *member) {
		m.ApplyStatus("alice", true, false, "", 0, 0)
		m.ApplyStatus("bob", true, false, "", 0, 0)
		m.ApplyStatus("carol", true, false, "script", 0, 0)
		time.Sleep(10 * time.Second)
		m.ApplyStatus("alice", true, false, "", 0, 0) // says it again
		m.ApplyStatus("bob", false, false, "", 0, 0)
		m.ApplyStatus("bob", false, false, "", 0, 0)
		m.want(t, "alice", "carol")
		time.Sleep(5 * time.Second)
		m.want(t, "alice")
		time.Sleep(10*time.Second - time.Nanosecond)
		m.want(t, "alice")
		time.Sleep(time.Nanosecond)
		m.want(t)
		m.wantTold(t, "+alice", "+bob", "+carol", "-bob", "-carol", "-alice")
	})
}

func TestOwnEventsAreIgnored(t *testing.T) {
	remote(t, func(t *testing.T, m *member) {
		m.Join("alice")
		m.ApplyStatus("alice", false, false, "self", 1, 99)
		m.ApplyState("self", 1, 99, nil, nil, false, 0, 1)
		m.ApplyState("self", ^uint64(0), 1, []string{"ghost"}, nil, false, 0, 1) // another process of that name
		m.ApplyState("self", 1, 99, nil, nil, true, 0, 1)
		m.want(t, "alice")
	})
}

func TestRequestsAreAnsweredAtOnceButNotOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a := b.start("a", config())
		time.Sleep(time.Second)
		states := func() int {
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			n := 0
			for _, event := range b.sent {
				if _, ok := event.(presence.State); ok {
					n++
				}
			}
			return n
		}
		if got := states(); got != 1 {
			t.Fatalf("%d states at start, want 1", got)
		}
		a.ApplyRequest("b")
		if got := states(); got != 2 {
			t.Errorf("%d states after a request, want 2", got)
		}
		for range 100 {
			a.ApplyRequest("c")
		}
		a.ApplyRequest("a") // one's own
		time.Sleep(time.Second)
		if got := states(); got != 3 {
			t.Errorf("%d states after many requests, want 3", got)
		}
		a.crash()
	})
}

func TestListenerMayCallTheTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		var tracker *presence.Tracker
		var mu sync.Mutex
		var told []string
		cfg.OnChange = func(user string, now presence.Standing) {
			mu.Lock()
			told = append(told, sign(user, now))
			mu.Unlock()
			if user == "alice" && now == presence.Online {
				tracker.Join("echo")
			}
			tracker.Online()
		}
		tracker = presence.New(cfg, newBus())
		tracker.Join("alice")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tracker.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"+alice", "+echo"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
