package httpapi

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/auth"
)

// refusedSpread is within how long those who were refused together are told to come back.
const refusedSpread = 5 * time.Second

// connect opens a WebSocket for the user in the path. The order of the checks is part of the
// protocol: a wrong name is a wrong name for whoever asks.
func (s *Server) connect(c echo.Context) error {
	r := c.Request()
	// Echo unescapes parameters or not, depending on the path; so this takes the escaped path,
	// and unescapes it once.
	raw, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/ws/"))
	if err != nil {
		return errInvalidClientID
	}
	c.Set(userKey, raw)
	user, err := auth.ValidName(raw)
	if err != nil {
		return errInvalidClientID
	}
	if err := checkUpgrade(r); err != nil {
		return err
	}
	who, err := s.admit(c, user)
	if err != nil {
		return err
	}
	conn, buffered, leave, err := s.hijack(c)
	if err != nil {
		return err
	}
	// Only what the upgrade looks at: the request itself would stay in memory until the end
	// of the session.
	upgrade := &http.Request{Method: http.MethodGet, Host: r.Host, URL: &url.URL{Path: "/"}, Header: http.Header{}}
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key", "Origin"} {
		if v, ok := r.Header[name]; ok {
			upgrade.Header[name] = v
		}
	}
	name, d := negotiate(r.Header)
	sess := s.newSession(conn, who, c.RealIP(), d)
	sess.since = r.URL.Query().Get("since")
	go func() {
		defer leave()
		sess.run(func(conn net.Conn) error {
			return s.melody.HandleRequest(newHijacked(conn, buffered, name), upgrade)
		})
	}()
	return nil
}

// admit decides whether who asks may open a connection as user, or if that is empty as whom they are
// signed in as. It returns as whom, and until when.
func (s *Server) admit(c echo.Context, user string) (auth.Session, error) {
	if !s.originAllowed(c.Request()) {
		return auth.Session{}, errForeignOrigin
	}
	if wait := s.upgrades.take(c.RealIP(), time.Now()); wait > 0 {
		return auth.Session{}, s.tooMany(c, "connections", wait+rand.N(refusedSpread))
	}
	who, err := s.identify(c, user)
	if err != nil {
		return who, err
	}
	select {
	case <-s.seeded:
		return who, nil
	default:
		return who, errStarting
	}
}

// enter counts one more session, which is left with connections.leave.
func (s *Server) enter() error {
	switch {
	case s.connections.enter(s.cfg.Edge.MaxConnections):
		return nil
	case s.draining.Load():
		return errDraining
	}
	return errFull
}

// hijack takes the connection from net/http and counts it, until leave is called.
func (s *Server) hijack(c echo.Context) (conn net.Conn, buffered *bufio.ReadWriter, leave func(), err error) {
	if err := s.enter(); err != nil {
		return nil, nil, nil, err
	}
	conn, buffered, err = c.Response().Hijack()
	if err != nil {
		s.connections.leave()
		return nil, nil, nil, fmt.Errorf("httpapi: hijack: %w", err)
	}
	c.Response().Committed = true
	v, ok := conn.(*visit)
	if !ok {
		return conn, buffered, s.connections.leave, nil
	}
	boundSession(v.Conn, 0)
	return v.Conn, buffered, func() {
		_ = v.Close() // The session has closed the socket.
		s.connections.leave()
	}, nil
}

// checkUpgrade reports whether r is a WebSocket handshake that will succeed.
func checkUpgrade(r *http.Request) error {
	if !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") ||
		!hasToken(r.Header, "Sec-Websocket-Version", "13") {
		return errUpgradeRequired
	}
	if r.Header.Get("Sec-Websocket-Key") == "" {
		return badRequest("the header Sec-WebSocket-Key is missing")
	}
	return nil
}

// hasToken reports whether the comma-separated header holds the token.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h[name] {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// retryReason tells a client of a server that stops when to come back: each at a time of its own,
// and the more there are (n), the wider apart.
func (s *Server) retryReason(n int) string {
	spread := min(4500, 500+4*n)
	return fmt.Sprintf("retry-ms=%d", 500+rand.IntN(spread+1))
}

// hijacked hands a connection that was taken from net/http to melody. Everything that could
// make the upgrade answer with an HTTP error was checked before; should it try all the same,
// the answer is lost and the connection closed.
type hijacked struct {
	conn     net.Conn
	buffered *bufio.ReadWriter
	header   http.Header
}

// newHijacked returns it with the subprotocol that was chosen, if one was.
func newHijacked(conn net.Conn, buffered *bufio.ReadWriter, subprotocol string) *hijacked {
	h := &hijacked{conn: conn, buffered: buffered, header: http.Header{}}
	if subprotocol != "" {
		h.header.Set("Sec-Websocket-Protocol", subprotocol)
	}
	return h
}

func (h *hijacked) Header() http.Header { return h.header }

func (h *hijacked) Write(p []byte) (int, error) { return len(p), nil }
func (h *hijacked) WriteHeader(int)             {}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.buffered, nil }
