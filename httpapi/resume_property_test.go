package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"burrow/gen/chat"
	"burrow/gen/edge"
)

// shelf is an archive in memory.
type shelf struct {
	mu   sync.Mutex
	msgs []*chat.ChatMessage // Sorted.
}

func (a *shelf) add(m *chat.ChatMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, found := slices.BinarySearchFunc(a.msgs, m, func(x, y *chat.ChatMessage) int { return cmp.Compare(x.Id, y.Id) })
	if !found {
		a.msgs = slices.Insert(a.msgs, at, m)
	}
}

func (a *shelf) find(want func(*chat.ChatMessage) bool) (found []*chat.ChatMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.msgs {
		if want(m) {
			found = append(found, m)
		}
	}
	return found
}

func ofTalk(m *chat.ChatMessage, users [2]string) bool {
	return m.ToUser == "" && users == [2]string{} || m.ToUser != "" && (users == [2]string{m.Sender, m.ToUser} || users == [2]string{m.ToUser, m.Sender})
}

func (a *shelf) Page(_ context.Context, before string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	found := a.find(func(m *chat.ChatMessage) bool { return ofTalk(m, users) && (before == "" || m.Id < before) })
	cut := max(0, len(found)-limit)
	return found[cut:], cut > 0, nil
}

func (a *shelf) PageAfter(_ context.Context, after string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	found := a.find(func(m *chat.ChatMessage) bool { return ofTalk(m, users) && m.Id > after })
	return found[:min(limit, len(found))], len(found) > limit, nil
}

func (a *shelf) PageAll(_ context.Context, before string, limit int) ([]*chat.ChatMessage, bool, error) {
	found := a.find(func(m *chat.ChatMessage) bool { return before == "" || m.Id < before })
	cut := max(0, len(found)-limit)
	return found[cut:], cut > 0, nil
}

// world is some nodes with one archive, a broker that hands messages to each node after a time of
// its own, and clients that follow docs/protocol.md.
type world struct {
	t       *testing.T
	rt      *rapid.T
	archive *shelf
	ids     *idClock
	nodes   []*Server
	// told is whether nodes tell the others when they start, and gaps: then clients may be cut at any
	// time. Else nobody is cut until the node has found in the archive what it did not hear.
	told    bool
	settled map[*Server]time.Time // When a node has.
	deaf    map[*Server]int       // How much was said before the broker did not reach them any more.
	clients []*person
	said    []*chat.ChatMessage
	late    map[string]bool // Said again, long after their time.
}

type person struct {
	name   string
	on     *Server // Nil: away.
	ears   *listener
	since  string
	came   time.Time
	seen   map[string]int
	joined int  // How many messages there were when they came first; -1: never.
	blind  bool // Has had to ask history, which knows no messages that are late.
}

const (
	testOverlap = 500 * time.Millisecond
	lag         = 700 * time.Millisecond // Of the archive, at most.
)

func (w *world) startNode() *Server {
	s := hubOf(w.t, func(c *Config) {
		c.Archive, c.ArchivePrivate = w.archive, true
		c.History.Buffer, c.History.Limit, c.History.ResumeOverlap = 60, 5, testOverlap
	})
	if err := s.Seed(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	go s.keepFilled()
	w.settled[s] = time.Now().Add(reseedAfter + underway + time.Millisecond)
	w.tell(s)
	return s
}

// tell has s tell the other nodes that it may not know everything.
func (w *world) tell(s *Server) {
	for _, other := range w.nodes {
		if other != s && w.told {
			other.Behind(s.cfg.Node, s.BehindSince())
		}
	}
}

func (w *world) isDeaf(s *Server) bool {
	_, deaf := w.deaf[s]
	return deaf
}

// listenAgain ends the deafness of s.
func (w *world) listenAgain(s *Server) {
	delete(w.deaf, s)
	s.Refill()
	w.settled[s] = time.Now().Add(reseedAfter + underway + time.Millisecond)
	w.tell(s)
}

// publish archives m and brings it to every node that is there now, each after a time of its own.
func (w *world) publish(m *chat.ChatMessage, after time.Duration) {
	shelve := time.Duration(rapid.IntRange(0, int(lag)).Draw(w.rt, "archive"))
	go func() { time.Sleep(after + shelve); w.archive.add(m) }()
	for i, s := range w.nodes {
		delay := time.Duration(rapid.IntRange(0, int(testOverlap)/2).Draw(w.rt, fmt.Sprint("node", i)))
		if w.isDeaf(s) {
			continue
		}
		go func() { time.Sleep(after + delay); s.Deliver(m) }()
	}
}

func (w *world) say() {
	// What is said until a node that has started is settled is less than its memory holds.
	time.Sleep(time.Duration(rapid.IntRange(60, 200).Draw(w.rt, "pause")) * time.Millisecond)
	for _, s := range w.nodes {
		if w.isDeaf(s) && len(w.said)-w.deaf[s] > 30 {
			w.listenAgain(s)
		}
	}
	from := rapid.IntRange(0, len(w.clients)-1).Draw(w.rt, "from")
	to := ""
	if rapid.IntRange(0, 2).Draw(w.rt, "private") == 0 {
		to = w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(w.rt, "to")].name
	}
	id, now := w.ids.next()
	m := &chat.ChatMessage{Id: id, Sender: w.clients[from].name, ToUser: to, Content: fmt.Sprint(len(w.said)), SentAt: timestamppb.New(now)}
	w.said = append(w.said, m)
	if rapid.IntRange(0, 9).Draw(w.rt, "late") > 0 {
		w.publish(m, 0)
		return
	}
	// It was refused, and is sent again with its old id.
	w.late[id] = true
	w.publish(m, 3*testOverlap)
}

