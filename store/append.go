package store

import (
	"context"
	"database/sql"
	"fmt"
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
	for first := range s.queue {
		batch = append(batch[:0], first)
		for more := true; more && len(batch) < maxBatch; {
			select {
			case p, ok := <-s.queue:
				if more = ok; ok {
					batch = append(batch, p)
				}
			default:
				more = false
			}
		}
		s.commit(batch)
		clear(batch)
	}
}

// commit stores the batch in one transaction and answers every caller.
func (s *Store) commit(batch []*pending) {
	start := time.Now()
	claims, known := 0, 0
	for _, p := range batch {
		if p.claim != nil {
			claims++
		}
	}
	err := s.write(s.life, func(tx *sql.Tx) error {
		known = 0
		// Under the lock nothing waits for anybody, and a context that can end
		// costs a goroutine for every statement.
		work := context.WithoutCancel(s.life)
		var insert, insertRef *sql.Stmt // closed with the transaction
		if claims < len(batch) {
			insert = tx.StmtContext(work, s.insert)
		}
		if claims > 0 {
			insertRef = tx.StmtContext(work, s.insertRef)
		}
		for _, p := range batch {
			p.err = nil
			var err error
			if p.claim != nil {
				err = s.claimRef(work, tx, insertRef, p.claim)
			} else {
				var stored bool
				if stored, err = appendRow(work, insert, p.row); err == nil && !stored {
					known++
				}
			}
			if isRowError(err) {
				// SQLite took back this statement and nothing else: the rest of
				// the transaction is fine.
				p.err = err
			} else if err != nil {
				return err
			}
		}
		return s.pruneRefs(work, tx, claims)
	})
	s.metrics.committed(len(batch), known, time.Since(start), err)
	if err == nil && claims < len(batch) {
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

// appendRow reports whether r is new.
func appendRow(ctx context.Context, insert *sql.Stmt, r *row) (stored bool, err error) {
	res, err := insert.ExecContext(ctx, r.id, r.sender, r.recipient, r.content, r.sentAt, r.talk, r.ref)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// insertMessage does not touch the row that has the id already. Other conflicts
// are errors: INSERT OR IGNORE would hide them.
const insertMessage = `INSERT INTO messages (id, sender, recipient, content, sent_at, talk, ref)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`
