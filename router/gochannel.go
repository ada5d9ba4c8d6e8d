package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Bounds of the in-process broker.
const (
	memoryEventQueue = 1024   // events waiting for one subscription; over it the oldest go
	memoryTaskQueue  = 10_000 // tasks waiting in one group; over it the publisher waits, then fails
)

// Memory is the broker "gochannel": topics in this process, for tests and demos.
// It forgets everything when the process ends. Nodes of one process that share
// one Memory are one installation.
//
// It keeps the contract of the other brokers (groups, order, redelivery, bounded
// queues), which Watermill's own GoChannel does not: that one has no groups, no
// order, and a goroutine for every message that waits.
type Memory struct {
	mu     sync.Mutex
	topics map[string]*memoryTopic
	lastID uint64
}

// NewMemory returns an empty broker.
func NewMemory() *Memory { return &Memory{topics: make(map[string]*memoryTopic)} }

type memoryTopic struct {
	events map[*memoryQueue]struct{} // one for each subscription
	groups map[string]*memoryQueue   // one for each task function
	early  []*delivered              // tasks published before there was any group
}

// memoryQueue is guarded by the Memory's lock.
type memoryQueue struct {
	waiting []*delivered
	limit   int
	more    chan struct{} // holds a token when there may be something to read
	room    chan struct{} // closed and replaced when something was read
	missed  int
}

func newMemoryQueue(limit int) *memoryQueue {
	return &memoryQueue{limit: limit, more: make(chan struct{}, 1), room: make(chan struct{})}
}

func (q *memoryQueue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (m *Memory) topic(name string) *memoryTopic {
	t := m.topics[name]
	if t == nil {
		t = &memoryTopic{events: make(map[*memoryQueue]struct{}), groups: make(map[string]*memoryQueue)}
		m.topics[name] = t
	}
	return t
}

func (m *Memory) entry(msg *message.Message) *delivered {
	m.lastID++
	return &delivered{msg: msg.Copy(), id: strconv.FormatUint(m.lastID, 10), tag: m.lastID}
}

var errMemoryClosed = errors.New("gochannel was closed by this node")

type memoryDriver struct {
	bus    *Memory
	log    *slog.Logger
	closed atomic.Bool
}

func newMemoryDriver(bus *Memory, log *slog.Logger) *memoryDriver {
	log.Warn("the broker is gochannel: nothing survives a restart, and no other process can take part")
	return &memoryDriver{bus: bus, log: log}
}

func (d *memoryDriver) features() Features { return Features{} }

func (d *memoryDriver) fits(string, *message.Message) error { return nil }

func (d *memoryDriver) spare() int { return taskSpare }

func (d *memoryDriver) refuses(error) bool { return true } // it is never away

func (d *memoryDriver) probe(context.Context) error { return nil }

func (d *memoryDriver) ping(context.Context) error {
	if d.closed.Load() {
		return errMemoryClosed
	}
	return nil
}

func (d *memoryDriver) close() error {
	d.closed.Store(true)
	return nil
}

func (d *memoryDriver) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	if d.closed.Load() {
		return errMemoryClosed
	}
	for _, msg := range msgs {
		if err := d.publishOne(ctx, topic, delivery, msg); err != nil {
			return err
		}
	}
	return nil
}

func (d *memoryDriver) publishOne(ctx context.Context, topic string, delivery Delivery, msg *message.Message) error {
	for {
		full := d.tryPublish(topic, delivery, msg)
		if full == nil {
			return nil
		}
		select {
		case <-full:
		case <-ctx.Done():
			return fmt.Errorf("%d tasks wait on %s already: %w", memoryTaskQueue, topic, ctx.Err())
		}
	}
}

