package httpapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/edge"
)

// renewTimeout bounds the check of a fresh proof.
const renewTimeout = 10 * time.Second

// receiveRenew lets the session go on with a fresh token.
func (s *session) receiveRenew(r *edge.Renew) {
	if s.server.cfg.Auth.Mode() == auth.ModeOpen {
		s.refuse(badFrame("sessions do not end here; there is nothing to renew"), "")
		return
	}
	ctx, cancel := context.WithTimeout(s.server.ctx, renewTimeout)
	defer cancel()
	if err := s.refresh(ctx, r.GetToken()); err != nil {
		e := asAPIError(err)
		bad := &errorBody{Code: e.code, Message: e.message}
		if e.code == codeUnavailable || e.code == codeInternal {
			s.server.logPublish.Do(func() { s.server.log.Error("renew a session", "user", s.user, "error", err) })
			s.answer(bad, "")
		} else {
			s.server.logRefusal(s.user, s.share.from, "renew", e)
			s.refuse(bad, "")
		}
		return
	}
	s.took()
	s.mu.Lock()
	expires := s.expires
	s.mu.Unlock()
	s.tell(&edge.ServerFrame{Frame: &edge.ServerFrame_Renewed{Renewed: &edge.Renewed{ExpiresAt: timestamppb.New(expires)}}})
}
