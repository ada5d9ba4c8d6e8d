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
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// busyTimeout is how long one statement waits for a lock that another process
	// holds; the driver stops waiting when the context ends.
	busyTimeout = 5 * time.Second
	// lockWait bounds all attempts to get the write lock, for callers whose
	// context has no deadline.
	lockWait = 30 * time.Second
	// busyPause keeps attempts apart where SQLite reports a conflict at once.
	busyPause = 10 * time.Millisecond
	// readConns bounds the reads at the same time, each with its own page cache.
	readConns = 4
)

// openSQLite creates and opens the file, migrates it, and prepares statements.
func (s *Store) openSQLite(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	path, err := sqlitePath(cfg)
	if err != nil {
		return err
	}
	s.path = path
	if cfg.MustExist {
		if err := view(ctx, path, func(r *ReadOnly) error {
			if r.schema < r.newest {
				return s.tooOld(r.schema, r.newest)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if s.file, err = createFile(path); err != nil {
		return err
	}
	if s.writer, err = sql.Open("sqlite", writerDSN(path)); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	// The first connection may switch the file to WAL, for which SQLite does not
	// wait when another process does the same.
	if err := s.explain(retryBusy(ctx, func() error { return s.checkWritable(ctx) })); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := s.refreshLooks(ctx); err != nil {
		return fmt.Errorf("compare the names that are taken: %w", s.explain(err))
	}
	if err := s.prepare(ctx, s.writer, map[**sql.Stmt]string{
		&s.insert: insertMessage, &s.insertMany: insertMessages, &s.insertRef: insertRef, &s.findRef: selectRef, &s.prune: deleteRefs,
		&s.insertPlace: insertPlace, &s.indexEveryone: indexEveryone, &s.indexPrivate: indexPrivate,
	}); err != nil {
		return err
	}
	if s.reader, err = sql.Open("sqlite", readerDSN(path)); err != nil {
		return err
	}
	s.reader.SetMaxOpenConns(readConns)
	s.reader.SetMaxIdleConns(readConns)
	return s.prepare(ctx, s.reader, map[**sql.Stmt]string{
		&s.page: selectPage, &s.pageAll: selectPageAll, &s.pageAfter: selectPageAfter,
		&s.findEveryone: selectEveryone, &s.findPrivate: selectPrivate, &s.findBoth: selectBoth,
		&s.atPlace: selectAtPlace, &s.behind: selectBehind,
	})
}

// prepare prepares statements, which closeDatabase closes.
func (s *Store) prepare(ctx context.Context, db *sql.DB, stmts map[**sql.Stmt]string) error {
	for stmt, text := range stmts {
		prepared, err := db.PrepareContext(ctx, text)
		if err != nil {
			return s.explain(err)
		}
		*stmt = prepared
		s.prepared = append(s.prepared, prepared)
	}
	return nil
}

// closeDatabase closes what openSQLite opened, also half of it. The writer is
// the last, so that SQLite folds the write-ahead log into the file.
func (s *Store) closeDatabase() error {
	var errs []error
	for _, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
	}
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// sqlitePath returns the absolute path that cfg asks for: a process that changes
// its directory must not open a second database.
func sqlitePath(cfg Config) (string, error) {
	dsn := cfg.DSN
	if dsn == "" {
		dir := cfg.DataDir
		if dir == "" {
			dir = "data"
		}
		return filepath.Abs(filepath.Join(dir, "burrow.db"))
	}
	if scheme, _, ok := strings.Cut(dsn, "://"); ok && scheme != "file" {
		// Only the scheme: the rest may hold a password.
		return "", fmt.Errorf("store.dsn: %s:// is not supported: this version stores in SQLite only; set a path or a file: URI, or leave it empty", scheme)
	}
	path := dsn
	if strings.HasPrefix(dsn, "file:") {
		var err error
		if path, err = pathOfURI(dsn); err != nil {
			return "", fmt.Errorf("store.dsn: %w", err)
		}
	}
	if path == ":memory:" || path == "" {
		return "", fmt.Errorf("store.dsn: %q is no file: an archive in memory would be lost with the process; set a path", dsn)
	}
	return filepath.Abs(path)
}

func pathOfURI(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", err
	}
	if u.Host != "" && u.Host != "localhost" {
		return "", fmt.Errorf("a file: URI names a file of this host, not of %q; write file:///path", u.Host)
	}
	for key, values := range u.Query() {
		if key == "mode" && len(values) == 1 && values[0] == "rwc" {
			continue // what we do anyway
		}
		return "", fmt.Errorf("the parameter %q is not supported: the journal, locks and durability are set by the program; remove it", key)
	}
	if u.Opaque != "" { // file:relative/path
		return url.PathUnescape(u.Opaque)
	}
	return u.Path, nil
}

// creating serialises createFile: see there.
var creating sync.Mutex

// createFile makes the database file and its directory for this user alone: the
// archive holds what people said. Both stay as they are if they exist.
//
// It never opens a file that exists, and nothing else in the process may: on
// closing any descriptor of a file, POSIX drops all locks of the process on it,
// those of SQLite too.
func createFile(path string) (os.FileInfo, error) {
	creating.Lock()
	defer creating.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the database %s: %s: %w", path, elsewhere, err)
	}
	// SQLite gives its other files (-wal, -shm) the mode of this one.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot create the database %s: %s: %w", path, elsewhere, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the database %s: %s: %w", path, elsewhere, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the database %s is not a regular file: %s", path, elsewhere)
	}
	return info, nil
}

// elsewhere is what to do about a place where no database can be.
const elsewhere = "let this user write the file and its directory, or set store.dsn or data_dir to another place"

// checkWritable fails for a file that SQLite could open for reading only, which
// it does without a word.
func (s *Store) checkWritable(ctx context.Context) error {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		readOnly, err := c.(interface{ IsReadOnly(string) (bool, error) }).IsReadOnly("main")
		if err != nil {
			return err
		}
		if readOnly {
			return fmt.Errorf("cannot write the database %s: %s", s.path, elsewhere)
		}
		return nil
	})
}

