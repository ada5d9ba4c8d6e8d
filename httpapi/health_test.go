package httpapi

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func operationsWith(log *slog.Logger, checks map[string]Checker) *operations {
	return newOperations(newEndpoint(DefaultHTTPConfig(), log, newLimited()), OperationsConfig{Checks: checks}, func() map[string]string { return map[string]string{} })
}

// TestReadiness_StuckCheck asks often while a disk hangs: one check waits for it, each request gets
// its answer in bounded time, and the node is ready again after it.
func TestReadiness_StuckCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		hung := make(chan struct{})
		o := operationsWith(slog.New(slog.DiscardHandler), map[string]Checker{
			"store":  func(context.Context) error { calls.Add(1); <-hung; return nil },
			"broker": func(context.Context) error { return nil },
		})
		begin := time.Now()
		var requests sync.WaitGroup
		for range 100 {
			requests.Go(func() {
				for range 10 {
					if parts := o.check(t.Context()); parts["store"] != "failing" || parts["broker"] != "ok" {
						t.Errorf("got %v", parts)
					}
				}
			})
		}
		requests.Wait()
		if took := time.Since(begin); calls.Load() != 1 || took > 10*checkTimeout {
			t.Errorf("%d checks in %v", calls.Load(), took)
		}
		close(hung)
		synctest.Wait()
		if parts := o.check(t.Context()); parts["store"] != "ok" {
			t.Errorf("after it: %v", parts)
		}
	})
}

// TestReadiness_ClientGone asks for readiness and closes the connection at once: neither the log nor
// the answers to others say that a part fails.
func TestReadiness_ClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		o := operationsWith(slog.New(slog.NewTextHandler(&said, nil)), map[string]Checker{"store": func(ctx context.Context) error {
			select {
			case <-time.After(checkTimeout / 2):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		gone, leave := context.WithCancel(t.Context())
		go o.check(gone)
		synctest.Wait()
		leave()
		if parts := o.check(t.Context()); parts["store"] != "ok" || said.Len() > 0 {
			t.Errorf("%v, logged %q", parts, said.String())
		}
	})
}
