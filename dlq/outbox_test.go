package dlq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"burrow/dlq"
	"burrow/store"
)

// requests is a store with replays to send.
type requests struct {
	mu   sync.Mutex
	due  []*store.DeadLetter
	done []string
	err  error
}

func (r *requests) ClaimReplay(context.Context, []string, time.Duration) (*store.DeadLetter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || len(r.due) == 0 {
		return nil, r.err
	}
	next := r.due[0]
	r.due = r.due[1:]
	return next, nil
}

func (r *requests) EndReplay(ctx context.Context, id int64, replay, who, against string) error {
	return r.note(ctx, fmt.Sprintf("%d %s by %s: %s", id, replay, who, against))
}

func (r *requests) DeferReplay(ctx context.Context, id int64, replay, why string, wait time.Duration) error {
	return r.note(ctx, fmt.Sprintf("%d %s in %s: %s", id, replay, wait, why))
}

func (r *requests) note(ctx context.Context, what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, what)
	return ctx.Err()
}

func (r *requests) add(ids ...int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		r.due = append(r.due, &store.DeadLetter{
			ID: id, ReplayID: fmt.Sprint("r", id), Topic: "burrow.chat.ChatMessage", Function: "print", MessageID: "m",
			Metadata: map[string]string{"burrow_key": "k"}, Payload: []byte("p"),
		})
	}
}

func (r *requests) want(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.done, want) {
		t.Errorf("noted is %q, want %q", r.done, want)
	}
}

// broker sends, and fails with what is in errs first.
type broker struct {
	errs  []error
	sent  []dlq.Replay
	delay chan struct{} // nil: none
}

func (b *broker) Replay(_ context.Context, r dlq.Replay) error {
	if b.delay != nil {
		<-b.delay
	}
	b.sent = append(b.sent, r)
	if len(b.errs) == 0 {
		return nil
	}
	err := b.errs[0]
	b.errs = b.errs[1:]
	return err
}

// outbox runs one until the test ends.
func outbox(t *testing.T, r *requests, b *broker) *dlq.Outbox {
	t.Helper()
	o := dlq.NewOutbox(r, b, []string{"print"}, "node a", slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- o.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := errors.Join(o.Shutdown(context.Background()), <-ended); err != nil {
			t.Error(err)
		}
	})
	return o
}

func TestRequestedReplayIsSentAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{}, &broker{}
		r.add(1)
		outbox(t, r, b)
		synctest.Wait()
		r.want(t, "1 r1 by node a: ")
		want := []dlq.Replay{{
			ID: "r1", Topic: "burrow.chat.ChatMessage", Function: "print", MessageID: "m",
			Metadata: map[string]string{"burrow_key": "k"}, Payload: []byte("p"),
		}}
		if !reflect.DeepEqual(b.sent, want) {
			t.Errorf("sent %+v, want %+v", b.sent, want)
		}
	})
}

func TestReplayIsSentWithinASecondOrAtAKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{}, &broker{}
		o := outbox(t, r, b)
		synctest.Wait()
		r.add(1, 2)
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(t, "1 r1 by node a: ", "2 r2 by node a: ")
		r.add(3)
		o.Kick()
		o.Kick() // does not wait
		synctest.Wait()
		r.want(t, "1 r1 by node a: ", "2 r2 by node a: ", "3 r3 by node a: ")
	})
}

func TestRefusedReplayGoesBackAndTheNextIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{}, &broker{errs: []error{fmt.Errorf("%w: too short", dlq.ErrRefused)}}
		r.add(1, 2)
		outbox(t, r, b)
		synctest.Wait()
		r.want(t, "1 r1 by node a: the message would be refused: too short", "2 r2 by node a: ")
	})
}

func TestReplayWaitsForABrokerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{}, &broker{errs: []error{errors.New("no answer")}}
		r.add(1, 2)
		outbox(t, r, b)
		synctest.Wait()
		r.want(t, "1 r1 in 5s: no answer") // the second one is not tried in vain
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(t, "1 r1 in 5s: no answer", "2 r2 by node a: ")
	})
}

func TestOutboxOutlivesAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{err: errors.New("locked")}, &broker{}
		outbox(t, r, b)
		time.Sleep(time.Minute)
		r.mu.Lock()
		r.err = nil
		r.mu.Unlock()
		r.add(1)
		time.Sleep(time.Second)
		synctest.Wait()
		r.want(t, "1 r1 by node a: ")
	})
}

// What is being sent when the node stops is noted, so that it is not sent twice.
func TestShutdownFinishesWhatIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, b := &requests{}, &broker{delay: make(chan struct{})}
		r.add(1, 2)
		o := dlq.NewOutbox(r, b, []string{"print"}, "node a", slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		synctest.Wait()
		cancel()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := o.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the broker hangs, and Shutdown says %v", err)
		}
		close(b.delay)
		if err := errors.Join(o.Shutdown(t.Context()), <-ended); err != nil {
			t.Error(err)
		}
		r.want(t, "1 r1 by node a: ")
	})
}

func TestShutdownOfWhatNeverRanReturns(t *testing.T) {
	o := dlq.NewOutbox(&requests{}, &broker{}, nil, "node a", slog.New(slog.DiscardHandler))
	if err := errors.Join(o.Shutdown(t.Context()), o.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
}
