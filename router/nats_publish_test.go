package router

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOnlyAConfirmOfNATSIsOne(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"stream":"BURROW_TASKS_tasks-Work","seq":7}`:                                                        "",
		`{"stream":"BURROW_TASKS_tasks-Work", "seq":7,"duplicate":true}`:                                      "",
		`{ "seq":7, "stream":"S" }`:                                                                           "",
		`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}`: "maximum bytes exceeded",
		`{"stream":"S","error":{"code":500,"err_code":10077,"description":"late"},"seq":0}`:                   "late",
		`{"stream":"","seq":7}`: "invalid",
		`{"seq":7}`:             "invalid",
		`{}`:                    "invalid",
		`+OK`:                   "invalid",
		``:                      "invalid",
		`null`:                  "invalid",
	} {
		err := natsAnswer(&nats.Msg{Data: []byte(answer)})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", answer, err, want)
		}
	}
	nobody := &nats.Msg{Header: nats.Header{natsStatus: {"503"}}}
	if err := natsAnswer(nobody); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("nobody there: got %v", err)
	}
}

// TestEveryPublishOnNATSHasOneAnswer also when its link goes at that moment, and when an
// answer comes that nobody waits for any more.
func TestEveryPublishOnNATSHasOneAnswer(t *testing.T) {
	t.Parallel()
	d := openTestDriver(t, testConfig(t, "nats")).(*natsDriver)
	c := d.conn().confirms
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	const subject = "nobody.answers"
	var asked []*nats.Msg
	var mu sync.Mutex
	if _, err := d.conn().sub.Subscribe(subject, func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, m)
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.conn().sub.Flush(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for range 100 {
		go func() { ended <- c.publish(ctx, &nats.Msg{Subject: subject}) }()
	}
	waitFor(t, "all are sent", func() bool { mu.Lock(); defer mu.Unlock(); return len(asked) == 100 })
	c.lost()
	for range 100 {
		if err := <-ended; !errors.Is(err, nats.ErrDisconnected) {
			t.Errorf("got %v", err)
		}
	}
	mu.Lock()
	for _, m := range asked { // late, and twice
		if err := errors.Join(m.Respond([]byte(`{"stream":"S","seq":1}`)), m.Respond(nil)); err != nil {
			t.Error(err)
		}
	}
	mu.Unlock()
	if err := d.conn().sub.Flush(); err != nil {
		t.Fatal(err)
	}
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	if err := c.publish(short, &nats.Msg{Subject: subject}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without an answer: got %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting)+len(c.room) != 0 {
		t.Errorf("%d wait, %d tokens", len(c.waiting), len(c.room))
	}
}
