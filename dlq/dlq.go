// Package dlq is what a person does with dead letters: list them, read them, have
// the function that gave up try again, or drop them.
//
// A replay is a request in the store, which a running node sends (Outbox). So it
// can be requested by any program that opens the store, whether or not a node runs
// and whichever broker there is; it is requested once however often somebody asks,
// and not lost when a node dies.
package dlq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"burrow/store"
)

// Errors of Desk, for errors.Is. A letter that does not wait for a replay gives a
// *NotWaitingError.
var (
	// ErrNoLetter: there is no such letter, or no longer.
	ErrNoLetter = store.ErrNoLetter
	// ErrRefused: the message cannot be sent again as it is. Nothing was requested.
	ErrRefused = errors.New("the message would be refused")
	// ErrBadQuery: there is no such state, or the limit is out of bounds.
	ErrBadQuery = store.ErrInvalid
)

// NotWaitingError says since when a letter is not waiting, and for whom.
type NotWaitingError = store.NotWaitingError

// Query says which letters to list.
type Query = store.LetterQuery

// Store is what Desk needs of *store.Store.
type Store interface {
	ListDeadLetters(ctx context.Context, q store.LetterQuery) (letters []*store.DeadLetter, more bool, err error)
	DeadLetter(ctx context.Context, id int64) (*store.DeadLetter, error)
	DeadLetterActions(ctx context.Context, id int64, limit int) ([]store.Action, error)
	RequestReplay(ctx context.Context, id int64, who string) (*store.DeadLetter, error)
	DropDeadLetter(ctx context.Context, id int64, who string) (*store.DeadLetter, error)
}

// Desk is where people ask for letters. Its methods may be called at the same time.
type Desk struct {
	Store Store        // required
	Types *Types       // required
	Log   *slog.Logger // told who did what; required
	// Kick, if set, is called after a replay was requested, so that it need not
	// wait for the next look into the store.
	Kick func()
}

// maxActions bounds the actions shown with a letter.
const maxActions = 20

// List returns a page of letters, highest id first, without what they hold.
// Errors: ErrBadQuery, or that of the store.
func (d *Desk) List(ctx context.Context, q Query) (*Page, error) {
	kept, more, err := d.Store.ListDeadLetters(ctx, q)
	if err != nil {
		return nil, err
	}
	page := &Page{Letters: make([]*Letter, len(kept)), HasMore: more}
	for i, l := range kept {
		page.Letters[i] = newLetter(l)
	}
	return page, nil
}

// Show returns a letter with all that is known of it. Errors: ErrNoLetter, or that
// of the store.
func (d *Desk) Show(ctx context.Context, id int64) (*Letter, error) {
	kept, err := d.Store.DeadLetter(ctx, id)
	if err != nil {
		return nil, err
	}
	actions, err := d.Store.DeadLetterActions(ctx, id, maxActions)
	if err != nil {
		return nil, err
	}
	l := newLetter(kept)
	l.addContent(d.Types, kept)
	for _, a := range actions {
		l.Actions = append(l.Actions, Action{At: stamp(a.At), Who: a.Who, What: a.What, Note: a.Note})
	}
	return l, nil
}

// Peek returns a letter without what it holds. Errors: ErrNoLetter, or that of the
// store.
func (d *Desk) Peek(ctx context.Context, id int64) (*Letter, error) {
	kept, _, err := d.Store.ListDeadLetters(ctx, Query{State: "all", Before: id + 1, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 || kept[0].ID != id {
		return nil, fmt.Errorf("dead letter %d: %w", id, ErrNoLetter)
	}
	return newLetter(kept[0]), nil
}

// Replay requests that the function which gave up on the letter gets it again, and
// no other function does. It returns the letter as it is then; a node sends it soon,
// or when one runs. Errors: ErrNoLetter, *NotWaitingError, ErrRefused, or that of
// the store.
func (d *Desk) Replay(ctx context.Context, id int64, who string) (*Letter, error) {
	kept, err := d.Store.DeadLetter(ctx, id)
	if err != nil {
		return nil, err
	}
	if kept.State == store.Waiting {
		if err := d.Types.Check(kept.Topic, kept.Payload); err != nil {
			d.Log.Warn("a replay was refused", "letter", id, "function", kept.Function, "who", who, "error", err)
			return nil, fmt.Errorf("dead letter %d: %w", id, err)
		}
	}
	kept, err = d.Store.RequestReplay(ctx, id, who)
	if err != nil {
		return nil, err
	}
	d.Log.Info("a replay was requested", "letter", id, "function", kept.Function, "message", kept.MessageID, "replay", kept.ReplayID, "who", who)
	if d.Kick != nil {
		d.Kick()
	}
	return newLetter(kept), nil
}

// Drop forgets a letter and returns it as it was. Errors: ErrNoLetter, or that of
// the store.
func (d *Desk) Drop(ctx context.Context, id int64, who string) (*Letter, error) {
	kept, err := d.Store.DropDeadLetter(ctx, id, who)
	if err != nil {
		return nil, err
	}
	d.Log.Info("a dead letter was dropped", "letter", id, "function", kept.Function, "message", kept.MessageID, "who", who)
	return newLetter(kept), nil
}
