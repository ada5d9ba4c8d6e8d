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

// eachBroker runs a promise on every broker. One that needs several processes does
// not apply to the embedded server, which one process has for itself.
func eachBroker(t *testing.T, severalNodes bool, promise func(t *testing.T, in *installation)) {
	brokers := []struct {
		name, driver string
		set          func(t *testing.T, cfg *Config)
	}{
		{"gochannel", "gochannel", func(_ *testing.T, cfg *Config) { cfg.Memory = NewMemory() }},
		{"embedded", "nats", func(*testing.T, *Config) {}},
		{"nats", "nats", func(t *testing.T, cfg *Config) {
			cfg.NATS.URL = testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
			cleanNATS(t, *cfg)
		}},
		{"redis", "redis", func(t *testing.T, cfg *Config) {
			cfg.Redis.URL = testURL(t, "BURROW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
			cleanRedis(t, *cfg)
		}},
		{"amqp", "amqp", func(t *testing.T, cfg *Config) {
			cfg.AMQP.URL = testURL(t, "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
			cleanAMQP(t, *cfg)
		}},
	}
	for _, b := range brokers {
		if severalNodes && b.name == "embedded" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			in := &installation{t: t, cfg: testConfig(t, b.driver), letters: make(chan DeadLetter, 1000)}
			in.cfg.Route = testRoute
			in.cfg.DeadLetter = func(_ context.Context, l DeadLetter) error {
				in.letters <- l
				return nil
			}
			b.set(t, &in.cfg)
			promise(t, in)
		})
	}
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

func TestAnEventReachesEveryFunctionOfEveryNode(t *testing.T) {
	eachBroker(t, true, func(t *testing.T, in *installation) {
		var got tally
		var nodes []*Router
		for n := range 3 {
			nodes = append(nodes, in.node(func(r *Router) error {
				count := func(f string) func(context.Context, *chat.ChatMessage) error {
					return func(_ context.Context, m *chat.ChatMessage) error {
						got.add(fmt.Sprint(n, f, m.GetContent()))
						return nil
					}
				}
				return errors.Join(Handle(r, "one", count("one")), Handle(r, "two", count("two")))
			}))
		}
		for i := range 50 {
			in.publish(nodes[i%3], say("alice", fmt.Sprint(i)))
		}
		got.eachOnce(t, 3*2*50)
	})
}

func TestATaskRunsInOneProcessOfEachFunction(t *testing.T) {
	eachBroker(t, true, func(t *testing.T, in *installation) {
		var got tally
		var nodes []*Router
		for range 3 {
			nodes = append(nodes, in.node(func(r *Router) error {
				count := func(f string) func(context.Context, *tasks.ArchiveMessage) error {
					return func(_ context.Context, m *tasks.ArchiveMessage) error {
						got.add(f + m.GetMessage().GetContent())
						return nil
					}
				}
				return errors.Join(Handle(r, "one", count("one")), Handle(r, "two", count("two")))
			}))
		}
		for i := range 200 {
			in.publish(nodes[i%3], task("alice", fmt.Sprint(i)))
		}
		got.eachOnce(t, 2*200)
	})
}

func TestATaskWaitsForItsFirstWorker(t *testing.T) {
	eachBroker(t, true, func(t *testing.T, in *installation) {
		var got tally
		handle := func(r *Router) error {
			return errors.Join(
				Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
					got.add(m.GetMessage().GetContent())
					return nil
				}),
				Handle(r, "other", func(context.Context, *chat.ChatMessage) error { return nil }))
		}
		web := in.node(handle, "other") // knows of the worker and is none
		for i := range 50 {
			in.publish(web, task("alice", fmt.Sprint(i)))
		}
		if got.len() > 0 {
			t.Error("a function ran that this node does not run")
		}
		in.node(handle, "work")
		got.eachOnce(t, 50)
	})
}

func TestMessagesOfOneKeyKeepTheirOrder(t *testing.T) {
	const keys, each = 20, 50
	for _, kind := range []string{"event", "task"} {
		t.Run(kind, func(t *testing.T) {
			eachBroker(t, false, func(t *testing.T, in *installation) {
				var mu sync.Mutex
				got := map[string][]string{}
				var total atomic.Int32
				note := func(m *chat.ChatMessage) {
					mu.Lock()
					defer mu.Unlock()
					got[m.GetSender()] = append(got[m.GetSender()], m.GetContent())
					total.Add(1)
				}
				r := in.node(func(r *Router) error {
					return errors.Join(
						Handle(r, "events", func(_ context.Context, m *chat.ChatMessage) error { note(m); return nil }),
						Handle(r, "tasks", func(_ context.Context, m *tasks.ArchiveMessage) error { note(m.GetMessage()); return nil }))
				})
				var want []string
				var publishers sync.WaitGroup
				for k := range keys {
					publishers.Go(func() {
						for i := range each {
							var m proto.Message = say(fmt.Sprint("user", k), fmt.Sprint(i))
							if kind == "task" {
								m = task(fmt.Sprint("user", k), fmt.Sprint(i))
							}
							if err := r.Publish(context.Background(), m); err != nil {
								t.Error(err)
							}
						}
					})
				}
				for i := range each {
					want = append(want, fmt.Sprint(i))
				}
				publishers.Wait()
				waitFor(t, "all messages", func() bool { return total.Load() >= keys*each })
				mu.Lock()
				defer mu.Unlock()
				for key, contents := range got {
					if !slices.Equal(contents, want) {
						t.Errorf("%s: got %v", key, contents)
					}
				}
			})
		})
	}
}

