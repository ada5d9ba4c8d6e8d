package router

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

func TestWhatChangesIsSyncedOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a [strange] name")
	path := func(stream, name string) string {
		p := filepath.Join(dir, "jetstream", "$G", "streams", stream, "msgs", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write := func(p, text string) string {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var log logBuffer
	var synced []string
	var fails error
	s := &natsSyncer{log: slog.New(slog.NewTextHandler(&log, nil)), dir: dir, sync: func(p string) error {
		synced = append(synced, p)
		return fails
	}}
	passes := func(want ...string) {
		t.Helper()
		synced = nil
		if s.pass(); !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
	}
	passes()
	one, two := write(path("A", "1.blk"), "a"), write(path("B", "7.blk"), "b")
	write(path("A", "index.db"), "can be made anew")
	passes(one, two)
	passes()
	write(two, "more")
	passes(two)
	three := write(path("A", "2.blk"), "c")
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	fails = os.ErrPermission
	passes(three)
	passes(three) // until it works
	fails = nil
	passes(three)
	passes()
	fails = os.ErrNotExist // the server was quicker
	write(three, "d")
	passes(three)
	if text := log.String(); strings.Count(text, "level=") != 1 || !strings.Contains(text, "permission denied") {
		t.Errorf("the log is %q, want one line about the file that could not be synced", text)
	}
	if err := s.err(); err != nil {
		t.Errorf("the disk is broken: %v", err)
	}
}

func TestNoTaskIsTakenAfterASyncHasFailed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	drv, err := openDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := drv.(*natsDriver)
	topic := cfg.TopicPrefix + ".tasks.Sync"
	publish := func(delivery Delivery, topic string) error {
		return d.publish(t.Context(), topic, delivery, []*message.Message{message.NewMessage("1", []byte("x"))})
	}
	if err := publish(Task, topic); err != nil {
		t.Fatal(err)
	}
	s := &d.server.syncer
	s.mu.Lock()
	s.synced, s.sync = nil, func(string) error { return fmt.Errorf("%w: input/output error", errNotKept) }
	s.mu.Unlock()
	s.pass()
	s.mu.Lock()
	s.sync = syncFile // and a disk that works again knows nothing of it
	s.mu.Unlock()
	s.pass()
	for what, err := range map[string]error{"a task": publish(Task, topic), "the check": d.ping(t.Context())} {
		if !errors.Is(err, errNotKept) || !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("%s: %v, want that the disk is broken", what, err)
		}
	}
	if err := publish(Event, cfg.TopicPrefix+".events.Sync"); err != nil {
		t.Errorf("an event, which is in memory: %v", err)
	}
	if err := d.close(); !errors.Is(err, errNotKept) {
		t.Errorf("stopping: %v, want that the disk is broken", err)
	}
}

// TestEmbeddedNATSIsSynced: the server's files are its own affair, and may move in another version.
func TestEmbeddedNATSIsSynced(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	drv, err := openDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := drv.(*natsDriver)
	topic := cfg.TopicPrefix + ".tasks.Sync"
	// synced returns what of the files was synced as it is.
	synced := func() (content []byte, files int) {
		s := &d.server.syncer
		s.mu.Lock()
		defer s.mu.Unlock()
		for path, state := range s.synced {
			info, err := os.Stat(path)
			if err != nil || (fileState{info.ModTime(), info.Size()}) != state {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content, files = append(content, text...), files+1
		}
		return content, files
	}
	publishTo(t, d, Task, topic, "what a power cut must not take")
	waitFor(t, "a sync of the task, and of what the stream is", func() bool {
		content, files := synced()
		return bytes.Contains(content, []byte("what a power cut must not take")) && files >= 3
	})
	publishTo(t, d, Task, topic, "the last words")
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if content, _ := synced(); !bytes.Contains(content, []byte("the last words")) {
		t.Error("what came last is not synced after an orderly stop")
	}
}

func TestNATS_FilesRemoved(t *testing.T) {
	if !syncsOutside {
		t.Skip("open files cannot be removed on this system")
	}
	for name, remove := range map[string]func(dir string) error{
		"removed":  os.RemoveAll,
		"replaced": func(dir string) error { return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, "nats")
			drv, err := openDriver(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := drv.close(); !errors.Is(err, errRemoved) {
					t.Errorf("close: %v, want %v", err, errRemoved)
				}
			})
			d := drv.(*natsDriver)
			topic := cfg.TopicPrefix + ".tasks.Sync"
			publish := func() error {
				return d.publish(t.Context(), topic, Task, []*message.Message{message.NewMessage("1", []byte("x"))})
			}
			if err := publish(); err != nil {
				t.Fatal(err)
			}
			d.server.syncer.pass()
			if err := remove(filepath.Join(d.server.dir, "jetstream")); err != nil {
				t.Fatal(err)
			}
			d.server.syncer.pass()
			for what, err := range map[string]error{"a task": publish(), "the check": d.ping(t.Context()), "fatal": d.fatal()} {
				if !errors.Is(err, errRemoved) {
					t.Errorf("%s: %v, want %v", what, err, errRemoved)
				}
			}
		})
	}
}
