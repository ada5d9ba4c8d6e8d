package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// installation is a broker that the nodes of one test share.
type installation struct {
	t       *testing.T
	cfg     Config
	letters chan DeadLetter
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
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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
	case <-time.After(30 * time.Second):
		in.t.Fatal("the functions did not start within 30 s")
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
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 45 s for %s", what)
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
	eachBroker(t, false, func(t *testing.T, in *installation) {
		in.cfg.MaxMessageBytes = 2048
		var got tally
		r := in.node(func(r *Router) error {
			return Handle(r, "work", func(_ context.Context, m *chat.ChatMessage) error {
				got.add(m.GetContent())
				return nil
			})
		})
		tests := []struct {
			name string
			msg  proto.Message
			want error
		}{
			{"no sender", &chat.ChatMessage{Content: "x"}, ErrInvalid},
			{"a name that is none", &chat.ChatMessage{Sender: "<script>", Content: "x"}, ErrInvalid},
			{"no content", &chat.ChatMessage{Sender: "a"}, ErrInvalid},
			{"an id that is none", &chat.ChatMessage{Sender: "a", Content: "x", Id: "7"}, ErrInvalid},
			{"no message in a task", &tasks.ArchiveMessage{}, ErrInvalid},
			{"too large", say("a", strings.Repeat("x", 2048)), ErrTooLarge},
		}
		for _, tt := range tests {
			if err := r.Publish(t.Context(), say("a", "before"), tt.msg); !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			}
		}
		in.publish(r, say("a", "after"))
		waitFor(t, "the good message", func() bool { return got.len() > 0 })
		got.eachOnce(t, 1) // nothing was sent of a call that was refused
	})
}

func TestHandleRefusesWhatCannotWork(t *testing.T) {
	in := &installation{t: t, cfg: testConfig(t, "gochannel")}
	fn := func(context.Context, *chat.ChatMessage) error { return nil }
	r := in.node(func(r *Router) error {
		if err := Handle(r, "Bad Name", fn); err == nil {
			t.Error("a bad name was taken")
		}
		if err := Handle(r, "work", fn); err != nil {
			t.Error(err)
		}
		if err := Handle(r, "work", fn); err == nil {
			t.Error("the same function was taken twice")
		}
		return Handle(r, "work", func(context.Context, *tasks.ArchiveMessage) error { return nil })
	})
	if err := Handle(r, "late", fn); err == nil {
		t.Error("a function was taken after Run")
	}
	if got := r.Functions(); !slices.Equal(got, []string{"work"}) {
		t.Errorf("got %v", got)
	}
	if err := r.Check(t.Context()); err != nil {
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
