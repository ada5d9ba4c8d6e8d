// Package httpapi is the edge: the page, the WebSockets of the chat, history, sign-in and
// health over HTTP. It decides who may connect and what may be said, gives each message
// its id, time and sender, and shows to every session of this node what the broadcast function
// delivers.
//
// What a session is promised: the recent messages, then who is online, then everything
// live, with nothing missing, doubled or out of order; or an end of the connection with a
// close code that says what to do. See docs/protocol.md.
package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/olahol/melody"
	"golang.org/x/time/rate"

	"burrow/auth"
	"burrow/gen/chat"
)

// reseedAfter is how long after the first one the memory is merged with the archive once
// more: by then the archive has what was on its way while this node subscribed.
const reseedAfter = 3 * time.Second

const (
	// underway is how long what the archive has and nobody here has seen may take to come by itself.
	underway   = time.Second
	refillGap  = time.Second      // between two merges, however often Refill is called
	refillLast = 40 * time.Second // over the time after which a task of a dead worker goes to another
)

// stopTimeout bounds the end of a Run whose context has ended.
const stopTimeout = 10 * time.Second

// Server is the edge of one node. Its life: New, Listen, Run; Seed once the functions are
// subscribed; Shutdown. Its methods are safe for concurrent use.
type Server struct {
	*endpoint
	cfg          Config
	logPublish   *rate.Sometimes // A broker that is down is one line a minute, not one a message.
	logOrigin    *rate.Sometimes // A refused origin is one line a minute.
	metrics      *metrics
	hub          *hub
	shards       *shards
	post         *post
	raw          func(net.Conn) syscallConn // For tests of the way without it.
	ids          *idClock
	melody       *melody.Melody
	pages        map[string]*asset
	pagesVersion string // What the page calls the others by; it changes when one of them does.
	signIns      *hostLimiter
	failures     *hostLimiter             // Proofs of a name that are worth nothing.
	upgrades     *hostLimiter             // Nil: none.
	senders      allowances[string]       // By user.
	addresses    allowances[netip.Prefix] // Of the same messages and bytes.
	posting      posting
	polls        polls
	searchers    *hostLimiter
	readers      *hostLimiter  // Of the history.
	searching    chan struct{} // Holds one for each search under way.
	people       people

	reseedAfter time.Duration
	postTimeout time.Duration
	epoch       string // Of this start of the node.

	connections gate          // Sessions, from before their upgrade to their end.
	publishing  gate          // Publishes in flight.
	refill      chan struct{} // Asks keepFilled.
	seeded      chan struct{} // Closed after the first successful Seed.
	seedOnce    sync.Once
	stopOnce    sync.Once
	stopped     chan struct{} // Closed when Shutdown is done.

	// ctx is the server's own life, which publishes and the second Seed inherit: it ends
	// with Shutdown, not with the signal that asked for it.
	ctx    context.Context
	cancel context.CancelFunc
}

// New returns a server that does not listen yet. It reports everything that is wrong with
// cfg at once.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pages, version, err := loadPages(cfg.UI)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{
		endpoint:   newEndpoint(cfg.HTTP, cfg.Log.With("part", "edge"), m.limited),
		cfg:        cfg,
		logPublish: &rate.Sometimes{First: 1, Interval: time.Minute},
		logOrigin:  &rate.Sometimes{First: 1, Interval: time.Minute},
		metrics:    m,
		hub:        newHub(cfg),
		raw:        rawConn,
		ids:        newIDClock(time.Now),
		pages:      pages, pagesVersion: version,
		signIns:     newHostLimiter(cfg.Edge.SignInRate, cfg.Edge.SignInBurst),
		upgrades:    newHostLimiter(cfg.Edge.UpgradeRate, cfg.Edge.UpgradeBurst),
		failures:    newHostLimiter(failureRate, failureBurst),
		searchers:   newHostLimiter(searchRate, searchBurst),
		readers:     newHostLimiter(historyRate, historyBurst),
		searching:   make(chan struct{}, maxSearches),
		reseedAfter: reseedAfter,
		postTimeout: postTimeout,
		epoch:       rand.Text(),
		refill:      make(chan struct{}, 1),
		seeded:      make(chan struct{}),
		stopped:     make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.post = newPost(s)
	s.shards = newShards(s.hub, cfg.Edge.IOUring, s.log)
	s.melody = s.newMelody()
	s.challenge = cfg.Auth.Mode() == auth.ModeJWT
	s.server.Handler = s.handler()
	return s, nil
}

// handler returns every route of the server.
func (s *Server) handler() http.Handler {
	e := s.routes()
	e.Use(s.cors)
	read := []string{http.MethodGet, http.MethodHead}
	routes := []struct {
		methods []string
		path    string
		handle  echo.HandlerFunc
	}{
		{read, "/", s.index},
		{read, "/ui/*", s.static},
		{[]string{http.MethodGet}, "/ws/*", s.connect},
		{[]string{http.MethodGet}, "/events", s.events},
		{[]string{http.MethodPost}, "/api/messages", s.postMessage},
		{[]string{http.MethodPost}, "/api/typing", s.postTyping},
		{[]string{http.MethodPost}, "/api/activity", s.postActivity},
		{[]string{http.MethodGet}, "/api/history", s.history},
		{[]string{http.MethodGet}, "/api/search", s.search},
		{[]string{http.MethodGet}, "/api/conversations", s.conversations},
		{[]string{http.MethodGet}, "/api/session", s.whoAmI},
		{[]string{http.MethodPost}, "/api/session", s.signIn},
		{[]string{http.MethodGet}, "/api/users", s.users},
	}
	for _, r := range routes {
		e.Match(r.methods, r.path, r.handle)
	}
	newOperations(s.endpoint, OperationsConfig{
		Admin: s.cfg.Admin, Letters: s.cfg.Letters, Checks: s.cfg.Checks, Vital: s.cfg.Vital, Gatherer: s.cfg.Gatherer,
		Installation: s.cfg.Installation,
	}, s.historyState).addTo(e)
	return s.belowBasePath(e)
}

