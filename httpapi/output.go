package httpapi

import (
	"sync"

	"burrow/ring"
)

// turn is a session's turn: a batch that leaves now, and what became of it.
type turn struct {
	session *session
	batch   *batch
	bytes   []byte
	last    bool // Ends with the close frame.

	n   int // Bytes that the socket took at once.
	err error
}

// output writes for many sessions without waiting for their sockets: in one call of the system
// for all of them where there is io_uring, and in one for each elsewhere. It is one goroutine's.
type output struct {
	shards  *shards // Whose it is now.
	attempt *attempt
	ring    requests // Nil: none.

	turns []turn
	next  int           // Of turns.
	added []int         // Those that are in the ring.
	held  func(uintptr) // Made once: a closure for each turn would have to be allocated.

	failed error // Why the ring cannot be used any more.
}

// requests is what an output does with a ring.Ring.
type requests interface {
	Add(fd uintptr, b []byte)
	Send() ([]ring.Result, error)
	Close() error
}

// spareOutputs are those that no shard uses now, of the whole process: as many as there were
// shards that wrote at the same time. A ring is too much to make one for every message.
var spareOutputs struct {
	sync.Mutex
	all []*output
}

// takeOutput returns an output for the calling goroutine, until it is given back.
func (s *shards) takeOutput() *output {
	o := &output{shards: s, attempt: newAttempt()}
	if !s.ring.Load() {
		return o
	}
	spareOutputs.Lock()
	if last := len(spareOutputs.all) - 1; last >= 0 {
		o = spareOutputs.all[last]
		spareOutputs.all = spareOutputs.all[:last]
		o.shards = s
	}
	spareOutputs.Unlock()
	if o.ring == nil {
		r, err := ring.New()
		if err != nil {
			s.forgo(err)
			return o
		}
		o.ring, o.held, o.added = r, o.hold, make([]int, 0, ring.Size)
	}
	return o
}

func (o *output) giveBack() {
	if o.ring == nil {
		return
	}
	o.shards = nil
	spareOutputs.Lock()
	defer spareOutputs.Unlock()
	spareOutputs.all = append(spareOutputs.all, o)
}

// forgo notes that the system does not let us have io_uring, or not any more.
func (s *shards) forgo(err error) {
	if s.ring.Swap(false) {
		s.log.Warn("io_uring fails: from now on each write to a connection is a call of the system", "error", err)
	}
}

// tryRing finds out whether the system lets us have io_uring.
func (s *shards) tryRing() {
	r, err := ring.New()
	if err != nil {
		s.log.Debug("no io_uring here: each write to a connection is a call of the system", "error", err)
		return
	}
	_ = r.Close() // There was one.
	s.ring.Store(true)
	s.log.Debug("many connections are written to in one call of the system, by io_uring")
}

// write writes what the turns, ring.Size at most, have to say.
func (o *output) write(turns []turn) {
	if o.ring == nil || len(turns) == 1 {
		o.writeEach(turns)
		return
	}
	o.turns, o.next, o.failed = turns, 0, nil
	o.holdNext()
	o.turns = nil
	if o.failed == nil {
		return
	}
	_ = o.ring.Close() // An error changes nothing.
	o.ring = nil
	o.shards.forgo(o.failed)
	for i := range turns {
		if t := &turns[i]; t.n == 0 && t.err == nil { // Not sent.
			o.writeEach(turns[i : i+1])
		}
	}
}

func (o *output) writeEach(turns []turn) {
	for i := range turns {
		t := &turns[i]
		t.n, t.err = o.attempt.write(t.session.raw, t.bytes)
	}
}

// holdNext takes hold of the sockets from the next one on, one inside the other, so that all are open
// until everything is sent: the number of a socket that is closed is soon another one's, who
// must not get what is not for them.
func (o *output) holdNext() {
	for o.next < len(o.turns) {
		t := &o.turns[o.next]
		o.next++
		if t.session.raw == nil {
			continue // It has a goroutine of its own for that.
		}
		err := t.session.raw.Control(o.held)
		if err == nil {
			return // All is done: hold went on.
		}
		t.err = err
	}
	results, err := o.ring.Send()
	o.failed = err
	for i, res := range results {
		t := &o.turns[o.added[i]]
		t.n, t.err = res.N, res.Err
	}
	o.added = o.added[:0]
}

// hold is called while the socket fd, of the turn before the next, is kept open.
func (o *output) hold(fd uintptr) {
	o.ring.Add(fd, o.turns[o.next-1].bytes)
	o.added = append(o.added, o.next-1)
	o.holdNext()
}
