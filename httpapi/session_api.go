package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"burrow/auth"
	"github.com/labstack/echo/v4"
)

const (
	// An office may have one address for all, and comes at nine.
	signInRate  = 1.0 // A second, for one address.
	signInBurst = 500
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
