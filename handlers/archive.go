package handlers

import (
	"context"
	"errors"
	"fmt"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// Archive stores chat messages. It is a task: one process runs it for each
// message, and again after a failure, until the message is stored.
type Archive struct {
	Messages Appender // Required.
	// Private lets private messages be stored too. False: they are dropped.
	Private bool
	// MessageID returns the id on the broker of the message being handled, which
	// stands in for the id that a message of another program lacks. Nil: such a
	// message is refused.
	MessageID func(context.Context) string
}

// Appender is what Archive needs of the store.
type Appender interface {
	// Append returns nil once msg is stored; a message with an id that is there
	// already is left as it was. An error that trying again cannot mend has a
	// method Permanent() bool that returns true. It must not change msg.
	Append(ctx context.Context, msg *chat.ChatMessage) error
}

// Handle stores the message of m, once, however often it comes.
func (a *Archive) Handle(ctx context.Context, m *tasks.ArchiveMessage) error {
	if m.GetMessage() == nil {
		return Permanent(errors.New("archive: there is no message in it"))
	}
	if recipient(m.GetMessage()) != "" && !a.Private {
		return nil
	}
	msg, err := complete(m.GetMessage(), messageID(ctx, a.MessageID))
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if msg.GetId() == "" {
		return Permanent(errors.New("archive: the message has no id, and none on the broker either; publish it with one"))
	}
	if err := a.Messages.Append(ctx, msg); err != nil {
		// Append's own mark, if it has one, shows through the wrapping.
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}
