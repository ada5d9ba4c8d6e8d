package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// KeepRefs is how long a ref is known, counted from the time in the id that it
// stands for.
const KeepRefs = 7 * 24 * time.Hour

const (
	// minPrune is how many old refs one transaction removes at most, if it adds fewer
	// than half as many.
	minPrune = 64
	// pruneEvery is how often old refs are looked for when the last look found few.
	pruneEvery = time.Minute
)

// refClaim is a ref that is to stand for an id.
type refClaim struct {
	sender  string
	ref, id uuid.UUID
	winner  uuid.UUID // what it stands for; the append goroutine's until it answers
}

// ClaimRef makes a sender's ref stand for id (a UUIDv7), unless it stands for
// another one already, and returns the id that it stands for, in canonical form:
// of several claims, at the same time or one after the other, by whatever
// processes on this host, the first wins, and all get its id. A ref is any UUID;
// each sender has refs of their own. Once ClaimRef has returned, the answer is on
// disk and stays the same for KeepRefs.
//
// Claims share the transactions of Append. When ctx ends first, the ref may still
// have been claimed; claiming it again is safe. Errors: ErrInvalid, ErrClosed, that
// of ctx, or that of the disk.
func (s *Store) ClaimRef(ctx context.Context, sender, ref, id string) (winner string, err error) {
	start := time.Now()
	claim, err := newRefClaim(sender, ref, id)
	if err == nil {
		err = s.enqueue(ctx, &pending{claim: claim, done: make(chan error, 1)})
	}
	if err != nil {
		s.metrics.refClaimed(time.Since(start), false, err)
		return "", fmt.Errorf("store: claim ref %q: %w", clip(ref, 64), err)
	}
	s.metrics.refClaimed(time.Since(start), claim.winner == claim.id, nil)
	return claim.winner.String(), nil
}

func newRefClaim(sender, ref, id string) (*refClaim, error) {
	if sender == "" || !utf8.ValidString(sender) {
		return nil, fmt.Errorf("%w: the sender of a ref is UTF-8 and not empty", ErrInvalid)
	}
	claim := &refClaim{sender: sender}
	var err error
	if claim.ref, err = parseUUID("ref", ref); err != nil {
		return nil, err
	}
	if claim.id, err = parseUUID("id", id); err != nil {
		return nil, err
	}
	if claim.id.Version() != 7 {
		// Its time says when the ref is forgotten.
		return nil, fmt.Errorf("%w: id %s is not a UUIDv7", ErrInvalid, claim.id)
	}
	return claim, nil
}

// claimRef says what c.ref stands for, in the transaction of the append goroutine.
func (s *Store) claimRef(ctx context.Context, tx *sql.Tx, insert *sql.Stmt, c *refClaim) error {
	res, err := insert.ExecContext(ctx, c.sender, c.ref[:], c.id[:])
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 1 {
		c.winner = c.id
		return nil
	}
	find := tx.StmtContext(ctx, s.findRef)
	defer find.Close()
	var id []byte
	if err := find.QueryRowContext(ctx, c.sender, c.ref[:]).Scan(&id); err != nil {
		return err
	}
	c.winner, err = uuid.FromBytes(id)
	return err
}

// pruneRefs removes refs that are too old, a few more than the transaction claimed:
// so the table shrinks while it is in use, and nobody waits while it is swept. With
// nothing to remove it is one look at an index.
func (s *Store) pruneRefs(ctx context.Context, tx *sql.Tx, claimed int) error {
	now := s.now()
	if claimed == 0 || now.Before(s.nextPrune) {
		return nil
	}
	limit := max(2*claimed, minPrune)
	oldest := firstID(now.Add(-KeepRefs))
	prune := tx.StmtContext(ctx, s.prune)
	defer prune.Close()
	res, err := prune.ExecContext(ctx, oldest[:], limit)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n < int64(limit) {
		s.nextPrune = now.Add(pruneEvery)
	}
	return nil
}

// firstID returns what sorts before every UUIDv7 of a time and later.
func firstID(at time.Time) (id uuid.UUID) {
	ms := max(at.UnixMilli(), 0)
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16)
	return id
}

const (
	insertRef  = `INSERT INTO refs (sender, ref, id) VALUES (?, ?, ?) ON CONFLICT (sender, ref) DO NOTHING`
	selectRef  = `SELECT id FROM refs WHERE sender = ? AND ref = ?`
	deleteRefs = `DELETE FROM refs WHERE (sender, ref) IN (SELECT sender, ref FROM refs WHERE id < ? ORDER BY id LIMIT ?)`
)
