package presence_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"burrow/presence"
)

func TestUserIsAwayWhenAllTheirSessionsAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, c, watcher := b.start("a", config()), b.start("c", config()), b.start("w", config())
		a.Join("alice")
		a.Join("alice")
		c.Join("alice")
		c.want(t, "alice")
		a.Away("alice", true)
		c.Away("alice", true)
		watcher.want(t, "alice") // one tab is left
		a.Away("alice", true)
		for _, m := range []*member{a, c, watcher} {
			m.want(t, "~alice")
			m.wantTold(t, "+alice", "~alice")
		}
		c.Away("alice", false)
		watcher.want(t, "alice")
		c.Leave("alice", false) // within the grace she stays as she was
		watcher.want(t, "alice")
		time.Sleep(6 * time.Second)
		watcher.want(t, "~alice")
		a.Join("alice") // a new tab has somebody before it
		watcher.want(t, "alice")
		a.Leave("alice", false)
		watcher.want(t, "~alice") // others are here that are away
		a.Leave("alice", true)
		a.Leave("alice", true)
		watcher.want(t, "~alice")
		time.Sleep(6 * time.Second)
		watcher.want(t)
		watcher.wantTold(t, "+alice", "~alice", "+alice", "~alice", "+alice", "~alice", "-alice")
		for _, m := range []*member{a, c, watcher} {
			m.crash()
		}
	})
}

// More than there can be, or of nobody: the table stays right.
func TestAwayOfNobodyIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a := b.start("a", config())
		a.Away("alice", true)
		a.Join("alice")
		a.Away("alice", false)
		a.want(t, "alice")
		a.Away("alice", true)
		a.Away("alice", true)
		a.want(t, "~alice")
		a.Away("alice", false)
		a.want(t, "alice")
		a.Leave("alice", true)
		a.Away("alice", true) // within the grace
		a.want(t, "alice")
		a.crash()
	})
}

// Every order of a state and the changes around it comes to the same, and who stays online
// never flickers.
func TestOrderOfAwayDoesNotMatter(t *testing.T) {
	away := func(user string, version uint64) presence.Status {
		s := status(user, true, version)
		s.Away = true
		return s
	}
	whole := state(4, "alice", "bob", "carol")
	whole.Away = []string{"carol", "bob", "nobody"}
	events := []any{status("alice", true, 1), away("bob", 2), status("bob", true, 3), away("bob", 4), whole, away("alice", 5), status("bob", true, 6)}
	permute(events, func(order []any) {
		remote(t, func(t *testing.T, m *member) {
			for _, e := range order {
				m.apply(e)
			}
			m.want(t, "~alice", "bob", "~carol")
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, told := range m.told {
				if told[0] == '-' {
					t.Errorf("%v: %s", order, told)
				}
			}
		})
	})
}

func TestAwayInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.SnapshotUsers = 2
		b := newBus()
		a := b.start("a", cfg)
		users := []string{"a1", "a2", "a3", "a4", "a5"}
		var want []string
		for i, user := range users {
			a.Join(user)
			if i%2 == 0 {
				a.Away(user, true)
				user = "~" + user
			}
			want = append(want, user)
		}
		other := b.start("b", cfg) // learns it from a state
		time.Sleep(time.Second)
		other.want(t, want...)
		b.mu.Lock()
		for _, event := range b.sent {
			if s, ok := event.(presence.State); ok {
				for _, user := range s.Away {
					if !slices.Contains(s.Users, user) {
						t.Errorf("part %d of %d: %q is away and not there", s.Part, s.Parts, user)
					}
				}
			}
		}
		b.mu.Unlock()
		a.crash()
		other.crash()
	})
}

// A lost change is mended by the next heartbeat.
func TestLostAwayHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus()
		a, other := b.start("a", config()), b.start("b", config())
		a.Join("alice")
		other.want(t, "alice")
		a.Join("bob")
		other.want(t, "alice", "bob")
		a.Away("bob", true)
		other.want(t, "alice", "~bob")
		b.set(func() { b.hush = true })
		a.Away("alice", true)
		a.Away("bob", false)
		synctest.Wait()
		b.set(func() { b.hush = false })
		other.want(t, "alice", "~bob")
		time.Sleep(config().Heartbeat)
		other.want(t, "~alice", "bob")
		other.mu.Lock() // both were told of at once, in any order
		slices.Sort(other.told[3:])
		other.mu.Unlock()
		other.wantTold(t, "+alice", "+bob", "~bob", "+bob", "~alice")
		a.crash()
		other.crash()
	})
}
