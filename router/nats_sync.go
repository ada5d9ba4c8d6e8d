package router

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsSyncEvery is how often what the embedded server has written is synced.
const natsSyncEvery = time.Second

// natsSyncer has the disk keep what the embedded server has written: a crash of the process loses
// nothing, but a power cut loses what came after the last sync.
//
// The server can do that itself, and holds a stream's lock meanwhile: a disk that needs 300 ms for
// a sync now and then, as many do, holds up every message for as long. For the disk it makes no
// difference who asks, so a goroutine does that nobody waits for.
type natsSyncer struct {
	log  *slog.Logger
	dir  string // of the server
	sync func(path string) error

	broken atomic.Pointer[error] // the disk has lost something; it stays until the process ends
	failed atomic.Pointer[error] // of the last pass; one line in the log for all of an outage

	mu     sync.Mutex           // held during a pass
	synced map[string]fileState // what was synced last
	opened os.FileInfo          // the directory at the first pass
}

// fileState tells a file that has changed. Times are compared for equality only: clocks jump.
type fileState struct {
	modified time.Time
	size     int64
}

// errNotKept is an error of the sync itself. The system may then have forgotten what it could not
// write, and another sync tells nothing of it.
var errNotKept = errors.New("the disk has not kept what the broker wrote; see the disk of data_dir, then start again")

var errRemoved = errors.New("the files of the broker were removed or replaced while it ran; restore data_dir, then start again")

// err returns why nothing more may be confirmed.
func (s *natsSyncer) err() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// behind returns why the last pass failed, or nil.
func (s *natsSyncer) behind() error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("sync of what the broker has written: %w", *err)
	}
	return nil
}

// run makes a pass every natsSyncEvery until ctx ends.
func (s *natsSyncer) run(ctx context.Context) {
	for sleep(ctx, natsSyncEvery) {
		s.pass()
	}
}

// pass syncs what has changed since the last pass: the messages of all streams, and what the streams
// and consumers are. What was acked is not synced: a task of which the ack is lost comes again.
func (s *natsSyncer) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := make(map[string]fileState, len(s.synced))
	root := filepath.Join(s.dir, server.JetStreamStoreDir)
	errs := []error{s.removed(root)}
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && isKept(entry.Name()) {
			err = s.file(path, entry, now)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // else the server has removed it
			errs = append(errs, err)
		}
		return nil // the others
	})
	s.synced = now
	err := errors.Join(errs...)
	if (errors.Is(err, errNotKept) || errors.Is(err, errRemoved)) && s.broken.CompareAndSwap(nil, &err) {
		s.log.Error("no more tasks are taken: they might be lost", "error", err)
	} else if err != nil && s.failed.Load() == nil {
		s.log.Error("what the broker writes cannot be synced, and a power cut may lose it", "error", err)
	}
	if s.failed.Store(&err); err == nil {
		s.failed.Store(nil)
	}
}

// removed returns an error if root is not the directory of the first pass any more: writes to
// deleted files are lost.
func (s *natsSyncer) removed(root string) error {
	info, err := os.Stat(root)
	switch {
	case err == nil && s.opened == nil:
		s.opened = info
	case errors.Is(err, fs.ErrNotExist) && s.opened == nil: // the server has not made it yet
		return nil
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(s.opened, info):
		return fmt.Errorf("%s: %w", root, errRemoved)
	}
	return err
}

func isKept(name string) bool {
	return strings.HasSuffix(name, ".blk") || name == "meta.inf" || name == "meta.sum"
}

// file syncs one file, if it is not as it was, and notes it in now.
func (s *natsSyncer) file(path string, entry fs.DirEntry, now map[string]fileState) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	// As it was before the sync: what is written meanwhile is for the next pass.
	state := fileState{info.ModTime(), info.Size()}
	if state != s.synced[path] {
		err = s.sync(path)
	}
	if err == nil {
		now[path] = state
	}
	return err
}

// syncFile has the disk keep the content of a file and, on the usual file systems, that there is
// the file.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	return f.Close()
}
