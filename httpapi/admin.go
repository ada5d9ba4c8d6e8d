package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/dlq"
)

const (
	// A person mistypes a token now and then; a program that guesses is slowed down.
	strangerRate  = 0.2 // Wrong tokens a second, of one address.
	strangerBurst = 10

	minToken = 32

	// challenge says how a token is sent (RFC 6750).
	challenge = `Bearer realm="burrow"`

	defaultLetters = 50
	maxLetters     = 200
)

// Letters is what the admin API needs of *dlq.Desk.
type Letters interface {
	List(ctx context.Context, q dlq.Query) (*dlq.Page, error)
	Show(ctx context.Context, id int64) (*dlq.Letter, error)
	Replay(ctx context.Context, id int64, who string) (*dlq.Letter, error)
	Drop(ctx context.Context, id int64, who string) (*dlq.Letter, error)
}

var (
	errAdminOff    = &apiError{code: "not_found", message: "the admin API is off: set admin.token, or listen on a loopback address (http.addr)"}
	errNoToken     = &apiError{code: "no_token", message: "send the token of admin.token as the header Authorization: Bearer …"}
	errNotHere     = &apiError{code: "forbidden", message: "without admin.token only programs of this host may do this, straight to a loopback address: not through a proxy, and no page of another site"}
	errNoLetter    = &apiError{code: "not_found", message: "there is no such dead letter"}
	errNotLetterID = &apiError{code: "bad_request", message: "the id of a dead letter is a number from 1"}
)

// ValidToken reports whether token can be admin.token: long enough that nobody guesses it, and of
// characters that a header can hold.
func ValidToken(token string) bool {
	return len(token) >= minToken && strings.Trim(token, printable) == "" && len(token) <= 1024
}

// printable are the visible characters of ASCII.
var printable = func() string {
	var b []byte
	for c := byte('!'); c <= '~'; c++ {
		b = append(b, c)
	}
	return string(b)
}()

// addAdmin adds the admin API, every route behind the guard.
func (s *Server) addAdmin(e *echo.Echo) {
	e.GET("/admin/dead-letters", s.listLetters, s.guard)
	e.GET("/admin/dead-letters/:id", s.showLetter, s.guard)
	e.POST("/admin/dead-letters/:id/replay", s.replayLetter, s.guard)
	e.DELETE("/admin/dead-letters/:id", s.dropLetter, s.guard)
}

// guard lets those in who may, and notes who they are.
func (s *Server) guard(next echo.HandlerFunc) echo.HandlerFunc {
	want := sha256.Sum256([]byte(s.cfg.Admin.Token))
	return func(c echo.Context) error {
		r := c.Request()
		if s.cfg.Admin.Token == "" {
			if !isLoopback(s.Addr()) {
				return errAdminOff
			}
			if !straightFromHere(r) {
				s.log.Warn("refused at the admin API", "from", r.RemoteAddr, "host", r.Host)
				return errNotHere
			}
			c.Set("who", "loopback "+r.RemoteAddr)
			return next(c)
		}
		if wait := s.strangers.wait(c.RealIP(), time.Now()); wait > 0 {
			return s.tooMany(c, "wrong tokens", wait)
		}
		given := sha256.Sum256([]byte(bearer(r))) // Of the same length, so that comparing tells nothing.
		if subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
			s.strangers.take(c.RealIP(), time.Now())
			s.log.Warn("a wrong token, or none, at the admin API", "from", c.RealIP())
			c.Response().Header().Set("WWW-Authenticate", challenge)
			return errNoToken
		}
		c.Set("who", "token "+c.RealIP())
		return next(c)
	}
}