// tryPublish stores msg in every queue, or in none and returns a channel that is
// closed when there is room again.
func (d *memoryDriver) tryPublish(topic string, delivery Delivery, msg *message.Message) <-chan struct{} {
	d.bus.mu.Lock()
	defer d.bus.mu.Unlock()
	t := d.bus.topic(topic)
	if delivery == Event {
		for q := range t.events {
			if len(q.waiting) >= q.limit {
				q.waiting = q.waiting[1:]
				q.missed++
			}
			q.waiting = append(q.waiting, d.bus.entry(msg.Copy()))
			q.signal()
		}
		return nil
	}
	if len(t.groups) == 0 {
		if len(t.early) >= memoryTaskQueue {
			return make(chan struct{}) // only a first group makes room; the publisher's bound ends the wait
		}
		t.early = append(t.early, d.bus.entry(msg.Copy()))
		return nil
	}
	for _, q := range t.groups {
		if len(q.waiting) >= q.limit {
			return q.room
		}
	}
	for _, q := range t.groups {
		q.waiting = append(q.waiting, d.bus.entry(msg.Copy()))
		q.signal()
	}
	return nil
}

func (d *memoryDriver) declare(_ context.Context, topic string, delivery Delivery, group string) error {
	if delivery == Event {
		return nil
	}
	d.bus.mu.Lock()
	defer d.bus.mu.Unlock()
	t := d.bus.topic(topic)
	if t.groups[group] == nil {
		q := newMemoryQueue(memoryTaskQueue)
		q.waiting, t.early = t.early, nil
		t.groups[group] = q
	}
	return nil
}

// inspect reports that nothing is missing: a broker in memory has room for every name.
func (d *memoryDriver) inspect(context.Context, *subscription) (bool, error) { return true, nil }

func (d *memoryDriver) remove(context.Context, *subscription) error { return nil }

func (d *memoryDriver) open(_ context.Context, sub *subscription) (source, error) {
	d.bus.mu.Lock()
	defer d.bus.mu.Unlock()
	t := d.bus.topic(sub.topic)
	src := &memorySource{bus: d.bus, log: d.log, sub: sub}
	if sub.delivery == Task {
		src.queue = t.groups[sub.group]
		if src.queue == nil {
			return nil, errors.New("group was not declared")
		}
	} else {
		src.queue = newMemoryQueue(memoryEventQueue)
		t.events[src.queue] = struct{}{}
	}
	return src, nil
}

type memorySource struct {
	bus   *Memory
	log   *slog.Logger
	sub   *subscription
	queue *memoryQueue
}

func (s *memorySource) next(ctx context.Context, most int) ([]*delivered, error) {
	for {
		if ds := s.take(most); len(ds) > 0 {
			return ds, nil
		}
		select {
		case <-s.queue.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *memorySource) take(most int) []*delivered {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	q := s.queue
	if q.missed > 0 {
		s.log.Warn("events were dropped: the function is slower than its publishers", "topic", s.sub.topic, "function", s.sub.group, "dropped", q.missed)
		q.missed = 0
		s.sub.gap()
	}
	n := min(most, len(q.waiting))
	if n == 0 {
		return nil
	}
	ds := append([]*delivered(nil), q.waiting[:n]...)
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	close(q.room)
	q.room = make(chan struct{})
	if len(q.waiting) > 0 {
		q.signal() // for another worker of the group
	}
	return ds
}

func (s *memorySource) ack(context.Context, []*delivered) error    { return nil }
func (s *memorySource) extend(context.Context, []*delivered) error { return nil }

func (s *memorySource) release(_ context.Context, ds []*delivered) error {
	if s.sub.delivery == Event {
		return nil
	}
	// Anew, as from any broker: an abandoned function may hold the old ones still.
	back := make([]*delivered, len(ds))
	for i, d := range ds {
		back[i] = &delivered{msg: d.msg.Copy(), id: d.id, tag: d.tag, redelivered: d.redelivered}
	}
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.queue.waiting = append(back, s.queue.waiting...)
	// In the order in which they came, whoever gives back first.
	slices.SortFunc(s.queue.waiting, func(a, b *delivered) int { return cmp.Compare(a.number(), b.number()) })
	s.queue.signal()
	return nil
}

// number is the place of an entry of the in-process broker.
func (d *delivered) number() uint64 { return d.tag.(uint64) }

func (s *memorySource) close(_ context.Context, _ bool) error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.topic(s.sub.topic).events, s.queue)
	if s.sub.delivery == Task {
		s.queue.signal() // another worker may sleep on what was given back
	}
	return nil
}
