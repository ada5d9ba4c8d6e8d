package router

import (
	"context"
	"sync"
	"time"
)

// handling is the context of one attempt. It ends with the time for it, with the attempt,
// and is cancelled when the router abandons what runs. Few functions wait for that: the
// timer is made for the first who does.
type handling struct {
	stream   *stream
	outer    context.Context // has the values that Watermill gives; nil for the first of a worker
	deadline time.Time

	mu     sync.Mutex
	owner  owner
	d      *delivered      // nil when the attempt is over
	timed  context.Context // nil until somebody waits
	cancel context.CancelFunc
}

// owner is who hands out what comes after a message.
type owner int

const (
	nobody owner = iota
	byStream
	byTurns
)

// own makes o the owner and returns true, unless another one was first.
func (h *handling) own(o owner) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner == nobody {
		h.owner = o
	}
	return h.owner == o
}

// end ends the attempt.
func (h *handling) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.d.decoded = nil
	h.d = nil
	if h.cancel != nil {
		h.cancel()
	}
}

// delivered returns what is being handled, or nil when the attempt is over.
func (h *handling) delivered() *delivered {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.d
}

// timer returns a context that ends when h does.
func (h *handling) timer() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timed == nil {
		h.timed, h.cancel = context.WithDeadline(h.stream.s.abandoned, h.deadline)
		if h.d == nil {
			h.cancel()
		}
	}
	return h.timed
}

func (h *handling) Deadline() (time.Time, bool) { return h.deadline, true }
func (h *handling) Done() <-chan struct{}       { return h.timer().Done() }

func (h *handling) Err() error {
	h.mu.Lock()
	timed, over := h.timed, h.d == nil
	h.mu.Unlock()
	switch {
	case timed != nil:
		return timed.Err()
	case over:
		return context.Canceled
	case !time.Now().Before(h.deadline):
		return context.DeadlineExceeded
	default:
		return h.stream.s.abandoned.Err()
	}
}

// handlingKey is the context key of the *handling.
type handlingKey struct{}

func (h *handling) Value(key any) any {
	switch key.(type) {
	case handlingKey:
		return h
	case *int: // by which package context looks for its own
		return h.timer().Value(key)
	}
	if h.outer == nil {
		return nil
	}
	return h.outer.Value(key)
}

// handlingOf returns what ctx, or one that it comes from, is an attempt of; nil if
// there is none.
func handlingOf(ctx context.Context) *handling {
	h, _ := ctx.Value(handlingKey{}).(*handling)
	return h
}
