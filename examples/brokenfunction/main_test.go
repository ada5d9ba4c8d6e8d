package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"burrow/store"
)

// output is what the program writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// TestTheReadmeIsTrue goes the way of "When a function fails": print gives up, a
// replay is requested while nothing runs, and once there is paper it prints. What
// worked before is not done again.
func TestTheReadmeIsTrue(t *testing.T) {
	dir := t.TempDir()
	env := []string{"BURROW_DATA_DIR=" + dir}
	runUntil := func(paper bool, text, says string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out := &output{}
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, env, paper, text, out) }()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !strings.Contains(out.String(), says) {
			select {
			case <-tick.C:
			case err := <-ended:
				t.Fatalf("it ended with %v and said:\n%s", err, out)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	runUntil(false, "hello", "print gave up on a message after 5 attempts: the printer has no paper")

	letters, err := store.Open(t.Context(), store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = letters.RequestReplay(t.Context(), 1, "ada")
	if closed := letters.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
	if said := runUntil(true, "", "printed: hello"); strings.Contains(said, "counted") {
		t.Errorf("what worked is done again:\n%s", said)
	}
}
