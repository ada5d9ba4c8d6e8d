package router

import (
	"bytes"
	"errors"
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
	write(path("A", "index.db"), "not a message")
	passes(one, two)
	passes()
	write(two, "more")
	passes(two)
	three := write(path("A", "2.blk"), "c")
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	fails = errors.New("input/output error")
	passes(three)
	passes(three) // until it works
	fails = nil
	passes(three)
	passes()
	if text := log.String(); strings.Count(text, "input/output error") != 1 {
		t.Errorf("the log is %q, want one line about the error", text)
	}
	fails = os.ErrNotExist // between two looks
	write(three, "d")
	passes(three)
	if text := log.String(); strings.Count(text, "level=") != 1 {
		t.Errorf("a block that the server removes is an error: %q", text)
	}
}

// TestEmbeddedNATSWritesWhereItIsSynced: the server's files are its own affair, and may move in
// another version.
func TestEmbeddedNATSWritesWhereItIsSynced(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	d := openTestDriver(t, cfg).(*natsDriver)
	payload := []byte("a task that a power cut must not take")
	if err := d.publish(t.Context(), cfg.TopicPrefix+".tasks.Sync", Task, []*message.Message{message.NewMessage("1", payload)}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a sync of the file with the task", func() bool {
		found := false
		s := &natsSyncer{log: cfg.Log, dir: d.server.syncer.dir, sync: func(path string) error {
			content, err := os.ReadFile(path)
			found = found || bytes.Contains(content, payload)
			return errors.Join(err, syncFile(path))
		}}
		s.pass()
		return found
	})
}
