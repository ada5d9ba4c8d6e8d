// Package handlers holds the event functions: what happens when a message
// arrives. Each is a method on a small struct of what it needs, and is tested by
// calling it; which broker carries the message is not its business.
//
//	function     message                 runs on              does
//	broadcast    chat.ChatMessage        every node           delivers it to the sessions of this node
//	broadcast    chat.Typing             every node           tells the sessions of this node who is writing
//	presence     chat.UserStatus         every node           takes in who came or went on another node
//	presence     presence.NodeState      every node           takes in everyone who is on another node
//	presence     presence.StateRequest   every node           answers a node that asks who is here
//	archive      tasks.ArchiveMessage    one process          stores it, once
//	dead-letters tasks.DeadLetter        one process          stores what another function gave up on
//
// A function returns nil when it is done, an error to be called again with the
// same message, and [Permanent] of an error when no other try can help. Messages
// come at least once, so that doing the same again must change nothing.
package handlers

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/presence"
	"burrow/gen/tasks"
	"burrow/internal/content"
)

// everyone is the name under which programs address everyone. Nobody can have
// it, however it is written; inside, such a message has no to_user.
const everyone = "global"

// Permanent marks err as one that trying again cannot mend: the message goes to
// the dead letters at once. The mark is a method Permanent() bool, found with
// errors.As through any wrapping. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (permanent) Permanent() bool { return true }
func (p permanent) Unwrap() error { return p.error }

// Route returns what a broker needs to know of m. Messages with the same id are
// the same message; without one the broker makes it up. Messages of one type with
// the same key are handled in the order in which they were published, and those
// without a key in any.
func Route(m proto.Message) (id, key string) {
	switch m := m.(type) {
	case *chat.ChatMessage:
		return m.GetId(), talk(m)
	case *tasks.ArchiveMessage:
		// The archive sorts by id: no key lets it store many at the same time.
		return m.GetMessage().GetId(), ""
	case *chat.Typing:
		return "", m.GetSender()
	case *chat.UserStatus:
		return "", m.GetNode()
	case *presence.NodeState:
		return "", m.GetNode()
	}
	return "", ""
}

// talk names the conversation of m: the talk of everyone, or that of two users,
// whoever speaks. A slash cannot be in a name.
func talk(m *chat.ChatMessage) string {
	a, b := m.GetSender(), recipient(m)
	if b == "" {
		return everyone
	}
	return min(a, b) + "/" + max(a, b)
}

// recipient returns for whom m is: a user, or "" for everyone.
func recipient(m interface{ GetToUser() string }) string {
	if strings.EqualFold(m.GetToUser(), everyone) {
		return ""
	}
	return m.GetToUser()
}

// complete returns msg as the rest of the system expects it: with what programs
// leave out that do not know all fields, names in normal form, and content without
// control characters. msg itself is not changed; it is what is
// returned when there is nothing to change. brokerID is the id of the message on the
// broker, "" if it has none; then there may be no id in what is returned. The error is
// permanent: the edge would not let in such a message.
func complete(msg *chat.ChatMessage, brokerID string) (*chat.ChatMessage, error) {
	id := strings.ToLower(cmp.Or(msg.GetId(), nameID(brokerID, msg.GetSentAt())))
	sender, to, err := ends(msg.GetSender(), recipient(msg))
	if err != nil {
		return nil, err
	}
	text := content.Clean(msg.GetContent())
	if !content.Visible(text) && msg.GetContent() != "" { // The schema refuses what is empty.
		return nil, Permanent(errors.New("the message has no visible content"))
	}
	if id == msg.GetId() && sender == msg.GetSender() && to == msg.GetToUser() && text == msg.GetContent() && msg.GetSentAt() != nil {
		return msg, nil
	}
	msg = proto.CloneOf(msg)
	msg.Id, msg.Sender, msg.ToUser, msg.Content = id, sender, to, text
	if msg.GetSentAt() == nil {
		msg.SentAt = timestamppb.Now()
	}
	return msg, nil
}

// ends returns the names of a sender and a recipient, which may be empty, in the form in which the edge
// knows them. The error is permanent.
func ends(sender, recipient string) (from, to string, err error) {
	if from, err = auth.ValidName(sender); err == nil && recipient != "" {
		to, err = auth.ValidName(recipient)
	}
	return from, to, Permanent(err)
}

// nameSpace is the name space of the ids that nameID makes: it only has to be
// another than everybody else's.
const nameSpace = "burrow chat.ChatMessage "

// nameID returns the id of a message that has none: always the same UUID for the
// same id on the broker, so that what is delivered again is known again. Messages
// are ordered by id, so it is the broker's own if that is a UUID with a time, else
// a version 7 with the time of the message. One that tells no time goes before all
// others, where it does not stay among the newest for ever.
func nameID(brokerID string, sentAt *timestamppb.Timestamp) string {
	if brokerID == "" || isUUIDv7(brokerID) {
		return brokerID
	}
	sum := sha1.Sum([]byte(nameSpace + brokerID))
	id := sum[:16]
	var ms int64
	if at := sentAt.AsTime().UnixMilli(); sentAt.IsValid() && at >= 0 && at < 1<<48 {
		ms = at
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(ms)<<16)
	copy(id, b[:6])
	id[6] = id[6]&0x0f | 7<<4
	id[8] = id[8]&0x3f | 0x80
	x := hex.EncodeToString(id)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

func isUUIDv7(id string) bool {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[14] != '7' || id[18] != '-' || id[23] != '-' {
		return false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	return err == nil && len(b) == 16 && b[8]&0xc0 == 0x80
}
