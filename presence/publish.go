package presence

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// maxStatuses is how many changes wait for a broker that is slow or away.
	// Over it further ones are left to a state, which is hurried.
	maxStatuses = 1024
	// maxPartBytes bounds the names in one state: far below what any broker takes
	// as one message, however long the names are.
	maxPartBytes = 256 << 10
	// maxParts is less than the schema allows; with more users the parts grow.
	maxParts = 9000
	// firstRetry is the wait after the first error; it doubles up to a heartbeat.
	firstRetry = 50 * time.Millisecond
	// stateGap is the least time between two states out of turn, so that many
	// nodes that start together do not get a state for each request.
	stateGap = 200 * time.Millisecond
)

// outbox is what this node has to say: the newest status of each user, and when
// the next state is due.
type outbox struct {
	request   bool
	statuses  map[string]Status
	order     []string // the keys of statuses, oldest first
	stateDue  time.Time
	lastState time.Time
}

// queue puts up s for publishing, in the place of an older status of its user.
func (t *Tracker) queue(s Status) {
	o := &t.outbox
	if _, waits := o.statuses[s.User]; !waits {
		if len(o.order) >= maxStatuses {
			t.hurryState()
			return
		}
		o.order = append(o.order, s.User)
	}
	o.statuses[s.User] = s
}

// Resync asks every node who is there: call it when what they said may have been
// lost on its way here. It does not wait.
func (t *Tracker) Resync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outbox.request = true
	t.speak.signal()
}

// hurryState makes a state due at once, or soon if there has just been one.
func (t *Tracker) hurryState() {
	due := t.outbox.lastState.Add(min(stateGap, t.cfg.Heartbeat))
	if due.Before(t.outbox.stateDue) {
		t.outbox.stateDue = due
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

// next returns what to publish now, or how long there is nothing to. What it
// returns puts up again what could not be sent.
func (t *Tracker) next(now time.Time) (send func(context.Context) error, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := &t.outbox
	if wait = o.stateDue.Sub(now); wait <= 0 {
		o.stateDue = now.Add(t.cfg.Heartbeat)
		o.lastState = now
		whole := State{
			Node: t.cfg.Node, Incarnation: t.incarnation, Version: t.version,
			Users: slices.AppendSeq(make([]string, 0, len(t.local)), maps.Keys(t.local)),
		}
		for user, u := range t.local {
			if u.standing == Away {
				whole.Away = append(whole.Away, user)
			}
		}
		return func(ctx context.Context) error { return t.sendState(ctx, whole) }, 0
	}
	if o.request {
		return t.sendRequest, 0
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
			t.queue(s)
		}
		t.mu.Unlock()
	}
	return err
}

func (t *Tracker) sendState(ctx context.Context, whole State) error {
	for _, s := range split(whole, t.cfg.SnapshotUsers) {
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

// split divides a state into as many parts as it takes. The users are sorted, so
// that the parts of one version are the same each time, and those of two
// heartbeats complete each other.
func split(whole State, maxUsers int) []State {
	users, away := whole.Users, whole.Away
	slices.Sort(users)
	slices.Sort(away)
	maxUsers = max(maxUsers, len(users)/maxParts+1)
	var parts []State
	for len(users) > 0 || len(parts) == 0 {
		n, size := 0, 0
		for n < len(users) && n < maxUsers && size < maxPartBytes {
			size += 2 * len(users[n]) // once more if they are away
			n++
		}
		part := whole
		part.Users, part.Part = users[:n:n], uint32(len(parts))
		m := len(away)
		if n < len(users) {
			m, _ = slices.BinarySearch(away, users[n])
		}
		part.Away, away = away[:m:m], away[m:]
		parts = append(parts, part)
		users = users[n:]
	}
	for i := range parts {
		parts[i].Parts = uint32(len(parts))
	}
	return parts
}
