package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
)

// MaxHits is the most messages that Search returns at once.
const MaxHits = 100

// SearchQuery says what to look for, and where.
type SearchQuery struct {
	// Text is what the messages must hold: all of its words, wherever they stand, without
	// regard to case, accents, strokes and ignorable characters. Words in double quotes must stand
	// together. A last word of two letters or more is the beginning of one. At most maxSearchText bytes.
	Text string
	// Before is a message id: only messages that come before it are found. It need not be
	// in the archive. Empty: from the newest.
	Before string
	// Limit is the most messages to return, at least 1; over MaxHits it is MaxHits.
	Limit int
	// User is who looks: beside what was said to everyone, their private talks are
	// searched, and nobody else's. Empty: what was said to everyone only.
	User string
	// PrivateFrom is an id: private messages with lesser ones are not found. It need not be in
	// the archive. Empty: no such bound.
	PrivateFrom string
	// With narrows the search to the private talk of User and this one. Not together with
	// Everyone. Empty: all talks.
	With string
	// Everyone narrows the search to what was said to everyone.
	Everyone bool
}

// Hit is a message that was found.
type Hit struct {
	Message *chat.ChatMessage
	// Marks are the places in the content that were looked for, in order and apart from
	// each other, as bytes.
	Marks []Mark
}

// Mark is a piece of a text: from Start up to End.
type Mark struct{ Start, End int }

// Hits is what was found.
type Hits struct {
	Hits []Hit // newest first: by id, the greatest first
	// HasMore says that there are more, before the last one.
	HasMore bool
	// Behind is how many messages of the archive, the latest, are not in the index yet.
	// Usually that is what came in the last second; see Config.
	Behind int
}

// Search returns the newest messages with q.Text that q.User may see. What is archived
// is found a second or two later: Hits.Behind says how much is not. Errors: ErrInvalid,
// ErrClosed, that of ctx, or that of the disk.
func (s *Store) Search(ctx context.Context, q SearchQuery) (Hits, error) {
	start := time.Now()
	hits, err := s.search(ctx, q)
	s.metrics.searched(time.Since(start), err)
	if err != nil {
		return Hits{}, fmt.Errorf("store: search: %w", err)
	}
	return hits, nil
}

func (s *Store) search(ctx context.Context, q SearchQuery) (hits Hits, err error) {
	phrases, err := parseSearch(q.Text)
	if err != nil {
		return hits, err
	}
	if q.Limit < 1 {
		return hits, fmt.Errorf("%w: limit %d is less than 1", ErrInvalid, q.Limit)
	}
	everyone, private, err := q.scopes(phrases)
	if err != nil {
		return hits, err
	}
	before := "g" // sorts after every id
	if q.Before != "" {
		if before, err = canonicalID(q.Before); err != nil {
			return hits, err
		}
	}
	var from int64 // The first place of private messages.
	if q.PrivateFrom != "" {
		if q.PrivateFrom, err = canonicalID(q.PrivateFrom); err != nil {
			return hits, err
		}
		from, _ = placesOf(q.PrivateFrom)
	}
	if err := s.enter(); err != nil {
		return hits, err
	}
	defer s.leave()

	limit := min(q.Limit, MaxHits)
	places, err := s.places(ctx, everyone, private, before, from, limit+1)
	if err != nil {
		return hits, s.explain(err)
	}
	for _, place := range places {
		msg, err := s.messageAt(ctx, place)
		if errors.Is(err, sql.ErrNoRows) {
			continue // somebody has removed it by hand
		}
		if err != nil {
			return hits, s.explain(err)
		}
		if msg.GetId() < before && q.sees(msg) {
			hits.Hits = append(hits.Hits, Hit{Message: msg})
		}
	}
	slices.SortFunc(hits.Hits, func(a, b Hit) int { return cmp.Compare(b.Message.GetId(), a.Message.GetId()) })
	if len(hits.Hits) > limit {
		hits.Hits, hits.HasMore = hits.Hits[:limit], true
	}
	for i, h := range hits.Hits {
		hits.Hits[i].Marks = findMarks(h.Message.GetContent(), phrases)
	}
	if err := s.behind.QueryRowContext(ctx).Scan(&hits.Behind); err != nil {
		return Hits{}, s.explain(err)
	}
	if hits.Behind > 0 {
		s.wakeIndexer() // who archived it may have died before
	}
	return hits, nil
}

