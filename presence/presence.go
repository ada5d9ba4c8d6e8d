// Package presence knows who is online: a table of leases that every node holds
// alike, renewed by events and ended by time. It needs a broker only to carry
// events, which may be lost, doubled, late or out of order.
//
// A node counts its own sessions. The first session of a user takes a lease, the
// last one gives it up after a grace; both are published as a [Status], and so is that
// all of a user's sessions on the node are away, or no longer. Every
// heartbeat a node publishes its [State], all its users at once, which mends
// whatever was lost. A user is online while any node holds a lease for them; a
// node that was not heard for Config.Lease has lost its leases. They are away if they are so on
// every node that holds one.
//
// What a node says is ordered by (incarnation, version): the incarnation is the
// start of the node in Unix nanoseconds, the version counts the changes since. A
// Status and a State of the same version agree, so it does not matter which of
// the two comes first, or comes at all.
package presence

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is the [presence] table of config.toml and what cmd/app wires. A
// duration or bound of zero takes its default, except Grace.
type Config struct {
	// Heartbeat is the time between two states of this node. Default 5s.
	Heartbeat time.Duration `toml:"heartbeat" min:"10ms" max:"10m"`
	// Lease is how long another node is believed after it was last heard; it
	// must be longer than Heartbeat, and three times as long survives two lost
	// states. All nodes should agree. Default 15s.
	Lease time.Duration `toml:"lease" min:"20ms" max:"1h"`
	// Grace is how long a user stays online here after their last session ended:
	// who comes back within it, by reloading the page, was never gone. 0 is none.
	// DefaultConfig has 5s.
	Grace time.Duration `toml:"grace" min:"0s" max:"10m"`
	// ListLimit is the most names that Online returns. Default 200.
	ListLimit int `toml:"list_limit" min:"1" max:"100000"`
	// FlushInterval is the least time between two frames in which the edge tells a
	// client who came and who left; with more than 1,000 connections to a node it is
	// 0.2 ms for each of them, up to 2 s. Default 200ms.
	FlushInterval time.Duration `toml:"flush_interval" min:"10ms" max:"10s"`
	// SnapshotUsers is the most users in one published state; more are sent in
	// parts. Default 5000.
	SnapshotUsers int `toml:"snapshot_users" min:"1" max:"50000"`

	// Node is the name of this node, different from that of every other running
	// node, and at most 128 bytes. Default a random one.
	Node string `toml:"-"`
	// OnChange, if not nil, is called for every change of the merged state, in
	// order and never twice at the same time, from a goroutine of Run: everyone
	// is Offline at first, and it is never told what it knows. It may call the
	// Tracker. A listener that falls behind by tens of thousands of changes is
	// told only the last of those of one user, if it is a change.
	OnChange func(user string, now Standing) `toml:"-"`

	Log     *slog.Logger          `toml:"-"` // Default slog.Default().
	Metrics prometheus.Registerer `toml:"-"` // Default a private registry.
}

// DefaultConfig returns the defaults of the [presence] table.
func DefaultConfig() Config {
	return Config{
		Heartbeat:     5 * time.Second,
		Lease:         15 * time.Second,
		Grace:         5 * time.Second,
		ListLimit:     200,
		FlushInterval: 200 * time.Millisecond,
		SnapshotUsers: 5000,
	}
}

// Validate reports what is wrong between the settings; each alone is checked by
// package config.
func (c Config) Validate() error {
	if c = c.withDefaults(); c.Lease <= c.Heartbeat {
		return fmt.Errorf("presence.lease: %s is not longer than presence.heartbeat (%s), so users would flicker; make it three times as long", c.Lease, c.Heartbeat)
	}
	return nil
}

