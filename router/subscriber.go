package router

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
)

// subscriber is the delivery core: a Watermill subscriber over a driver that is
// the same on every broker. It keeps up to a window of messages in flight, hands out
// those of one routing key one after the other, collects acks, waits before a nacked
// message comes again, opens a new source when one fails, and drains on Close.
type subscriber struct {
	drv      driver
	delivery Delivery
	group    string
	settings FunctionConfig
	window   int // messages in flight that nothing holds up
	spare    int // and messages that wait for another attempt, or behind one that does
	keyOf    func(*message.Message) string
	decode   func(*message.Message) (proto.Message, error) // nil: the function reads the payload itself
	onGap    func(topic, function string)
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

func newSubscriber(drv driver, d Delivery, group string, settings FunctionConfig, abandoned context.Context, log *slog.Logger, m *metrics) *subscriber {
	s := &subscriber{drv: drv, delivery: d, group: group, settings: settings.orDefault(), window: eventWindow, log: log, metrics: m, keyOf: keyOf}
	if d == Task {
		s.window = taskWindow
	}
	s.window = max(s.window, s.settings.Concurrency)
	s.spare = 3 * s.window
	s.abandoned, s.abandon = context.WithCancel(abandoned)
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// keyOf returns what orders a message: its routing key, or else its id, so that
// the same message is never handled twice at the same time.
func keyOf(msg *message.Message) string {
	if key := msg.Metadata.Get(metaKey); key != "" {
		return "key " + key
	}
	return "id " + msg.UUID
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
	log := s.log.With("topic", topic, "function", s.group)
	sub := &subscription{topic: topic, delivery: s.delivery, group: s.group, window: s.window + s.spare, gap: func() {
		s.metrics.gaps.WithLabelValues(s.group, topic).Inc()
		if s.onGap != nil {
			s.onGap(topic, s.group)
		}
	}}
	if err := s.drv.declare(ctx, topic, s.delivery, s.group); err != nil {
		return nil, err
	}
	src, err := s.drv.open(ctx, sub)
	if err != nil {
		return nil, err
	}
	s.metrics.up.WithLabelValues(s.group, topic).Set(1)
	st := &stream{
		s: s, sub: sub, src: src, log: log,
		out:      make(chan *message.Message),
		room:     make(chan struct{}, 1),
		acks:     make(chan *delivered, s.window+s.spare),
		inflight: make(map[string]*delivered, s.window),
		lanes:    make(map[string]*lane),
	}
	stop, cancel := context.WithCancel(ctx)
	st.stop = stop
	detach := context.AfterFunc(s.closing, cancel)
	s.wg.Go(func() {
		defer detach()
		defer cancel()
		st.run()
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
	s    *subscriber
	sub  *subscription
	log  *slog.Logger
	src  source          // owned by the reader
	stop context.Context // ends reading and handing out
	out  chan *message.Message
	room chan struct{} // holds a token when the window may have room again
	acks chan *delivered

	workers sync.WaitGroup

	mu       sync.Mutex
	inflight map[string]*delivered
	active   int // of them in the window
	parked   int // and in the spare room
	lanes    map[string]*lane
	ready    []*lane // have a message to hand out, first come first served
	running  int     // workers
}

// lane holds the messages of one routing key, in order; guarded by the stream's lock.
type lane struct {
	key     string
	queue   []*delivered
	busy    bool // in ready, or with a worker
	waiting int  // nacked messages on their way back
	held    bool // the queue waits for them
}

func (st *stream) run() {
	ackerDone := make(chan struct{})
	go func() {
		defer close(ackerDone)
		st.collectAcks()
	}()
	st.read()
	st.workers.Wait()
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
	st.s.metrics.up.WithLabelValues(st.sub.group, st.sub.topic).Set(0)
	close(st.out)
}

// read moves messages from the source to the lanes, and replaces sources that fail.
func (st *stream) read() {
	backoff := reopenMin
	for {
		n := st.awaitRoom()
		if n == 0 {
			return
		}
		batch, err := st.src.next(st.stop, n)
		st.dispatch(batch)
		if st.stop.Err() != nil {
			return
		}
		if len(batch) > 0 || err == nil {
			backoff = reopenMin
		}
		if err == nil {
			continue
		}
		if backoff = st.reopen(err, backoff); st.stop.Err() != nil {
			return
		}
	}
}

// awaitRoom waits until the window has room and returns for how many messages, or
// 0 when the stream stops.
func (st *stream) awaitRoom() int {
	for {
		st.mu.Lock()
		n := st.s.window - st.active
		st.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-st.room:
		case <-st.stop.Done():
			return 0
		}
	}
}

// dispatch queues messages in their lanes.
func (st *stream) dispatch(batch []*delivered) {
	if len(batch) == 0 {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, d := range batch {
		d.src = st.src
		if _, twice := st.inflight[d.id]; twice {
			continue // the broker took us for dead and sent it again: the first one goes on
		}
		st.inflight[d.id] = d
		st.active++
		key := st.s.keyOf(d.msg)
		l := st.lanes[key]
		if l == nil {
			l = &lane{key: key}
			st.lanes[key] = l
		}
		d.lane = l
		l.queue = append(l.queue, d)
		if l.held && !st.park(d) {
			// Better out of order behind a failing message than that it stops them all.
			l.held = false
		}
		if st.offer(l) {
			st.spawn()
		}
	}
}

// park moves d from the window to the spare room, if there is any, so that d holds
// up nothing but its lane. The caller holds the lock.
func (st *stream) park(d *delivered) bool {
	if d.parked {
		return true
	}
	if st.parked == st.s.spare {
		return false
	}
	d.parked = true
	st.parked++
	st.active--
	st.signalRoom()
	return true
}

func (st *stream) signalRoom() {
	select {
	case st.room <- struct{}{}:
	default:
	}
}

// offer makes l ready if it has something to hand out, and tells if it did; then
// there has to be a worker for it. The caller holds the lock.
func (st *stream) offer(l *lane) bool {
	if l.busy || l.held || len(l.queue) == 0 {
		return false
	}
	l.busy = true
	st.ready = append(st.ready, l)
	return true
}

// spawn starts a worker, if one more may run; otherwise one of those that do will
// find what is ready. The caller holds the lock.
func (st *stream) spawn() {
	if st.running < st.s.settings.Concurrency && st.stop.Err() == nil {
		st.running++
		st.workers.Go(st.work)
	}
}

// work hands out messages for as long as there are any. There are never more
// workers than the function may run at the same time.
func (st *stream) work() {
	for {
		st.mu.Lock()
		if len(st.ready) == 0 || st.stop.Err() != nil {
			st.running--
			st.mu.Unlock()
			return // what is queued when the stream stops is given back by run
		}
		l := st.ready[0]
		st.ready[0] = nil
		st.ready = st.ready[1:]
		d := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		st.mu.Unlock()

		answer := st.hand(d)
		if answer == acked {
			st.acks <- d // has room for all that is in flight
		}
		st.mu.Lock()
		l.busy = false
		if answer == nacked {
			st.again(d)
		}
		st.offer(l) // for this worker
		if !l.busy && len(l.queue) == 0 && l.waiting == 0 {
			delete(st.lanes, l.key)
		}
		st.mu.Unlock()
	}
}

// answer is what became of a message that was handed out.
type answer int

const (
	unanswered answer = iota // nobody waits for it any more
	acked
	nacked
)

// hand gives one message to the function and waits for its answer. Its context
// lives as long.
func (st *stream) hand(d *delivered) answer {
	if st.s.decode != nil {
		// Anew for each attempt: the last one may have changed it. Here and not in the function's goroutine, which Watermill makes anew for each
		// message: its stack would have to grow for this.
		d.decoded, d.unreadable = st.s.decode(d.msg)
	}
	ctx, cancel := context.WithTimeout(st.s.abandoned, st.s.settings.Timeout)
	defer cancel()
	msg := d.msg
	if d.handed {
		msg = msg.Copy() // an answer is for good
	}
	d.handed = true
	msg.SetContext(&handling{ctx, d})
	select {
	case st.out <- msg:
	case <-st.stop.Done():
		return unanswered
	}
	select {
	case <-msg.Acked():
		return acked
	case <-msg.Nacked():
		return nacked
	case <-st.s.abandoned.Done(): // and not when its time is over: it still runs
		return unanswered
	}
}

// handling is the context of one attempt. It ends with the time for it, and is
// cancelled when the router abandons what runs.
type handling struct {
	context.Context
	d *delivered
}

// handlingKey is the context key of the *handling.
type handlingKey struct{}

func (h *handling) Value(key any) any {
	if key == (handlingKey{}) {
		return h
	}
	return h.Context.Value(key)
}

// handlingOf returns what ctx, or one that it comes from, is an attempt of; nil if
// there is none.
func handlingOf(ctx context.Context) *handling {
	h, _ := ctx.Value(handlingKey{}).(*handling)
	return h
}

// again brings a nacked message back after a wait. Meanwhile those behind it in its
// lane wait too, in the spare room for as long as there is some. The caller holds
// the lock.
func (st *stream) again(d *delivered) {
	l := d.lane
	d.attempts++
	if st.stop.Err() != nil {
		return // given back by run
	}
	l.waiting++
	l.held = true
	st.park(d)
	for _, behind := range l.queue {
		if !st.park(behind) {
			l.held = false
			break
		}
	}
	time.AfterFunc(jitter(st.s.settings.wait(d.attempts)), func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		l.waiting--
		l.held = false
		l.queue = slices.Insert(l.queue, 0, d)
		if st.offer(l) {
			st.spawn() // not once the stream stops
		}
	})
}

// reopen closes the failed source and opens another, for as long as it takes. It
// returns the wait to begin with should that one fail too.
func (st *stream) reopen(cause error, backoff time.Duration) time.Duration {
	stop := st.stop
	st.s.lastErr.Store(errorBox(cause))
	st.s.down.Add(1)
	defer st.s.down.Add(-1)
	up := st.s.metrics.up.WithLabelValues(st.sub.group, st.sub.topic)
	up.Set(0)
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	_ = st.src.close(ctx, false) // it has failed already
	cancel()
	st.src = nil
	planned := errors.Is(cause, errReopen)
	lost := !planned && st.sub.delivery == Event
	if !planned {
		st.log.Warn("subscription lost; opening it again", "error", cause)
	}
	atOnce := planned && backoff == reopenMin // else the last one has read nothing
	for {
		if !atOnce && !sleep(stop, jitter(backoff)) {
			return backoff
		}
		atOnce = false
		backoff = min(backoff*2, reopenMax)
		ctx, cancel := context.WithTimeout(stop, 2*opTimeout)
		err := st.s.drv.declare(ctx, st.sub.topic, st.sub.delivery, st.sub.group)
		if err == nil {
			st.src, err = st.s.drv.open(ctx, st.sub)
		}
		cancel()
		if err == nil {
			up.Set(1)
			st.s.metrics.reopened.WithLabelValues(st.sub.group, st.sub.topic).Inc()
			st.log.Info("subscription is back")
			if lost {
				st.sub.gap() // most brokers kept the events; that is not for us to know
			}
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
			if d.parked {
				st.parked--
			} else {
				st.active--
			}
		}
		st.mu.Unlock()
		st.signalRoom()
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
