package httpapi

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxJoin bounds how many bytes of frames leave in one write call. A frame that is
	// larger leaves alone.
	maxJoin = 64 << 10
	// hardQueue times edge.queue live frames, or hardBytes of them, close a session at
	// once, however short the time: the node's memory is not one reader's.
	hardQueue = 16
	hardBytes = 8 << 20
	// keepQueue is the largest empty queue that is kept for the next frames.
	keepQueue = 16
	// writeTimeout bounds one write call to a peer that takes nothing at all.
	writeTimeout = 10 * time.Second
	// closeTimeout bounds each half of a close: getting what is left and the close frame
	// out, and waiting for the peer's.
	closeTimeout = time.Second
)

// errStuck ends a writer whose peer takes nothing.
var errStuck = errors.New("peer takes nothing")

// outbox is what waits to be written to one socket. Any goroutine may add to it, under the
// session's lock; the session's writer alone takes from it.
//
// The burst of a newcomer (history, statuses) stands first and is not counted: only
// live frames say how far a reader is behind.
type outbox struct {
	frames []frame
	head   int // The first of frames that waits.
	burst  int // How many of those that wait, from the front, are the burst.
	bytes  int // Of the live frames.
	pong   frame
	ping   bool
}

func (o *outbox) start(burst []frame) {
	o.frames, o.burst = burst, len(burst)
}

func (o *outbox) add(f frame) {
	if o.head > len(o.frames)/2 && len(o.frames) == cap(o.frames) {
		// Most of the array is done with: move up instead of growing.
		n := copy(o.frames, o.frames[o.head:])
		clear(o.frames[n:])
		o.frames, o.head = o.frames[:n], 0
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f)
}

// live returns how many live frames wait.
func (o *outbox) live() int { return o.len() - o.burst }

// len returns how many frames wait.
func (o *outbox) len() int { return len(o.frames) - o.head }

// drop forgets everything that waits.
func (o *outbox) drop() { *o = outbox{} }

// take moves what leaves in the next write into b: pong and ping first, which are late
// already, then frames up to maxJoin bytes.
func (o *outbox) take(b *batch) {
	if o.pong != nil {
		b.add(o.pong)
		o.pong = nil
	}
	if o.ping {
		b.add(pingFrame)
		o.ping = false
	}
	for o.head < len(o.frames) {
		f := o.frames[o.head]
		if b.size > 0 && b.size+len(f) > maxJoin {
			return
		}
		b.add(f)
		o.frames[o.head] = nil
		o.head++
		if o.burst > 0 {
			o.burst--
		} else {
			o.bytes -= len(f)
		}
	}
	o.frames, o.head = o.frames[:0], 0
	if cap(o.frames) > keepQueue {
		o.frames = nil // A session that is up to date holds little memory for what is not there.
	}
}

// batch is what one write call sends. Batches are pooled: an idle session has none.
type batch struct {
	dialect dialect
	frames  []frame
	size    int
	joined  []byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) add(f frame) {
	b.frames = append(b.frames, f)
	b.size += len(f)
}

// bytes returns the frames of b in one piece; in v1 those that follow each other become one. A
// single frame, shared with all other sessions, is not copied.
func (b *batch) bytes() []byte {
	if len(b.frames) == 1 {
		return b.frames[0]
	}
	b.joined = b.joined[:0]
	for i, n := 0, 0; i < len(b.frames); i += n {
		for n = 1; b.dialect != plain && b.frames[i].isData() && i+n < len(b.frames) && b.frames[i+n].isData(); {
			n++
		}
		if n > 1 {
			b.joined = b.dialect.join(b.joined, b.frames[i:i+n])
		} else {
			b.joined = append(b.joined, b.frames[i]...)
		}
	}
	return b.joined
}

func (b *batch) release() {
	clear(b.frames)
	b.frames, b.size = b.frames[:0], 0
	batches.Put(b)
}

// write is the session's writer: the only goroutine that writes to the socket once the
// upgrade is done. It ends after the close frame, or when the socket is of no more use.
func (s *session) write() {
	defer close(s.written)
	timer := time.NewTimer(s.untilTick())
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-timer.C:
			s.tick()
			timer.Reset(s.untilTick())
		}
		for {
			more, err := s.flush()
			if err != nil {
				s.abort()
				return
			}
			if !more {
				break
			}
		}
		if s.isOver() {
			return
		}
	}
}

