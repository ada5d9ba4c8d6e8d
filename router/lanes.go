package router

import "time"

// lane holds the messages of one routing key, in order; guarded by the stream's lock.
type lane struct {
	key         laneKey
	first, last *delivered
	after       *lane // in the list that it is in
	busy        bool  // in ready, or with a worker
	waiting     int   // nacked messages on their way back
	held        bool  // the queue waits for them
}

func (l *lane) push(d *delivered) {
	d.behind = nil
	if l.first == nil {
		l.first = d
	} else {
		l.last.behind = d
	}
	l.last = d
}

func (l *lane) pushFront(d *delivered) {
	d.behind = l.first
	l.first = d
	if l.last == nil {
		l.last = d
	}
}

func (l *lane) pop() *delivered {
	d := l.first
	if l.first = d.behind; l.first == nil {
		l.last = nil
	}
	d.behind = nil
	return d
}

// lanes is a queue.
type lanes struct{ first, last *lane }

func (q *lanes) push(l *lane) {
	if q.first == nil {
		q.first = l
	} else {
		q.last.after = l
	}
	q.last = l
}

func (q *lanes) pop() *lane {
	l := q.first
	if q.first = l.after; q.first == nil {
		q.last = nil
	}
	l.after = nil
	return l
}

// lane returns the lane of key. The caller holds the lock.
func (st *stream) lane(key laneKey) *lane {
	l := st.lanes[key]
	if l != nil {
		return l
	}
	if l = st.unused; l == nil {
		l = new(lane)
	}
	st.unused = l.after
	*l = lane{key: key}
	st.lanes[key] = l
	return l
}

// tidy forgets l if there is nothing in it, and nothing to come back. The caller holds
// the lock.
func (st *stream) tidy(l *lane) {
	if l.busy || l.first != nil || l.waiting > 0 {
		return
	}
	delete(st.lanes, l.key)
	*l = lane{after: st.unused}
	st.unused = l // of no more than were in flight at a time
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
		l := st.lane(st.s.keyOf(d.msg))
		d.lane = l
		l.push(d)
		if l.held && !st.park(d) {
			// Better out of order behind a failing message than that it stops them all.
			l.held = false
		}
		st.offer(l)
	}
	st.wake()
}

// park moves d from the window to the spare room, if there is any, so that d holds
// up nothing but its lane. The caller holds the lock.
func (st *stream) park(d *delivered) bool {
	if d.parked {
		return true
	}
	size := len(d.msg.Payload)
	if st.parked == st.s.spare || st.parked > 0 && st.bytes+size > st.s.spareBytes {
		return false
	}
	d.parked, d.size = true, size
	st.parked++
	st.bytes += size
	st.active--
	signal(st.room)
	return true
}

// offer makes l ready if it has something to hand out; wake has to follow. The caller
// holds the lock.
func (st *stream) offer(l *lane) {
	if l.busy || l.held || l.first == nil {
		return
	}
	l.busy = true
	st.ready.push(l)
}

// unbegun takes everything out of flight that no worker has, and nothing of whose lane a
// worker has: the rest of a lane comes after what is being handled. The stream has stopped.
func (st *stream) unbegun() []*delivered {
	st.mu.Lock()
	defer st.mu.Unlock()
	for l := st.ready.first; l != nil; l = l.after {
		l.busy = false // nobody takes it any more
	}
	var ds []*delivered
	for id, d := range st.inflight {
		if d.lane != nil && !d.lane.busy {
			ds = append(ds, d)
			delete(st.inflight, id)
		}
	}
	return ds
}

// take returns the next message to hand out, or nil. The caller holds the lock.
func (st *stream) take() *delivered {
	if st.ready.first == nil || st.stop.Err() != nil {
		return nil // what is queued when the stream stops is given back by run
	}
	d := st.ready.pop().pop()
	st.wake() // if there is more, for another worker
	return d
}

// settle takes the answer for d. The caller holds the lock.
func (st *stream) settle(d *delivered, answer answer) {
	l := d.lane
	l.busy = false
	switch answer {
	case acked:
		if d.parked {
			st.parked--
			st.bytes -= d.size
		} else {
			st.active--
		}
		d.lane = nil
		st.handled = append(st.handled, d)
		if len(st.handled) >= st.s.window/4 {
			st.flush()
		} else if !st.timed {
			st.timed = true
			st.late.Reset(ackDelay)
		}
	case nacked:
		st.again(d)
	}
	st.offer(l)
	st.tidy(l)
}

// flush has the acks sent, and the reader read: for many messages in one go.
func (st *stream) flush() {
	signal(st.due)
	signal(st.room)
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
	for behind := l.first; behind != nil; behind = behind.behind {
		if !st.park(behind) {
			l.held = false
			break
		}
	}
	time.AfterFunc(jitter(st.s.settings.wait(d.attempts)), func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.stop.Err() != nil {
			return // given back by run
		}
		l.waiting--
		l.held = false
		l.pushFront(d)
		st.offer(l)
		st.wake()
	})
}
