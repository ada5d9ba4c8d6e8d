package presence_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"burrow/presence"
)

// step is one thing that happens to the nodes of a plan.
type step struct {
	What string
	Node int
	User int           // who joins; else which of those who are there
	Then time.Duration // how long nothing else happens
}

// TestAllNodesConverge lets users come, go and be away, nodes crash, leave and restart,
// and the broker fail, over a bus that loses, doubles and reorders. Once the bus
// behaves again every node knows the truth within a lease and a heartbeat; and at
// all times each listener hears what it did not know.
func TestAllNodesConverge(t *testing.T) {
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			What: rapid.SampledFrom([]string{
				"join", "join", "join", "join", "leave", "leave", "reload", "reload", "away", "away", "away", "back",
				"crash", "stop", "start", "start", "broker",
			}).Draw(rt, "what"),
			Node: rapid.IntRange(0, 2).Draw(rt, "node"),
			User: rapid.IntRange(0, 4).Draw(rt, "user"),
			Then: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 30, 300, 2000, 9000}).Draw(rt, "then")) * time.Millisecond,
		}
	}), 5, 60)
	rapid.Check(t, func(rt *rapid.T) {
		plan := steps.Draw(rt, "plan")
		n := &noise{
			seed:  rapid.Uint64().Draw(rt, "seed"),
			loss:  rapid.Uint64Range(0, 50).Draw(rt, "loss"),
			twice: rapid.Uint64Range(0, 50).Draw(rt, "twice"),
			delay: time.Duration(rapid.IntRange(0, 3000).Draw(rt, "delay")) * time.Millisecond,
			count: map[string]int{},
		}
		var wrong string
		synctest.Test(t, func(t *testing.T) { wrong = follow(t, plan, n) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// follow carries out a plan and returns what is wrong in the end.
func follow(t *testing.T, plan []step, n *noise) string {
	b := newBus()
	b.noise = n
	cfg := config()
	cfg.SnapshotUsers = 2
	var nodes [3]*member
	var sessions [3]map[string][]bool // whether each is away
	start := func(i int) {
		nodes[i] = b.start(fmt.Sprintf("n%d", i), cfg)
		sessions[i] = map[string][]bool{}
	}
	for i := range nodes {
		start(i)
	}
	for _, s := range plan {
		m, user := nodes[s.Node], fmt.Sprintf("user%d", s.User)
		if here := slices.Sorted(maps.Keys(sessions[s.Node])); s.What != "join" && len(here) > 0 {
			user = here[s.User%len(here)]
		}
		switch {
		case s.What == "broker":
			b.set(func() { b.down = !b.down })
		case s.What == "start" && m == nil:
			time.Sleep(time.Nanosecond) // no process starts in no time
			start(s.Node)
		case m == nil:
		case s.What == "join":
			m.Join(user)
			sessions[s.Node][user] = append(sessions[s.Node][user], false)
		case s.What == "leave" && len(sessions[s.Node][user]) > 0:
			mine := sessions[s.Node][user]
			m.Leave(user, mine[0])
			if sessions[s.Node][user] = mine[1:]; len(mine) == 1 {
				delete(sessions[s.Node], user)
			}
		case s.What == "reload" && len(sessions[s.Node][user]) > 0:
			mine := sessions[s.Node][user]
			m.Leave(user, mine[0])
			time.Sleep(s.Then)
			m.Join(user)
			mine[0] = false
		case s.What == "away" || s.What == "back":
			away := s.What == "away"
			mine := sessions[s.Node][user]
			if i := slices.Index(mine, !away); i >= 0 {
				m.Away(user, away)
				mine[i] = away
			}
		case s.What == "crash", s.What == "stop":
			if s.What == "stop" && !b.down {
				m.leave(t)
			}
			m.crash()
			nodes[s.Node], sessions[s.Node] = nil, nil
		}
		time.Sleep(s.Then)
	}

	// The bus behaves. What is on its way comes within its delay; then a crashed
	// node has a lease, a lost event a heartbeat, a failed publish its backoff.
	b.set(func() { b.down, b.noise.loss = false, 0 })
	time.Sleep(n.delay + cfg.Lease + 2*cfg.Heartbeat + n.delay)
	synctest.Wait()
	here := map[string]bool{} // and not away
	for _, users := range sessions {
		for user, mine := range users {
			here[user] = here[user] || slices.Contains(mine, false)
		}
	}
	var want []string
	for user, here := range here {
		if !here {
			user = "~" + user
		}
		want = append(want, user)
	}
	var wrong []string
	for _, m := range nodes {
		if m == nil {
			continue
		}
		if w := m.check(want...); w != "" {
			wrong = append(wrong, w)
		}
		m.crash()
	}
	b.flights.Wait()
	return strings.Join(wrong, "\n")
}

// BenchmarkOnline asks for the list after each change, as newcomers make the edge do.
func BenchmarkOnline(b *testing.B) {
	for _, users := range []int{1_000, 50_000} {
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			cfg := config()
			cfg.Grace = 0
			tracker := presence.New(cfg, newBus())
			for i := range users {
				tracker.Join(fmt.Sprintf("user-%06d", i))
			}
			tracker.Online()
			b.ReportAllocs()
			for b.Loop() {
				tracker.Join("newcomer")
				tracker.Online()
				tracker.Leave("newcomer", false)
			}
		})
	}
}