// flush writes one batch and reports whether there was anything to write.
func (s *session) flush() (bool, error) {
	b := batches.Get().(*batch)
	defer b.release()
	b.dialect = s.dialect

	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return false, errStuck
	}
	if s.finished {
		s.mu.Unlock()
		return false, nil
	}
	now := time.Now()
	s.queue.take(b)
	if s.queue.live() <= s.queueLimit {
		s.overSince = time.Time{}
	} else if !s.closing && now.Sub(s.overSince) >= s.slowAfter {
		// What was taken still leaves: it is the unbroken continuation of the stream.
		s.closeLocked(closeTryLater, reasonSlow, true)
	}
	last := s.closing && s.queue.len() == 0
	if last {
		b.add(s.closeFrame)
	}
	if b.size == 0 {
		s.mu.Unlock()
		return false, nil
	}
	s.writeSince = now
	s.deadlineLocked(now)
	s.mu.Unlock()

	rest := b.bytes()
	size := len(rest)
	for len(rest) > 0 {
		n, err := s.conn.Conn.Write(rest)
		rest = rest[n:]
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false, err
		}
		if err := s.overdue(); err != nil {
			return false, err
		}
	}
	s.metrics.written.Add(float64(size))

	if last {
		s.mu.Lock()
		s.finished = true
		// The peer has this long to say its part of the close.
		s.readUntilLocked(time.Now().Add(closeTimeout))
		s.mu.Unlock()
		return false, nil
	}
	return true, nil
}

// overdue decides what happens when the write deadline has passed: go on with the rest
// of the bytes, with a new deadline, or give up.
func (s *session) overdue() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.dead:
		return errStuck
	case s.closing:
		if !now.Before(s.closeBy) {
			return errStuck
		}
	case now.Sub(s.writeSince) >= writeTimeout,
		!s.overSince.IsZero() && now.Sub(s.overSince) >= s.slowAfter:
		s.closeLocked(closeTryLater, reasonSlow, true)
	}
	s.deadlineLocked(now)
	return nil
}

// deadlineLocked sets the write deadline that the state of the session asks for. Far
// deadlines are moved only now and then: setting one costs about as much as a small write.
func (s *session) deadlineLocked(now time.Time) {
	want := s.writeSince.Add(writeTimeout)
	if s.closing {
		want = s.closeBy
	} else if over := s.overSince.Add(s.slowAfter); !s.overSince.IsZero() && over.Before(want) {
		want = over
	}
	if want.Before(s.deadline) || s.deadline.Sub(now) < writeTimeout/2 {
		s.deadline = want
		// An error means that the socket is closed, which the write will say.
		_ = s.conn.Conn.SetWriteDeadline(want)
	}
}

// edgeConn is the socket as gorilla and melody see it. Until the upgrade is done it is the
// socket; from then on the session owns it: what they write becomes a request to the
// session's writer, so that nothing falls into the middle of a frame and nobody moves
// the writer's deadline, and closing is the session's business.
type edgeConn struct {
	net.Conn
	session *session
	// upgraded is set by the session's own goroutine before any other may use the
	// socket, and never again.
	upgraded bool
}

// Write takes the control frames that gorilla writes by itself: the close frames for a
// message that is too big (1009) and for breaches of the protocol (1002).
func (c *edgeConn) Write(p []byte) (int, error) {
	if !c.upgraded {
		return c.Conn.Write(p)
	}
	if len(p) >= 2 && p[0] == 0x80|opClose && int(p[1]) == len(p)-2 {
		code, reason := closeNoStatus, ""
		if len(p) >= 4 {
			code, reason = int(binary.BigEndian.Uint16(p[2:])), string(p[4:])
		}
		c.session.close(code, reason)
	}
	return len(p), nil
}

// SetWriteDeadline does nothing once the writer owns the deadline.
func (c *edgeConn) SetWriteDeadline(t time.Time) error {
	if !c.upgraded {
		return c.Conn.SetWriteDeadline(t)
	}
	return nil
}

// SetReadDeadline sets it, but never beyond the end of a session that is closing.
func (c *edgeConn) SetReadDeadline(t time.Time) error {
	if !c.upgraded {
		return c.Conn.SetReadDeadline(t)
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if !c.session.readUntil.IsZero() && t.After(c.session.readUntil) {
		t = c.session.readUntil
	}
	return c.Conn.SetReadDeadline(t)
}

// Close closes a socket whose upgrade did not succeed.
func (c *edgeConn) Close() error {
	if !c.upgraded {
		return c.Conn.Close()
	}
	return nil
}
