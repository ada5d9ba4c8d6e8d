package httpapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/olahol/melody"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"burrow/gen/tasks"
)

// publishTimeout bounds one publish, beyond what the publisher itself promises.
const publishTimeout = 30 * time.Second

const (
	reasonSlow    = "too slow: reconnect and resume"
	reasonFull    = "too many connections of this user: close another one first"
	reasonExpired = "the session has expired: sign in again"
	reasonRate    = "too many refused frames: slow down"
)

// session is one WebSocket of a user. It has a reader (melody's, which runs in the
// session's own goroutine and calls receive) and a writer (write). Its life: run, open,
// receive for each message, close by either side, finish.
type session struct {
	server  *Server
	metrics *metrics
	user    string
	conn    *edgeConn

	limit    *rate.Limiter // Of frames; nil: none. The reader's.
	refusals *rate.Limiter // Of error frames; nil: none. The reader's.

	index  int  // In hub.sessions; the hub's.
	joined bool // In the hub; the reader's.

	queueLimit int
	slowAfter  time.Duration
	nextPing   time.Time     // The writer's.
	wake       chan struct{} // Holds one: there is something for the writer to do.
	written    chan struct{} // Closed when the writer has ended.

	mu         sync.Mutex
	expires    time.Time // Zero: never.
	queue      outbox
	overSince  time.Time // When more than queueLimit live frames began to wait; zero: fewer do.
	writeSince time.Time // When the write call that runs, or the last one, began.
	deadline   time.Time // The socket's write deadline.
	readUntil  time.Time // The last moment for reading; zero: no such moment.
	closing    bool      // The close frame is the last thing that leaves.
	closeFrame frame
	closeBy    time.Time // The close frame leaves by then or not at all.
	peerClosed bool      // The peer's close frame has come.
	finished   bool      // The close frame has left.
	dead       bool      // The socket is closed.
}

func (s *Server) newSession(conn net.Conn, user string, expires time.Time) *session {
	edge := s.cfg.Edge
	sess := &session{
		server:     s,
		metrics:    s.metrics,
		user:       user,
		expires:    expires,
		conn:       &edgeConn{Conn: conn},
		queueLimit: edge.Queue,
		slowAfter:  edge.SlowAfter,
		wake:       make(chan struct{}, 1),
		written:    make(chan struct{}),
	}
	sess.conn.session = sess
	if edge.Rate > 0 {
		sess.limit = rate.NewLimiter(rate.Limit(edge.Rate), edge.Burst)
		sess.refusals = rate.NewLimiter(rate.Limit(edge.Rate/2), 2*edge.Burst)
	}
	return sess
}

// sessionOf returns the session that melody's session stands for.
func sessionOf(m *melody.Session) *session {
	return m.WebsocketConnection().UnderlyingConn().(*edgeConn).session
}

// newMelody returns the melody that upgrades and reads for s. It never writes: see edgeConn.
func (s *Server) newMelody() *melody.Melody {
	m := melody.New()
	m.Upgrader.CheckOrigin = s.originAllowed
	m.Upgrader.HandshakeTimeout = 5 * time.Second
	m.Upgrader.ReadBufferSize = 1024
	m.Upgrader.WriteBufferSize = 256
	m.Upgrader.WriteBufferPool = new(sync.Pool)
	m.Config.MaxMessageSize = int64(s.cfg.Edge.MaxFrameBytes)
	m.Config.MessageBufferSize = 1 // Nothing is ever put into it.
	m.Config.PongWait = 2 * s.cfg.Edge.PingInterval
	m.Config.PingPeriod = 10 * 365 * 24 * time.Hour // Pings leave through our own writer.
	m.Config.ConcurrentMessageHandling = false
	m.HandleConnect(func(ms *melody.Session) {
		sess := sessionOf(ms)
		ms.Request = nil // It would stay in memory as long as the session.
		ws := ms.WebsocketConnection()
		ws.SetPingHandler(func(data string) error { sess.pong(data); return nil })
		ws.SetCloseHandler(func(code int, _ string) error { sess.peerClose(code); return nil })
		sess.open()
	})
	m.HandleMessage(func(ms *melody.Session, data []byte) { sessionOf(ms).receive(data) })
	m.HandleMessageBinary(func(ms *melody.Session, _ []byte) {
		sessionOf(ms).close(closeUnsupportedData, "text frames only")
	})
	return m
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
	// The first ping comes at a time of its own, lest all that came together are pinged together.
	s.nextPing = time.Now().Add(interval/2 + rand.N(interval/2))
	go s.write()

	switch s.server.hub.join(s) {
	case joined:
		s.joined = true
		s.metrics.sessions.Inc()
		s.signal()
		if p := s.server.cfg.Presence; p != nil {
			p.Join(s.user)
		}
	case refusedFull:
		s.close(closeTryLater, reasonFull)
	case refusedClosed:
		s.close(closeRestart, s.server.retryReason(0))
	}
}

