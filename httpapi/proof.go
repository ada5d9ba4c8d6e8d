package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/auth"
)

const (
	// When a key is changed, everyone in an office comes with a token that has become worthless,
	// and each page asks twice.
	failureRate  = 10.0 // Worthless proofs a second, of one address.
	failureBurst = 2000
)

// prove returns the session of a request, and its proof. Of several proofs the first valid one counts.
func (s *Server) prove(c echo.Context) (auth.Session, proof, error) {
	proofs := s.proofsOf(c.Request())
	if len(proofs) == 0 {
		proofs = []proof{{}} // Which Auth refuses.
	}
	var failed error
	for _, p := range proofs {
		session, err := s.cfg.Auth.Verify(c.Request().Context(), p.value)
		if err == nil {
			return session, p, nil
		}
		if failed == nil || !errors.Is(err, auth.ErrNoSession) { // A store that is away may have the answer.
			failed = err
		}
	}
	return auth.Session{}, proof{}, s.judge(c, proofs[0].value, failed)
}

// privateFrom returns the least id of the private talk that the owner of a session may read:
// of what is before they took the name others had it. Empty: all ids.
func privateFrom(who auth.Session) string {
	if who.Since.IsZero() {
		return ""
	}
	return firstID(who.Since)
}

// judge returns what err, of verifying proof, means for who asks. Too many worthless proofs get 429;
// a good one always passes, or a broken program could lock out everyone who shares its address, and
// no key is ever guessed at any rate.
func (s *Server) judge(c echo.Context, proof string, err error) error {
	switch {
	case !errors.Is(err, auth.ErrNoSession):
		return authError(err)
	case proof != "":
		if wait := s.failures.take(c.RealIP(), time.Now()); wait > 0 {
			return s.tooMany(c, "invalid sessions", wait)
		}
	case s.cfg.Auth.Mode() == auth.ModeJWT:
		return errTokenMissing
	}
	return err
}

// refresh lets the session go on for as long as a fresh proof of the same user is good: the token,
// or a guest's cookie. The end never moves closer. The errors are those of connecting; they change
// nothing. It is safe for concurrent use.
func (s *session) refresh(ctx context.Context, proof string) error {
	fresh, err := s.server.cfg.Auth.Verify(ctx, proof)
	switch {
	case err != nil:
		return authError(err)
	case fresh.Name != s.user:
		return errOtherName
	case privateFrom(fresh) != s.private:
		return errNoSession // The name has another owner by now.
	}
	if !s.prolong(fresh.Expires) {
		return errNoSession // Too late.
	}
	return nil
}

// prolong moves the end of the session to expires, if that is later, and reports whether the session has
// not ended.
func (s *session) prolong(expires time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.dead {
		return false
	}
	if expires.After(s.expires) {
		s.expires = expires // The writer looks again when the old time has come.
	}
	return true
}
