package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"burrow/gen/chat"
)

// MaxTalks is the most talks that Talks returns.
const MaxTalks = 100

// Talks returns the latest message of each of user's private talks, up to limit of them, the talk
// with the latest one first. It finds them by the index of words, which may be behind by as many
// messages as it says: see Hits. Messages with ids less than privateFrom are left out, if it is not
// empty. Errors: ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Talks(ctx context.Context, user, privateFrom string, limit int) (last []*chat.ChatMessage, behind int, err error) {
	if last, behind, err = s.talks(ctx, user, privateFrom, limit); err != nil {
		return nil, 0, fmt.Errorf("store: talks: %w", err)
	}
	return last, behind, nil
}

func (s *Store) talks(ctx context.Context, user, privateFrom string, limit int) (last []*chat.ChatMessage, behind int, err error) {
	if user == "" || limit < 1 {
		return nil, 0, fmt.Errorf("%w: talks of %q, at most %d", ErrInvalid, user, limit)
	}
	var first int64
	if privateFrom != "" {
		if privateFrom, err = canonicalID(privateFrom); err != nil {
			return nil, 0, err
		}
		first, _ = placesOf(privateFrom)
	}
	if err := s.enter(); err != nil {
		return nil, 0, err
	}
	defer s.leave()

	// First, lest something be missing that came to the index meanwhile.
	if err := s.behind.QueryRowContext(ctx).Scan(&behind); err != nil {
		return nil, 0, s.explain(err)
	}
	if behind > 0 {
		s.wakeIndexer() // who archived it may have died before
	}
	limit = min(limit, MaxTalks)
	match := `people : "` + personWord(user) + `"`
	for place := int64(1<<63 - 1); len(last) < limit; {
		// The newest one that is in no talk found so far, all of which are newer.
		err := s.findPrivate.QueryRowContext(ctx, match, place, first).Scan(&place)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return nil, 0, s.explain(err)
		}
		msg, err := s.messageAt(ctx, place)
		if errors.Is(err, sql.ErrNoRows) {
			continue // somebody has removed it by hand
		}
		if err != nil {
			return nil, 0, s.explain(err)
		}
		if from, to := msg.GetSender(), msg.GetToUser(); to == "" || from != user && to != user || msg.GetId() < privateFrom {
			continue // the index knows; but nobody's private talk hangs on an index
		}
		last = append(last, msg)
		if peer := peerOf(msg, user); peer != user {
			match += ` NOT people : "` + personWord(peer) + `"`
			continue
		}
		// A talk with oneself has no other name to leave out: a phrase of the name twice is it.
		match += ` NOT people : "` + personWord(user) + " " + personWord(user) + `"`
	}
	return last, behind, nil
}

// peerOf returns whom user talks to in msg.
func peerOf(msg *chat.ChatMessage, user string) string {
	if msg.GetSender() == user {
		return msg.GetToUser()
	}
	return msg.GetSender()
}
