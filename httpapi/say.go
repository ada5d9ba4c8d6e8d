package httpapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/gen/tasks"
)

const (
	// publishTimeout bounds one publish, beyond what the publisher itself promises.
	publishTimeout = 30 * time.Second
	// claimTimeout bounds the wait for the store that remembers refs.
	claimTimeout = 10 * time.Second
)

// say calls publish, which says something and tells the client what became of it, unless the
// server stops: it waits for those that have begun.
func (s *session) say(ref string, publish func()) {
	if !s.server.publishing.enter(0) {
		s.answer(&errorBody{Code: codeUnavailable, Message: "the server is restarting; this message was not sent: send it again after you have reconnected"}, ref)
		return
	}
	defer s.server.publishing.leave()
	publish()
}

// publish says msg: the task to archive it first, then the event, so that what people see is
// archived, in one call that returns when the broker has both.
func (s *session) publish(msg *chat.ChatMessage) *errorBody {
	msgs := make([]proto.Message, 0, 2)
	if msg.GetToUser() == "" || s.server.cfg.ArchivePrivate {
		msgs = append(msgs, &tasks.ArchiveMessage{Message: msg})
	}
	msgs = append(msgs, msg)

	ctx, cancel := context.WithTimeout(s.server.ctx, publishTimeout)
	defer cancel()
	began := time.Now()
	err := s.server.cfg.Publisher.Publish(ctx, msgs...)
	s.metrics.published.Observe(time.Since(began).Seconds())
	if err != nil {
		s.unsent("publish", msg.GetId(), err)
		return &errorBody{Code: codeUnavailable, Message: "the message could not be sent; try again in a moment"}
	}
	return nil
}

// unsent logs that a message could not be sent.
func (s *session) unsent(what, id string, err error) {
	s.server.logPublish.Do(func() {
		s.server.log.Warn(what, slog.String("id", id), slog.String("user", s.user), slog.Any("error", err))
	})
}

// receiveSend says what a client of v1 sent, once however often it comes, and confirms it.
func (s *session) receiveSend(send *edge.Send, ref string) {
	key, ok := parseID(send.GetRef())
	if !ok {
		s.refuse(badFrame(`"ref" must be a UUID that you make for the message, as 01234567-89ab-4cde-8f01-23456789abcd`), ref)
		return
	}
	in, bad := compose(send.GetContent(), send.GetToUser(), s.server.cfg.Edge.MaxContentBytes)
	if bad != nil {
		s.refuse(bad, ref)
		return
	}
	s.say(ref, func() {
		id, bad := s.sayOnce(in, key)
		if bad != nil {
			s.answer(bad, ref)
			return
		}
		s.took()
		s.tell(&edge.ServerFrame{Frame: &edge.ServerFrame_Ack{Ack: &edge.Ack{Ref: ref, Id: id, SentAt: timestamppb.New(timeOf(id))}}})
	})
}

// sayOnce publishes in, which its sender calls ref, and returns the id that it has from its first
// time on: everybody knows a message by its id, and so does not mind it coming again. Only what
// this node has got back from the broker certainly needs no other try.
func (s *session) sayOnce(in incoming, ref string) (id string, bad *errorBody) {
	ctx, cancel := context.WithTimeout(s.server.ctx, claimTimeout)
	defer cancel()
	fresh, _ := s.server.ids.next()
	id, err := s.server.cfg.Refs.ClaimRef(ctx, s.user, in.key(ref), fresh)
	if err != nil {
		s.unsent("claim the ref of a message", fresh, err)
		return "", &errorBody{Code: codeUnavailable, Message: "the message could not be sent; send it again in a moment, with the same ref"}
	}
	if id != fresh && s.server.hub.knows(id) {
		return id, nil
	}
	msg := in.chatMessage(s.user, id, timeOf(id))
	msg.Ref = ref
	return id, s.publish(msg)
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
