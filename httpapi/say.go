package httpapi

import (
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"

	"burrow/gen/edge"
)

// receiveSend says what a client of v1 sent, once however often it comes, and confirms it.
func (s *session) receiveSend(send *edge.Send, ref string) {
	in, bad := s.server.readSend(send)
	if bad != nil {
		s.refuse(bad, ref)
		return
	}
	if bad = s.share.publish(); bad == nil {
		in.toUser, bad = s.server.reachable(s.server.ctx, in.toUser)
	}
	if bad != nil {
		s.refuse(bad, ref)
		return
	}
	s.say(in, ref)
}

// readSend returns what send says.
func (s *Server) readSend(send *edge.Send) (incoming, *errorBody) {
	if _, ok := parseID(send.GetRef()); !ok {
		return incoming{}, badFrame(`"ref" must be a UUID that you make for the message, as 01234567-89ab-4cde-8f01-23456789abcd`)
	}
	return compose(send.GetContent(), send.GetToUser(), s.cfg.Edge.MaxContentBytes)
}

// key returns what stands for in under ref. Another text with the same ref has another one, and
// so is another message: nobody can show some people one text and others, or the archive, another
// under one id.
func (in incoming) key(ref string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", ref, in.toUser, in.content))
	var id uuid.UUID
	copy(id[:], sum[:])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // Version 8: made in a way of one's own.
	return id.String()
}
