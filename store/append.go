package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"burrow/gen/chat"
)

// pending is a message or a claim on its way into the database, with the call that
// waits.
type pending struct {
	row   *row       // a message, or
	claim *refClaim  // a ref
	done  chan error // gets one answer; buffered, since the caller may have left
	err   error      // why this row was refused; belongs to the append goroutine
}

// row is a line of the messages table.
type row struct {
	id, sender, recipient, content, talk, ref string
	sentAt                                    int64
}

// Append stores msg, which must have an id (a UUID) and a sender; a message
// without a time gets the current one. It returns nil once msg is on disk, also
// if a message with this id was there before: the first one stays as it is. It
// does not change msg.
//
// Messages that are appended at the same time are committed together. With too
// many of them waiting, Append waits for its turn. When ctx ends first the
// message may still be stored, so that appending it again is safe. Errors:
// ErrInvalid, ErrPrivate, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Append(ctx context.Context, msg *chat.ChatMessage) error {
	start := time.Now()
	r, err := s.newRow(msg)
	if err == nil {
		err = s.enqueue(ctx, &pending{row: r, done: make(chan error, 1)})
	}
	s.metrics.appended(time.Since(start), err)
	if err != nil {
		return fmt.Errorf("store: append %s: %w", msg.GetId(), err)
	}
	return nil
}

// enqueue gives p to the append goroutine and waits for the answer.
func (s *Store) enqueue(ctx context.Context, p *pending) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	select {
	case s.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) newRow(msg *chat.ChatMessage) (*row, error) {
	id, err := canonicalID(msg.GetId())
	if err != nil {
		return nil, err
	}
	r := &row{id: id, sender: msg.GetSender(), recipient: msg.GetToUser(), content: msg.GetContent()}
	if r.sender == "" {
		return nil, fmt.Errorf("%w: the message has no sender", ErrInvalid)
	}
	// A driver would store such bytes, and protobuf would refuse to encode them
	// when they are read back.
	if !utf8.ValidString(r.content) {
		return nil, fmt.Errorf("%w: the content is not UTF-8", ErrInvalid)
	}
	if r.recipient != "" {
		if !s.archivePrivate {
			return nil, ErrPrivate
		}
		if r.talk, err = talkOf(r.sender, r.recipient); err != nil {
			return nil, err
		}
	} else if !utf8.ValidString(r.sender) {
		return nil, fmt.Errorf("%w: the sender is not UTF-8", ErrInvalid)
	}
	if msg.GetRef() != "" {
		ref, err := parseUUID("ref", msg.GetRef())
		if err != nil {
			return nil, err
		}
		r.ref = ref.String()
	}
	if msg.GetSentAt() == nil {
		r.sentAt = s.now().UnixMicro()
		return r, nil
	}
	if err := msg.GetSentAt().CheckValid(); err != nil {
		return nil, fmt.Errorf("%w: sent_at: %w", ErrInvalid, err)
	}
	r.sentAt = msg.GetSentAt().AsTime().UnixMicro()
	return r, nil
}

// canonicalID returns the lower-case form of id, which orders UUIDv7 by time.
func canonicalID(id string) (string, error) {
	u, err := parseUUID("id", id)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// parseUUID reads a UUID as people write it; what says what it is of.
func parseUUID(what, text string) (uuid.UUID, error) {
	// uuid.Parse also knows urn:uuid: and braces, which no broker or client of
	// ours writes.
	if len(text) != 36 {
		return uuid.Nil, fmt.Errorf("%w: %s %q is not a UUID", ErrInvalid, what, clip(text, 64))
	}
	u, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: %s %q is not a UUID", ErrInvalid, what, text)
	}
	return u, nil
}

// talkOf returns the key of the private talk of two users, the same whoever
// speaks. Users may be equal: a talk with oneself.
func talkOf(a, b string) (string, error) {
	for _, name := range []string{a, b} {
		// With the separator in a name, "a & b" and "c" would share a talk with
		// "a" and "b & c". The contract does not allow it in names either.
		if name == "" || !utf8.ValidString(name) || strings.Contains(name, "&") {
			return "", fmt.Errorf("%w: %q cannot be the name of a user", ErrInvalid, name)
		}
	}
	return min(a, b) + " & " + max(a, b), nil
}

// writeAppends is the goroutine that commits what Append and ClaimRef queue, until
// the queue is closed and empty. It sets its own pace: it takes whatever gathered while
// the last commit was under way, so that a lone message waits for nobody and a
// crowd shares the cost of the disk.
func (s *Store) writeAppends() {
	defer close(s.writerDone)
	batch := make([]*pending, 0, maxBatch)
	gathered := time.NewTimer(time.Hour)
	gathered.Stop()
	crowded := false
	for first := range s.queue {
		batch = s.gather(append(batch[:0], first), nil)
		if crowded && len(batch) < maxBatch && !hasClaim(batch) {
			gathered.Reset(gatherTime)
			batch = s.gather(batch, gathered.C)
			gathered.Stop()
		}
		if crowded = len(batch) >= crowd; crowded {
			s.crowded.Store(time.Now().UnixNano())
		}
		s.commit(batch)
		clear(batch)
	}
}

