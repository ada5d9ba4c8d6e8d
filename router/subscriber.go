package router

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// subscriber is the delivery core: a Watermill subscriber over a driver that is
// the same on every broker. It keeps up to a window of messages in flight, spread
// over lanes by routing key; a lane hands out one message after the other. It
// collects acks, waits before a nacked message comes again, opens a new source
// when one fails, and drains on Close.
type subscriber struct {
	drv      driver
	delivery Delivery
	group    string
	window   int
	lanes    int
	log      *slog.Logger
	metrics  *metrics
	// abandoned ends the contexts of messages: nothing waits for handlers any more.
	abandoned context.Context
	abandon   context.CancelFunc
	drain     time.Duration // how long Close waits for handlers; 0 means until the router abandons them
	closing   context.Context
	close     context.CancelFunc
	wg        sync.WaitGroup
	mu        sync.Mutex // orders Subscribe and Close
	down      atomic.Int32
	lastErr   atomic.Value // error of the source that failed last
}

func newSubscriber(drv driver, d Delivery, group string, lanes int, abandoned context.Context, log *slog.Logger, m *metrics) *subscriber {
	s := &subscriber{drv: drv, delivery: d, group: group, lanes: lanes, window: 256, log: log, metrics: m}
	if d == Task {
		s.window = 64
	}
	s.abandoned, s.abandon = context.WithCancel(abandoned)
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Subscribe starts reading topic. When it returns, the position is fixed: what
// is published from now on arrives. The channel is closed after ctx ends or Close
// is called, once nothing is in flight; handlers in flight keep a live context.
func (s *subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Err() != nil {
		return nil, errors.New("router: subscriber is closed")
	}
	sub := &subscription{topic: topic, delivery: s.delivery, group: s.group, window: s.window}
	if err := s.drv.declare(ctx, topic, s.delivery, s.group); err != nil {
		return nil, err
	}
	src, err := s.drv.open(ctx, sub)
	if err != nil {
		return nil, err
	}
	st := &stream{
		s: s, sub: sub, src: src,
		log:      s.log.With("topic", topic, "function", s.group),
		out:      make(chan *message.Message),
		slots:    make(chan struct{}, s.window),
		acks:     make(chan *delivered, s.window),
		inflight: make(map[string]*delivered, s.window),
		lanes:    make([]chan *delivered, s.lanes),
	}
	for i := range st.lanes {
		st.lanes[i] = make(chan *delivered, s.window)
	}
	stop, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(s.closing, cancel)
	s.wg.Go(func() {
		defer detach()
		defer cancel()
		st.run(stop)
	})
	return st.out, nil
}

// Close stops reading, gives back what no handler has seen, waits for running
// handlers and sends their acks. It returns when all is done; how long handlers
// may take is bounded by the router, which then abandons them.
func (s *subscriber) Close() error {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	if s.drain > 0 {
		timer := time.AfterFunc(s.drain, s.abandon)
		defer timer.Stop()
	}
	s.wg.Wait()
	s.abandon()
	return nil
}

// state returns nil while every stream of the subscriber reads.
func (s *subscriber) state() error {
	if s.down.Load() == 0 {
		return nil
	}
	if err, ok := s.lastErr.Load().(error); ok {
		return err
	}
	return errors.New("not reading")
}

// stream is one running subscription.
type stream struct {
	s     *subscriber
	sub   *subscription
	log   *slog.Logger
	src   source // owned by the reader
	out   chan *message.Message
	lanes []chan *delivered
	slots chan struct{} // one token for each message in flight
	acks  chan *delivered

	mu       sync.Mutex
	inflight map[string]*delivered
}

func (st *stream) run(stop context.Context) {
	ackerDone := make(chan struct{})
	go func() {
		defer close(ackerDone)
		st.collectAcks()
	}()
	var lanes sync.WaitGroup
	for _, lane := range st.lanes {
		lanes.Go(func() { st.runLane(stop, lane) })
	}
	st.read(stop)
	lanes.Wait()
	close(st.acks)
	<-ackerDone

	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if left := st.snapshot(); len(left) > 0 {
		for src, ds := range bySource(left) {
			if err := src.release(ctx, ds); err != nil {
				st.log.Warn("messages could not be given back; they come again when the broker's wait is over", "count", len(ds), "error", err)
			}
		}
	}
	if st.src != nil {
		if err := st.src.close(ctx, true); err != nil {
			st.log.Debug("closing a subscription", "error", err)
		}
	}
	close(st.out)
}

// read moves messages from the source to the lanes, and replaces sources that fail.
func (st *stream) read(stop context.Context) {
	backoff := reopenMin
	for {
		n := st.takeSlots(stop)
		if n == 0 {
			return
		}
		batch, err := st.src.next(stop, n)
		for range n - len(batch) {
			<-st.slots
		}
		for _, d := range batch {
			d.src = st.src
			st.dispatch(d)
		}
		if stop.Err() != nil {
			return
		}
		if err == nil {
			backoff = reopenMin
			continue
		}
		if backoff = st.reopen(stop, err, backoff); stop.Err() != nil {
			return
		}
	}
}

// takeSlots waits for room in the window and takes all there is, or returns 0
// when stop has ended.
func (st *stream) takeSlots(stop context.Context) int {
	select {
	case st.slots <- struct{}{}:
	case <-stop.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case st.slots <- struct{}{}:
		default:
			return n
		}
	}
}

