package httpapi

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"burrow/auth"
)

const (
	reasonSlow    = "too slow: reconnect and resume"
	reasonFull    = "too many connections of this user: close another one first"
	reasonExpired = "the session has expired: sign in again"
	reasonRate    = "too many refused frames: slow down"
)

// session is one WebSocket of a user, or what stands in for one (see events.go). It has a reader (melody's, which runs in the
// session's own goroutine and calls receive); a shard writes for it, or, while the socket takes
// less than there is, a goroutine of its own. Its life: run, open, receive for each
// message, close by either side, finish.
type session struct {
	server  *Server
	metrics *metrics
	user    string
	private string // An id: private messages with lesser ones are not for this owner of the name.
	dialect dialect
	since   string // The last message that the client has seen, until it has joined.
	conn    *edgeConn

	share share // Of what the user and the address may send.

	sends     int           // Messages on their way to the broker.
	fewer     chan struct{} // Closed when there are fewer than fewerThan; nil: nobody waits.
	fewerThan int

	index  int    // In hub.sessions; the hub's.
	apart  int    // The last batch of the hub of which it got frame by frame; the hub's.
	joined bool   // In the hub; the reader's.
	name   string // By which its client speaks of it in requests; empty: none.

	activity sync.Mutex // Held while the presence is told, so that it hears things in their order.
	present  bool       // It has been told to the presence.
	away     bool       // Nobody is in front of the screen.

	queueLimit int
	slowAfter  time.Duration
	shard      *shard
	raw        syscallConn   // For writing without waiting; nil: there is no such way.
	written    chan struct{} // Closed when nothing will be written any more.

	mu         sync.Mutex
	expires    time.Time // Zero: never.
	queue      outbox
	inLine     bool // Waiting for a turn of the shard.
	blocked    bool // A goroutine of its own writes.
	ended      bool // Nothing will be written any more.
	timer      *time.Timer
	nextPing   time.Time
	overSince  time.Time // When more than queueLimit live frames began to wait; zero: fewer do.
	writeSince time.Time // When the write call that runs, or the last one, began.
	deadline   time.Time // The socket's write deadline.
	readUntil  time.Time // The last moment for reading; zero: no such moment.
	closing    bool      // The close frame is the last thing that leaves.
	closeFrame frame
	closeBy    time.Time // The close frame leaves by then or not at all.

	closeTimeout time.Duration // Of each half of the close.
	closeCode    int           // 0: none.
	closeReason  string
	peerClosed   bool // The peer's close frame has come.
	finished     bool // The close frame has left.
	dead         bool // The socket is closed.
}

func (s *Server) newSession(conn net.Conn, who auth.Session, from string, d dialect) *session {
	edge := s.cfg.Edge
	sess := &session{
		server:     s,
		metrics:    s.metrics,
		user:       who.Name,
		private:    privateFrom(who),
		dialect:    d,
		expires:    who.Expires,
		conn:       &edgeConn{Conn: conn},
		queueLimit: edge.Queue,
		slowAfter:  edge.SlowAfter,
		shard:      s.shards.pick(),
		raw:        s.raw(conn),
		written:    make(chan struct{}),
	}
	sess.conn.session = sess
	sess.share = s.share(who.Name, from)
	return sess
}

// run serves the session until it is over. It is called in a goroutine of its own, so that
// net/http can forget the request: that saves its buffers for each connection.
func (s *session) run(upgrade func(net.Conn) error) {
	defer s.finish()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
		}
	}()
	if err := upgrade(s.conn); err != nil {
		s.server.log.Debug("upgrade", "user", s.user, "error", err)
	}
}

// panicked is the last resort against a bug: it ends this session instead of the process.
func (s *session) panicked(p any) {
	s.metrics.panics.Inc()
	s.server.log.Error("session: panic", "user", s.user, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.close(closeInternal, "internal error")
}

// open makes the upgraded socket the session's own and joins the hub.
func (s *session) open() {
	s.conn.upgraded = true
	// An error means that the socket is closed, which the first read will say.
	_ = s.conn.Conn.SetDeadline(time.Time{})
	interval := s.server.cfg.Edge.PingInterval
	s.mu.Lock()
	// The first ping comes at any time, lest all that came together are pinged together.
	s.nextPing = s.server.pingTime(time.Now().Add(interval/2 + rand.N(interval/2)))
	s.timer = time.AfterFunc(s.untilTickLocked(), s.tick)
	s.mu.Unlock()

	switch s.server.hub.join(s) {
	case joined:
		s.joined = true
		s.server.log.Debug("session opened", "user", s.user, "address", s.share.from)
		s.metrics.sessions.Inc()
		s.join()
	case refusedFull:
		s.close(closeTryLater, reasonFull)
	case refusedClosed:
		s.close(closeRestart, s.server.retryReason(0))
	}
}

// finish ends what open began, once the reader has ended, and closes the socket.
func (s *session) finish() {
	s.share.leave()
	if s.joined {
		s.server.hub.leave(s)
		s.metrics.sessions.Dec()
		s.leave()
	}
	if !s.conn.upgraded {
		_ = s.conn.Conn.Close() // Gorilla has closed it already, unless it panicked.
		return
	}
	s.mu.Lock()
	code, reason := s.closeCode, s.closeReason
	if s.peerClosed && reason == "" {
		code = 0
	}
	gone := !s.closing // The reader failed and nobody said goodbye: there is nobody to write to.
	s.mu.Unlock()
	s.server.logClosed(s.user, s.share.from, code, reason)
	if gone {
		s.metrics.closed("lost")
		s.abort()
	}
	<-s.written // Bounded by closeBy.

	s.mu.Lock()
	linger := s.finished && !s.peerClosed && !s.dead
	_ = s.conn.Conn.SetReadDeadline(s.readUntil)
	s.mu.Unlock()
	if linger {
		// Closing a socket with unread input resets it, and the peer might lose the close
		// frame that says why. So say that we are done and read until the peer is.
		if half, ok := s.conn.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, s.conn.Conn)
	}
	_ = s.conn.Conn.Close()
}