// historyState returns the part of /readyz without a check.
func (s *Server) historyState() map[string]string {
	select {
	case <-s.seeded:
		return map[string]string{"history": "ok"}
	default:
		return map[string]string{"history": "loading"}
	}
}

// Run serves until Shutdown is done, or until ctx ends, which is a Shutdown with a bound of
// its own, or until the listener fails. It returns nil after a Shutdown.
func (s *Server) Run(ctx context.Context) error {
	if s.draining.Load() {
		<-s.stopped
		return nil
	}
	if err := s.Listen(); err != nil {
		return err
	}
	var background sync.WaitGroup
	background.Go(s.keepFilled)
	background.Go(s.keepFlushing)
	defer background.Wait() // Shutdown ends them, and no return is before that.
	served := make(chan error, 1)
	go func() { served <- s.accept() }()

	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		err = http.ErrServerClosed
		defer func() { <-served }()
	}
	if ctx.Err() != nil || !errors.Is(err, http.ErrServerClosed) {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if stopErr := s.Shutdown(stop); errors.Is(err, http.ErrServerClosed) {
			return stopErr
		}
		return fmt.Errorf("httpapi: serve %s: %w", s.Addr(), err)
	}
	<-s.stopped
	return nil
}

// Shutdown drains the server: it is no longer ready and lets nobody in, publishes in flight
// finish, every session is closed with 1012 and its own time to come back, and when they are gone
// HTTP ends. When ctx ends first, what is left is cut off, and ctx's error returned.
// A second call waits for the first one.
func (s *Server) Shutdown(ctx context.Context) error {
	var err error
	s.stopOnce.Do(func() {
		err = s.drain(ctx)
		close(s.stopped)
	})
	<-s.stopped
	return err
}

func (s *Server) drain(ctx context.Context) error {
	s.draining.Store(true)
	gone, published := s.connections.close(), s.publishing.close()
	var errs []error
	select {
	case <-published:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("httpapi: publishes still in flight: %w", context.Cause(ctx)))
		s.cancel()
	}

	sessions := s.hub.close()
	for _, sess := range sessions {
		sess.close(closeRestart, s.retryReason(len(sessions)))
	}
	select {
	case <-gone:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("httpapi: sessions still open: %w", context.Cause(ctx)))
		for _, sess := range sessions {
			sess.abort()
		}
		select { // They end at once now, except those that are stuck in somebody else's code.
		case <-gone:
		case <-time.After(closeTimeout):
		}
	}

	errs = append(errs, s.shutdown(ctx))
	s.cancel()
	return errors.Join(errs...)
}

// Deliver shows msg to everyone on this node whom it is for. A message that was delivered
// before, by its id, is not shown again. It never blocks on a session. The broadcast
// function calls it.
func (s *Server) Deliver(msg *chat.ChatMessage) {
	c := newChatFrame(msg, time.Now())
	if c.ID == "" {
		// A program that does not know the field. Such a message cannot be recognised when it
		// comes again, but it can be shown.
		c.ID, _ = s.ids.next()
	} else {
		s.ids.observe(c.ID)
	}
	sessions, known := s.hub.deliver(c)
	if known {
		s.metrics.repeated.Inc()
		return
	}
	s.metrics.messages.Inc()
	s.metrics.deliveries.Add(float64(sessions))
}

// Status notes that user is online and not away, or is not online, and tells everyone if that is
// a change. The presence tracker calls it and Away, for one user one call after the other.
func (s *Server) Status(user string, online bool) {
	now := absent
	if online {
		now = here
	}
	s.hub.status(user, now)
}

// Away notes that user is online and away, and tells everyone who speaks v1 if that is a change.
func (s *Server) Away(user string) { s.hub.status(user, away) }

// keepFlushing tells sessions of changes of who is online, a while after the first of them:
// cfg.FlushInterval, or more if there are thousands of sessions.
func (s *Server) keepFlushing() {
	for {
		select {
		case <-s.hub.changed:
		case <-s.ctx.Done():
			return
		}
		select {
		case <-time.After(s.hub.untilFlush()):
		case <-s.ctx.Done():
			return
		}
		s.hub.flush()
	}
}

// gate counts what is going on, until it is closed and the last one has left. The zero value is
// open.
type gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{}
}

// enter reports whether one more may go on: not when the gate is closed, nor when limit, if
// it is not 0, is reached.
func (g *gate) enter(limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || (limit > 0 && g.n >= limit) {
		return false
	}
	g.n++
	return true
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.closed && g.n == 0 {
		close(g.empty)
	}
}

// close lets nobody in any more. What it returns is closed when all have left. It is
// called once.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.empty = true, make(chan struct{})
	if g.n == 0 {
		close(g.empty)
	}
	return g.empty
}