func TestAFailingMessageIsTriedAgainAndHoldsUpNobodyElse(t *testing.T) {
	eachBroker(t, false, func(t *testing.T, in *installation) {
		var got tally
		var attempts atomic.Int32
		release := make(chan struct{})
		r := in.node(func(r *Router) error {
			return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
				if m.GetMessage().GetSender() != "bad" {
					got.add(m.GetMessage().GetContent())
					return nil
				}
				attempts.Add(1)
				select {
				case <-release:
					got.add("mended")
					return nil
				default:
					return errors.New("not yet")
				}
			})
		})
		in.publish(r, task("bad", "x"))
		for i := range 50 {
			in.publish(r, task(fmt.Sprint("good", i), fmt.Sprint(i)))
		}
		// The lane of the bad one may have a few of the others.
		waitFor(t, "most of the others", func() bool { return got.len() >= 30 })
		waitFor(t, "a second attempt", func() bool { return attempts.Load() >= 2 })
		close(release)
		got.eachOnce(t, 51)
		if len(in.letters) > 0 {
			t.Errorf("a dead letter: %+v", <-in.letters)
		}
	})
}

func TestWhatCannotBeHandledBecomesADeadLetterOnce(t *testing.T) {
	eachBroker(t, false, func(t *testing.T, in *installation) {
		var got tally
		r := in.node(func(r *Router) error {
			return Handle(r, "work", func(ctx context.Context, m *tasks.ArchiveMessage) error {
				switch m.GetMessage().GetContent() {
				case "permanent":
					return permanentError{errors.New("no use")}
				case "panic":
					panic("oh")
				}
				if MessageID(ctx) == "" {
					t.Error("no message id in the context")
				}
				got.add(m.GetMessage().GetContent())
				return nil
			})
		})
		topic := Topic(in.cfg.TopicPrefix, &tasks.ArchiveMessage{})
		raw := func(payload []byte) *message.Message { return message.NewMessage(watermill.NewUUID(), payload) }
		invalid, err := proto.Marshal(&tasks.ArchiveMessage{Message: &chat.ChatMessage{Sender: "<b>", Content: "x"}})
		if err != nil {
			t.Fatal(err)
		}
		bad := []*message.Message{raw([]byte("\xff\xff\xff")), raw(nil), raw(invalid)}
		if err := r.drv.publish(t.Context(), topic, Task, bad); err != nil {
			t.Fatal(err)
		}
		in.publish(r, task("p", "permanent"), task("q", "panic"), task("a", "fine"))
		attempts := map[int]int{}
		for range 5 {
			select {
			case l := <-in.letters:
				attempts[l.Attempts]++
				if l.Topic != topic || l.Function != "work" || l.MessageID == "" || l.Err == nil || l.Time.IsZero() {
					t.Errorf("incomplete: %+v", l)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("got %v, want 5 letters", attempts)
			}
		}
		if attempts[1] != 4 || attempts[5] != 1 {
			t.Errorf("letters by attempts: %v, want 4 at once and the panic after %d", attempts, 5)
		}
		got.eachOnce(t, 1)
		if len(in.letters) > 0 {
			t.Errorf("one letter too many: %+v", <-in.letters)
		}
	})
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

func TestShutdownFinishesWhatRunsAndLosesNothing(t *testing.T) {
	eachBroker(t, true, func(t *testing.T, in *installation) {
		var got tally
		started := make(chan struct{}, 1000)
		proceed := make(chan struct{})
		handle := func(block bool) func(*Router) error {
			return func(r *Router) error {
				return Handle(r, "work", func(ctx context.Context, m *tasks.ArchiveMessage) error {
					if block {
						started <- struct{}{}
						select {
						case <-proceed:
						case <-ctx.Done():
							return ctx.Err()
						}
					}
					got.add(m.GetMessage().GetContent())
					return nil
				})
			}
		}
		first := in.node(handle(true))
		for i := range 100 {
			in.publish(first, task(fmt.Sprint("u", i), fmt.Sprint(i)))
		}
		<-started // something runs, the rest waits
		stopped := make(chan error, 1)
		go func() { stopped <- first.Drain(t.Context()) }()
		<-first.draining
		close(proceed)
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		in.node(handle(false))
		got.eachOnce(t, 100)
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