// finish ends what open began, once the reader has ended, and closes the socket.
func (s *session) finish() {
	if s.joined {
		s.server.hub.leave(s)
		s.metrics.sessions.Dec()
		if p := s.server.cfg.Presence; p != nil {
			p.Leave(s.user)
		}
	}
	if !s.conn.upgraded {
		_ = s.conn.Conn.Close() // Gorilla has closed it already, unless it panicked.
		return
	}
	s.mu.Lock()
	gone := !s.closing // The reader failed and nobody said goodbye: there is nobody to write to.
	s.mu.Unlock()
	if gone {
		s.metrics.closed("lost")
		s.abort()
	}
	<-s.written // Bounded by closeBy.

	s.mu.Lock()
	linger, until := s.finished && !s.peerClosed && !s.dead, s.readUntil
	s.mu.Unlock()
	if linger {
		// Closing a socket with unread input resets it, and the peer might lose the close
		// frame that says why. So say that we are done and read until the peer is.
		if tcp, ok := s.conn.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		_ = s.conn.Conn.SetReadDeadline(until)
		_, _ = io.Copy(io.Discard, s.conn.Conn)
	}
	_ = s.conn.Conn.Close()
}

// start puts what a newcomer gets first into the queue. The hub calls it.
func (s *session) start(burst []frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.start(burst)
}

// enqueue adds a live frame. It never blocks. A session over its hard bound, or that has been
// behind for too long, is closed: it gets no more frames, rather than some of them.
func (s *session) enqueue(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.dead {
		return
	}
	s.queue.add(f)
	if live := s.queue.live(); live > hardQueue*s.queueLimit || s.queue.bytes > hardBytes {
		s.closeLocked(closeTryLater, reasonSlow, true)
	} else if live > s.queueLimit && s.overSince.IsZero() {
		s.overSince = time.Now()
		// The writer may be waiting for the socket: it must look up when the time is over.
		s.deadlineLocked(s.overSince)
	}
	s.signal()
}

// signal wakes the writer.
func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pong answers a ping. Of several pings that wait only the last is answered, as RFC 6455 allows.
func (s *session) pong(data string) {
	f := newFrame(opPong, []byte(data))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing && !s.dead {
		s.queue.pong = f
		s.signal()
	}
}

// untilTick returns how long the writer may sleep.
func (s *session) untilTick() time.Duration {
	next := s.nextPing
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expires.IsZero() && s.expires.Before(next) {
		next = s.expires
	}
	return max(0, time.Until(next))
}

