package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// What holds on every broker is tested in routertest.

// installation is a broker that the nodes of one test share.
type installation struct {
	t   *testing.T
	cfg Config
}

// cleanAMQP deletes what outlives a node when a test ends: exchanges, and the
// queues of task functions.
func cleanAMQP(t *testing.T, cfg Config) {
	t.Cleanup(func() {
		conn, err := amqp.Dial(cfg.AMQP.URL)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		ch, err := conn.Channel()
		if err != nil {
			t.Error(err)
			return
		}
		topic := Topic(cfg.TopicPrefix, &tasks.ArchiveMessage{})
		for _, function := range []string{"one", "two", "work", "tasks", "unrouted"} {
			if _, err := ch.QueueDelete(topic+"."+function, false, false, false); err != nil {
				t.Error(err)
			}
		}
		for _, exchange := range []string{topic, topic + ".unrouted", Topic(cfg.TopicPrefix, &chat.ChatMessage{})} {
			if err := ch.ExchangeDelete(exchange, false, false); err != nil {
				t.Error(err)
			}
		}
	})
}

// testRoute makes the sender the routing key of tasks, and of events the recipient.
func testRoute(m proto.Message) (id, key string) {
	switch m := m.(type) {
	case *tasks.ArchiveMessage:
		return m.GetMessage().GetId(), m.GetMessage().GetSender()
	case *chat.ChatMessage:
		return m.GetId(), m.GetSender()
	}
	return "", ""
}

// node starts a router with the functions that handle adds.
func (in *installation) node(handle func(r *Router) error, functions ...string) *Router {
	in.t.Helper()
	cfg := in.cfg
	cfg.Functions = functions
	cfg.Metrics = nil
	r, err := New(in.t.Context(), cfg)
	if err != nil {
		in.t.Fatal(err)
	}
	if err := handle(r); err != nil {
		in.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	in.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			in.t.Error(err)
		}
		if err := <-done; err != nil {
			in.t.Error(err)
		}
	})
	select {
	case <-r.Running():
	case err := <-done:
		done <- err
		in.t.Fatal(err)
	case <-time.After(testWait):
		in.t.Fatal("the functions did not start")
	}
	return r
}

func (in *installation) publish(r *Router, msgs ...proto.Message) {
	in.t.Helper()
	if err := r.Publish(in.t.Context(), msgs...); err != nil {
		in.t.Fatal(err)
	}
}

// waitFor polls, for what no channel tells.
// testWait bounds every wait of these tests. A busy machine stays far below it.
const testWait = 90 * time.Second

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testWait)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", testWait, what)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
}

// tally counts what arrives, by content.
type tally struct {
	mu  sync.Mutex
	got map[string]int
}

func (c *tally) add(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil {
		c.got = map[string]int{}
	}
	c.got[key]++
}

func (c *tally) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *tally) eachOnce(t *testing.T, want int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d messages, got %d", want, c.len()), func() bool { return c.len() >= want })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) != want {
		t.Errorf("got %d messages, want %d", len(c.got), want)
	}
	for key, n := range c.got {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
}

func say(sender, content string) *chat.ChatMessage {
	return &chat.ChatMessage{Sender: sender, Content: content, Id: watermill.NewUUID()}
}

func task(sender, content string) *tasks.ArchiveMessage {
	return &tasks.ArchiveMessage{Message: say(sender, content)}
}

func TestPublishRefusesWhatBreaksTheRules(t *testing.T) {
	r, err := New(t.Context(), testConfig(t, "gochannel"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for name, msg := range map[string]proto.Message{
		"no sender":            &chat.ChatMessage{Content: "x"},
		"a name that is none":  &chat.ChatMessage{Sender: "<script>", Content: "x"},
		"no content":           &chat.ChatMessage{Sender: "a"},
		"an id that is none":   &chat.ChatMessage{Sender: "a", Content: "x", Id: "7"},
		"no message in a task": &tasks.ArchiveMessage{},
	} {
		if err := r.Publish(t.Context(), msg); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestHandleRefusesWhatCannotWork(t *testing.T) {
	r, err := New(t.Context(), testConfig(t, "gochannel"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	fn := func(context.Context, *chat.ChatMessage) error { return nil }
	if err := Handle(r, "Bad Name", fn); err == nil {
		t.Error("a bad name was taken")
	}
	if err := Handle(r, "work", fn); err != nil {
		t.Error(err)
	}
	if err := Handle(r, "work", fn); err == nil {
		t.Error("the same function was taken twice")
	}
	if err := Handle(r, "work", func(context.Context, *tasks.ArchiveMessage) error { return nil }); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	<-r.Running()
	if err := Handle(r, "late", fn); err == nil {
		t.Error("a function was taken after Run")
	}
	if got := r.Functions(); !slices.Equal(got, []string{"work"}) {
		t.Errorf("got %v", got)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeliveryFollowsThePackage(t *testing.T) {
	if got := DeliveryOf(&tasks.ArchiveMessage{}); got != Task {
		t.Errorf("got %v, want a task", got)
	}
	if got := DeliveryOf(&chat.ChatMessage{}); got != Event {
		t.Errorf("got %v, want an event", got)
	}
	if got := Topic("burrow", &tasks.ArchiveMessage{}); got != "burrow.tasks.ArchiveMessage" {
		t.Errorf("got %q", got)
	}
}

func TestOneProcessHasADataDirectory(t *testing.T) {
	cfg := testConfig(t, "nats")
	openTestDriver(t, cfg)
	_, err := New(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
}
