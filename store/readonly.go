package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"burrow/internal/writable"
)

// lettersSince is the first schema with dead letters in today's columns.
const lettersSince = 2

// Status describes a database.
type Status struct {
	Path   string
	Exists bool
	Schema int64 // -1 without tables
	Newest int64 // the schema after the next start
}

// String returns a line for people.
func (s Status) String() string {
	switch {
	case !s.Exists:
		return fmt.Sprintf("%s does not exist, next start creates it", s.Path)
	case s.Schema < 0:
		return fmt.Sprintf("%s is empty, next start creates schema %d", s.Path, s.Newest)
	case s.Schema < s.Newest:
		return fmt.Sprintf("%s has schema %d, next start migrates to %d", s.Path, s.Schema, s.Newest)
	}
	return fmt.Sprintf("%s has schema %d, which is current", s.Path, s.Schema)
}

// Inspect reads the state of the database, also of one in use, and checks that Open may write it.
// It changes nothing. A missing database is no error if Open could create it.
func Inspect(ctx context.Context, cfg Config) (Status, error) {
	status, err := inspect(ctx, cfg)
	if err != nil {
		return status, fmt.Errorf("store: %w", err)
	}
	return status, nil
}

func inspect(ctx context.Context, cfg Config) (status Status, err error) {
	if status.Newest, err = newestSchema(); err != nil {
		return status, err
	}
	if status.Path, err = sqlitePath(cfg); err != nil {
		return status, err
	}
	if err := writable.Dir(filepath.Dir(status.Path)); err != nil {
		return status, fmt.Errorf("cannot write the database %s: %s: %w", status.Path, elsewhere, err)
	}
	if _, err := os.Stat(status.Path); errors.Is(err, fs.ErrNotExist) {
		return status, nil
	}
	status.Exists = true
	if err := writable.File(status.Path); err != nil {
		return status, fmt.Errorf("cannot write the database %s: %s: %w", status.Path, elsewhere, err)
	}
	return status, view(ctx, status.Path, func(r *ReadOnly) error {
		status.Schema = r.schema
		return nil
	})
}

// ReadOnly reads dead letters, and changes nothing. View opens one.
type ReadOnly struct {
	store          *Store // only its reader
	schema, newest int64
}

// View opens the database, with the schema it has, calls fn and closes it. Neither the file nor its
// write-ahead log changes, and other processes may use them at the same time. fn runs twice if another
// process starts to write meanwhile: its first result is then void.
func View(ctx context.Context, cfg Config, fn func(*ReadOnly) error) error {
	path, err := sqlitePath(cfg)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return view(ctx, path, func(r *ReadOnly) error {
		if r.schema < lettersSince {
			return fmt.Errorf("store: the database %s has schema %d, and dead letters can be read from schema %d on: start Burrow once, which migrates it", path, r.schema, lettersSince)
		}
		return fn(r)
	})
}

// view is View for any schema that this program knows.
func view(ctx context.Context, path string, fn func(*ReadOnly) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	before, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return noDatabase(path)
	} else if err != nil {
		return fmt.Errorf("cannot read the database %s: %w", path, err)
	}
	if !before.Mode().IsRegular() {
		return fmt.Errorf("the database %s is not a regular file: %s", path, elsewhere)
	}
	if !exists(path + "-wal") {
		// No process has it open, and the file is complete. With a lock SQLite would create a log.
		err := viewAs(ctx, path, url.Values{"mode": {"ro"}, "immutable": {"1"}}, fn)
		after, failed := os.Stat(path)
		if failed == nil && !exists(path+"-wal") && os.SameFile(before, after) && after.Size() == before.Size() && after.ModTime().Equal(before.ModTime()) {
			return err
		}
	}
	params := url.Values{"mode": {"ro"}}
	if exists(path + "-shm") {
		params.Set("readonly_shm", "1") // else SQLite creates one: an index of the log, without data
	}
	return viewAs(ctx, path, params, fn)
}

func viewAs(ctx context.Context, path string, params url.Values, fn func(*ReadOnly) error) (err error) {
	s := &Store{path: path, now: time.Now}
	params.Add("_pragma", pragma("busy_timeout", busyTimeout.Milliseconds()))
	params.Add("_pragma", pragma("query_only", 1))
	if s.reader, err = sql.Open("sqlite", fileURI(path, params)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closeDatabase()) }()
	newest, err := newestSchema()
	if err != nil {
		return err
	}
	schema, err := schemaVersion(ctx, s.reader)
	if err != nil {
		return s.explainRead(err)
	}
	if schema > newest {
		return s.tooNew(schema, newest)
	}
	return fn(&ReadOnly{store: s, schema: schema, newest: newest})
}

// explainRead is explain for a file opened read-only.
func (s *Store) explainRead(err error) error {
	switch resultCode(err) {
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("cannot read the database %s: run the command as the user of Burrow: %w", s.path, err)
	}
	return s.explain(err)
}

func noDatabase(path string) error {
	return fmt.Errorf("there is no database %s: is this the directory, the configuration and the environment that Burrow runs with?", path)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ListDeadLetters is Store.ListDeadLetters.
func (r *ReadOnly) ListDeadLetters(ctx context.Context, q LetterQuery) ([]*DeadLetter, bool, error) {
	return r.store.ListDeadLetters(ctx, q)
}

// DeadLetter is Store.DeadLetter.
func (r *ReadOnly) DeadLetter(ctx context.Context, id int64) (*DeadLetter, error) {
	return r.store.DeadLetter(ctx, id)
}

// DeadLetterActions is Store.DeadLetterActions.
func (r *ReadOnly) DeadLetterActions(ctx context.Context, id int64, limit int) ([]Action, error) {
	return r.store.DeadLetterActions(ctx, id, limit)
}

// RequestReplay fails.
func (r *ReadOnly) RequestReplay(context.Context, int64, string) (*DeadLetter, error) {
	return nil, errReadOnly
}

// DropDeadLetter fails.
func (r *ReadOnly) DropDeadLetter(context.Context, int64, string) (*DeadLetter, error) {
	return nil, errReadOnly
}

var errReadOnly = errors.New("store: the database is open for reading only")