// tick pings, or ends a session whose time is over.
func (s *session) tick() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expires.IsZero() && !now.Before(s.expires) {
		s.expires = time.Time{}
		s.closeLocked(closeExpired, reasonExpired, false)
		return
	}
	if now.Before(s.nextPing) {
		return
	}
	s.nextPing = now.Add(s.server.cfg.Edge.PingInterval)
	s.queue.ping = !s.closing && !s.dead
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
		return
	}
	s.metrics.closed(closeLabel(code))
	now := time.Now()
	s.closing = true
	s.closeFrame = closeFrame(code, reason)
	s.closeBy = now.Add(closeTimeout)
	if drop {
		s.queue.drop()
	}
	s.deadlineLocked(now)
	s.readUntilLocked(s.closeBy.Add(closeTimeout))
	s.signal()
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
	s.mu.Unlock()
	_ = s.conn.Conn.Close()
	s.signal()
}

// isOver reports whether the writer has nothing left to do.
func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished || s.dead
}

// receive handles one text message. Melody calls it for one message after the other, so a
// connection has one publish in flight, and the reader's socket is the queue for the rest.
func (s *session) receive(data []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
		}
		// Melody moves the read deadline at pongs only, and none was read meanwhile.
		_ = s.conn.SetReadDeadline(time.Now().Add(2 * s.server.cfg.Edge.PingInterval))
	}()
	s.mu.Lock()
	over := s.closing || s.dead
	s.mu.Unlock()
	if over {
		return
	}
	if !utf8.Valid(data) {
		s.close(closeInvalidText, "text must be UTF-8")
		return
	}
	if wait := s.throttle(); wait > 0 {
		s.refuse(&errorBody{
			Code:         codeRateLimited,
			Message:      "too many messages; this one was not sent: wait a moment and send it again",
			RetryAfterMS: (wait + time.Millisecond - 1).Milliseconds(),
		})
		return
	}
	in, bad := decodeFrame(data, s.server.cfg.Edge.MaxContentBytes)
	if bad != nil {
		s.refuse(bad)
		return
	}
	if bad := s.publish(in); bad != nil {
		s.answer(bad)
		return
	}
	s.metrics.received.WithLabelValues("ok").Inc()
}

// throttle takes a token for one frame, or returns how long until there is one.
func (s *session) throttle() time.Duration {
	if s.limit == nil {
		return 0
	}
	now := time.Now()
	r := s.limit.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// refuse answers a frame that the client should not have sent. Whoever keeps sending such
// frames is closed.
func (s *session) refuse(bad *errorBody) {
	s.answer(bad)
	if s.refusals != nil && !s.refusals.Allow() {
		s.close(closeRateLimited, reasonRate)
	}
}

func (s *session) answer(bad *errorBody) {
	s.metrics.received.WithLabelValues(bad.Code).Inc()
	s.enqueue(textFrame(errorFrame{*bad}))
}

// publish says in for the session's user: the task to archive it first, then the event, so that
// what people see is archived, in one call that returns when the broker has both.
func (s *session) publish(in incoming) *errorBody {
	if !s.server.publishing.enter(0) {
		return &errorBody{Code: codeUnavailable, Message: "the server is restarting; this message was not sent: send it again after you have reconnected"}
	}
	defer s.server.publishing.leave()

	id, now := s.server.ids.next()
	msg := in.chatMessage(s.user, id, now)
	msgs := make([]proto.Message, 0, 2)
	if in.toUser == "" || s.server.cfg.ArchivePrivate {
		msgs = append(msgs, &tasks.ArchiveMessage{Message: msg})
	}
	msgs = append(msgs, msg)

	ctx, cancel := context.WithTimeout(s.server.ctx, publishTimeout)
	defer cancel()
	err := s.server.cfg.Publisher.Publish(ctx, msgs...)
	s.metrics.published.Observe(time.Since(now).Seconds())
	if err != nil {
		s.server.logPublish.Do(func() {
			s.server.log.Warn("publish", slog.String("id", id), slog.String("user", s.user), slog.Any("error", err))
		})
		return &errorBody{Code: codeUnavailable, Message: "the message could not be sent; try again in a moment"}
	}
	return nil
}
