package router

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// ackDelay is how long the ack of a message may wait for others while there is more to do.
const ackDelay = 2 * time.Millisecond

// stream is one running subscription. Its reader moves messages from the source into
// lanes, one for each routing key; workers take them from there; and its collector acks
// many at a time.
type stream struct {
	s     *subscriber
	sub   *subscription
	log   *slog.Logger
	src   source          // owned by the reader
	stop  context.Context // ends reading and handing out
	out   chan *message.Message
	room  chan struct{} // holds a token when the window may have room again
	due   chan struct{} // holds a token when acks are to be sent
	quiet chan struct{} // closed when the stream has stopped and no worker runs
	late  *time.Timer   // sends what is handled after ackDelay

	beginning sync.WaitGroup // workers that may hand something to out

	mu        sync.Mutex
	inflight  map[string]*delivered
	active    int // of them in the window
	parked    int // and in the spare room,
	bytes     int // with so much payload
	lanes     map[laneKey]*lane
	unused    *lane        // lanes to use again
	ready     lanes        // have a message to hand out, first come first served
	running   int          // workers
	idle      int          // of them have nothing to do
	waking    bool         // one of them was told that there is
	work      *sync.Cond   // tells them
	dismissed bool         // the workers are to end
	over      bool         // the workers that still run are abandoned
	handled   []*delivered // to ack
	timed     bool         // late runs
}

func newStream(s *subscriber, sub *subscription, src source, log *slog.Logger) *stream {
	st := &stream{
		s: s, sub: sub, src: src, log: log,
		out:      make(chan *message.Message),
		room:     make(chan struct{}, 1),
		due:      make(chan struct{}, 1),
		quiet:    make(chan struct{}),
		inflight: make(map[string]*delivered, s.window),
		lanes:    make(map[laneKey]*lane, s.window),
	}
	st.work = sync.NewCond(&st.mu)
	st.late = time.AfterFunc(time.Hour, st.flush)
	st.late.Stop()
	return st
}

func (st *stream) run() {
	stopped := make(chan struct{}) // closed when nothing new is begun any more,
	ended := make(chan struct{})   // and when nothing runs
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		st.collectAcks(stopped, ended)
	}()
	st.read()
	st.dismiss()
	close(stopped)
	select {
	case <-st.quiet:
	case <-st.s.abandoned.Done():
	}
	st.beginning.Wait()
	close(ended)
	<-collected
	st.late.Stop()
	st.giveBack(st.snapshot())

	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
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
		n := min(st.s.window-st.active, 2*st.s.window+st.s.spare-len(st.inflight)) // also of acks
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
	logged := time.Now()
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
		if time.Since(logged) >= outageEvery {
			logged = time.Now()
			st.log.Warn("subscription is still away", "error", err)
		}
	}
}

// errorBox gives atomic.Value one concrete type for all errors.
func errorBox(err error) error { return &boxed{err} }

type boxed struct{ err error }

func (b *boxed) Error() string { return b.err.Error() }
func (b *boxed) Unwrap() error { return b.err }

// collectAcks confirms handled messages, as many at a time as are due, and tells
// the broker that the others are still being worked on. When the stream has stopped it
// gives back what has not begun, and goes on until what runs has ended.
func (st *stream) collectAcks(stopped, ended <-chan struct{}) {
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	var batch []*delivered
	for {
		select {
		case <-st.due:
			batch = st.confirm(batch)
		case <-ticker.C:
			st.each(st.snapshot(), source.extend, "a sign of life did not reach the broker; a task may run twice")
		case <-stopped:
			stopped = nil
			st.giveBack(st.unbegun())
		case <-ended:
			st.mu.Lock()
			st.over = true // what an abandoned worker still does comes to nothing
			st.mu.Unlock()
			st.confirm(batch)
			return
		}
	}
}

// confirm acks what was handled. It collects the next ones in batch, and
// returns the slice to use after that.
func (st *stream) confirm(batch []*delivered) []*delivered {
	st.mu.Lock()
	st.timed = false
	batch, st.handled = st.handled, batch[:0]
	st.mu.Unlock()
	if len(batch) == 0 {
		return batch
	}
	st.each(batch, source.ack, "acks did not reach the broker; the messages come again")
	st.mu.Lock()
	for _, d := range batch {
		delete(st.inflight, d.id)
	}
	st.mu.Unlock()
	signal(st.room)
	clear(batch)
	return batch
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

// giveBack has others handle ds.
func (st *stream) giveBack(ds []*delivered) {
	if len(ds) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	for src, part := range bySource(ds) {
		if err := src.release(ctx, part); err != nil {
			st.log.Warn("messages could not be given back; they come again when the broker's wait is over", "count", len(part), "error", err)
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
	same := true
	for _, d := range ds {
		same = same && d.src == ds[0].src
	}
	if same {
		return map[source][]*delivered{ds[0].src: ds}
	}
	groups := make(map[source][]*delivered, 2)
	for _, d := range ds {
		groups[d.src] = append(groups[d.src], d)
	}
	return groups
}

// signal leaves a token in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
