package httpapi

import (
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"burrow/ring"
)

// shards write for all sessions whose sockets take what there is at once, which is nearly
// all of them nearly always. A message to a thousand sessions then wakes a few goroutines instead
// of a thousand, among which those that bring the next messages would have to wait for their
// turn.
//
// With nothing to do there is no goroutine, and nothing waits for more.
type shards struct {
	log  *slog.Logger
	all  []*shard
	next atomic.Uint32
	ring atomic.Bool // io_uring is used.
}

// newShards returns the writers of the sessions of h, which use io_uring if it is wanted and there.
func newShards(h *hub, wanted bool, log *slog.Logger) *shards {
	s := &shards{log: log}
	if wanted {
		s.tryRing()
	}
	for range runtime.GOMAXPROCS(0) {
		s.all = append(s.all, &shard{shards: s, hub: h})
	}
	h.writers = s.all
	return s
}

// pick returns the shard of a new session.
func (s *shards) pick() *shard { return s.all[int(s.next.Add(1))%len(s.all)] }

const (
	// maxGather bounds how long a busy shard waits for more before it writes again.
	maxGather = 20 * time.Millisecond
	// minGather is not worth a timer.
	minGather = 500 * time.Microsecond
	// restRounds is how many rounds long a busy shard rests.
	restRounds = 2
	// enough messages in one write are about as cheap as they get: with more than that a shard
	// waits less.
	enough = 4
	// together is for how many sessions a shard writes before it lets others run: what brings the next
	// messages is worth more than the next write.
	together = ring.Size
)

// shard is the sessions that wait for their turn, each once at most, so that their number bounds
// it. Its goroutine runs for as long as there are any, and blocks on no socket.
//
// When more than one thing came during a round, it rests for twice as long as the round took, up to
// maxGather, so that under load what comes together leaves together. What comes after a round, as it
// does without load, leaves at once.
type shard struct {
	shards *shards
	hub    *hub
	turns  [together]turn // Of the goroutine.

	mu      sync.Mutex
	waiting []*session
	spare   []*session // An empty array for the next round.
	running bool
	rounds  int // That have begun.
	report  int // The round after which the hub is told; 0: none.
}

// add puts s in line. The caller holds the session's lock and sees to it that it is not there yet.
func (w *shard) add(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, s)
	if !w.running {
		w.running = true
		go w.run()
	}
}

// watch reports whether the shard has anything to do; if so it calls hub.written when all that is
// in line by now has had its turn.
func (w *shard) watch() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return false
	}
	known := w.report > 0
	if w.report = w.rounds; len(w.waiting) > 0 {
		w.report++
	}
	return !known
}

// run writes for those who wait, one batch for each in its turn.
func (w *shard) run() {
	out := w.shards.takeOutput()
	for {
		w.mu.Lock()
		round := w.waiting
		w.waiting, w.spare = w.spare, nil
		w.rounds++
		w.mu.Unlock()

		began := time.Now()
		for part := range slices.Chunk(round, together) {
			w.write(part, out)
			if len(part) == together {
				runtime.Gosched()
			}
		}
		clear(round)
		took := time.Since(began)

		w.mu.Lock()
		w.spare = round[:0]
		more := len(w.waiting) > 0
		told := w.report > 0 && w.report <= w.rounds
		if told {
			w.report = 0
		}
		w.mu.Unlock()

		w.rest(took, more, told)
		if told {
			w.hub.written()
		}
		w.mu.Lock()
		if len(w.waiting) == 0 && w.report == 0 { // The hub may have asked after the round.
			w.running = false
			out.giveBack() // Before the next one takes one.
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// rest waits for more, if something came during a round: more sessions that wait, or, if that was
// what the hub told them (told), more to tell.
func (w *shard) rest(took time.Duration, more, told bool) {
	messages := 1
	if told {
		var waiting int
		messages, waiting = w.hub.pace()
		if messages == 1 && waiting == 1 {
			return // Two that met by chance: there is no load for which waiting pays.
		}
		more = more || waiting > 0
	}
	if more && took >= minGather {
		time.Sleep(min(restRounds*took*enough/time.Duration(max(messages, enough)), maxGather))
	}
}

// write writes one batch for each of sessions that has one.
func (w *shard) write(sessions []*session, out *output) {
	turns := w.turns[:0]
	for _, s := range sessions {
		b := batches.Get().(*batch)
		last, ok := s.nextBatch(b, false)
		if !ok {
			b.release()
			continue
		}
		turns = append(turns, turn{session: s, batch: b, bytes: b.bytes(), last: last})
	}
	out.write(turns)
	for i := range turns {
		turns[i].end()
	}
	clear(turns)
}

// end notes what has left. What the socket did not take at once becomes the business of a
// goroutine of the session's own, until everything is written.
func (t *turn) end() {
	s := t.session
	switch {
	case errors.Is(t.err, ring.ErrLost):
		s.abort() // The kernel may still read the batch.
	case t.err != nil:
		t.batch.release()
		s.abort()
	case t.n == len(t.bytes):
		t.batch.release()
		s.wrote(t.n, t.last)
	default:
		s.mu.Lock()
		s.blocked = true
		s.deadlineLocked(s.writeSince)
		s.mu.Unlock()
		go s.push(t.batch, t.bytes[t.n:], t.n, t.last)
	}
}

// rawConn returns what conn can be written to without waiting, or nil if there is no such thing:
// then a goroutine writes whenever there is something.
func rawConn(conn net.Conn) syscallConn {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// syscallConn is the part of syscall.RawConn that is for writing.
type syscallConn interface {
	Control(f func(fd uintptr)) error
	Write(f func(fd uintptr) (done bool)) error
}
