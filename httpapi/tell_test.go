package httpapi

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"burrow/auth"
)

// TestWhatIsToldTogetherIsWholeAndInOrder delivers private and public messages while the writers
// are busy, and has people come in between: each gets what is for them, in the order in which it
// came, as history or live, and once.
func TestWhatIsToldTogetherIsWholeAndInOrder(t *testing.T) {
	for range 50 {
		s := hubOf(t, nil)
		users := []string{"alice", "bob", "carol", "dave"}
		var sessions []*listener
		var want [][]string
		var public []string // All that is in the history.
		for i := range 200 {
			switch rand.IntN(12) {
			case 0:
				if len(sessions) < 8 {
					l := s.listen(t, users[rand.IntN(len(users))], "")
					sessions, want = append(sessions, l), append(want, slices.Clone(public[max(0, len(public)-s.hub.historyLimit):]))
					for _, e := range s.hub.pending {
						if e.chat.ToUser == "" || e.isFor(l.session) {
							want[len(want)-1] = append(want[len(want)-1], e.chat.Content)
						}
					}
				}
			case 1:
				s.hub.mu.Lock()
				s.hub.writing = rand.IntN(2)
				s.hub.mu.Unlock()
			case 2:
				s.hub.mu.Lock()
				s.hub.tell()
				s.hub.mu.Unlock()
			default:
				c := &chatFrame{ID: fmt.Sprintf("%08d-0000-7000-8000-000000000000", i), Sender: users[rand.IntN(len(users))], Content: fmt.Sprint(i)}
				if rand.IntN(3) == 0 {
					c.ToUser = users[rand.IntN(len(users))]
				}
				e := entry{chat: c}
				n := 0
				for k, l := range sessions {
					if c.ToUser == "" || e.isFor(l.session) {
						n++
						want[k] = append(want[k], c.Content)
					}
				}
				if got, _ := s.hub.deliver(c); got != n {
					t.Fatalf("delivered to %d sessions, want %d", got, n)
				}
			}
			public = public[:0]
			for _, e := range s.hub.global.items {
				public = append(public, e.chat.Content)
			}
		}
		s.hub.mu.Lock()
		s.hub.tell()
		s.hub.mu.Unlock()
		for k, l := range sessions {
			var got []string
			for _, f := range l.drain() {
				if c := f.GetChat(); c != nil {
					got = append(got, c.GetContent())
				}
			}
			if !slices.Equal(got, want[k]) {
				t.Fatalf("%s got %v, want %v", l.user, got, want[k])
			}
		}
	}
}

// TestMessagesThatComeDuringARoundAreOnePiece: with the writers busy, ten messages are one frame
// for a v1 session, and one piece of ten frames for a plain one; both count for ten.
func TestMessagesThatComeDuringARoundAreOnePiece(t *testing.T) {
	s := hubOf(t, nil)
	proto, text := s.listen(t, "alice", ""), s.newSession(nil, auth.Session{Name: "bob"}, "192.0.2.1", plain)
	if got := s.hub.join(text); got != joined {
		t.Fatal(got)
	}
	proto.drain()
	text.queue.drop()
	s.hub.writing = 1
	for i := range 10 {
		s.hub.deliver(&chatFrame{ID: fmt.Sprintf("%08d-0000-7000-8000-000000000000", i), Sender: "carol", Content: fmt.Sprint(i)})
	}
	if n := text.queue.len() + proto.queue.len(); n != 0 {
		t.Fatalf("%d pieces were told while the writers were busy", n)
	}
	s.hub.written()
	for _, q := range []*outbox{&proto.queue, &text.queue} {
		if q.len() != 1 || q.live != 10 {
			t.Errorf("%d pieces that count for %d", q.len(), q.live)
		}
	}
	if got := strings.Count(string(text.queue.items[0].frame), `"sender":"carol"`); got != 10 {
		t.Errorf("the plain piece has %d messages", got)
	}
	if got := len(proto.drain()); got != 10 {
		t.Errorf("the v1 piece has %d messages", got)
	}
}