func (c Config) withDefaults() Config {
	def := DefaultConfig()
	if c.Heartbeat <= 0 {
		c.Heartbeat = def.Heartbeat
	}
	if c.Lease <= 0 {
		c.Lease = def.Lease
	}
	if c.ListLimit <= 0 {
		c.ListLimit = def.ListLimit
	}
	if c.SnapshotUsers <= 0 {
		c.SnapshotUsers = def.SnapshotUsers
	}
	if c.Node == "" {
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails: it ends the program instead
		c.Node = "node-" + hex.EncodeToString(id[:])
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

// Standing is how a user is there.
type Standing uint8

// What a user can be.
const (
	Offline Standing = iota // no session anywhere
	Online                  // a session, and not away
	Away                    // only sessions that are away
)

// standingOf is how the events have it.
func standingOf(online, away bool) Standing {
	switch {
	case !online:
		return Offline
	case away:
		return Away
	}
	return Online
}

// Status says that a user has, or no longer has, a lease of a node.
type Status struct {
	User        string
	Online      bool
	Away        bool // all of the user's sessions on the node are away
	Node        string
	Incarnation uint64 // the node's start, in Unix nanoseconds
	Version     uint64 // the node's version since this change
}

// State is everything that a node knows of its own users, or one part of it.
type State struct {
	Node        string
	Incarnation uint64 // the node's start, in Unix nanoseconds
	Version     uint64 // the last change that the state includes
	Users       []string
	Away        []string // those of Users who are away on the node
	Leaving     bool     // the node gives up all its leases and will not speak again
	Part, Parts uint32   // this is part Part, from 0, of Parts; Parts 0 means one
}

// Publisher sends to every node what this one has to say. The tracker makes one
// call at a time, ends its context after max(Heartbeat, 1s), and repeats what
// returned an error.
type Publisher interface {
	PublishStatus(ctx context.Context, s Status) error
	PublishState(ctx context.Context, s State) error
	// PublishRequest asks every node for its state, in the name of node.
	PublishRequest(ctx context.Context, node string) error
}

// Tracker is the table of leases as one node sees it. Its methods are safe for
// concurrent use, and none but Run and Shutdown waits for the broker or for
// Config.OnChange.
type Tracker struct {
	cfg         Config
	pub         Publisher
	log         *slog.Logger
	metrics     *metrics
	incarnation uint64

	changed wakeup // there are changes to tell
	due     wakeup // a deadline came before all others
	speak   wakeup // there is something to publish

	mu        sync.Mutex
	stop      context.CancelFunc // ends Run; nil unless it runs
	stopped   chan struct{}      // closed when Run has ended; nil before it began
	leaving   bool               // Shutdown was called
	twinSeen  bool               // another process was heard under this node's name
	version   uint64             // counts the changes of local
	local     map[string]*localUser
	nodes     map[string]*node
	visitors  map[string]time.Time // users of programs that name no node, until when
	roster    roster
	deadlines deadlines
	outbox    outbox
}

// New returns a tracker that knows nobody. Join, Leave and the Apply methods work
// at once; time, publishing and Config.OnChange need Run.
func New(cfg Config, pub Publisher) *Tracker {
	cfg = cfg.withDefaults()
	t := &Tracker{
		cfg:         cfg,
		pub:         pub,
		log:         cfg.Log.With("node", cfg.Node),
		metrics:     newMetrics(cfg.Metrics, cfg.Log),
		incarnation: uint64(time.Now().UnixNano()),
		changed:     make(wakeup, 1),
		due:         make(wakeup, 1),
		speak:       make(wakeup, 1),
		local:       map[string]*localUser{},
		nodes:       map[string]*node{},
		visitors:    map[string]time.Time{},
	}
	t.roster = newRoster(cfg.OnChange != nil)
	t.deadlines.queued = map[deadlineKey]time.Time{}
	t.outbox.statuses = map[string]Status{}
	return t
}

// Run asks the other nodes for their state, publishes heartbeats and changes,
// ends leases in time, and calls Config.OnChange, until ctx ends or Shutdown is
// called; then it returns nil. It should start when the events of the other nodes
// already reach the Apply methods, or the answers are missed and only the next
// heartbeats tell who is online. It runs once: a second call returns an error.
func (t *Tracker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	if t.leaving {
		t.mu.Unlock()
		return nil
	}
	if t.stopped != nil {
		t.mu.Unlock()
		return errors.New("presence: Run was called twice")
	}
	t.stop, t.stopped = cancel, make(chan struct{})
	defer close(t.stopped)
	t.outbox.request = true
	t.outbox.stateDue = time.Now()
	t.mu.Unlock()

	var parts sync.WaitGroup
	parts.Go(func() { t.publish(ctx) })
	parts.Go(func() { t.expire(ctx) })
	parts.Go(func() { t.notify(ctx) })
	parts.Wait()
	return nil
}

// Shutdown ends Run and tells the other nodes that this one leaves, so that they
// need not wait for its leases to end. It tries until ctx ends and then returns
// an error. Join, Leave and Apply have no effect after it. Calling it again does
// the same again, which is harmless.
func (t *Tracker) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	if !t.leaving {
		t.leaving = true
		t.version++ // after everything that was said before
	}
	if t.stop != nil {
		t.stop()
	}
	stopped := t.stopped
	state := State{Node: t.cfg.Node, Incarnation: t.incarnation, Version: t.version, Leaving: true, Parts: 1}
	t.mu.Unlock()

	if stopped != nil {
		select {
		case <-stopped:
		case <-ctx.Done():
			return fmt.Errorf("presence: the tracker is still busy: %w", ctx.Err())
		}
	}
	for wait := firstRetry; ; wait = min(2*wait, t.cfg.Heartbeat) {
		err := t.attempt(ctx, func(ctx context.Context) error { return t.pub.PublishState(ctx, state) })
		if err == nil {
			return nil
		}
		if !sleep(ctx, wait, nil) {
			return fmt.Errorf("presence: the other nodes were not told that this one leaves, and will see its users for up to %s more: %w", t.cfg.Lease, err)
		}
	}
}

// Online returns the names of the users who are online, sorted, at most
// Config.ListLimit of them, and how many users are online in all.
func (t *Tracker) Online() (users []string, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.roster.list(t.cfg.ListLimit)
}

// wakeup is a signal that is remembered until somebody waits for it.
type wakeup chan struct{}

func (w wakeup) signal() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// sleep waits for d or wake, and returns false when ctx ended instead.
func sleep(ctx context.Context, d time.Duration, wake wakeup) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}
