package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	healthAge   = time.Second // how long a result of the broker's check is used again
	healthTopic = "health"    // below the prefix: what a check writes to the broker
	// healthOnly addresses the test task of a refused topic to no function.
	healthOnly = "-health-check"
	// outageEvery is the time between two log lines about the same outage.
	outageEvery = time.Minute
)

// health is the state of the broker as publishers and checks have found it.
type health struct {
	mu      sync.Mutex
	pending chan struct{} // closed when the check under way has ended
	at      time.Time     // of the last result
	err     error
	refused map[string]*outage // topics whose last publish failed
	probing sync.WaitGroup
}

// outage is a series of failed publishes to one topic.
type outage struct {
	delivery Delivery
	since    time.Time
	logged   time.Time // the last line about it
	failed   int       // publishes
}

// reportedError marks an outage that its driver logs.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// Check returns nil when the broker stores messages and every subscription reads. Callers
// at the same time share one test of the broker, whose result holds for a second.
func (r *Router) Check(ctx context.Context) error {
	if !r.ready.Load() {
		return errors.New("router: not every function is subscribed yet")
	}
	errs := []error{r.checkBroker(ctx)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, s := range r.subs {
		if err := s.state(); err != nil {
			errs = append(errs, fmt.Errorf("router: %s is not subscribed: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Ping returns nil when the broker answers. It writes nothing to the broker.
func (r *Router) Ping(ctx context.Context) error {
	if err := r.drv.ping(ctx); err != nil {
		return fmt.Errorf("router: the broker (%s) does not answer: %w", r.cfg.Driver, err)
	}
	return nil
}

// Fatal returns an error that only a restart of the process ends, or nil.
func (r *Router) Fatal(context.Context) error {
	if d, ok := r.drv.(interface{ fatal() error }); ok {
		return d.fatal()
	}
	return nil
}

// checkBroker returns a recent result of testBroker, or waits for the next one.
func (r *Router) checkBroker(ctx context.Context) error {
	h := &r.health
	h.mu.Lock()
	if h.pending == nil {
		if time.Since(h.at) < healthAge {
			defer h.mu.Unlock()
			return h.err
		}
		h.pending = make(chan struct{})
		h.probing.Go(func() {
			bound, cancel := context.WithTimeout(r.abandoned, opTimeout)
			defer cancel()
			err := r.testBroker(bound)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.at, h.err = time.Now(), err
			close(h.pending)
			h.pending = nil
		})
	}
	pending := h.pending
	h.mu.Unlock()
	select {
	case <-pending:
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.err
	case <-ctx.Done():
		return fmt.Errorf("router: the broker (%s) has not stored the test message yet: %w", r.cfg.Driver, ctx.Err())
	}
}

// testBroker writes to the broker: a test message, and a task that no function handles to
// each topic whose last publish failed.
func (r *Router) testBroker(ctx context.Context) error {
	if err := r.Ping(ctx); err != nil {
		return err
	}
	if err := r.drv.probe(ctx); err != nil {
		return fmt.Errorf("router: the broker (%s) does not store messages: %w", r.cfg.Driver, err)
	}
	for _, topic := range r.health.topics() {
		msg := message.NewMessage(watermill.NewUUID(), nil)
		msg.Metadata.Set(metaOnly, healthOnly)
		err := r.drv.publish(ctx, topic, Task, []*message.Message{msg})
		r.health.published(r.log, topic, Task, err)
		if err != nil && !errors.Is(err, errFull) {
			return fmt.Errorf("router: the broker (%s) does not store tasks on %s: %w", r.cfg.Driver, topic, err)
		}
	}
	return nil
}

// errFull marks the refusal of a queue of waiting tasks at its configured bound. The broker
// itself works.
var errFull = errors.New("too many tasks wait")

// topics returns the task topics whose last publish failed.
func (h *health) topics() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var topics []string
	for topic, o := range h.refused {
		if o.delivery == Task {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics
}

// published records the result of a publish. It logs the begin and the end of an outage, and
// once a minute that it goes on.
func (h *health) published(log *slog.Logger, topic string, delivery Delivery, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.refused[topic]
	if err == nil {
		if o != nil {
			delete(h.refused, topic)
			log.Info("publishing works again", "topic", topic, "failed", o.failed, "outage", time.Since(o.since).Round(time.Second))
		}
		return
	}
	if o == nil {
		if h.refused == nil {
			h.refused = make(map[string]*outage)
		}
		o = &outage{delivery: delivery, since: time.Now()}
		h.refused[topic] = o
	}
	o.failed++
	if time.Since(o.logged) < outageEvery {
		return
	}
	o.logged = time.Now()
	level := slog.LevelWarn
	if _, reported := errors.AsType[reportedError](err); reported {
		level = slog.LevelDebug
	}
	log.Log(context.Background(), level, "publish failed", "topic", topic, "failed", o.failed, "since", o.since, "error", err)
}
