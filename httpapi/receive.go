package httpapi

import (
	"time"
	"unicode/utf8"
)

// receive handles one message. Melody calls it for one message after the other.
func (s *session) receive(opcode byte, data []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
		}
		// Melody moves the read deadline at pongs only, and none was read meanwhile.
		_ = s.conn.SetReadDeadline(time.Now().Add(2 * s.server.cfg.Edge.PingInterval))
	}()
	s.mu.Lock()
	over := s.closing || s.dead
	s.mu.Unlock()
	switch {
	case over:
		return
	case opcode != s.dialect.opcode():
		s.close(closeUnsupportedData, s.dialect.frames()+" frames only")
		return
	case opcode == opText && !utf8.Valid(data):
		s.close(closeInvalidText, "text must be UTF-8")
		return
	}
	if s.dialect == plain {
		s.receivePlain(data)
	} else {
		s.receiveV1(data)
	}
}

// receivePlain handles a frame of the plain protocol.
func (s *session) receivePlain(data []byte) {
	if bad := s.share.throttle(); bad != nil {
		s.refuse(bad, "")
		return
	}
	in, bad := decodeFrame(data, s.server.cfg.Edge.MaxContentBytes)
	if bad != nil {
		s.refuse(bad, "")
		return
	}
	if bad = s.share.publish(); bad == nil {
		in.toUser, bad = s.server.reachable(s.server.ctx, in.toUser)
	}
	if bad != nil {
		s.refuse(bad, "")
		return
	}
	s.say(in, "")
}

// took counts a frame that was fine.
func (s *session) took() { s.metrics.received.WithLabelValues("ok").Inc() }

// refuse answers a frame that the client should not have sent. Whoever keeps sending such
// frames is closed.
func (s *session) refuse(bad *errorBody, ref string) {
	s.awaitSends(0)
	s.answer(bad, ref)
	if !s.share.own.refused() {
		s.close(closeRateLimited, reasonRate)
	}
}

// answer tells what was wrong with a frame, which the client calls ref, if it does.
func (s *session) answer(bad *errorBody, ref string) {
	s.metrics.received.WithLabelValues(bad.Code).Inc()
	if s.dialect == plain {
		s.server.hub.tellNow() // Which frame an error is of, one knows by those that came back before.
		s.enqueue(textFrame(errorFrame{*bad}), 1)
		return
	}
	s.tell(errorV1(bad, ref))
}
