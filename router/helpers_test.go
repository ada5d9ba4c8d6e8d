package router

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

func publishTo(t *testing.T, drv driver, delivery Delivery, topic string, payloads ...string) {
	t.Helper()
	var msgs []*message.Message
	for _, p := range payloads {
		msgs = append(msgs, message.NewMessage(watermill.NewUUID(), []byte(p)))
	}
	if err := (testPublisher{drv, delivery}).Publish(topic, msgs...); err != nil {
		t.Fatal(err)
	}
}

// collect acks messages until each of want has come, and fails on any other.
func collect(t *testing.T, ch <-chan *message.Message, want []string) {
	t.Helper()
	missing := make(map[string]bool)
	for _, w := range want {
		missing[w] = true
	}
	deadline := time.After(testWait)
	for len(missing) > 0 {
		select {
		case msg := <-ch:
			if !slices.Contains(want, string(msg.Payload)) {
				t.Errorf("got %q, which nobody should get", msg.Payload)
			}
			delete(missing, string(msg.Payload))
			msg.Ack()
		case <-deadline:
			t.Fatalf("%d of %d did not come", len(missing), len(want))
		}
	}
}

// read calls next until it has n messages.
func read(t *testing.T, src source, n int) []*delivered {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	var ds []*delivered
	for len(ds) < n {
		more, err := src.next(ctx, n-len(ds))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(ds), n, err)
		}
		ds = append(ds, more...)
	}
	return ds
}

func payloads(ds []*delivered) []string {
	var list []string
	for _, d := range ds {
		list = append(list, string(d.msg.Payload))
	}
	return list
}

func numbers(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

func openSource(t *testing.T, drv driver, sub *subscription) source {
	t.Helper()
	if err := drv.declare(t.Context(), sub.topic, sub.delivery, sub.group); err != nil {
		t.Fatal(err)
	}
	src, err := drv.open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.close(context.Background(), false) })
	return src
}

// logBuffer collects a log for tests that look at it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
