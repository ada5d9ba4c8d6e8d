package presence

import (
	"container/heap"
	"context"
	"time"
)

// deadlineKind says what ends at a deadline.
type deadlineKind int

const (
	graceEnd   deadlineKind = iota // the grace of a local user
	leaseEnd                       // the lease of a node, then the memory of it
	visitorEnd                     // the lease of a user of no node
)

type deadlineKey struct {
	kind deadlineKind
	name string
}

// deadlines is a heap of when to look at what. An entry may be early, as renewing
// a lease does not touch it: whoever takes it out looks up the true time.
type deadlines struct {
	entries []deadlineEntry
	queued  map[deadlineKey]time.Time // the earliest entry of each key
}

type deadlineEntry struct {
	at  time.Time
	key deadlineKey
}

func (d *deadlines) Len() int           { return len(d.entries) }
func (d *deadlines) Less(i, j int) bool { return d.entries[i].at.Before(d.entries[j].at) }
func (d *deadlines) Swap(i, j int)      { d.entries[i], d.entries[j] = d.entries[j], d.entries[i] }
func (d *deadlines) Push(x any)         { d.entries = append(d.entries, x.(deadlineEntry)) }
func (d *deadlines) Pop() any {
	last := len(d.entries) - 1
	e := d.entries[last]
	d.entries[last] = deadlineEntry{}
	d.entries = d.entries[:last]
	return e
}

// deadline makes the table look at key at the given time, or before.
func (t *Tracker) deadline(key deadlineKey, at time.Time) {
	if queued, ok := t.deadlines.queued[key]; ok && !queued.After(at) {
		return
	}
	t.deadlines.queued[key] = at
	heap.Push(&t.deadlines, deadlineEntry{at, key})
	if t.deadlines.entries[0].key == key {
		t.due.signal()
	}
}

// expire ends leases and graces in time.
func (t *Tracker) expire(ctx context.Context) {
	for {
		wait := time.Hour
		t.mu.Lock()
		now := time.Now()
		for d := &t.deadlines; d.Len() > 0; {
			if wait = d.entries[0].at.Sub(now); wait > 0 {
				break
			}
			wait = time.Hour
			e := heap.Pop(d).(deadlineEntry)
			if d.queued[e.key].Equal(e.at) {
				delete(d.queued, e.key)
			}
			if at := t.end(e.key, now); !at.IsZero() {
				t.deadline(e.key, at)
			}
		}
		t.settle()
		t.mu.Unlock()
		if !sleep(ctx, wait, t.due) {
			return
		}
	}
}

// end ends what key stands for if its time has come, and returns when to look
// again; zero is never.
func (t *Tracker) end(key deadlineKey, now time.Time) time.Time {
	switch key.kind {
	case graceEnd:
		u := t.local[key.name]
		if u == nil {
			return time.Time{}
		}
		if u.leaveAt.IsZero() || u.leaveAt.After(now) {
			return u.leaveAt
		}
		t.drop(key.name)
	case visitorEnd:
		until, ok := t.visitors[key.name]
		if !ok || until.After(now) {
			return until
		}
		t.endVisit(key.name)
	case leaseEnd:
		n := t.nodes[key.name]
		if n == nil {
			return time.Time{}
		}
		if n.until.After(now) {
			return n.until
		}
		if n.absent {
			delete(t.nodes, key.name)
			return time.Time{}
		}
		t.log.Warn("a node was not heard for its lease; its users are offline there", "other", key.name, "lease", t.cfg.Lease)
		t.metrics.expired.Inc()
		t.dismiss(n)
		return n.until
	}
	return time.Time{}
}