// dispatch queues d for its lane. A lane has room for the whole window, so this
// never waits.
func (st *stream) dispatch(d *delivered) {
	st.mu.Lock()
	if _, twice := st.inflight[d.id]; twice {
		// The broker took us for dead and sent it again: the first one goes on.
		st.mu.Unlock()
		<-st.slots
		return
	}
	st.inflight[d.id] = d
	st.mu.Unlock()
	st.lanes[laneOf(d.msg, len(st.lanes))] <- d
}

// reopen closes the failed source and opens another, for as long as it takes. It
// returns the wait to begin with should that one fail too.
func (st *stream) reopen(stop context.Context, cause error, backoff time.Duration) time.Duration {
	st.s.lastErr.Store(errorBox(cause))
	st.s.down.Add(1)
	defer st.s.down.Add(-1)
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	_ = st.src.close(ctx, false) // it has failed already
	cancel()
	st.src = nil
	planned := errors.Is(cause, errReopen)
	if !planned {
		st.log.Warn("subscription lost; opening it again", "error", cause)
	}
	for {
		if !planned {
			if !sleep(stop, jitter(backoff)) {
				return backoff
			}
			backoff = min(backoff*2, reopenMax)
		}
		planned = false
		ctx, cancel := context.WithTimeout(stop, 2*opTimeout)
		err := st.s.drv.declare(ctx, st.sub.topic, st.sub.delivery, st.sub.group)
		if err == nil {
			st.src, err = st.s.drv.open(ctx, st.sub)
		}
		cancel()
		if err == nil {
			st.s.metrics.reopened.WithLabelValues(st.sub.group, st.sub.topic).Inc()
			st.log.Info("subscription is back")
			return backoff
		}
		st.src = nil
		if stop.Err() != nil {
			return backoff
		}
		st.s.lastErr.Store(errorBox(err))
		st.log.Warn("subscription is still away", "error", err)
	}
}

// errorBox gives atomic.Value one concrete type for all errors.
func errorBox(err error) error { return &boxed{err} }

type boxed struct{ err error }

func (b *boxed) Error() string { return b.err.Error() }
func (b *boxed) Unwrap() error { return b.err }

// runLane hands out the messages of one lane, one after the other.
func (st *stream) runLane(stop context.Context, lane chan *delivered) {
	for {
		select {
		case <-stop.Done():
			return // what is queued is given back by run
		case d := <-lane:
			if stop.Err() != nil {
				return
			}
			if !st.hand(stop, lane, d) {
				return
			}
		}
	}
}

// hand gives one message to the function and waits for its answer, or returns
// false when nobody waits any more. Its context lives as long.
func (st *stream) hand(stop context.Context, lane chan *delivered, d *delivered) bool {
	ctx, cancel := context.WithCancel(st.s.abandoned)
	defer cancel()
	msg := d.msg.Copy()
	msg.SetContext(ctx)
	select {
	case st.out <- msg:
	case <-stop.Done():
		return false
	}
	select {
	case <-msg.Acked():
		st.acks <- d
	case <-msg.Nacked():
		st.again(stop, lane, d)
	case <-ctx.Done():
		return false
	}
	return true
}

// again puts a nacked message back into its lane after a while; others of the
// lane go first meanwhile.
func (st *stream) again(stop context.Context, lane chan *delivered, d *delivered) {
	delay := min(nackMin<<min(d.attempts, 10), nackMax)
	d.attempts++
	timer := time.NewTimer(jitter(delay))
	st.s.wg.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C:
			lane <- d // has room for the whole window; given back by run if the lane is gone
		case <-stop.Done():
		}
	})
}

// collectAcks confirms handled messages, as many at a time as are due, and tells
// the broker that the others are still being worked on.
func (st *stream) collectAcks() {
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	batch := make([]*delivered, 0, st.s.window)
	for {
		select {
		case d, ok := <-st.acks:
			if !ok {
				return
			}
			batch = append(batch[:0], d)
		case <-ticker.C:
			st.each(st.snapshot(), source.extend, "a sign of life did not reach the broker; a task may run twice")
			continue
		}
	fill:
		for len(batch) < cap(batch) {
			select {
			case d, ok := <-st.acks:
				if !ok {
					break fill
				}
				batch = append(batch, d)
			default:
				break fill
			}
		}
		st.each(batch, source.ack, "acks did not reach the broker; the messages come again")
		st.mu.Lock()
		for _, d := range batch {
			delete(st.inflight, d.id)
		}
		st.mu.Unlock()
		for range batch {
			<-st.slots
		}
	}
}

func (st *stream) each(ds []*delivered, do func(source, context.Context, []*delivered) error, complaint string) {
	if len(ds) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	for src, part := range bySource(ds) {
		if err := do(src, ctx, part); err != nil {
			// The loss of a subscription is a warning of its own; this follows from it.
			st.log.Debug(complaint, "count", len(part), "error", err)
		}
	}
}

func (st *stream) snapshot() []*delivered {
	st.mu.Lock()
	defer st.mu.Unlock()
	ds := make([]*delivered, 0, len(st.inflight))
	for _, d := range st.inflight {
		ds = append(ds, d)
	}
	return ds
}

// bySource groups messages by the source that read them: almost always one.
func bySource(ds []*delivered) map[source][]*delivered {
	groups := make(map[source][]*delivered, 1)
	for _, d := range ds {
		groups[d.src] = append(groups[d.src], d)
	}
	return groups
}

// jitter spreads d over [d/2, d*3/2).
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// sleep waits for d and returns true, or false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
