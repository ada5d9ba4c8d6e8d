package dlq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"burrow/store"
)

const (
	// poll is how often a node looks for replays that were requested elsewhere.
	poll = time.Second
	// lease is how long a node has for sending one replay; after that another node
	// takes it for dead. Far over broker.publish_timeout.
	lease = 2 * time.Minute
	// sendAgain is the wait after the broker did not confirm.
	sendAgain = 5 * time.Second
	// endTimeout bounds the note of what became of a replay that was sent.
	endTimeout = 10 * time.Second
)

// Replay is a message on its way back to the one function that gave up on it.
type Replay struct {
	ID                         string // of this replay: the same when it is sent twice
	Topic, Function, MessageID string
	Metadata                   map[string]string
	Payload                    []byte
}

// Sender sends replays. An error with ErrRefused in it means that this one can
// never be sent, any other that it is to be tried again.
type Sender interface {
	Replay(ctx context.Context, r Replay) error
}

// Requests is what Outbox needs of *store.Store.
type Requests interface {
	ClaimReplay(ctx context.Context, functions []string, lease time.Duration) (*store.DeadLetter, error)
	EndReplay(ctx context.Context, id int64, replay, who, against string) error
	DeferReplay(ctx context.Context, id int64, replay, why string, wait time.Duration) error
}

// Outbox sends the replays that were requested in the store. Make one with
// NewOutbox; its methods may be called at the same time, Run once.
type Outbox struct {
	store     Requests
	sender    Sender
	functions []string
	node      string
	log       *slog.Logger
	logStore  rate.Sometimes // a store that is away is a line in half a minute, not one a second

	kick     chan struct{}
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	mu       sync.Mutex
	running  bool
}

// NewOutbox returns an outbox that sends for these functions, the ones that the
// node knows, and signs with the name of the node.
func NewOutbox(requests Requests, sender Sender, functions []string, node string, log *slog.Logger) *Outbox {
	return &Outbox{
		store: requests, sender: sender, functions: functions, node: node, log: log,
		logStore: rate.Sometimes{First: 1, Interval: 30 * time.Second},
		kick:     make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Kick makes Run look into the store now. It does not wait.
func (o *Outbox) Kick() {
	select {
	case o.kick <- struct{}{}:
	default: // it is going to look anyway
	}
}

// Run sends until Shutdown or until ctx ends. What it is sending then, it finishes.
// It always returns nil: the store and the broker may come back.
func (o *Outbox) Run(ctx context.Context) error {
	o.mu.Lock()
	o.running = true
	o.mu.Unlock()
	defer close(o.done)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		o.send(ctx)
		select {
		case <-o.stop:
			return nil
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-o.kick:
		}
	}
}

// Shutdown ends Run and waits for it, but no longer than ctx.
func (o *Outbox) Shutdown(ctx context.Context) error {
	o.stopOnce.Do(func() { close(o.stop) })
	o.mu.Lock()
	running := o.running
	o.mu.Unlock()
	if !running {
		return nil
	}
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("dlq: a replay was still being sent: %w", context.Cause(ctx))
	}
}

// send sends, one after the other, what is due, until nothing is, the broker is
// away, or it has to stop.
func (o *Outbox) send(ctx context.Context) {
	for {
		select {
		case <-o.stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		letter, err := o.store.ClaimReplay(ctx, o.functions, lease)
		if err != nil {
			if ctx.Err() == nil {
				o.logStore.Do(func() { o.log.Warn("cannot look for replays; trying again", "error", err) })
			}
			return
		}
		if letter == nil || !o.sendOne(context.WithoutCancel(ctx), letter) {
			return
		}
	}
}

// sendOne sends a letter and notes what became of it. It reports whether the next
// one is worth a try.
func (o *Outbox) sendOne(ctx context.Context, l *store.DeadLetter) bool {
	log := o.log.With("letter", l.ID, "function", l.Function, "message", l.MessageID, "replay", l.ReplayID, "requested_by", l.RequestedBy)
	sent := o.sender.Replay(ctx, Replay{
		ID: l.ReplayID, Topic: l.Topic, Function: l.Function, MessageID: l.MessageID, Metadata: l.Metadata, Payload: l.Payload,
	})
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	var err error
	switch {
	case sent == nil:
		log.Info("a replay was sent")
		err = o.store.EndReplay(ctx, l.ID, l.ReplayID, o.node, "")
	case errors.Is(sent, ErrRefused):
		log.Warn("a replay cannot be sent; the letter waits again", "error", sent)
		err = o.store.EndReplay(ctx, l.ID, l.ReplayID, o.node, sent.Error())
	default:
		log.Warn("a replay could not be sent; trying again", "in", sendAgain, "error", sent)
		err = o.store.DeferReplay(ctx, l.ID, l.ReplayID, sent.Error(), sendAgain)
	}
	if err != nil {
		log.Warn("what became of a replay could not be noted; it is sent once more", "after", lease, "error", err)
	}
	return err == nil && (sent == nil || errors.Is(sent, ErrRefused))
}
