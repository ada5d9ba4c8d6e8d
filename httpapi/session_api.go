package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"burrow/auth"
)

// maxSignInBody bounds the body of a sign-in, in bytes.
const maxSignInBody = 1 << 10

// sessionInfo is the answer of /api/session.
type sessionInfo struct {
	Mode string `json:"mode"`
	Name string `json:"name"` // Empty: nobody is signed in.
}

// whoAmI answers with how names are proven, and with the name that the cookie proves. It renews
// a cookie that is getting old, so that who comes back in time keeps their name.
func (s *Server) whoAmI(c echo.Context) error {
	info := sessionInfo{Mode: s.cfg.Auth.Mode()}
	if cookie := cookieOf(c.Request()); info.Mode != auth.ModeOpen && cookie != "" {
		session, renewed, err := s.cfg.Auth.Renew(c.Request().Context(), cookie)
		if err != nil && !errors.Is(err, auth.ErrNoSession) {
			return authError(err)
		}
		if renewed != "" {
			setCookie(c, session, renewed)
		}
		info.Name = session.Name
	}
	return writeJSON(c, http.StatusOK, info)
}

// signIn claims a name and sets the cookie that proves it.
//
// Another site must not be able to sign its visitors in here: hence the Origin, and a content
// type that no HTML form can send.
func (s *Server) signIn(c echo.Context) error {
	r := c.Request()
	if !s.originAllowed(r) {
		return errForeignOrigin
	}
	if wait := s.signIns.take(c.RealIP(), time.Now()); wait > 0 {
		return tooManySignIns(wait)
	}
	name, err := readName(c)
	if err != nil {
		return err
	}
	mode := s.cfg.Auth.Mode()
	if mode == auth.ModeOpen {
		if name, err = auth.ValidName(name); err != nil {
			return err
		}
		return writeJSON(c, http.StatusOK, sessionInfo{mode, name})
	}
	session, cookie, err := s.cfg.Auth.SignIn(r.Context(), cookieOf(r), name)
	if err != nil {
		return authError(err)
	}
	setCookie(c, session, cookie)
	return writeJSON(c, http.StatusOK, sessionInfo{mode, session.Name})
}

// setCookie gives the browser the cookie that proves session.
func setCookie(c echo.Context, session auth.Session, cookie string) {
	c.SetCookie(&http.Cookie{
		Name:     cookieName,
		Value:    cookie,
		Path:     "/",
		Expires:  session.Expires,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		Secure:   isHTTPS(c.Request()),
	})
}

// readName reads the name from the body of a sign-in.
func readName(c echo.Context) (string, error) {
	r := c.Request()
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return "", errNotJSON
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxSignInBody))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return "", errTooLarge
		}
		return "", badRequest("the body could not be read")
	}
	var in struct {
		Name *string `json:"name"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Name == nil {
		return "", badRequest(`the body must be a JSON object such as {"name":"alice"}`)
	}
	return *in.Name, nil
}

// isHTTPS reports whether the browser speaks TLS, with us or with the proxy before us.
func isHTTPS(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}

const (
	// An office may have one address for all, and comes at nine.
	signInRate  = 1.0 // A second, for one address.
	signInBurst = 500
	// maxSignInHosts bounds for how many addresses a limit is kept.
	maxSignInHosts = 4096
)

// signInLimiter bounds how often one address may sign in, so that nobody claims all names
// in a minute.
type signInLimiter struct {
	mu    sync.Mutex
	hosts map[netip.Prefix]*rate.Limiter
}

func newSignInLimiter() *signInLimiter {
	return &signInLimiter{hosts: make(map[netip.Prefix]*rate.Limiter)}
}

// take lets one sign-in of ip pass, or returns how long until the next one may.
func (l *signInLimiter) take(ip string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := hostPrefix(ip)
	host, ok := l.hosts[key]
	if !ok {
		if len(l.hosts) >= maxSignInHosts {
			l.evict(now)
		}
		host = rate.NewLimiter(signInRate, signInBurst)
		l.hosts[key] = host
	}
	r := host.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// evict makes room. It looks at a few addresses (Go's maps begin anywhere), forgets those that have
// no debt, and if all have, the one with the least: a flood of addresses costs little, and does not
// clear those that sign in too often.
func (l *signInLimiter) evict(now time.Time) {
	const few = 32
	var least netip.Prefix
	most, looked := -1.0, 0
	for key, host := range l.hosts {
		if looked++; looked > few {
			break
		}
		tokens := host.TokensAt(now)
		if tokens >= signInBurst {
			delete(l.hosts, key)
		} else if tokens > most {
			least, most = key, tokens
		}
	}
	if len(l.hosts) >= maxSignInHosts {
		delete(l.hosts, least)
	}
}

// hostPrefix returns what is limited: an IPv4 address, or the /64 that one IPv6 host usually has.
func hostPrefix(ip string) netip.Prefix {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // No error: bits fit.
	return prefix
}