// start puts what a newcomer gets first into the queue. The hub calls it.
func (s *session) start(burst []frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.start(burst)
	s.signalLocked()
}

// enqueue adds a live frame, or several in one piece that count for that many. It never blocks. A session over its hard bound, or that has been
// behind for too long, is closed: it gets no more frames, rather than some of them.
func (s *session) enqueue(f frame, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.dead {
		return
	}
	s.queue.add(f, count)
	if live := s.queue.live; live > hardQueue*s.queueLimit || s.queue.bytes > hardBytes {
		s.closeLocked(closeTryLater, reasonSlow, true)
	} else if live > s.queueLimit && s.overSince.IsZero() {
		s.overSince = time.Now()
		// The writer may be waiting for the socket: it must look up when the time is over.
		s.deadlineLocked(s.overSince)
	}
	s.signalLocked()
}

// signalLocked says that there is something to write. A session that is not open yet writes
// nothing.
func (s *session) signalLocked() {
	if s.inLine || s.blocked || s.ended || s.timer == nil {
		return
	}
	s.inLine = true
	s.shard.add(s)
}

// pong answers a ping. Of several pings that wait only the last is answered, as RFC 6455 allows.
func (s *session) pong(data string) {
	f := newFrame(opPong, []byte(data))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing && !s.dead {
		s.queue.pong = f
		s.signalLocked()
	}
}

// untilTickLocked returns how long until tick has something to do.
func (s *session) untilTickLocked() time.Duration {
	next := s.nextPing
	if !s.expires.IsZero() && s.expires.Before(next) {
		next = s.expires
	}
	return max(0, time.Until(next))
}

// pingTime returns the last moment for pings that is not after t. There are a hundred in an interval,
// the same for all sessions: what costs most of a ping to one is waking up for it, and for its answer.
func (s *Server) pingTime(t time.Time) time.Time {
	began := s.hub.began
	return began.Add(t.Sub(began).Truncate(s.cfg.Edge.PingInterval / 100))
}

// tick pings, or ends a session whose time is over. The session's timer calls it.
func (s *session) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	now := time.Now()
	if !s.expires.IsZero() && !now.Before(s.expires) {
		s.expires = time.Time{}
		s.closeLocked(closeExpired, reasonExpired, false)
	} else if !now.Before(s.nextPing) {
		s.nextPing = s.server.pingTime(now.Add(s.server.cfg.Edge.PingInterval))
		if !s.closing && !s.dead {
			s.queue.ping = true
			s.signalLocked()
		}
	}
	s.timer.Reset(s.untilTickLocked())
}

// close ends the session with code: what waits is sent first, then the close frame, and the
// peer has a moment to answer. Only the first close counts.
func (s *session) close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(code, reason, false)
}

// closeLocked is close; drop throws away what waits, which the peer would not read in time.
func (s *session) closeLocked(code int, reason string, drop bool) {
	if s.closing || s.dead {
		if code == closeRestart {
			s.hurryLocked()
		}
		return
	}
	s.metrics.closed(closeLabel(code))
	now := time.Now()
	s.closing, s.closeCode, s.closeReason = true, code, reason
	s.closeFrame = s.dialect.closing(code, reason)
	s.closeTimeout = closeTimeout
	if code == closeTryLater && reason == reasonSlow {
		s.closeTimeout = slowCloseTimeout
	}
	s.closeBy = now.Add(s.closeTimeout)
	if drop {
		s.queue.drop()
	}
	s.deadlineLocked(now)
	s.readUntilLocked(s.closeBy.Add(s.closeTimeout))
	s.signalLocked()
}

// hurryLocked bounds a close under way by closeTimeout: the server stops.
func (s *session) hurryLocked() {
	now := time.Now()
	s.closeTimeout = closeTimeout
	if by := now.Add(closeTimeout); by.Before(s.closeBy) {
		s.closeBy = by
		s.deadlineLocked(now)
	}
	if until := now.Add(2 * closeTimeout); until.Before(s.readUntil) {
		s.readUntilLocked(until)
	}
}

// readUntilLocked makes t the last moment for reading from the socket.
func (s *session) readUntilLocked(t time.Time) {
	s.readUntil = t
	_ = s.conn.Conn.SetReadDeadline(t)
}

// peerClose answers the peer's close frame; melody ends the reader after it.
func (s *session) peerClose(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peerClosed = true
	if s.closing || s.dead {
		return
	}
	s.closeLocked(code, "", true)
}

// abort closes the socket without a word.
func (s *session) abort() {
	s.mu.Lock()
	s.dead = true
	s.queue.drop()
	s.signalLocked()
	s.mu.Unlock()
	_ = s.conn.Conn.Close()
}
