package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/edge"
)

const (
	// maxRef bounds what a client may call a request, in bytes.
	maxRef = 64
	// maxHistoryBytes bounds the content of one page, as JSON; it holds one message at least.
	maxHistoryBytes = 48 << 10
	// historyTimeout bounds the reading of one page.
	historyTimeout = 10 * time.Second
)

// receiveV1 handles a frame of v1. It is decoded before it is counted, so that its answer can
// say which one it was.
func (s *session) receiveV1(data []byte) {
	f, bad := s.dialect.decode(data)
	if bad != nil {
		if full := s.share.throttle(); full != nil {
			bad = full
		}
		s.refuse(bad, "")
		return
	}
	ref := f.GetSend().GetRef() + f.GetHistory().GetRef() // It is one of the two at most.
	if len(ref) > maxRef {
		ref = "" // Nobody is sent back what is longer than anything that is a ref.
	}
	if bad := s.share.throttle(); bad != nil {
		s.refuse(bad, ref)
		return
	}
	if send := f.GetSend(); send != nil {
		s.receiveSend(send, ref)
		return
	}
	s.awaitSends(0)
	switch f := f.GetFrame().(type) {
	case *edge.ClientFrame_Typing:
		s.receiveTyping(f.Typing)
	case *edge.ClientFrame_Renew:
		s.receiveRenew(f.Renew)
	case *edge.ClientFrame_History:
		s.receiveHistory(f.History, ref)
	case *edge.ClientFrame_Activity:
		s.receiveActivity(f.Activity)
	case *edge.ClientFrame_Ping:
		s.took()
		s.tell(&edge.ServerFrame{Frame: &edge.ServerFrame_Pong{Pong: &edge.Pong{ServerTime: timestamppb.Now()}}})
	}
}

// tell queues f for this session alone.
func (s *session) tell(f *edge.ServerFrame) { s.enqueue(s.dialect.encode(f), 1) }

// receiveHistory answers with a page of the archive.
func (s *session) receiveHistory(r *edge.HistoryRequest, ref string) {
	q, bad := historyQuery(r, s.user, s.private)
	if bad != nil {
		s.refuse(bad, ref)
		return
	}
	if bad := s.share.history(); bad != nil {
		s.refuse(bad, ref)
		return
	}
	ctx, cancel := context.WithTimeout(s.server.ctx, historyTimeout)
	defer cancel()
	var page historyPage
	var err error
	if q.users[1], err = s.server.readable(ctx, q.users[1]); err == nil {
		page, err = s.server.page(ctx, q)
	}
	if err != nil {
		e := asAPIError(err)
		if s.server.ctx.Err() == nil {
			s.server.unsent("history", s.user, "", err)
		}
		s.answer(&errorBody{Code: e.code, Message: e.message}, ref)
		return
	}
	s.took()
	h := &edge.History{HasMore: page.HasMore, Ref: ref, WithUser: q.users[1]}
	for _, c := range fit(page.Messages, q.after != "", maxHistoryBytes) {
		h.Messages = append(h.Messages, edgeChat(c))
	}
	h.HasMore = h.HasMore || len(h.Messages) < len(page.Messages)
	s.tell(&edge.ServerFrame{Frame: &edge.ServerFrame_History{History: h}})
}

// historyQuery returns what r asks for, of user, whose private talk begins at the id from.
func historyQuery(r *edge.HistoryRequest, user, from string) (pageQuery, *errorBody) {
	q := pageQuery{limit: int(r.GetLimit())}
	if q.limit == 0 {
		q.limit = defaultPage
	}
	var before, after bool
	if r.GetBefore() != "" {
		if q.before, before = parseID(r.GetBefore()); !before {
			return q, badFrame(`"before" must be the id of a message, or empty for the newest`)
		}
	}
	if r.GetAfter() != "" {
		if q.after, after = parseID(r.GetAfter()); !after {
			return q, badFrame(`"after" must be the id of a message, or empty`)
		}
	}
	switch with := r.GetWithUser(); {
	case len(r.GetRef()) > maxRef:
		return q, badFrame(fmt.Sprintf(`"ref" has at most %d bytes`, maxRef))
	case before && after:
		return q, badFrame(`a page is "before" a message or "after" one; send one of the two`)
	case r.GetLimit() > maxPage:
		return q, badFrame(fmt.Sprintf(`"limit" must be a number from 1 to %d, or 0 for %d`, maxPage, defaultPage))
	case with != "" && with != everyone:
		name, err := auth.ValidName(with)
		if err != nil {
			return q, &errorBody{Code: codeInvalidUser, Message: `"with_user" is not a user's name; ` + nameRule}
		}
		q.users, q.from = [2]string{user, name}, from
	}
	return q, nil
}

