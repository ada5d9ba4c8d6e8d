package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// How the embedded server stores.
const (
	embeddedStart = 30 * time.Second
	// -check has the lock for a moment.
	embeddedLockWait = time.Second
	embeddedLineMost = 15 * time.Second // age of a line in its log that explains an error
	// Each stream has its own bound; the server only needs to allow the sum, in memory
	// and in files.
	embeddedStore = 1 << 50
	// On Windows the server could not rename a file that is open for a sync, and does it itself.
	syncsOutside = runtime.GOOS != "windows"
)

// embeddedNATS is a JetStream server inside the process, reached by no network.
type embeddedNATS struct {
	release  func() error // the directory
	log      *slog.Logger
	dir      string
	payload  int32 // largest message
	syncer   natsSyncer
	stopWork context.CancelFunc
	working  sync.WaitGroup
	probing  sync.Mutex // held during a probe
	last     atomic.Pointer[serverLine]

	mu     sync.RWMutex
	srv    *server.Server // nil while it restarts
	down   error          // why there is no server
	outage error          // why tasks are refused; set by watch
}

func startEmbeddedNATS(ctx context.Context, cfg Config) (*embeddedNATS, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("router: the embedded broker needs a data directory: set data_dir")
	}
	dir := filepath.Join(cfg.DataDir, "nats")
	if cfg.Rehearsal {
		return rehearseEmbeddedNATS(cfg, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("router: embedded broker: %w; set data_dir to a directory that can be written", err)
	}
	lock, err := lockEmbedded(ctx, cfg.DataDir, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	_ = os.WriteFile(lock.Path(), []byte(strconv.Itoa(os.Getpid())), 0o600) // for messages only
	e, err := runEmbeddedNATS(cfg, dir)
	if err != nil {
		_ = lock.Unlock()
		return nil, err
	}
	e.release = lock.Unlock
	return e, nil
}

// lockEmbedded locks path, or fails after embeddedLockWait.
func lockEmbedded(ctx context.Context, dataDir, path string) (*flock.Flock, error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	wait, cancel := context.WithTimeout(ctx, embeddedLockWait)
	defer cancel()
	locked, err := lock.TryLockContext(wait, embeddedLockWait/20)
	switch {
	case locked:
		return lock, nil
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), lock.Close())
	case err != nil && wait.Err() == nil:
		return nil, fmt.Errorf("router: lock %s: %w", path, err)
	}
	_ = lock.Close()
	return nil, fmt.Errorf("router: the data directory %s is in use by another process%s: stop that one, give this one its own data_dir, or let both use a broker of their own with broker.driver and broker.nats.url", dataDir, lockOwner(path))
}

// lockOwner returns the process that has written its number into a lock file.
func lockOwner(path string) string {
	text, _ := os.ReadFile(path) // unreadable on Windows
	if pid, err := strconv.Atoi(string(text)); err == nil {
		return fmt.Sprintf(" (pid %d)", pid)
	}
	return ""
}

// errEmbeddedInUse says that a running Burrow has the lock of a data directory.
var errEmbeddedInUse = errors.New("in use by a running Burrow")

// rehearseEmbeddedNATS runs a server in a temporary directory on the disk of data_dir, and
// looks whether the lock of dir is free. It changes nothing in dir.
func rehearseEmbeddedNATS(cfg Config, dir string) (*embeddedNATS, error) {
	if path := filepath.Join(dir, "lock"); fileExists(path) {
		lock := flock.New(path, flock.SetFlag(os.O_RDWR))
		locked, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("router: lock %s: %w", path, err)
		}
		if !locked {
			return nil, fmt.Errorf("%w%s", errEmbeddedInUse, lockOwner(path))
		}
		if err := lock.Unlock(); err != nil {
			return nil, fmt.Errorf("router: unlock %s: %w", path, err)
		}
	}
	parent := filepath.Join(dir, server.JetStreamStoreDir) // the server of a start writes there
	for !fileExists(parent) && parent != filepath.Dir(parent) {
		parent = filepath.Dir(parent)
	}
	temporary, err := os.MkdirTemp(parent, ".burrow-check-*")
	if err != nil {
		return nil, fmt.Errorf("router: embedded broker: %w; set data_dir to a directory that can be written", err)
	}
	e, err := runEmbeddedNATS(cfg, temporary)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temporary))
	}
	e.release = func() error { return os.RemoveAll(temporary) }
	return e, nil
}

// fileExists reports whether there is something at path, also a link to nothing.
func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// runEmbeddedNATS starts a server that stores in dir.
func runEmbeddedNATS(cfg Config, dir string) (*embeddedNATS, error) {
	e := &embeddedNATS{
		log: cfg.Log, dir: dir, payload: int32(min(cfg.MaxMessageBytes+natsHeaders, 64<<20)),
		syncer: natsSyncer{log: cfg.Log, dir: dir, sync: syncFile},
	}
	var err error
	if e.srv, err = e.start(); err != nil {
		return nil, err
	}
	work, stop := context.WithCancel(context.Background())
	e.stopWork = stop
	if syncsOutside {
		e.working.Go(func() { e.syncer.run(work) })
	}
	e.working.Go(func() { e.watch(work) })
	return e, nil
}

