package handlers

import (
	"context"
	"fmt"

	"burrow/gen/chat"
)

// Broadcast delivers chat messages to the sessions of this node. Every node runs
// it, each for its own sessions.
type Broadcast struct {
	Rooms Deliverer // Required.
	// MessageID returns the id on the broker of the message being handled, which
	// stands in for the id that a message of another program lacks. Nil: such a
	// message is delivered without an id.
	MessageID func(context.Context) string
}

// Deliverer is what Broadcast needs from the edge.
type Deliverer interface {
	// Deliver queues msg for each session that it is for, without waiting for a
	// slow one. The same message may come again: it is known by its id. It must
	// not change msg.
	Deliver(msg *chat.ChatMessage)
}

// Handle delivers msg. That nobody is here whom it is for is not an error.
func (b *Broadcast) Handle(ctx context.Context, msg *chat.ChatMessage) error {
	msg, err := complete(msg, messageID(ctx, b.MessageID))
	if err != nil {
		return fmt.Errorf("broadcast: %w", err)
	}
	b.Rooms.Deliver(msg)
	return nil
}

func messageID(ctx context.Context, of func(context.Context) string) string {
	if of == nil {
		return ""
	}
	return of(ctx)
}
