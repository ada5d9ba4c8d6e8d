package client

import (
	"slices"
	"time"

	"burrow/gen/edge"
)

const (
	// window is how many requests are on their way at once; a server lets 40 through.
	window = 16
	// paceFor is how long after a rate_limited requests keep their distance.
	paceFor = 10 * time.Second
	// maxPause bounds what one answer can make everything wait.
	maxPause = time.Minute
)

// request is a frame that has an answer. It is kept, and sent again on each new connection, until it
// has come.
type request struct {
	ref   string
	frame *edge.ClientFrame
	// answer is called once, without a lock: with an ack or a history, or with an error.
	answer func(*edge.ServerFrame, error)

	sent  bool // On this connection.
	tries int  // How often it was unavailable.
}

// outbox holds the requests without an answer, in order. The Conn's lock guards it.
type outbox struct {
	requests []*request
	closed   bool
	onTheWay int
	notUntil time.Time     // When the next one may leave.
	pace     time.Duration // The distance between two, as long as it is before paceEnd.
	paceEnd  time.Time
}

// add reports false when the outbox takes no more.
func (o *outbox) add(r *request) bool {
	if !o.closed {
		o.requests = append(o.requests, r)
	}
	return !o.closed
}

// remove takes r out, if it is there.
func (o *outbox) remove(r *request) {
	if i := slices.Index(o.requests, r); i >= 0 {
		o.requests = slices.Delete(o.requests, i, i+1)
		if r.sent {
			o.onTheWay--
		}
	}
}

// find returns the request with this ref, or nil.
func (o *outbox) find(ref string) *request {
	if i := slices.IndexFunc(o.requests, func(r *request) bool { return r.ref == ref }); i >= 0 {
		return o.requests[i]
	}
	return nil
}

// next returns the request that leaves now; or, if that is nil, after how long there may be one: 0 is
// when something else happens.
func (o *outbox) next(now time.Time) (*request, time.Duration) {
	if o.onTheWay >= window {
		return nil, 0
	}
	i := slices.IndexFunc(o.requests, func(r *request) bool { return !r.sent })
	if i < 0 {
		return nil, 0
	}
	if wait := o.notUntil.Sub(now); wait > 0 {
		return nil, wait
	}
	if now.Before(o.paceEnd) {
		o.notUntil = now.Add(o.pace)
	}
	r := o.requests[i]
	r.sent = true
	o.onTheWay++
	return r, 0
}

// again makes r leave once more, after a while, and everything behind it later than that. Limited
// means that one was too fast, and goes on slowly for some time.
func (o *outbox) again(r *request, wait time.Duration, limited bool, now time.Time) {
	if r.sent {
		r.sent = false
		o.onTheWay--
	}
	wait = min(max(wait, time.Millisecond), maxPause)
	if limited {
		if now.After(o.paceEnd) {
			o.pace = 0
		}
		o.pace, o.paceEnd = max(o.pace, wait), now.Add(max(paceFor, 2*wait))
	}
	if until := now.Add(wait); until.After(o.notUntil) {
		o.notUntil = until
	}
}

// reconnected makes everything leave again.
func (o *outbox) reconnected() {
	for _, r := range o.requests {
		r.sent = false
	}
	o.onTheWay, o.notUntil, o.paceEnd = 0, time.Time{}, time.Time{}
}

// drop takes all out and takes no more.
func (o *outbox) drop() []*request {
	all := o.requests
	*o = outbox{closed: true}
	return all
}