// bearer returns the token that r carries, or "".
func bearer(r *http.Request) string {
	lines := r.Header["Authorization"]
	if len(lines) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// straightFromHere reports whether a program of this host sent r to a loopback address by itself.
//
// A proxy on this host must not open this to the world: hence no header that proxies add, and no
// HTTP/1.0, which nginx speaks when nobody tells it what to pass on. Nor may a page of another site
// that somebody here looks at: hence the Host, for names that resolve to this host (DNS rebinding),
// and the Origin and Sec-Fetch-Site that browsers add.
func straightFromHere(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !isLoopback(local.String()) || !isLoopback(r.RemoteAddr) || !isLoopbackHost(r.Host) || !r.ProtoAtLeast(1, 1) {
		return false
	}
	for name := range r.Header {
		if slices.Contains(ofProxies, name) || strings.HasPrefix(name, "X-Forwarded") {
			return false
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	for _, origin := range r.Header["Origin"] {
		if !strings.EqualFold(origin, "http://"+r.Host) {
			return false
		}
	}
	return true
}

// ofProxies are headers that proxies add, besides X-Forwarded-*.
var ofProxies = []string{"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Original-Host", "X-Proxyuser-Ip"}

// isLoopback reports whether addr, as ip:port, is of this host alone.
func isLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// isLoopbackHost reports whether a Host header can only mean this host.
func isLoopbackHost(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		name = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		name = host[1 : len(host)-1]
	}
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// listLetters answers with a page of dead letters, highest id first.
func (s *Server) listLetters(c echo.Context) error {
	q := dlq.Query{State: c.QueryParam("state"), Function: c.QueryParam("function"), Limit: defaultLetters}
	var err error
	if raw := c.QueryParam("limit"); raw != "" {
		if q.Limit, err = strconv.Atoi(raw); err != nil || q.Limit < 1 || q.Limit > maxLetters {
			return badRequest(fmt.Sprintf("limit must be a number from 1 to %d", maxLetters))
		}
	}
	if raw := c.QueryParam("before"); raw != "" {
		if q.Before, err = letterID(raw); err != nil {
			return badRequest("before must be the id of a dead letter")
		}
	}
	page, err := s.cfg.Letters.List(c.Request().Context(), q)
	if errors.Is(err, dlq.ErrBadQuery) {
		return badRequest("state must be waiting, replaying, replayed or all; without it, those that are not over are listed")
	}
	return answerLetters(c, http.StatusOK, page, err)
}

func (s *Server) showLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := s.cfg.Letters.Show(c.Request().Context(), id)
	return answerLetters(c, http.StatusOK, letter, err)
}

// replayLetter answers with 202: a node sends it soon.
func (s *Server) replayLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := s.cfg.Letters.Replay(c.Request().Context(), id, who(c))
	return answerLetters(c, http.StatusAccepted, letter, err)
}

// dropLetter answers with the letter as it was.
func (s *Server) dropLetter(c echo.Context) error {
	id, err := letterID(c.Param("id"))
	if err != nil {
		return err
	}
	letter, err := s.cfg.Letters.Drop(c.Request().Context(), id, who(c))
	return answerLetters(c, http.StatusOK, letter, err)
}

func letterID(raw string) (int64, error) {
	id, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || id < 1 {
		return 0, errNotLetterID
	}
	return id, nil
}

// who returns whom the guard let in.
func who(c echo.Context) string {
	name, _ := c.Get("who").(string)
	return name
}

// answerLetters answers with v, or with what err means.
func answerLetters(c echo.Context, status int, v any, err error) error {
	if err == nil {
		c.Response().Header().Set("Cache-Control", "no-store")
		return c.Blob(status, "application/json; charset=utf-8", dlq.JSON(v))
	}
	if busy := new(dlq.NotWaitingError); errors.As(err, &busy) {
		return &apiError{code: "not_waiting", message: dlq.Inert(busy.Error())}
	}
	switch {
	case errors.Is(err, dlq.ErrNoLetter):
		return errNoLetter
	case errors.Is(err, dlq.ErrRefused):
		return &apiError{code: "refused", message: dlq.Inert(err.Error())}
	}
	return unavailable("the dead letters cannot be reached at the moment; try again", err)
}
