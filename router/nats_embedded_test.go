package router

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
)

// TestEmbeddedNATS_LockOfACheck waits for a lock of less than a second, and fails after more.
func TestEmbeddedNATS_LockOfACheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		check := flock.New(path)
		if err := check.Lock(); err != nil {
			t.Fatal(err)
		}
		if _, err := lockEmbedded(t.Context(), "data", path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("got %v, want a refusal", err)
		}
		go func() {
			time.Sleep(embeddedLockWait / 2)
			_ = check.Unlock()
		}()
		lock, err := lockEmbedded(t.Context(), "data", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEmbeddedNATS_ErrorHasCause adds the line of the server to an error of the same time.
func TestEmbeddedNATS_ErrorHasCause(t *testing.T) {
	t.Parallel()
	e := &embeddedNATS{}
	failed := errors.New("no answer")
	if err := e.because(failed); err != failed {
		t.Errorf("got %v without a line in the log", err)
	}
	log := serverLog{testConfig(t, "nats").Log, new(atomic.Pointer[string]), &e.last}
	log.Errorf("create stream: open %s: %s", "x.blk", "too many open files")
	if err := e.because(failed); !errors.Is(err, failed) || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("got %v, want the cause", err)
	}
	if err := e.because(nil); err != nil {
		t.Errorf("got %v, want none", err)
	}
}
