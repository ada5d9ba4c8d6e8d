package presence_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"burrow/presence"
)

// bus carries the events of every node to every node, those of the sender too,
// as a broker would on a bad day.
type bus struct {
	mu      sync.Mutex
	nodes   map[string]*member // those who listen now
	down    bool               // publishing fails
	hang    bool               // publishing waits for its context
	hush    bool               // what is published is lost
	noise   *noise             // nil: events come at once and in order
	sent    []any              // everything that was published
	flights sync.WaitGroup
}

// noise loses, doubles and delays. It decides by a hash of the event, so that a
// plan replays alike however its goroutines are scheduled.
type noise struct {
	seed  uint64
	loss  uint64 // percent
	twice uint64 // percent
	delay time.Duration
	count map[string]int
}

func (n *noise) fate(what string) (copies []time.Duration) {
	n.count[what]++
	h := fnv.New64a()
	fmt.Fprint(h, n.seed, what, n.count[what])
	x := h.Sum64()
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 32
	pick := func(limit uint64) uint64 { v := x % limit; x /= limit; return v }
	if pick(100) < n.loss {
		return nil
	}
	copies = append(copies, time.Duration(pick(1000))*n.delay/1000)
	if pick(100) < n.twice {
		copies = append(copies, time.Duration(pick(1000))*n.delay/1000)
	}
	return copies
}

var errDown = errors.New("the broker is down")

func newBus() *bus { return &bus{nodes: map[string]*member{}} }

func (b *bus) publish(ctx context.Context, event any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hang {
		b.mu.Unlock()
		<-ctx.Done()
		b.mu.Lock()
		return ctx.Err()
	}
	if b.down {
		return errDown
	}
	b.sent = append(b.sent, event)
	if b.hush {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		m := b.nodes[name]
		if b.noise == nil {
			m.apply(event)
			continue
		}
		for _, after := range b.noise.fate(fmt.Sprint(name, event)) {
			b.flights.Go(func() {
				time.Sleep(after)
				b.mu.Lock()
				defer b.mu.Unlock()
				if b.nodes[name] == m {
					m.apply(event)
				}
			})
		}
	}
	return nil
}

func (b *bus) PublishStatus(ctx context.Context, s presence.Status) error { return b.publish(ctx, s) }
func (b *bus) PublishState(ctx context.Context, s presence.State) error   { return b.publish(ctx, s) }
func (b *bus) PublishRequest(ctx context.Context, node string) error {
	return b.publish(ctx, node)
}

func (b *bus) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// statuses returns the statuses that were published, as "+alice", "~alice" and "-alice".
func (b *bus) statuses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, event := range b.sent {
		if s, ok := event.(presence.Status); ok {
			now := presence.Offline
			if s.Online {
				now = presence.Online
			}
			if s.Away {
				now = presence.Away
			}
			all = append(all, sign(s.User, now))
		}
	}
	return all
}

func sign(user string, now presence.Standing) string {
	return []string{presence.Offline: "-", presence.Online: "+", presence.Away: "~"}[now] + user
}

// member is a tracker on the bus and what its listener was told.
type member struct {
	*presence.Tracker
	bus  *bus
	name string
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	told   []string
	roster map[string]presence.Standing
	wrong  []string
}

func config() presence.Config {
	cfg := presence.DefaultConfig()
	cfg.Log = slog.New(slog.DiscardHandler)
	return cfg
}

// start begins a node of that name, which listens until it crashes or leaves.
func (b *bus) start(name string, cfg presence.Config) *member {
	m := &member{bus: b, name: name, roster: map[string]presence.Standing{}, done: make(chan struct{})}
	cfg.Node, cfg.OnChange = name, m.onChange
	m.Tracker = presence.New(cfg, b)
	b.set(func() { b.nodes[name] = m })
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	go func() {
		defer close(m.done)
		_ = m.Run(ctx)
	}()
	return m
}

func (m *member) apply(event any) {
	switch e := event.(type) {
	case presence.Status:
		m.ApplyStatus(e.User, e.Online, e.Away, e.Node, e.Incarnation, e.Version)
	case presence.State:
		m.ApplyState(e.Node, e.Incarnation, e.Version, slices.Clone(e.Users), slices.Clone(e.Away), e.Leaving, e.Part, e.Parts)
	case string:
		m.ApplyRequest(e)
	}
}

func (m *member) onChange(user string, now presence.Standing) {
	if !m.mu.TryLock() {
		panic("OnChange was called twice at the same time")
	}
	defer m.mu.Unlock()
	m.told = append(m.told, sign(user, now))
	if m.roster[user] == now {
		m.wrong = append(m.wrong, sign(user, now))
	}
	m.roster[user] = now
	if now == presence.Offline {
		delete(m.roster, user)
	}
}

// crash ends the node without a word.
func (m *member) crash() {
	m.bus.set(func() {
		if m.bus.nodes[m.name] == m {
			delete(m.bus.nodes, m.name)
		}
	})
	m.stop()
	<-m.done
}

// leave ends the node in order.
func (m *member) leave(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	m.crash()
}

// check says what differs from the users that should be online, "~alice" if they should be
// away.
func (m *member) check(users ...string) string {
	standing := map[string]presence.Standing{}
	for _, user := range users {
		if name, away := strings.CutPrefix(user, "~"); away {
			standing[name] = presence.Away
		} else {
			standing[name] = presence.Online
		}
	}
	want := slices.Sorted(maps.Keys(standing))
	got, total := m.Online()
	m.mu.Lock()
	defer m.mu.Unlock()
	var wrong []string
	if !slices.Equal(got, want) || total != len(want) {
		wrong = append(wrong, fmt.Sprintf("%s: Online is %q of %d, want %q", m.name, got, total, want))
	}
	if !maps.Equal(m.roster, standing) {
		wrong = append(wrong, fmt.Sprintf("%s: the listener's roster is %v, want %v", m.name, m.roster, standing))
	}
	if len(m.wrong) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s: told what was known: %q", m.name, m.wrong))
	}
	return strings.Join(wrong, "\n")
}

// want waits until nothing moves, at this moment, and checks who is online.
func (m *member) want(t testing.TB, users ...string) {
	t.Helper()
	synctest.Wait()
	if wrong := m.check(users...); wrong != "" {
		t.Error(wrong)
	}
}

// wantTold checks everything that the listener was told so far.
func (m *member) wantTold(t testing.TB, changes ...string) {
	t.Helper()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.told, changes) {
		t.Errorf("%s: the listener was told %q, want %q", m.name, m.told, changes)
	}
}
