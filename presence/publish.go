package presence

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// maxStatuses is how many changes wait for a broker that is slow or away.
	// Over it further ones are left to the next state.
	maxStatuses = 1024
	// maxPartBytes bounds the names in one state: far below what any broker takes
	// as one message, however long the names are.
	maxPartBytes = 256 << 10
	// firstRetry is the wait after the first error; it doubles up to a heartbeat.
	firstRetry = 50 * time.Millisecond
	// answerGap is the least time between two answers to requests, so that many
	// nodes that start together do not get a state for each of them.
	answerGap = 200 * time.Millisecond
)

// outbox is what this node has to say: the newest status of each user, and when
// the next state is due.
type outbox struct {
	request   bool
	statuses  map[string]Status
	order     []string // the keys of statuses, oldest first
	stateDue  time.Time
	lastState time.Time
	twinSeen  bool // another process was heard under this name
}

func (o *outbox) add(s Status) {
	if _, waits := o.statuses[s.User]; !waits {
		if len(o.order) >= maxStatuses {
			o.stateDue = time.Now()
			return
		}
		o.order = append(o.order, s.User)
	}
	o.statuses[s.User] = s
}

// answer makes a state due at once, or soon if there has just been one.
func (o *outbox) answer(now time.Time, heartbeat time.Duration) {
	due := o.lastState.Add(min(answerGap, heartbeat))
	if due.Before(now) {
		due = now
	}
	if due.Before(o.stateDue) {
		o.stateDue = due
	}
}

// publish says what there is to say, one thing after the other, and again after
// an error.
func (t *Tracker) publish(ctx context.Context) {
	retry := firstRetry
	for {
		send, wait := t.next(time.Now())
		if send == nil {
			if !sleep(ctx, wait, t.speak) {
				return
			}
			continue
		}
		err := send(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if retry == firstRetry {
				t.log.Warn("presence was not published; trying again", "error", err)
			}
			t.metrics.publishErrors.Inc()
			if !sleep(ctx, retry, nil) {
				return
			}
			retry = min(2*retry, max(t.cfg.Heartbeat, firstRetry))
		case retry != firstRetry:
			t.log.Info("presence is published again")
			retry = firstRetry
		}
	}
}

// next returns what to publish now, or how long there is nothing to. What is sent
// must be put back if that fails.
func (t *Tracker) next(now time.Time) (send func(context.Context) error, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := &t.outbox
	if o.request {
		return t.sendRequest, 0
	}
	if wait = o.stateDue.Sub(now); wait <= 0 {
		// A change that comes while this one is on its way may make another due.
		o.stateDue = now.Add(t.cfg.Heartbeat)
		o.lastState = now
		parts := t.state()
		return func(ctx context.Context) error { return t.sendState(ctx, parts) }, 0
	}
	if len(o.order) == 0 {
		return nil, wait
	}
	user := o.order[0]
	o.order = o.order[1:]
	s := o.statuses[user]
	delete(o.statuses, user)
	return func(ctx context.Context) error { return t.sendStatus(ctx, s) }, 0
}

func (t *Tracker) sendRequest(ctx context.Context) error {
	if err := t.attempt(ctx, func(ctx context.Context) error { return t.pub.PublishRequest(ctx, t.cfg.Node) }); err != nil {
		return err
	}
	t.mu.Lock()
	t.outbox.request = false
	t.mu.Unlock()
	return nil
}

func (t *Tracker) sendStatus(ctx context.Context, s Status) error {
	err := t.attempt(ctx, func(ctx context.Context) error { return t.pub.PublishStatus(ctx, s) })
	if err != nil {
		t.mu.Lock()
		if _, newer := t.outbox.statuses[s.User]; !newer {
			t.outbox.add(s)
		}
		t.mu.Unlock()
	}
	return err
}

func (t *Tracker) sendState(ctx context.Context, parts []State) error {
	for _, s := range parts {
		if err := t.attempt(ctx, func(ctx context.Context) error { return t.pub.PublishState(ctx, s) }); err != nil {
			t.mu.Lock()
			t.outbox.stateDue = time.Now()
			t.mu.Unlock()
			return err
		}
	}
	return nil
}

// attempt bounds one call of the publisher.
func (t *Tracker) attempt(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(t.cfg.Heartbeat, time.Second))
	defer cancel()
	return call(ctx)
}

// state returns this node's users in as many parts as it takes. They are sorted,
// so that the parts of one version are the same each time, and those of two
// heartbeats complete each other.
func (t *Tracker) state() []State {
	users := slices.Sorted(maps.Keys(t.local))
	var parts []State
	for begin := true; begin || len(users) > 0; begin = false {
		n, size := 0, 0
		for n < len(users) && n < t.cfg.SnapshotUsers && size < maxPartBytes {
			size += len(users[n]) + 2
			n++
		}
		parts = append(parts, State{
			Node: t.cfg.Node, Incarnation: t.incarnation, Version: t.version,
			Users: users[:n:n], Part: uint32(len(parts)),
		})
		users = users[n:]
	}
	for i := range parts {
		parts[i].Parts = uint32(len(parts))
	}
	return parts
}
