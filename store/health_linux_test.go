package store_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/gen/chat"
	"burrow/internal/disktest"
	"burrow/store"
)

func health(t *testing.T, s *store.Store) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return s.Ping(ctx)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 90 s for %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestStore_DiskFull fills the disk during traffic: writes fail as unavailable, the health
// check fails, the log has one line each for the begin and the end, and no message is lost
// or doubled.
func TestStore_DiskFull(t *testing.T) {
	t.Parallel()
	dir := disktest.Small(t, "16m")
	var log logText
	s := open(t, store.Config{DataDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	stored := map[string]bool{}
	write := func(msg store.Message) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := s.Append(ctx, msg)
		if err == nil {
			stored[msg.GetId()] = true
		}
		return err
	}
	for range 50 {
		if err := write(longMessage()); err != nil {
			t.Fatal(err)
		}
	}
	if err := health(t, s); err != nil {
		t.Fatal(err)
	}
	free := disktest.Fill(t, dir)
	var refused []store.Message
	var failure error
	for len(refused) < 20 {
		msg := longMessage()
		if err := write(msg); err != nil {
			refused, failure = append(refused, msg), err
		}
	}
	var unavailable interface{ Unavailable() bool }
	if !errors.As(failure, &unavailable) || !unavailable.Unavailable() || !strings.Contains(failure.Error(), "free some") {
		t.Errorf("a refused write says %v, want that there is no space, as unavailable", failure)
	}
	eventually(t, "a failed health check", func() bool { return health(t, s) != nil })
	free()
	eventually(t, "a health check that passes", func() bool { return health(t, s) == nil })
	for _, msg := range refused {
		for range 2 { // as a broker may send it again
			if err := write(msg); err != nil {
				t.Error(err)
			}
		}
	}
	page, _, err := s.Page(t.Context(), store.Query{Limit: len(stored) + 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page) != len(stored) {
		t.Errorf("the archive has %d messages, want %d", len(page), len(stored))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"database cannot be written", "database writes work again"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%d lines with %q in the log, want 1:\n%s", n, line, log.String())
		}
	}
}

// TestStore_DamagedPage reads a page that is damaged on the disk: the store stays unhealthy.
func TestStore_DamagedPage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	for range 400 {
		if err := s.Append(t.Context(), longMessage()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "burrow.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := len(content) / 2 / page * page; at < len(content); at++ {
		content[at] = 0xff
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var log logText
	s = open(t, store.Config{DataDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, _, err = s.Page(t.Context(), store.Query{Limit: 1000}); err == nil {
		t.Fatal("a damaged page was read without an error")
	}
	if err := health(t, s); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("the health check says %v, want the damage and what to do", err)
	}
	if n := strings.Count(log.String(), "database is damaged"); n != 1 {
		t.Errorf("%d lines about the damage, want 1:\n%s", n, log.String())
	}
}

func longMessage() store.Message {
	return &chat.ChatMessage{Id: uuid.Must(uuid.NewV7()).String(), Sender: "ada", Content: strings.Repeat("word ", 400)}
}

// logText collects a log while goroutines write it.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
