package handlers

import (
	"context"
	"fmt"

	"burrow/gen/tasks"
)

// DeadLetters stores the messages that other functions gave up on, for a person
// to read. It is a task, so that none is lost while the store is away.
type DeadLetters struct{ Letters Letters }

// Letters is what DeadLetters needs of the store.
type Letters interface {
	// AddDeadLetter returns nil once letter is stored; the same message given up
	// on by the same function again is the same letter. An error that trying
	// again cannot mend has a method Permanent() bool that returns true.
	AddDeadLetter(ctx context.Context, letter *tasks.DeadLetter) error
}

// Handle stores letter.
func (d *DeadLetters) Handle(ctx context.Context, letter *tasks.DeadLetter) error {
	if err := d.Letters.AddDeadLetter(ctx, letter); err != nil {
		return fmt.Errorf("deadletters: %w", err)
	}
	return nil
}