// fit returns those of messages that max bytes have room for, at least one if there are any: the
// first ones, or else the last ones.
func fit(messages []*chatFrame, first bool, max int) []*chatFrame {
	order := slices.Backward(messages)
	if first {
		order = slices.All(messages)
	}
	n, size := 0, 0
	for _, c := range order {
		if size += c.size(); size > max && n > 0 {
			break
		}
		n++
	}
	if first {
		return messages[:n]
	}
	return messages[len(messages)-n:]
}

// size returns about how many bytes c has as JSON.
func (c *chatFrame) size() int {
	n := len(c.Content) + 256
	for i := range len(c.Content) {
		switch b := c.Content[i]; {
		case b < ' ':
			n += 5 // As \u0001.
		case b == '"', b == '\\':
			n++
		}
	}
	return n
}

// helloV1 returns what a v1 session gets first. The caller holds the lock.
func (h *hub) helloV1(s *session) []frame {
	missed, welcome := h.resume(s)
	burst := make([]frame, 0, len(missed)+2)
	burst = append(burst, s.dialect.encode(s.welcome(welcome)))
	for _, e := range missed {
		burst = append(burst, e.in(s.dialect))
	}
	return append(burst, h.crowd.list(s.dialect, h.listLimit, s.user))
}

// welcome returns the first frame of the session: w, with all that does not depend on what
// the client has missed.
func (s *session) welcome(w *edge.Welcome) *edge.ServerFrame {
	cfg := s.server.cfg
	w.ClientId, w.Node, w.Epoch = s.user, cfg.Node, s.server.epoch
	w.PrivateNotArchived = !cfg.ArchivePrivate
	w.ServerTime = timestamppb.Now()
	w.MaxContentBytes = uint32(cfg.Edge.MaxContentBytes)
	w.PingIntervalMs = uint32(cfg.Edge.PingInterval.Milliseconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expires.IsZero() {
		w.ExpiresAt = timestamppb.New(s.expires)
	}
	return &edge.ServerFrame{Frame: &edge.ServerFrame_Welcome{Welcome: w}}
}

// encodeChat returns c as a frame of d.
func encodeChat(d dialect, c *chatFrame) frame {
	if d == plain {
		return textFrame(c)
	}
	return d.encode(&edge.ServerFrame{Frame: &edge.ServerFrame_Chat{Chat: edgeChat(c)}})
}

// edgeChat returns c as v1 has it. What is not UTF-8, which only another program could have put
// into the archive, is replaced.
func edgeChat(c *chatFrame) *edge.Chat {
	m := &edge.Chat{
		Id:      strings.ToValidUTF8(c.ID, "\ufffd"),
		Sender:  strings.ToValidUTF8(c.Sender, "\ufffd"),
		Content: strings.ToValidUTF8(c.Content, "\ufffd"),
		ToUser:  strings.ToValidUTF8(c.ToUser, "\ufffd"),
		Ref:     c.ref,
	}
	if at, err := time.Parse(timeFormat, c.SentAt); err == nil { // A year after 9999 has no such form.
		m.SentAt = timestamppb.New(at)
	}
	return m
}

// errorV1 returns bad as a frame.
func errorV1(bad *errorBody, ref string) *edge.ServerFrame {
	return &edge.ServerFrame{Frame: &edge.ServerFrame_Error{Error: &edge.Error{
		Code: bad.Code, Message: bad.Message, Ref: ref, RetryAfterMs: uint32(bad.RetryAfterMS),
	}}}
}
