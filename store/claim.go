package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// MaxNamesPerOwner is how many names one owner may hold at the same time.
const MaxNamesPerOwner = 8

// Claim makes owner the holder of name until ttl has passed; an owner's own
// claim is renewed, and goes on since the time it has. Names that look alike are one name: they are compared after
// Unicode NFKC and case folding. Of several claims at the same time, by whatever
// processes on this host, one wins. Errors: ErrTaken, ErrTooManyNames,
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	if err := s.claim(ctx, name, owner, ttl); err != nil {
		return fmt.Errorf("store: claim %q: %w", name, err)
	}
	return nil
}

func (s *Store) claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	key, err := nameKey(name)
	if err != nil {
		return err
	}
	if owner == "" {
		return fmt.Errorf("%w: a claim needs an owner", ErrInvalid)
	}
	if ttl <= 0 {
		return fmt.Errorf("%w: a claim for %s ends before it begins", ErrInvalid, ttl)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.write(ctx, func(tx *sql.Tx) error {
		now := s.now()
		// A few that have ended, so that the table does not grow for ever and
		// nobody waits while it is swept.
		if _, err := tx.ExecContext(ctx, `DELETE FROM claims WHERE name_key IN
			(SELECT name_key FROM claims WHERE expires_at <= ? ORDER BY expires_at LIMIT 100)`, now.UnixMicro()); err != nil {
			return err
		}
		var holder string
		err := tx.QueryRowContext(ctx, "SELECT owner FROM claims WHERE name_key = ? AND expires_at > ?",
			key, now.UnixMicro()).Scan(&holder)
		switch {
		case err == nil && holder != owner:
			return ErrTaken
		case errors.Is(err, sql.ErrNoRows):
			var held int
			if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM claims WHERE owner = ? AND expires_at > ?",
				owner, now.UnixMicro()).Scan(&held); err != nil {
				return err
			}
			if held >= MaxNamesPerOwner {
				return ErrTooManyNames
			}
		case err != nil:
			return err
		}
		// With a holder it is this owner. A claim that has ended is not gone on with, even by
		// its own owner: it may be swept or not.
		_, err = tx.ExecContext(ctx, `INSERT INTO claims (name_key, name, owner, expires_at, since) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name_key) DO UPDATE SET name = excluded.name, owner = excluded.owner, expires_at = excluded.expires_at,
			since = CASE WHEN ? THEN since ELSE excluded.since END`,
			key, name, owner, now.Add(ttl).UnixMicro(), now.UnixMicro(), holder != "")
		return err
	})
}

// Holds reports whether owner holds name now, and since when without a break: the zero time if
// that was before the store counted. Names are compared as in Claim.
// Errors: ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Holds(ctx context.Context, name, owner string) (since time.Time, held bool, err error) {
	if since, held, err = s.holds(ctx, name, owner); err != nil {
		return time.Time{}, false, fmt.Errorf("store: holder of %q: %w", name, err)
	}
	return since, held, nil
}

func (s *Store) holds(ctx context.Context, name, owner string) (since time.Time, held bool, err error) {
	key, err := nameKey(name)
	if err != nil {
		return since, false, err
	}
	if err := s.enter(); err != nil {
		return since, false, err
	}
	defer s.leave()
	var micros int64
	err = s.reader.QueryRowContext(ctx,
		"SELECT since FROM claims WHERE name_key = ? AND owner = ? AND expires_at > ?",
		key, owner, s.now().UnixMicro()).Scan(&micros)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return since, false, nil
	case err != nil:
		return since, false, s.explain(err)
	case micros != 0:
		since = time.UnixMicro(micros)
	}
	return since, true, nil
}

// nameKey returns what names that look alike have in common.
func nameKey(name string) (string, error) {
	if name == "" || !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: a name is UTF-8 and not empty", ErrInvalid)
	}
	key := name
	// Folding can undo the normal form and the other way round; Unicode's own
	// NFKC_Casefold goes round twice for the same reason.
	for range 2 {
		key = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(key)))
	}
	return key, nil
}