// start starts a server on the directory.
func (e *embeddedNATS) start() (*server.Server, error) {
	opts := &server.Options{
		ServerName:         "burrow",
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           e.dir,
		JetStreamMaxStore:  embeddedStore,
		JetStreamMaxMemory: embeddedStore,
		MaxPayload:         e.payload,
	}
	if !syncsOutside {
		opts.SyncInterval = natsSyncEvery
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("router: embedded broker: %w", err)
	}
	log := serverLog{e.log.With("part", "nats"), new(atomic.Pointer[string]), &e.last}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	reason := log.fatal.Load()
	if reason != nil || !srv.ReadyForConnections(embeddedStart) {
		srv.Shutdown()
		srv.WaitForShutdown()
		if reason != nil {
			return nil, fmt.Errorf("router: embedded broker: %s; let this user write %s and all below it, or set data_dir to another directory", *reason, e.dir)
		}
		return nil, e.because(fmt.Errorf("router: the embedded broker did not start within %s; see the log, and whether the disk of data_dir is full", embeddedStart))
	}
	return srv, nil
}

// because adds the last line in the log of the server to err: its answers lack the cause.
func (e *embeddedNATS) because(err error) error {
	if last := e.last.Load(); err != nil && last != nil && time.Since(last.at) < embeddedLineMost {
		return fmt.Errorf("%w; embedded broker: %s", err, last.text)
	}
	return err
}

// InProcessConn connects a client to the server.
func (e *embeddedNATS) InProcessConn() (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.srv == nil {
		return nil, e.down
	}
	return e.srv.InProcessConn()
}

func (e *embeddedNATS) stop() error {
	e.stopWork()
	e.working.Wait()
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	e.syncer.pass() // what it wrote last
	return errors.Join(e.syncer.err(), e.release())
}

// Of a consumer: how many numbers takeBack names one by one, and how long it waits for the
// server to look at the times of all otherwise.
const (
	takeBackMost = 100_000
	takeBackWait = time.Second
)

// takeBack makes the tasks come at once that the last process had and did not ack. The
// server keeps neither that they were given back, nor knows that their process ended,
// and would wait for ackWait. Nobody works on them: no reader was let in yet.
func (d *natsDriver) takeBack(ctx context.Context, byName uint64) error {
	ctx, cancel := context.WithTimeout(ctx, embeddedStart)
	defer cancel()
	waited := false
	names := d.conn().subJS.StreamNames(ctx)
	for name := range names.Name() {
		stream, err := d.conn().subJS.Stream(ctx, name)
		if err != nil {
			return err
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.NumAckPending == 0 {
				continue
			}
			if c.Delivered.Stream-c.AckFloor.Stream > byName {
				// One old task that nobody acks, and a great many behind it that are done: no
				// list tells which are not. Whoever declares the consumer sets its wait again.
				c.Config.AckWait = time.Millisecond
				if _, err := stream.UpdateConsumer(ctx, c.Config); err != nil {
					return err
				}
				waited = true
				continue
			}
			// All that may wait for an ack, by the address that an ack of it would have; the
			// server passes over the others.
			for seq := c.AckFloor.Stream + 1; seq <= c.Delivered.Stream; seq++ {
				address := fmt.Sprintf("%s%s.%s.1.%d.%d.0.0", natsAck, c.Stream, c.Name, seq, c.AckFloor.Consumer+1)
				if err := d.conn().sub.Publish(address, []byte("-NAK")); err != nil {
					return err
				}
			}
		}
		if err := consumers.Err(); err != nil {
			return err
		}
	}
	if waited {
		sleep(ctx, takeBackWait) // it looks a tenth of a second after the change
	}
	return names.Err()
}

// serverLog passes warnings and errors of the server to the log. Failed writes are for
// debugging: watch reports them, once.
// Notices are its banner and wiring.
type serverLog struct {
	log   *slog.Logger
	fatal *atomic.Pointer[string] // why the server cannot start
	last  *atomic.Pointer[serverLine]
}

// serverLine is the last warning or error in the log of the server.
type serverLine struct {
	text string
	at   time.Time
}

func (l serverLog) Noticef(format string, v ...any) {}
func (l serverLog) Debugf(format string, v ...any)  {}
func (l serverLog) Tracef(format string, v ...any)  {}
func (l serverLog) Warnf(format string, v ...any)   { l.print(slog.LevelWarn, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.print(slog.LevelError, format, v) }

// Fatalf keeps the reason. The server expects the process to end, and never becomes ready.
func (l serverLog) Fatalf(format string, v ...any) {
	reason := fmt.Sprintf(format, v...)
	l.fatal.Store(&reason)
}

func (l serverLog) print(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	l.last.Store(&serverLine{text, time.Now()})
	for _, known := range []string{"ritical write error", "failed to store a msg", "disabling JetStream"} {
		if strings.Contains(text, known) {
			level = slog.LevelDebug
		}
	}
	l.log.Log(context.Background(), level, text)
}
