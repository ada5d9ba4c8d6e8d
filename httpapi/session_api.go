package httpapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"burrow/auth"
	"github.com/labstack/echo/v4"
)

// maxSignInBody bounds the body of a sign-in, in bytes.
const maxSignInBody = 1 << 10

// sessionInfo is the answer of /api/session.
type sessionInfo struct {
	Mode string `json:"mode"`
	Name string `json:"name"` // Empty: nobody is signed in.
	// Login is where one signs in, if that is not here and is known.
	Login string `json:"login,omitempty"`
}

// answerSession says how names are proven and who is asking: name, or "" for nobody.
func (s *Server) answerSession(c echo.Context, name string) error {
	info := sessionInfo{Mode: s.cfg.Auth.Mode(), Name: name}
	if info.Mode == auth.ModeJWT {
		info.Login = s.cfg.LoginURL
	}
	return writeJSON(c, http.StatusOK, info)
}

// whoAmI answers with how names are proven, and with the name that the request proves. It renews
// a guest's cookie that is getting old, so that who comes back in time keeps their name. A token
// that another sign-in does not cure is an error: the page would send its user in circles.
func (s *Server) whoAmI(c echo.Context) error {
	mode := s.cfg.Auth.Mode()
	if mode == auth.ModeOpen {
		return s.answerSession(c, "")
	}
	session, by, err := s.prove(c)
	bad := new(auth.TokenError)
	switch {
	case errors.Is(err, auth.ErrNoSession) && !(errors.As(err, &bad) && bad.Lasting), errors.Is(err, errTokenMissing):
		if len(s.proofsOf(c.Request())) > 0 {
			s.logRefused(c, asAPIError(err)) // No error to the page, which asks for a name.
		}
		return s.answerSession(c, "")
	case err != nil:
		return err
	case mode == auth.ModeGuest:
		if session, err = s.renewCookie(c, by); err != nil {
			return err
		}
	}
	return s.answerSession(c, session.Name)
}

// renewCookie sets a new cookie if the valid one of a request is old, or has the name of another
// version or scheme.
func (s *Server) renewCookie(c echo.Context, by proof) (auth.Session, error) {
	session, value, err := s.cfg.Auth.Renew(c.Request().Context(), by.value)
	if err != nil {
		return session, authError(err)
	}
	name := s.guestCookieFor(c.Request())
	if value != "" && by.cookie == guestCookie && name != guestCookie {
		s.setCookie(c, guestCookie, session, value) // A program may know no other name.
	}
	if value != "" || by.cookie != name {
		s.setCookie(c, name, session, cmp.Or(value, by.value))
	}
	return session, nil
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
		return s.tooMany(c, "sign-ins", wait)
	}
	if s.cfg.Auth.Mode() == auth.ModeJWT {
		return s.keepToken(c)
	}
	name, err := readName(c)
	if err != nil {
		return err
	}
	c.Set(userKey, name)
	if s.cfg.Auth.Mode() == auth.ModeOpen {
		if name, err = auth.ValidName(name); err != nil {
			return err
		}
		return s.answerSession(c, name)
	}
	session, cookie, err := s.cfg.Auth.SignIn(r.Context(), s.ownerOf(r), name)
	if err != nil {
		return authError(err)
	}
	s.logSignIn(session.Name, c.RealIP())
	own := s.guestCookieFor(r)
	if r.Header["Origin"] == nil && own != guestCookie {
		s.setCookie(c, guestCookie, session, cookie) // A program may know no other name.
	}
	s.setCookie(c, own, session, cookie)
	return s.answerSession(c, session.Name)
}

// ownerOf returns the cookie of a sign-in that says whose names one may take up again: the first
// valid one, or if the store knows none of their names the first one.
func (s *Server) ownerOf(r *http.Request) string {
	proofs := s.proofsOf(r)
	for _, p := range proofs {
		if _, err := s.cfg.Auth.Verify(r.Context(), p.value); err == nil {
			return p.value
		}
	}
	if len(proofs) == 0 {
		return ""
	}
	return proofs[0].value
}

// keepToken makes a cookie of the token in the header, which a script of the operator's login has,
// and which the WebSocket of a page cannot send. No other site can send that header for somebody.
func (s *Server) keepToken(c echo.Context) error {
	token := bearer(c.Request())
	if token == "" {
		return errTokenMissing
	}
	session, _, err := s.prove(c)
	if err != nil {
		return err
	}
	s.logSignIn(session.Name, c.RealIP())
	s.setCookie(c, tokenCookie, session, token)
	return s.answerSession(c, session.Name)
}

// readName reads the name from the body of a sign-in.
func readName(c echo.Context) (string, error) {
	r := c.Request()
	if !isJSON(r) {
		return "", errNotJSON
	}
	body, err := readBody(r, maxSignInBody)
	switch {
	case errors.Is(err, errTooLarge):
		return "", errTooLarge
	case err != nil:
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
