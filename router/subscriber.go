package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	spare    int // and messages that wait for another attempt, or behind one that does,
	// with at most so many bytes of payload, and one message
	spareBytes int
	keyOf      func(*message.Message) laneKey
	decode     func(*message.Message) (proto.Message, error) // nil: the function reads the payload itself
	onGap      func(topic, function string)
	log        *slog.Logger
	metrics    *metrics
	// abandoned ends the contexts of messages: nothing waits for handlers any more.
	abandoned context.Context
	abandon   context.CancelFunc
	patience  time.Duration // how long Subscribe tries while the broker is away; 0 means once
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
	s.spare, s.spareBytes = eventSpare, spareBytes
	if d == Task {
		s.window, s.spare = taskWindow, drv.spare()
	}
	s.window = max(s.window, s.settings.Concurrency)
	s.abandoned, s.abandon = context.WithCancel(abandoned)
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// laneKey is what orders a message.
type laneKey struct {
	routed bool // by its routing key, and not by its id
	key    string
}

// keyOf returns the routing key, or else the id, so that the same message is never
// handled twice at the same time.
func keyOf(msg *message.Message) laneKey {
	if key := msg.Metadata[metaKey]; key != "" {
		return laneKey{true, key}
	}
	return laneKey{false, msg.UUID}
}

// Subscribe starts reading topic. When it returns, the position is fixed: what
// is published from now on arrives. The channel is closed after ctx ends or Close
// is called, once nothing is in flight; handlers in flight keep a live context.
// A broker that is away for a moment is waited for.
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
	var src source
	starting, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(s.closing, end)()
	err := insist(starting, s.drv, s.patience, log, func(ctx context.Context) error {
		err := s.drv.declare(ctx, topic, s.delivery, s.group)
		if err == nil {
			src, err = s.drv.open(ctx, sub)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.metrics.up.WithLabelValues(s.group, topic).Set(1)
	st := newStream(s, sub, src, log)
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
	s.close()
	s.mu.Lock() // a Subscribe that is under way has begun its stream, or never will
	//lint:ignore SA2001 the waiting is what it is for
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

// insist does what needs the broker until it succeeds. It gives up when the broker
// refuses, which waiting does not mend, when patience is over, and when ctx ends.
func insist(ctx context.Context, drv driver, patience time.Duration, log *slog.Logger, do func(context.Context) error) error {
	bound, cancel := context.WithTimeout(ctx, max(patience, 2*opTimeout))
	defer cancel()
	begun := time.Now()
	for wait := reopenMin; ; wait = min(2*wait, reopenMax) {
		attempt, end := context.WithTimeout(bound, 2*opTimeout)
		err := do(attempt)
		end()
		pause := jitter(wait)
		switch {
		case err == nil || patience == 0 || ctx.Err() != nil || isPermanent(err) || drv.refuses(err):
			return err
		case time.Since(begun)+pause >= patience:
			return fmt.Errorf("the broker did not answer within broker.connect_timeout (%s): %w", patience, err)
		}
		log.Warn("cannot subscribe yet; trying again", "error", err)
		if !sleep(ctx, pause) {
			return err
		}
	}
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
