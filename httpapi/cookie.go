package httpapi

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"burrow/auth"
)

const (
	// guestCookie starts the name of a guest's cookie, and was all of it once. Browsers share cookies
	// between all ports of a host: the id of the key keeps installations apart.
	guestCookie = "burrow_session"
	// tokenCookie is the cookie of the operator's login, or set by POST /api/session.
	tokenCookie = "burrow_token"

	// With these prefixes a browser takes the cookie over TLS only; with the first one also for
	// this host and "/" only.
	hostPrefixed   = "__Host-"
	securePrefixed = "__Secure-"

	maxProofs = 16 // Of one request.
)

// proof is what a request proves a name with.
type proof struct {
	value  string
	cookie string // Its name; empty: a header.
}

// proofsOf returns what r proves a name with, in the order of preference. In mode jwt a program sends
// its token in a header; the WebSocket of a page cannot, and has it in a cookie. It is never in the
// query, which ends up in the logs of every proxy.
func (s *Server) proofsOf(r *http.Request) []proof {
	names := []string{tokenCookie}
	if s.cfg.Auth.Mode() == auth.ModeJWT {
		if token := bearer(r); token != "" {
			return []proof{{value: token}}
		}
	} else {
		own := s.guestCookie()
		names = []string{hostPrefixed + own, securePrefixed + own, own, guestCookie}
	}
	cookies := r.Cookies()
	var proofs []proof
	for _, name := range names {
		for _, c := range cookies {
			if c.Name == name && c.Value != "" && len(proofs) < maxProofs {
				proofs = append(proofs, proof{c.Value, name})
			}
		}
	}
	return proofs
}

// guestCookie returns the name of a guest's cookie, without a prefix.
func (s *Server) guestCookie() string {
	if id := s.cfg.Auth.KeyID(); id != "" {
		return guestCookie + "_" + id
	}
	return guestCookie
}

// guestCookieFor returns the name of a guest's cookie in the answer to r.
func (s *Server) guestCookieFor(r *http.Request) string {
	switch name := s.guestCookie(); {
	case !isHTTPS(r):
		return name
	case s.cfg.HTTP.BasePath == "":
		return hostPrefixed + name
	default:
		return securePrefixed + name
	}
}

// setCookie sets the cookie that proves session.
func (s *Server) setCookie(c echo.Context, name string, session auth.Session, value string) {
	c.SetCookie(&http.Cookie{
		Name:     name,
		Value:    value,
		Path:     cmp.Or(s.cfg.HTTP.BasePath, "/"),
		Expires:  session.Expires,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		Secure:   isHTTPS(c.Request()),
	})
}

// isHTTPS reports whether the browser speaks TLS, with us or with the proxy before us.
func isHTTPS(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}