// gather adds what is queued to batch, and what comes until enough tells; nil: nothing else.
func (s *Store) gather(batch []*pending, enough <-chan time.Time) []*pending {
	for len(batch) < maxBatch {
		select {
		case p, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, p)
			continue
		default:
		}
		if enough == nil {
			return batch
		}
		select {
		case p, ok := <-s.queue:
			if !ok {
				return batch
			}
			if batch = append(batch, p); p.claim != nil {
				enough = nil // somebody waits to be told that what they said is said
			}
		case <-enough:
			enough = nil
		}
	}
	return batch
}

func hasClaim(batch []*pending) bool {
	return slices.ContainsFunc(batch, func(p *pending) bool { return p.claim != nil })
}

// commit stores the batch in one transaction and answers every caller.
func (s *Store) commit(batch []*pending) {
	start := time.Now()
	var claims, messages []*pending
	for _, p := range batch {
		if p.claim != nil {
			claims = append(claims, p)
		} else {
			messages = append(messages, p)
		}
	}
	stored := 0
	err := s.write(s.life, func(tx *sql.Tx) (err error) {
		// Under the lock nothing waits for anybody, and a context that can end
		// costs a goroutine for every statement.
		work := context.WithoutCancel(s.life)
		if stored, err = s.appendRows(work, tx, messages); err != nil {
			return err
		}
		if len(claims) > 0 {
			insert := tx.StmtContext(work, s.insertRef) // closed with the transaction
			for _, p := range claims {
				if err := p.result(s.claimRef(work, tx, insert, p.claim)); err != nil {
					return err
				}
			}
		}
		return s.pruneRefs(work, tx, len(claims))
	})
	refused := 0
	for _, p := range messages {
		if p.err != nil {
			refused++
		}
	}
	s.metrics.committed(len(batch), len(messages)-stored-refused, time.Since(start), err)
	if err == nil && len(messages) > 0 {
		s.wakeIndexer()
	}
	for _, p := range batch {
		if err != nil {
			p.done <- err
		} else {
			p.done <- p.err
		}
	}
}

// result keeps err if it is p's alone: SQLite took back this statement and nothing else, and
// the rest of the transaction is fine. It returns any other error.
func (p *pending) result(err error) error {
	p.err = nil
	if isRowError(err) {
		p.err = err
		return nil
	}
	return err
}

// appendRows inserts messages and returns how many of them are new. Most of them go many to a
// statement, which costs half as much.
func (s *Store) appendRows(ctx context.Context, tx *sql.Tx, messages []*pending) (stored int, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	one, many := tx.StmtContext(ctx, s.insert), tx.StmtContext(ctx, s.insertMany) // closed with the transaction
	args := make([]any, 0, insertRows*rowColumns)
	for some := range slices.Chunk(messages, insertRows) {
		if len(some) == insertRows {
			args = args[:0]
			for _, p := range some {
				p.err = nil
				args = p.row.appendTo(args)
			}
			n, err := insertBy(ctx, many, args)
			if err == nil {
				stored += n
				continue
			}
			if !isRowError(err) {
				return 0, err
			}
			// SQLite took back all of the statement for one of them.
		}
		for _, p := range some {
			n, err := insertBy(ctx, one, p.row.appendTo(args[:0]))
			if err := p.result(err); err != nil {
				return 0, err
			}
			stored += n
		}
	}
	return stored, nil
}

// insertBy returns how many rows stmt has inserted.
func insertBy(ctx context.Context, stmt *sql.Stmt, args []any) (int, error) {
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// appendTo adds the columns of r to the arguments of an insert.
func (r *row) appendTo(args []any) []any {
	return append(args, r.id, r.sender, r.recipient, r.content, r.sentAt, r.talk, r.ref)
}

const (
	rowColumns = 7
	insertRows = 16 // of a statement with many
)

// insertMessage does not touch the row that has the id already. Other conflicts
// are errors: INSERT OR IGNORE would hide them.
const (
	insertInto    = `INSERT INTO messages (id, sender, recipient, content, sent_at, talk, ref) VALUES `
	insertRow     = `(?, ?, ?, ?, ?, ?, ?)`
	insertKnown   = ` ON CONFLICT (id) DO NOTHING`
	insertMessage = insertInto + insertRow + insertKnown
)

var insertMessages = insertInto + strings.Repeat(insertRow+", ", insertRows-1) + insertRow + insertKnown
