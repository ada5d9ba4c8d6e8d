// Package store keeps what must outlive the process: the archive of messages with an
// index of their words, the claims on names, the refs that senders gave their messages, and the dead letters.
//
// What it promises:
//   - a nil error means that the data is on disk and survives a power cut;
//   - a message, a claim or a dead letter that comes twice is kept once;
//   - messages and refs that come at the same time share one transaction, and one
//     that cannot be stored does not fail the others;
//   - what is archived is found by search a second or two later, also by another
//     process, or when a rush is over, for the index does not hold up the archive;
//     search says how much is left;
//   - several processes on one host may share one database, and may start at the
//     same moment on an empty one.
//
// The database is one SQLite file, and every wait for it is bounded.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"burrow/gen/chat"
)

// Errors that callers branch on; test with errors.Is.
var (
	// ErrInvalid is in every error for input that can never be accepted: trying
	// again is of no use. It has a method Permanent that returns true.
	ErrInvalid error = permanentError("not valid")
	// ErrPrivate is returned by Append for a private message while
	// Config.ArchivePrivate is false. It is permanent like ErrInvalid.
	ErrPrivate error = permanentError("private messages are not archived (store.archive_private is false)")
	// ErrTaken is returned by Claim when another owner holds the name, or somebody holds
	// one that looks like it.
	ErrTaken = errors.New("name is taken")
	// ErrTooManyNames is returned by Claim when the owner holds MaxNamesPerOwner
	// other names.
	ErrTooManyNames = errors.New("owner holds too many names")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("store is closed")
)

// permanentError is an error that another attempt cannot mend. Who retries
// finds the method through errors.As, without knowing this package.
type permanentError string

func (e permanentError) Error() string { return string(e) }

// Permanent reports true.
func (permanentError) Permanent() bool { return true }

// Message is what the archive keeps.
type Message = *chat.ChatMessage

// Config is the [store] table of config.toml. The zero value works.
type Config struct {
	// DSN says where the database is: a path, or a file: URI. The file is created
	// if it is missing, and so is its directory. Default (empty): burrow.db in
	// DataDir.
	DSN string `toml:"dsn"`
	// ArchivePrivate says whether private messages may be stored. Default true; if false:
	// Append refuses them with ErrPrivate. What was stored earlier stays.
	ArchivePrivate bool `toml:"archive_private"`

	// MustExist makes Open fail without a database of the newest schema, instead of
	// creating or migrating one: for commands beside a node.
	MustExist bool `toml:"-"`
	// DataDir is where the default database is. Default "data".
	DataDir string `toml:"-"`
	// Log is told about migrations and about a Close that takes too long.
	// Default slog.Default().
	Log *slog.Logger `toml:"-"`
	// Metrics is where the metrics are registered. Default a private registry.
	Metrics prometheus.Registerer `toml:"-"`
}

// DefaultConfig returns the defaults of the [store] table.
func DefaultConfig() Config { return Config{ArchivePrivate: true} }

const (
	// appendQueue bounds the messages and refs that wait for the next transaction;
	// with a full queue Append and ClaimRef wait.
	appendQueue = 1024
	// maxBatch bounds the messages and refs of one transaction.
	maxBatch = 512
	// A transaction of crowd or more says that more will follow: the next one waits for up to
	// gatherTime until it is full, for syncing the disk costs as much for one as for all.
	crowd      = 64
	gatherTime = 2 * time.Millisecond
	// closeTimeout bounds how long Close waits for what is in flight.
	closeTimeout = 10 * time.Second
)

// Store is an open database. Its methods may be called at the same time. Make
// one with Open.
type Store struct {
	path           string
	file           os.FileInfo // the database file as it was opened
	archivePrivate bool
	mustExist      bool
	log            *slog.Logger
	metrics        *metrics
	now            func() time.Time

	writer   *sql.DB     // one connection: SQLite has one writer at a time anyway
	reader   *sql.DB     // cannot write
	prepared []*sql.Stmt // all that follow

	insert, insertMany                       *sql.Stmt
	insertRef, findRef, prune                *sql.Stmt
	insertPlace, indexEveryone, indexPrivate *sql.Stmt
	page, pageAfter, pageAll                 *sql.Stmt
	findEveryone, findPrivate, findBoth      *sql.Stmt
	atPlace, behind                          *sql.Stmt

	queue      chan *pending
	writerDone chan struct{} // closed when the append goroutine has ended
	crowded    atomic.Int64  // when it last had a crowd to commit, in nanoseconds since 1970
	nextPrune  time.Time     // of refs; the append goroutine's

	unindexed   chan struct{} // wakes the goroutine of the index
	stopIndexer context.CancelFunc
	indexerDone chan struct{} // closed when that goroutine has ended

	// life ends when Close gives up; it ends every wait for the write lock. It is
	// the store's own and no call's.
	life context.Context
	end  context.CancelFunc

	health health

	mu       sync.Mutex
	closed   bool
	inFlight sync.WaitGroup // calls between enter and leave; Add only under mu

	closeOnce sync.Once
	closeErr  error
}

// Open opens the database, creates it if it is missing, and brings its schema up
// to date. ctx bounds the opening only. The error says what to change when the
// DSN is not one for SQLite, the file cannot be written or is no database, or a
// newer version of the program has changed the schema.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	s := &Store{
		archivePrivate: cfg.ArchivePrivate,
		mustExist:      cfg.MustExist,
		log:            cfg.Log,
		now:            time.Now,
		queue:          make(chan *pending, appendQueue),
		writerDone:     make(chan struct{}),
		unindexed:      make(chan struct{}, 1),
		indexerDone:    make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("store: register metrics: %w", err)
	}
	if err := s.openSQLite(ctx, cfg); err != nil {
		s.end()
		return nil, fmt.Errorf("store: %w", errors.Join(err, s.closeDatabase()))
	}
	indexing, stop := context.WithCancel(s.life)
	s.stopIndexer = stop
	go s.writeAppends()
	if cfg.MustExist {
		close(s.indexerDone) // who only looks after it has no time for that
	} else {
		s.wakeIndexer() // what was archived before the last end is still to do
		go s.keepIndexed(indexing)
	}
	return s, nil
}

// Close stores what was appended before it was called, waits for the other calls
// in flight (both for at most ten seconds), and closes the database. Calls that
// come later return ErrClosed. Further calls of Close wait for the first one and
// return the same.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()

	// The append goroutine runs until no call can send to it any more. When the
	// time is up nobody waits for locks any longer, so that every call gets an answer.
	var late error
	overdue := time.AfterFunc(closeTimeout, func() {
		s.log.Warn("store: close gives up what is still in flight", "after", closeTimeout)
		s.end()
	})
	s.stopIndexer()
	s.inFlight.Wait()
	close(s.queue)
	<-s.writerDone
	<-s.indexerDone
	if !overdue.Stop() {
		late = fmt.Errorf("store: close: calls were still in flight after %s", closeTimeout)
	}
	s.end()
	if err := s.closeDatabase(); err != nil {
		return errors.Join(late, fmt.Errorf("store: close: %w", err))
	}
	return late
}

// enter begins a call, which leave ends: Close waits for it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.inFlight.Add(1)
	return nil
}

func (s *Store) leave() { s.inFlight.Done() }
