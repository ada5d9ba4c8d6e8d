package router

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// natsSyncEvery is how often what the embedded server has written is synced.
const natsSyncEvery = time.Second

// natsSyncer has the disk keep what the embedded server has written: a crash of the process loses
// nothing, but a power cut loses what came after the last sync.
//
// The server can do that itself, and holds a stream's lock meanwhile: a disk that needs 300 ms for
// a sync now and then, as many do, holds up every message for as long. For the disk it makes no
// difference who asks, so here a goroutine does for which nobody waits.
type natsSyncer struct {
	log  *slog.Logger
	dir  string // of the server
	sync func(path string) error

	synced map[string]fileState // what was synced last
	failed bool                 // the last time; a disk that fails is one line in the log
}

// fileState tells a file that has changed. Times are compared for equality only: clocks jump.
type fileState struct {
	modified time.Time
	size     int64
}

// run makes a pass every natsSyncEvery until ctx ends.
func (s *natsSyncer) run(ctx context.Context) {
	for sleep(ctx, natsSyncEvery) {
		s.pass()
	}
}

// pass syncs the messages of all streams that have changed since the last pass. What was acked is
// not synced: a task of which the ack is lost comes again.
func (s *natsSyncer) pass() {
	blocks, err := fs.Glob(os.DirFS(s.dir), "jetstream/*/streams/*/msgs/*.blk")
	now := make(map[string]fileState, len(blocks))
	for _, name := range blocks {
		path := filepath.Join(s.dir, filepath.FromSlash(name))
		info, e := os.Stat(path)
		if e == nil {
			// As it was before the sync: what is written meanwhile is for the next pass.
			state := fileState{info.ModTime(), info.Size()}
			if state != s.synced[path] {
				e = s.sync(path)
			}
			if e == nil {
				now[path] = state
			}
		}
		if e != nil && !errors.Is(e, fs.ErrNotExist) { // else the server has removed it
			err = errors.Join(err, e)
		}
	}
	s.synced = now
	if err != nil && !s.failed {
		s.log.Error("the disk does not keep what the broker writes, and a power cut may lose messages: see the disk of data_dir", "error", err)
	}
	s.failed = err != nil
}

// syncFile has the disk keep the content of a file, and that there is the file.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