// scopes returns what to ask of the two indexes; one that cannot have anything is not
// asked.
func (q SearchQuery) scopes(phrases []phrase) (everyone, private string, err error) {
	text := matchAll(phrases)
	switch {
	case q.Everyone && q.With != "":
		return "", "", fmt.Errorf("%w: Everyone and With are two talks", ErrInvalid)
	case q.With != "":
		if _, err := talkOf(q.User, q.With); err != nil {
			return "", "", err
		}
		return "", matchPeople(text, q.User, q.With), nil
	case q.Everyone || q.User == "":
		return text, "", nil
	}
	return text, matchPeople(text, q.User), nil
}

// sees reports whether msg is of a talk that q asks for. The indexes know; but nobody's
// private talk hangs on an index.
func (q SearchQuery) sees(msg *chat.ChatMessage) bool {
	from, to := msg.GetSender(), msg.GetToUser()
	if to != "" && msg.GetId() < q.PrivateFrom {
		return false
	}
	switch {
	case q.With != "":
		return from == q.User && to == q.With || from == q.With && to == q.User
	case q.Everyone || to == "":
		return to == ""
	}
	return q.User != "" && (from == q.User || to == q.User)
}

// places returns where the messages are that match, the newest first: at least want of them
// whose ids are less than before, if there are so many, and all of one millisecond or none,
// as they are in no order within it. Some of the millisecond of before may be greater. Private ones
// are at from or later.
func (s *Store) places(ctx context.Context, everyone, private, before string, from int64, want int) ([]int64, error) {
	first, end := placesOf(before)
	stmt, args := s.findBoth, []any{everyone, end, private, end, from}
	switch {
	case private == "":
		stmt, args = s.findEveryone, args[:2]
	case everyone == "":
		stmt, args = s.findPrivate, args[2:]
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var places []int64
	for certain := 0; rows.Next(); {
		var place int64
		if err := rows.Scan(&place); err != nil {
			return nil, err
		}
		if certain >= want && place>>placeBits != places[len(places)-1]>>placeBits {
			break
		}
		places = append(places, place)
		if place < first {
			certain++
		}
	}
	return places, rows.Err()
}

func (s *Store) messageAt(ctx context.Context, place int64) (*chat.ChatMessage, error) {
	msg := new(chat.ChatMessage)
	var sentAt int64
	err := s.atPlace.QueryRowContext(ctx, place).
		Scan(&msg.Id, &msg.Sender, &msg.ToUser, &msg.Content, &sentAt, &msg.Ref)
	if err != nil {
		return nil, fmt.Errorf("read what is at place %d: %w", place, err)
	}
	msg.SentAt = timestamppb.New(time.UnixMicro(sentAt))
	return msg, nil
}

const (
	selectEveryone = `SELECT rowid FROM search_everyone WHERE search_everyone MATCH ? AND rowid < ? ORDER BY rowid DESC`
	selectPrivate  = `SELECT rowid FROM search_private WHERE search_private MATCH ? AND rowid < ? AND rowid >= ? ORDER BY rowid DESC`
	selectBoth     = `SELECT rowid FROM search_everyone WHERE search_everyone MATCH ? AND rowid < ?
UNION ALL SELECT rowid FROM search_private WHERE search_private MATCH ? AND rowid < ? AND rowid >= ? ORDER BY 1 DESC`
	selectAtPlace = `SELECT id, sender, recipient, content, sent_at, ref
FROM search_rows JOIN messages ON messages.seq = search_rows.seq WHERE place = ?`
	selectBehind = `SELECT (SELECT coalesce(max(seq), 0) FROM messages) - (SELECT seq FROM search_progress_7)`
)
