package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
)

// MaxPage is the most messages that Page returns at once.
const MaxPage = 10_000

// Query says which messages of a talk to read.
type Query struct {
	// Before is a message id: only messages that come before it are read. It need
	// not be in the archive. Empty: from the newest.
	Before string
	// After is a message id: only messages that come after it are read, the oldest of them.
	// Not together with Before. Empty: no such bound.
	After string
	// Limit is the most messages to read, at least 1; over MaxPage it is MaxPage.
	Limit int
	// Users are the two users of a private talk. Both empty: the talk of everyone.
	Users [2]string
	// All asks for the messages of all talks together; not together with Users or After.
	All bool
}

// Page returns up to q.Limit messages of one talk, the newest that come before
// q.Before, or the oldest that come after q.After, oldest first, and whether there
// are more in that direction. Messages are ordered
// by id, so that following pages with the id of the oldest message repeats none
// and skips none, whatever is appended meanwhile. It sees what was committed,
// by any process. Errors: ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Page(ctx context.Context, q Query) (msgs []*chat.ChatMessage, hasMore bool, err error) {
	if msgs, hasMore, err = s.readPage(ctx, q); err != nil {
		return nil, false, fmt.Errorf("store: page: %w", err)
	}
	return msgs, hasMore, nil
}

func (s *Store) readPage(ctx context.Context, q Query) (msgs []*chat.ChatMessage, hasMore bool, err error) {
	if q.Limit < 1 {
		return nil, false, fmt.Errorf("%w: limit %d is less than 1", ErrInvalid, q.Limit)
	}
	limit := min(q.Limit, MaxPage)
	stmt, bound := s.page, "g" // sorts after every id
	switch {
	case q.Before != "" && q.After != "":
		return nil, false, fmt.Errorf("%w: a page is before a message or after one, not both", ErrInvalid)
	case q.Before != "":
		bound, err = canonicalID(q.Before)
	case q.After != "":
		stmt = s.pageAfter
		bound, err = canonicalID(q.After)
	}
	if err != nil {
		return nil, false, err
	}
	talk := ""
	if q.Users != [2]string{} {
		if talk, err = talkOf(q.Users[0], q.Users[1]); err != nil {
			return nil, false, err
		}
	}
	args := []any{talk, bound, limit + 1}
	if q.All {
		if talk != "" || q.After != "" {
			return nil, false, fmt.Errorf("%w: All goes with neither Users nor After", ErrInvalid)
		}
		stmt, args = s.pageAll, args[1:]
	}
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()

	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, false, s.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		msg := new(chat.ChatMessage)
		var sentAt int64
		if err := rows.Scan(&msg.Id, &msg.Sender, &msg.ToUser, &msg.Content, &sentAt, &msg.Ref); err != nil {
			return nil, false, s.explain(err)
		}
		msg.SentAt = timestamppb.New(time.UnixMicro(sentAt))
		msgs = append(msgs, msg)
	}
	if err := rows.Err(); err != nil {
		return nil, false, s.explain(err)
	}
	if len(msgs) > limit {
		msgs, hasMore = msgs[:limit], true
	}
	if stmt != s.pageAfter {
		slices.Reverse(msgs)
	}
	return msgs, hasMore, nil
}

const (
	selectPage = `SELECT id, sender, recipient, content, sent_at, ref FROM messages
WHERE talk = ? AND id < ? ORDER BY id DESC LIMIT ?`
	selectPageAfter = `SELECT id, sender, recipient, content, sent_at, ref FROM messages
WHERE talk = ? AND id > ? ORDER BY id LIMIT ?`
	selectPageAll = `SELECT id, sender, recipient, content, sent_at, ref FROM messages
WHERE id < ? ORDER BY id DESC LIMIT ?`
)
