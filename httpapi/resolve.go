package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"burrow/auth"
)

// resolveTimeout bounds one look at who has a name.
const resolveTimeout = 5 * time.Second

// reachable returns the spelling by which a message reaches the user to, a valid name or empty for
// everyone: that of the claim. It refuses a name that no user can take.
func (s *Server) reachable(ctx context.Context, to string) (string, *errorBody) {
	name, err := s.resolve(ctx, to)
	switch {
	case errors.Is(err, auth.ErrTaken):
		return "", &errorBody{Code: codeInvalidUser, Message: fmt.Sprintf("%q receives no messages: the name looks like that of another user; check its spelling", to)}
	case err != nil:
		s.unsent("name lookup failed", to, "", err)
		return "", &errorBody{Code: codeUnavailable, Message: "names cannot be checked at the moment; send it again"}
	}
	return name, nil
}

// readable is reachable for reading: there may be old messages of a name that no user can take now.
func (s *Server) readable(ctx context.Context, with string) (string, error) {
	name, err := s.resolve(ctx, with)
	switch {
	case errors.Is(err, auth.ErrTaken):
		return with, nil
	case err != nil:
		return "", unavailable("names cannot be checked at the moment; try again", err)
	}
	return name, nil
}

func (s *Server) resolve(ctx context.Context, name string) (string, error) {
	if name == "" || s.hub.has(name) {
		return name, nil // The name of a session is the spelling of a claim.
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return s.cfg.Auth.Resolve(ctx, name)
}

// has reports whether user has a session on this node.
func (h *hub) has(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.users[user]) > 0
}