func (w *world) connect(p *person) {
	p.on = w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(w.rt, "on")]
	p.ears, p.came = p.on.listen(w.t, p.name, p.since), time.Now()
	if p.since == "" { // Who has no message yet comes as for the first time.
		p.joined = len(w.said)
	}
	p.hear(w, -1)
}

// hear takes in the first n frames that wait, or all.
func (p *person) hear(w *world, n int) {
	frames := p.ears.drain()
	if n >= 0 {
		frames = frames[:min(n, len(frames))]
	}
	for i, f := range frames {
		if m := f.GetChat(); m != nil {
			p.see(w, m)
		}
		if welcome := f.GetWelcome(); welcome != nil {
			if i > 0 && n < 0 || welcome.PrivateGap && p.since == "" {
				w.rt.Fatalf("got %v as frame %d", welcome, i)
			}
			if !welcome.Recovered && p.since != "" {
				p.ask(w, welcome.HistoryAfter)
			}
		}
	}
}

func (p *person) see(w *world, m *edge.Chat) {
	if m.ToUser != "" && m.ToUser != p.name && m.Sender != p.name {
		w.rt.Fatalf("%s got the private %v", p.name, m)
	}
	p.seen[m.Id]++
	p.since = m.Id
}

// ask reads what is missing from the history, as docs/protocol.md says.
func (p *person) ask(w *world, after string) {
	p.blind = true
	talks := []string{""}
	for _, other := range w.clients {
		talks = append(talks, other.name)
	}
	for _, with := range talks {
		q := pageQuery{after: after, limit: 10}
		if with != "" {
			q.users = [2]string{p.name, with}
		}
		for more := true; more; {
			page, err := p.on.page(context.Background(), q)
			if err != nil {
				w.rt.Fatal(err)
			}
			for _, c := range page.Messages {
				p.seen[c.ID]++
				q.after, p.since = c.ID, max(p.since, c.ID)
			}
			more = page.HasMore
		}
	}
}

func (p *person) cut(w *world) {
	if settled := w.settled[p.on]; !w.told && p.came.Before(settled) {
		time.Sleep(time.Until(settled))
		p.hear(w, -1)
	}
	// What is on its way when a connection breaks is lost.
	p.hear(w, rapid.IntRange(0, 20).Draw(w.rt, "arrives"))
	p.on.hub.leave(p.ears.session)
	p.on, p.ears = nil, nil
}

// Whatever is said, cut, resumed and restarted in whatever order: whoever does as docs/protocol.md
// says has everything in the end.
func TestNothingIsLostByResuming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Rapid asks a *testing.T for its deadline, which a bubble does not allow.
		for range 10 { // A hundred worlds each.
			rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
				w := &world{t: t, rt: rt, archive: &shelf{}, ids: newIDClock(time.Now), late: map[string]bool{}, settled: map[*Server]time.Time{}, deaf: map[*Server]int{}}
				w.told = rapid.Bool().Draw(rt, "told")
				defer func() {
					for _, s := range w.nodes {
						s.cancel()
					}
					synctest.Wait()
				}()
				for range 2 {
					w.nodes = append(w.nodes, w.startNode())
				}
				for i := range 3 {
					w.clients = append(w.clients, &person{name: fmt.Sprint("user", i), seen: map[string]int{}, joined: -1})
				}
				restarted := false // Or deaf for a while: what is late may not be found.
				someone := func() *person {
					return w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(rt, "who")]
				}
				for range rapid.IntRange(1, 60).Draw(rt, "steps") {
					switch rapid.SampledFrom([]string{"say", "say", "say", "say", "many", "move", "move", "hear", "rest", "restart", "deaf"}).Draw(rt, "step") {
					case "say":
						w.say()
					case "many":
						for range 15 {
							w.say()
						}
					case "move":
						if p := someone(); p.on == nil {
							w.connect(p)
						} else {
							p.cut(w)
						}
					case "hear":
						if p := someone(); p.on != nil {
							p.hear(w, -1)
						}
					case "rest":
						time.Sleep(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond)
					case "deaf":
						// The link of a node breaks for longer than the broker keeps what is for it.
						if i := rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node"); w.told && !w.isDeaf(w.nodes[i]) {
							w.deaf[w.nodes[i]] = len(w.said)
							restarted = true
						} else if w.isDeaf(w.nodes[i]) {
							w.listenAgain(w.nodes[i])
						}
					case "restart":
						// What the broker still holds for a node that stops is lost to it.
						restarted = true
						i := rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node")
						for _, p := range w.clients {
							if p.on == w.nodes[i] {
								p.cut(w)
							}
						}
						delete(w.deaf, w.nodes[i])
						w.nodes[i].cancel()
						w.nodes[i].hub.close()
						time.Sleep(time.Duration(rapid.IntRange(0, 1000).Draw(rt, "down")) * time.Millisecond)
						w.nodes[i] = w.startNode()
					}
				}
				for _, s := range w.nodes {
					if w.isDeaf(s) {
						w.listenAgain(s)
					}
				}
				// All is quiet, everyone is there: and has been for as long as a node may take to find
				// in the archive what it did not hear.
				for _, p := range w.clients {
					if p.on == nil {
						w.connect(p)
					}
				}
				time.Sleep(reseedAfter + underway + 2*lag)
				for _, p := range w.clients {
					p.hear(w, -1)
					for _, m := range w.said[max(0, p.joined):] {
						mine := m.ToUser == "" || m.ToUser == p.name || m.Sender == p.name
						if mine && p.seen[m.Id] == 0 && (!w.late[m.Id] || !restarted && !p.blind) {
							rt.Errorf("%s did not get %v (late %v, restarted %v, blind %v)", p.name, m, w.late[m.Id], restarted, p.blind)
						}
					}
					p.cut(w)
				}
			})
		}
	})
}
