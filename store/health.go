package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"burrow/internal/disk"
)

const (
	healthAge   = 2 * time.Second // how long the result of a write test is used again
	healthBytes = 64 << 10        // of the test file beside the database
)

// unavailableError is an error of the database or its disk, and no fault of the data: the
// same call works once a person has mended it. Callers that retry find the method through
// errors.As, without knowing this package.
type unavailableError struct{ error }

// Unavailable reports true.
func (unavailableError) Unavailable() bool { return true }

func (e unavailableError) Unwrap() error { return e.error }

// health is what calls and checks have found out about the database.
type health struct {
	testing sync.Mutex // held during a write test; guards tested and result
	tested  time.Time
	result  error

	mu      sync.Mutex
	wrote   time.Time // the last commit
	failing time.Time // begin of the failed writes; zero while writes work
	damaged error     // a damaged page was read; it stays until the process ends
}

// Ping reports whether the database answers, can be written, is undamaged as far as calls
// have read it, and is still the file that was opened: writes to a deleted file are lost.
// The write test runs at most every two seconds, and not while commits succeed.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	defer s.leave()
	if err := s.moved(); err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	s.health.mu.Lock()
	damaged := s.health.damaged
	s.health.mu.Unlock()
	if damaged != nil {
		return fmt.Errorf("store: ping: %w", damaged)
	}
	var n int
	if err := s.reader.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM messages LIMIT 1)").Scan(&n); err != nil {
		return fmt.Errorf("store: ping: %w", s.explain(err))
	}
	if err := s.testWrite(ctx); err != nil {
		return fmt.Errorf("store: ping: %w", err)
	}
	return nil
}

// moved returns an error if the database file is not at its path any more.
func (s *Store) moved() error {
	file, err := os.Stat(s.path)
	if err != nil {
		return unavailableError{fmt.Errorf("the database file is gone: restore it and restart: %w", err)}
	}
	if !os.SameFile(s.file, file) {
		return unavailableError{fmt.Errorf("%s was replaced while it was open: stop Burrow, remove %[1]s-wal and %[1]s-shm unless they belong to the new file, and start again", s.path)}
	}
	return nil
}

// displaced returns an error if a commit would be lost: the database file or, inside of a
// transaction, its write-ahead log is not at its path any more.
func (s *Store) displaced() error {
	if err := s.moved(); err != nil {
		return err
	}
	if _, err := os.Stat(s.path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		return unavailableError{fmt.Errorf("the write-ahead log of the database was removed: restart; the latest messages may be missing: %w", err)}
	}
	return nil
}

// testWrite writes a page of the database and a file beside it: the write-ahead log may have
// room for the page on a full disk. A lock held by another process is no failure.
func (s *Store) testWrite(ctx context.Context) error {
	h := &s.health
	h.testing.Lock()
	defer h.testing.Unlock()
	if time.Since(h.tested) < healthAge {
		return h.result
	}
	if err := disk.Probe(fmt.Sprintf("%s-probe-%d", s.path, os.Getpid()), healthBytes); err != nil {
		h.result = unavailableError{fmt.Errorf("cannot write beside the database %s: free space or make the directory writable: %w", s.path, err)}
		h.tested = time.Now()
		return h.result
	}
	h.mu.Lock()
	busy := h.failing.IsZero() && time.Since(h.wrote) < healthAge
	h.mu.Unlock()
	var err error
	if !busy {
		err = s.write(ctx, func(tx *sql.Tx) error {
			var version int
			if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
			return err
		})
	}
	if ctx.Err() != nil || isLocked(err) {
		return nil
	}
	h.tested, h.result = time.Now(), err
	return err
}

func isLocked(err error) bool {
	code := resultCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// wrote records the result of a transaction and logs the begin and the end of an outage.
func (s *Store) wrote(err error) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.wrote = time.Now()
		if !h.failing.IsZero() {
			s.log.Warn("store: database writes work again", "path", s.path, "outage", time.Since(h.failing).Round(time.Second))
			h.failing = time.Time{}
		}
	case h.failing.IsZero() && (isDiskError(err) || isUnavailable(err)):
		h.failing = time.Now()
		s.log.Error("store: database cannot be written; messages wait on the broker until it can", "path", s.path, "error", s.explain(err))
	}
}

func isUnavailable(err error) bool {
	_, ok := errors.AsType[unavailableError](err)
	return ok
}

// outage reports whether the last write failed for the disk or the file.
func (h *health) outage() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing.IsZero()
}

func isDiskError(err error) bool {
	switch resultCode(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return true
	}
	return false
}

// sawDamage records the first sign of a damaged page.
func (s *Store) sawDamage(err error) {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if s.health.damaged != nil {
		return
	}
	s.health.damaged = err
	if s.log == nil { // a reader of one command, which prints the error
		return
	}
	s.log.Error("store: database is damaged; not ready until a backup is restored and the process restarted", "path", s.path, "error", err)
}