// writerDSN opens for writing. BEGIN takes the write lock at once: a transaction
// that reads first and writes later would fail as soon as another process writes
// in between.
//
// synchronous is FULL: a commit is on disk when it returns. With NORMAL, SQLite's
// advice for WAL, a power cut takes back the last commits, and the broker has
// already forgotten their tasks. In two short runs each, on a virtual disk with
// ext4, FULL took a lone message from about 0.06 to 0.25 ms, and 64 writers from
// some 100,000 to 65,000 messages/s: group commit pays for most of it.
func writerDSN(path string) string {
	return fileURI(path, url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			pragma("busy_timeout", busyTimeout.Milliseconds()),
			pragma("journal_mode", "WAL"),
			pragma("journal_size_limit", 64<<20), // a log that a burst made large shrinks again
			pragma("synchronous", "FULL"),
		},
	})
}

func readerDSN(path string) string {
	return fileURI(path, url.Values{
		"_pragma": {pragma("busy_timeout", busyTimeout.Milliseconds()), pragma("query_only", 1)},
	})
}

func pragma(name string, value any) string { return fmt.Sprintf("%s(%v)", name, value) }

func fileURI(path string, params url.Values) string {
	params.Set("_dqs", "0")       // a mistyped column is an error, not a string
	params.Set("_defensive", "1") // no statement of ours can damage the file
	params.Set("_error_rc", "1")  // no stale text in errors
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/…
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: params.Encode()}).String()
}

// write runs fn in a transaction that has the write lock, again if another
// process had it, until ctx ends, lockWait has passed, or Close gives up. fn may
// run twice.
func (s *Store) write(ctx context.Context, fn func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := retryBusy(ctx, func() error { return s.tryWrite(ctx, fn) })
	s.wrote(err)
	if s.life.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: another process held the database %s until the end", ErrClosed, s.path)
	}
	return s.explain(err)
}

func (s *Store) tryWrite(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after a commit
	if err := fn(tx); err != nil {
		return err
	}
	if err := s.displaced(); err != nil {
		return err
	}
	return tx.Commit()
}

// retryBusy calls try until it does not fail for a lock, or ctx ends.
func retryBusy(ctx context.Context, try func() error) error {
	for {
		err := try()
		if resultCode(err) != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// isRowError reports whether SQLite refused one row for what is in it.
func isRowError(err error) bool {
	switch resultCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

// resultCode returns the primary SQLite code of err, or SQLITE_OK if it has none.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff // the higher bits say which kind of it
	}
	return sqlite3.SQLITE_OK
}

// explain adds to an error of SQLite what a person can do about it, and marks errors that
// are no fault of the data.
func (s *Store) explain(err error) error {
	say := func(format string, args ...any) error {
		return unavailableError{fmt.Errorf(format, args...)}
	}
	switch resultCode(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return say("another process holds the database %s: end it or its transaction: %w", s.path, err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return say("cannot write the database %s: %s: %w", s.path, elsewhere, err)
	case sqlite3.SQLITE_FULL:
		return say("no space left for the database %s: free some: %w", s.path, err)
	case sqlite3.SQLITE_IOERR:
		return say("the disk failed under the database %s: check it and its free space: %w", s.path, err)
	case sqlite3.SQLITE_NOTADB:
		err = say("%s is not an SQLite database: set store.dsn to another path, or move the file away: %w", s.path, err)
	case sqlite3.SQLITE_CORRUPT:
		err = say("the database %s is damaged: stop every process that uses it and restore a backup: %w", s.path, err)
	default:
		return err
	}
	s.sawDamage(err)
	return err
}
