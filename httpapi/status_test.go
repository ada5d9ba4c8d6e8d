package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/auth"
	"burrow/gen/edge"
)

// nobody is a Publisher and an Auth for servers that only their hub is wanted of.
type nobody struct{ Auth }

func (nobody) Mode() string                                    { return auth.ModeOpen }
func (nobody) Publish(context.Context, ...proto.Message) error { return nil }

// hubOf returns a server that neither listens nor runs.
func hubOf(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Publisher, cfg.Auth, cfg.Log = nobody{}, nobody{}, slog.New(slog.DiscardHandler)
	cfg.Edge.Queue, cfg.Edge.MaxConnectionsPerUser = 65536, 0
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cancel)
	return s
}

// noSocket takes what a session does with its socket but for writing.
type noSocket struct{ net.Conn }

func (noSocket) SetReadDeadline(time.Time) error  { return nil }
func (noSocket) SetWriteDeadline(time.Time) error { return nil }
func (noSocket) Close() error                     { return nil }

// listener is a session without a socket.
type listener struct {
	t testing.TB
	*session
}

func (s *Server) listen(t testing.TB, user, since string) *listener {
	t.Helper()
	sess := s.newSession(noSocket{}, auth.Session{Name: user}, "192.0.2.1", v1Proto)
	sess.since = since
	if got := s.hub.join(sess); got != joined {
		t.Fatalf("join: %v", got)
	}
	return &listener{t, sess}
}

// drain returns what was queued since the last time.
func (l *listener) drain() (frames []*edge.ServerFrame) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.queue.items[l.queue.head:] {
		b := new(edge.ServerBatch)
		if err := proto.Unmarshal(it.frame.payload(), b); err != nil {
			l.t.Fatal(err)
		}
		frames = append(frames, b.Frames...)
	}
	l.queue = outbox{}
	return frames
}

// watcher knows who is online as a client does, and that it is told nothing twice.
type watcher struct {
	*listener
	online map[string]standing
}

func (w *watcher) look() (statuses int) {
	w.t.Helper()
	for _, f := range w.drain() {
		if p := f.GetPresence(); p != nil {
			for _, u := range p.Users {
				w.online[u] = here
			}
			w.become(away, p.Away)
			if int(p.Total) != len(p.Users) {
				w.t.Errorf("total is %d of %d", p.Total, len(p.Users))
			}
		}
		st := f.GetStatus()
		if st == nil {
			continue
		}
		statuses++
		for _, u := range st.Online {
			if w.online[u] != absent {
				w.t.Errorf("%s came twice", u)
			}
			w.online[u] = here
		}
		for _, u := range st.Offline {
			if w.online[u] == absent {
				w.t.Errorf("%s went twice", u)
			}
			delete(w.online, u)
		}
		w.become(away, st.Away)
		w.become(here, st.Back)
		if int(st.Total) != len(w.online) {
			w.t.Errorf("total is %d, and %d are known", st.Total, len(w.online))
		}
	}
	return statuses
}

// become takes in that users are away, or back.
func (w *watcher) become(now standing, users []string) {
	w.t.Helper()
	for _, u := range users {
		if was := w.online[u]; was == absent || was == now {
			w.t.Errorf("%s is %d and becomes %d", u, was, now)
		}
		w.online[u] = now
	}
}

// Two thousand users who come within 10 s, and one who comes and goes all the time, cost a client
// five status frames a second at most; in the end everyone knows who is there.
func TestStatusIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := hubOf(t, nil)
		defer s.cancel()
		go s.keepFlushing()
		first := &watcher{s.listen(t, "first", ""), map[string]standing{}}
		statuses, worst := 0, 0
		for i := range 2000 {
			s.Status(fmt.Sprintf("user%04d", i), true)
			s.Status("flicker", i%2 == 0)
			time.Sleep(5 * time.Millisecond) // Of the bubble's time: it costs none.
			statuses += first.look()
			if i%200 == 199 {
				worst, statuses = max(worst, statuses), 0
			}
		}
		time.Sleep(time.Second)
		first.look()
		if len(first.online) != 2000 || worst > 5 || worst < 4 {
			t.Errorf("in the end %d users; at most %d frames in a second", len(first.online), worst)
		}
		// Who went and came back within one interval was never gone.
		s.Status("user0001", false)
		s.Status("user0001", true)
		time.Sleep(time.Second)
		if n := first.look(); n != 0 {
			t.Errorf("a short absence made %d frames", n)
		}
	})
}

// Whenever one joins, the list and what follows fit together: nothing twice, and in the end the
// truth.
func TestStatusFitsTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := hubOf(t, func(c *Config) { c.ListLimit = 1000 })
		defer s.cancel()
		go s.keepFlushing()
		truth := map[string]standing{}
		var watchers []*watcher
		for i := range 3000 {
			user := fmt.Sprintf("user%02d", rand.IntN(50))
			switch now := standing(rand.IntN(3)); now {
			case absent:
				delete(truth, user)
				s.Status(user, false)
			case here:
				truth[user] = now
				s.Status(user, true)
			case away:
				truth[user] = now
				s.Away(user)
			}
			if i%100 == 0 {
				watchers = append(watchers, &watcher{s.listen(t, fmt.Sprintf("w%d", i), ""), map[string]standing{}})
			}
			for _, w := range watchers {
				w.look()
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
		time.Sleep(time.Second)
		for _, w := range watchers {
			if w.look(); !maps.Equal(w.online, truth) {
				t.Errorf("%s knows %v, want %v", w.user, slices.Sorted(maps.Keys(w.online)), slices.Sorted(maps.Keys(truth)))
			}
		}
	})
}
