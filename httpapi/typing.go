package httpapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/edge"
)

const (
	// typingGap is the least time between two typing events of one user on this node.
	typingGap = 2 * time.Second
	// typingTimeout bounds one publish: it is not worth holding up what is said.
	typingTimeout = time.Second
	// typingLate is the age from which on a typing event is of no more use.
	typingLate = 5 * time.Second
)

// receiveTyping tells others that the session's user is writing. What does not get there is not
// missed, and so it has no answer.
func (s *session) receiveTyping(t *edge.Typing) {
	if bad := s.server.isTyping(&s.share, t.GetToUser()); bad != nil {
		s.refuse(bad, "")
		return
	}
	s.took()
}

// isTyping tells to, or everyone if that is empty, that the user of a is writing. Over the limit of the
// address nothing is sent.
func (s *Server) isTyping(a *share, to string) *errorBody {
	if to == everyone {
		to = ""
	}
	if to != "" {
		name, err := auth.ValidName(to)
		if err != nil {
			return &errorBody{Code: codeInvalidUser, Message: `"to_user" is not a user's name; ` + nameRule}
		}
		to = name
	}
	now := time.Now()
	if !s.hub.mayType(a.user, now) || a.publish() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, typingTimeout)
	defer cancel()
	to, bad := s.reachable(ctx, to)
	switch {
	case bad != nil && bad.Code == codeInvalidUser:
		return bad
	case bad != nil || !s.publishing.enter(0):
		return nil
	}
	defer s.publishing.leave()
	err := s.cfg.Publisher.Publish(ctx, &chat.Typing{Sender: a.user, ToUser: to, SentAt: timestamppb.New(now)})
	if err != nil {
		s.log.Debug("typing", "user", a.user, "error", err)
	}
	return nil
}

// mayType reports whether user may be said to be writing again.
func (h *hub) mayType(user string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.typed[user]) < typingGap {
		return false
	}
	if len(h.typed) > 2*len(h.users)+1024 {
		clear(h.typed) // Of people without a connection here; some are told of a little too often.
	}
	h.typed[user] = now
	return true
}

// Typing shows msg to those whom it is for and who speak v1, unless it is late. It never
// blocks on a session. The typing function calls it.
func (s *Server) Typing(msg *chat.Typing) {
	if at := msg.GetSentAt(); at.IsValid() && time.Since(at.AsTime()).Abs() > typingLate {
		return
	}
	to := msg.GetToUser()
	if to == everyone {
		to = ""
	}
	s.hub.typing(msg.GetSender(), to)
}

func (h *hub) typing(from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits("", from) {
		h.tell() // What they wrote before comes before that they write again.
	}
	sessions := h.sessions
	if to != "" {
		sessions = h.users[to]
	}
	var frames [dialects]frame
	for _, s := range sessions {
		if s.dialect == plain || s.user == from {
			continue
		}
		if frames[s.dialect] == nil {
			frames[s.dialect] = s.dialect.encode(&edge.ServerFrame{Frame: &edge.ServerFrame_Typing{
				Typing: &edge.Typing{ClientId: from, ToUser: to},
			}})
		}
		s.enqueue(frames[s.dialect], 1)
	}
}
