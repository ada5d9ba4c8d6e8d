package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"burrow/gen/tasks"
)

// TestRandomFailuresAndStopsLoseNothing has two places whose nodes come and go at any
// moment, some in order and some that wait for nothing, with functions that fail, panic,
// and hang until their context ends.
func TestRandomFailuresAndStopsLoseNothing(t *testing.T) {
	const all, keys = 3000, 40
	memory := NewMemory()
	var mu sync.Mutex
	done := make(map[string]int)
	begun := goleak.IgnoreCurrent()

	start := func(calm bool) (r *Router, ended chan error) {
		busy := make(map[string]*atomic.Int32) // a node handles a key in turn
		for i := range keys {
			busy[fmt.Sprint("key ", i)] = new(atomic.Int32)
		}
		cfg := testConfig(t, "gochannel")
		cfg.TopicPrefix, cfg.Memory, cfg.Route = "stress", memory, testRoute
		cfg.Log = slog.New(slog.DiscardHandler) // there are thousands of failures
		cfg.Function = map[string]FunctionConfig{"work": {MaxAttempts: 1000, Backoff: time.Millisecond, Timeout: 20 * time.Millisecond}}
		cfg.DeadLetter = func(_ context.Context, l DeadLetter) error {
			t.Errorf("a dead letter: %v", l.Err)
			return nil
		}
		r, err := New(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := Handle(r, "work", func(ctx context.Context, m *tasks.ArchiveMessage) error {
			sender, content := m.GetMessage().GetSender(), m.GetMessage().GetContent()
			n := busy[sender]
			if n.Add(1) > 1 && ctx.Err() == nil {
				t.Errorf("%s is handled twice at the same time in one process", sender)
			}
			defer n.Add(-1)
			switch chance := rand.IntN(100); {
			case calm:
			case chance < 5:
				return errors.New("not now")
			case chance < 7:
				panic("not now")
			case chance < 9:
				<-ctx.Done()
				return ctx.Err()
			case chance < 40:
				<-time.After(rand.N(time.Millisecond))
			}
			mu.Lock()
			defer mu.Unlock()
			done[content]++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		ended = make(chan error, 1)
		go func() { ended <- r.Run(context.Background()) }()
		return r, ended
	}
	stop := func(r *Router, ended chan error, patience time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testWait):
			t.Error("Run did not end after Shutdown")
		}
	}

	last, ended := start(true) // declares the group; the rest is for the others
	<-last.Running()
	stop(last, ended, testWait)
	var places, publishing sync.WaitGroup
	published := make(chan struct{})
	for range 2 {
		places.Go(func() {
			for {
				select {
				case <-published:
					return
				default:
				}
				r, ended := start(false)
				<-time.After(rand.N(60 * time.Millisecond))
				stop(r, ended, []time.Duration{testWait, time.Millisecond}[rand.IntN(2)])
			}
		})
	}
	publisher, err := New(t.Context(), Config{Driver: "gochannel", TopicPrefix: "stress", Memory: memory, Route: testRoute,
		PublishTimeout: testWait, MaxMessageBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	publishing.Go(func() {
		defer close(published)
		for i := 0; i < all; i += 10 {
			var msgs []proto.Message
			for j := i; j < i+10; j++ {
				msgs = append(msgs, task(fmt.Sprint("key ", j%keys), fmt.Sprint(j)))
			}
			if err := publisher.Publish(t.Context(), msgs...); err != nil {
				t.Error(err)
			}
			<-time.After(rand.N(8 * time.Millisecond))
		}
	})
	publishing.Wait()
	places.Wait()
	last, ended = start(true)
	waitFor(t, "all are done", func() bool { mu.Lock(); defer mu.Unlock(); return len(done) == all })
	stop(last, ended, testWait)
	if err := publisher.Close(); err != nil {
		t.Error(err)
	}
	// Watermill's router waits for ever for functions that a stop kept from being subscribed.
	watermill := goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/message.(*Router).watchAllHandlersStopped.func1")
	// A function that was abandoned takes a moment to notice.
	left := goleak.Find(begun, watermill)
	for deadline := time.Now().Add(testWait); left != nil && time.Now().Before(deadline); {
		left = goleak.Find(begun, watermill)
	}
	if left != nil {
		t.Error(left)
	}
}
