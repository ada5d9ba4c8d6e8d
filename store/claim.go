package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"burrow/internal/names"
)

// MaxNamesPerOwner is how many names one owner may hold at the same time.
const MaxNamesPerOwner = 8

// Claim makes owner the holder of name until ttl has passed; an owner's own
// claim is renewed, and keeps its time and its spelling. Names with one names.Key are
// one name. A name that nobody holds is ErrTaken too while it looks like one that is
// held (names.Look). Of several claims at the same time, by whatever
// processes on this host, one wins. Errors: ErrTaken, ErrTooManyNames,
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	if err := s.claim(ctx, name, owner, ttl); err != nil {
		return fmt.Errorf("store: claim %q: %w", name, err)
	}
	return nil
}

func (s *Store) claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	if err := checkName(name); err != nil {
		return err
	}
	key, look := names.Key(name), names.LookOf(name)
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
			var other string
			err := tx.QueryRowContext(ctx, selectAlike, look[0], look[1], key, now.UnixMicro()).Scan(&other)
			if err == nil {
				return fmt.Errorf("%w: %q looks like it", ErrTaken, other)
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
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
		if holder != "" {
			_, err = tx.ExecContext(ctx, "UPDATE claims SET expires_at = ? WHERE name_key = ?", now.Add(ttl).UnixMicro(), key)
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO claims (name_key, name, owner, expires_at, since, look, look_folded, look_version)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			key, name, owner, now.Add(ttl).UnixMicro(), now.UnixMicro(), look[0], look[1], names.Version)
		return err
	})
}

// Holds reports whether owner holds name now, in which spelling, and since when without a break: the
// zero time if that was before the store counted. The spelling is empty if owner does not hold the name.
// Names are compared as in Claim. Errors: ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Holds(ctx context.Context, name, owner string) (spelling string, since time.Time, err error) {
	var micros int64
	err = s.findClaim(ctx, name, "SELECT name, since FROM claims WHERE name_key = ?1 AND owner = ?2 AND expires_at > ?3",
		[]any{names.Key(name), owner, s.now().UnixMicro()}, &spelling, &micros)
	if micros != 0 {
		since = time.UnixMicro(micros)
	}
	return spelling, since, err
}

// Spelling returns the spelling in which name is held now, empty if it is free. The error is ErrTaken
// if name is free but looks like a held one, so that no owner can claim it; or
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) Spelling(ctx context.Context, name string) (spelling string, err error) {
	err = s.findClaim(ctx, name, "SELECT name FROM claims WHERE name_key = ?1 AND expires_at > ?2",
		[]any{names.Key(name), s.now().UnixMicro()}, &spelling)
	if err != nil || spelling != "" {
		return spelling, err
	}
	var other string
	look := names.LookOf(name)
	err = s.findClaim(ctx, name, selectAlike, []any{look[0], look[1], names.Key(name), s.now().UnixMicro()}, &other)
	if err == nil && other != "" {
		err = fmt.Errorf("store: spelling of %q: %w: %q looks like it", name, ErrTaken, other)
	}
	return "", err
}

// selectAlike finds a held name that looks like another one.
const selectAlike = `SELECT name FROM claims WHERE (look IN (?1, ?2) OR look_folded IN (?1, ?2))
	AND name_key <> ?3 AND expires_at > ?4 LIMIT 1`

// findClaim reads a row of the claims, if there is one, into dest.
func (s *Store) findClaim(ctx context.Context, name, query string, args []any, dest ...any) error {
	err := checkName(name)
	if err == nil {
		err = s.enter()
	}
	if err != nil {
		return fmt.Errorf("store: claim of %q: %w", name, err)
	}
	defer s.leave()
	err = s.reader.QueryRowContext(ctx, query, args...).Scan(dest...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("store: claim of %q: %w", name, s.explain(err))
	}
	return nil
}

func checkName(name string) error {
	if name == "" || !utf8.ValidString(name) {
		return fmt.Errorf("%w: a name is UTF-8 and not empty", ErrInvalid)
	}
	return nil
}

// refreshLooks computes the looks of claims that an earlier version made. It stops without harm at any
// point: the next start goes on.
func (s *Store) refreshLooks(ctx context.Context) error {
	for {
		stale, err := s.staleClaims(ctx)
		if err != nil || len(stale) == 0 {
			return err
		}
		err = retryBusy(ctx, func() error {
			return s.tryWrite(ctx, func(tx *sql.Tx) error {
				for key, name := range stale {
					look := names.LookOf(name)
					if _, err := tx.ExecContext(ctx, "UPDATE claims SET look = ?, look_folded = ?, look_version = ? WHERE name_key = ? AND name = ?",
						look[0], look[1], names.Version, key, name); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
}

// staleClaims returns names by their keys, some hundreds, with looks of another version.
func (s *Store) staleClaims(ctx context.Context) (map[string]string, error) {
	rows, err := s.writer.QueryContext(ctx, "SELECT name_key, name FROM claims WHERE look_version < ?1 OR look_version > ?1 LIMIT 500", names.Version)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	stale := map[string]string{}
	for rows.Next() {
		var key, name string
		if err := rows.Scan(&key, &name); err != nil {
			return nil, err
		}
		stale[key] = name
	}
	return stale, rows.Err()
}
