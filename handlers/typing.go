package handlers

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
)

// Typing tells the sessions of this node who is writing. Every node runs it.
type Typing struct{ Rooms Typist }

// Typist is what Typing needs from the edge.
type Typist interface {
	// Typing shows msg to those whom it is for, unless it is late. It does not wait for a
	// slow session and must not change msg.
	Typing(msg *chat.Typing)
}

// Handle shows msg. That nobody is here whom it is for is not an error.
func (t *Typing) Handle(_ context.Context, msg *chat.Typing) error {
	sender, to, err := ends(msg.GetSender(), recipient(msg))
	if err != nil {
		return fmt.Errorf("typing: %w", err)
	}
	if sender != msg.GetSender() || to != msg.GetToUser() {
		msg = proto.CloneOf(msg)
		msg.Sender, msg.ToUser = sender, to
	}
	t.Rooms.Typing(msg)
	return nil
}
