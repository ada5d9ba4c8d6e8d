package httpapi

import (
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
	// slowCloseTimeout is closeTimeout for a reader that is too slow: what the system still holds
	// for it leaves before the close frame.
	slowCloseTimeout = 15 * time.Second
)

// errStuck ends a writer whose peer takes nothing.
var errStuck = errors.New("peer takes nothing")

// outbox is what waits to be written to one socket. Any goroutine may add to it, under the
// session's lock; who writes for the session alone takes from it.
//
// The burst of a newcomer (history, statuses) is not counted: only live frames say how far a
// reader is behind.
type outbox struct {
	items []item
	head  int // The first of items that waits.
	live  int // Messages of live frames.
	bytes int // Of the live frames.
	pong  frame
	ping  bool
}

// item is a frame, or several in one piece, with how many messages it counts for; 0: of the burst.
type item struct {
	frame frame
	count int
}

func (o *outbox) start(burst []frame) {
	o.items = make([]item, len(burst))
	for i, f := range burst {
		o.items[i].frame = f
	}
}

func (o *outbox) add(f frame, count int) {
	if o.head > len(o.items)/2 && len(o.items) == cap(o.items) {
		// Most of the array is done with: move up instead of growing.
		n := copy(o.items, o.items[o.head:])
		clear(o.items[n:])
		o.items, o.head = o.items[:n], 0
	}
	o.items = append(o.items, item{f, count})
	o.live += count
	o.bytes += len(f)
}

// len returns how many items wait.
func (o *outbox) len() int { return len(o.items) - o.head }

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
		b.add(b.dialect.ping())
		o.ping = false
	}
	for o.head < len(o.items) {
		it := o.items[o.head]
		if b.size > 0 && b.size+len(it.frame) > maxJoin {
			return
		}
		b.add(it.frame)
		o.items[o.head] = item{}
		o.head++
		if it.count > 0 {
			o.live -= it.count
			o.bytes -= len(it.frame)
		}
	}
	o.items, o.head = o.items[:0], 0
	if cap(o.items) > keepQueue {
		o.items = nil // A session that is up to date holds little memory for what is not there.
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
		for n = 1; b.dialect.joins() && b.frames[i].isData() && i+n < len(b.frames) && b.frames[i+n].isData(); {
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

// nextBatch moves what leaves next into b; last reports that it ends with the close frame. Of the
// two who write for a session, its shard and now and then a goroutine of its own, own is the
// latter. ok is false if there is nothing to write: then there is no such goroutine any more, and
// if the session is over, its writing has ended.
func (s *session) nextBatch(b *batch, own bool) (last, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !own {
		s.inLine = false
		if s.blocked {
			return false, false
		}
	}
	if s.dead || s.finished {
		s.blocked = false
		s.endLocked()
		return false, false
	}
	now := time.Now()
	b.dialect = s.dialect
	s.queue.take(b)
	if s.queue.live <= s.queueLimit {
		s.overSince = time.Time{}
	} else if !s.closing && now.Sub(s.overSince) >= s.slowAfter {
		// What was taken still leaves: it is the unbroken continuation of the stream.
		s.closeLocked(closeTryLater, reasonSlow, true)
	}
	last = s.closing && s.queue.len() == 0
	if last {
		b.add(s.closeFrame)
	}
	if b.size == 0 {
		if own {
			s.blocked = false
			s.deadline = time.Time{} // A deadline that passes would fail the shard's writes too.
			_ = s.conn.Conn.SetWriteDeadline(time.Time{})
		}
		return false, false
	}
	s.writeSince = now
	if own {
		s.deadlineLocked(now)
	} else if s.queue.len() > 0 {
		s.signalLocked()
	}
	return last, true
}

// wrote notes that a batch of n bytes has left.
func (s *session) wrote(n int, last bool) {
	s.metrics.written.Add(float64(n))
	if !last {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	// The peer has this long to say its part of the close.
	s.readUntilLocked(time.Now().Add(s.closeTimeout))
	s.endLocked()
}

// push writes to a socket that does not take everything at once: rest, of which before bytes of b
// have left, and what has come meanwhile. It ends when nothing is left, and blocks no longer than the
// session's deadlines say.
func (s *session) push(b *batch, rest []byte, before int, last bool) {
	for ok := true; ok; {
		size := before + len(rest)
		if err := s.writeAll(rest); err != nil {
			s.abort()
		} else {
			s.wrote(size, last)
		}
		b.release()
		b = batches.Get().(*batch)
		last, ok = s.nextBatch(b, true)
		rest, before = b.bytes(), 0
	}
	b.release()
}

func (s *session) writeAll(rest []byte) error {
	for len(rest) > 0 {
		n, err := s.conn.Conn.Write(rest)
		rest = rest[n:]
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := s.overdue(); err != nil {
			return err
		}
	}
	return nil
}

// endLocked ends the session's writing, once.
func (s *session) endLocked() {
	if s.ended {
		return
	}
	s.ended = true
	s.timer.Stop()
	close(s.written)
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

// deadlineLocked sets the write deadline that the state of the session asks for, if somebody
// waits for the socket. Far deadlines are moved only now and then: setting one costs about as much as a small write.
func (s *session) deadlineLocked(now time.Time) {
	if !s.blocked {
		return
	}
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
// socket; from then on the session owns it: what they write goes nowhere, so that nothing falls into
// the middle of a frame, they do not move the write deadline, and closing is the session's business.
type edgeConn struct {
	net.Conn
	session *session
	// upgraded is set by the session's own goroutine before any other may use the
	// socket, and never again.
	upgraded bool
	owed     int // Bytes that control frames count for, until the next read; the reader's.
}

// Read reads no faster than the user may send: the peer waits then, by TCP. A wait ends with the session.
func (c *edgeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.upgraded || n == 0 {
		return n, err
	}
	wait := c.session.share.reads(n + c.owed)
	c.owed = 0
	if wait <= 0 {
		return n, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, err
	case <-c.session.written:
		return 0, net.ErrClosed // Whoever floods gets no more attention while they leave.
	}
}

// Write writes the answer to the upgrade.
func (c *edgeConn) Write(p []byte) (int, error) {
	if !c.upgraded {
		return c.Conn.Write(p)
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
