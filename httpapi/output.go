package httpapi

import (
	"log/slog"
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
	attempt *attempt
	ring    *ring.Ring // Nil: none.

	turns []turn
	next  int           // Of turns.
	added []int         // Those that are in the ring.
	held  func(uintptr) // Made once: a closure for each turn would have to be allocated.
}

// spareOutputs are those that no shard uses now, of the whole process: as many as there were
// shards that wrote at the same time. A ring is too much to make one for every message.
var spareOutputs struct {
	sync.Mutex
	all []*output
}

// takeOutput returns an output for the calling goroutine, until it is given back.
func takeOutput(useRing bool) *output {
	if !useRing {
		return &output{attempt: newAttempt()}
	}
	spareOutputs.Lock()
	defer spareOutputs.Unlock()
	if n := len(spareOutputs.all); n > 0 {
		o := spareOutputs.all[n-1]
		spareOutputs.all = spareOutputs.all[:n-1]
		return o
	}
	o := &output{attempt: newAttempt(), added: make([]int, 0, ring.Size)}
	o.held = o.hold
	if r, err := ring.New(); err == nil {
		o.ring = r
	}
	return o
}

func (o *output) giveBack() {
	if o.ring == nil {
		return
	}
	spareOutputs.Lock()
	defer spareOutputs.Unlock()
	spareOutputs.all = append(spareOutputs.all, o)
}

// hasRing reports whether the system lets us have io_uring, and logs it.
func hasRing(log *slog.Logger) bool {
	r, err := ring.New()
	if err != nil {
		log.Debug("io_uring is not used: each write to a connection is a call of the system", "error", err)
		return false
	}
	_ = r.Close() // There was one.
	log.Debug("io_uring is used: many connections are written to in one call of the system")
	return true
}

// write writes what the turns, ring.Size at most, have to say.
func (o *output) write(turns []turn) {
	if o.ring == nil || len(turns) == 1 {
		for i := range turns {
			t := &turns[i]
			t.n, t.err = o.attempt.write(t.session.raw, t.bytes)
		}
		return
	}
	o.turns, o.next = turns, 0
	o.holdNext()
	o.turns = nil
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
	for i, res := range o.ring.Send() {
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
