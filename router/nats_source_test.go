package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// natsServers are the two kinds of a server, with a configuration for each.
func natsServers(t *testing.T, test func(t *testing.T, cfg Config)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, testConfig(t, "nats"))
	})
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		cfg := testConfig(t, "nats")
		cfg.NATS.URL = testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
		cleanNATS(t, cfg)
		test(t, cfg)
	})
}

// TestEmptyNATSMessagesWithAStatusDoNotEndTheReading: the server marks its own words
// to a reader in the same way.
func TestEmptyNATSMessagesWithAStatusDoNotEndTheReading(t *testing.T) {
	t.Parallel()
	natsServers(t, func(t *testing.T, cfg Config) {
		cfg.Route = testRoute
		letters := make(chan DeadLetter, 100)
		cfg.DeadLetter = func(_ context.Context, l DeadLetter) error { letters <- l; return nil }
		in := &installation{t: t, cfg: cfg}
		var got tally
		r := in.node(func(r *Router) error {
			return errors.Join(
				Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
					got.add("task " + m.GetMessage().GetContent())
					return nil
				}),
				Handle(r, "show", func(_ context.Context, m *chat.ChatMessage) error { got.add("event " + m.GetContent()); return nil }))
		})
		d := r.drv.(*natsDriver)
		statuses := []string{"100", "400", "404", "408", "409", "503"}
		for _, status := range statuses {
			for _, topic := range []string{Topic(cfg.TopicPrefix, &tasks.ArchiveMessage{}), Topic(cfg.TopicPrefix, &chat.ChatMessage{})} {
				m := nats.NewMsg(topic)
				m.Header.Set("Status", status)
				m.Header.Set("Description", "Consumer Deleted")
				if _, err := d.conn().pubJS.PublishMsg(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			in.publish(r, task("u", status), say("u", status))
		}
		got.eachOnce(t, 2*len(statuses))
		letter := make(map[string]int) // by topic
		for range 2 * len(statuses) {
			select {
			case l := <-letters:
				letter[l.Topic]++
			case <-time.After(testWait):
				t.Fatalf("got dead letters %v, want %d of each topic", letter, len(statuses))
			}
		}
		if len(letters) > 0 || len(letter) != 2 {
			t.Errorf("got dead letters %v and %d more", letter, len(letters))
		}
	})
}

// TestNATSHeadersOfStrangers: what they say to the server or to Burrow alone is no metadata,
// for a replay would say it again.
func TestNATSHeadersOfStrangers(t *testing.T) {
	m := nats.NewMsg("topic")
	m.Data = []byte("raw")
	m.Header = nats.Header{
		"_watermill_message_uuid": {"one"}, "room": {"hall"}, metaKey: {"key"}, metaPoison: {"no"},
		"Nats-Msg-Id": {"id"}, "Nats-Rollup": {"all"}, "Nats-TTL": {"1s", "2s"}, "nats-expected-stream": {"x"}, "Natsy": {"n"},
	}
	msg := natsDecode(m)
	want := message.Metadata{"room": "hall", metaKey: "key", "Natsy": "n"}
	if msg.UUID != "one" || string(msg.Payload) != "raw" || !maps.Equal(msg.Metadata, want) {
		t.Errorf("got %q, %q, %v, want metadata %v", msg.UUID, msg.Payload, msg.Metadata, want)
	}
	m.Header["two"] = []string{"a", "b"}
	if msg := natsDecode(m); msg.Metadata.Get(metaPoison) == "" || msg.UUID != "one" || string(msg.Payload) != "raw" {
		t.Errorf("two values: got %q, %q, %v, want it poisoned", msg.UUID, msg.Payload, msg.Metadata)
	}
	if got := natsMessage("topic", natsDecode(&nats.Msg{Header: nats.Header{"Nats-Rollup": {"all"}}})); got.Header.Get("Nats-Rollup") != "" {
		t.Errorf("published again with %v", got.Header)
	}
}

// TestNATSKeepsTheOrderOfACallWhenItsStreamIsFull: the first message has no room
// before handled ones are removed, and the second would have.
func TestNATSKeepsTheOrderOfACallWhenItsStreamIsFull(t *testing.T) {
	t.Parallel()
	natsServers(t, func(t *testing.T, cfg Config) {
		cfg.Route = testRoute
		cfg.NATS.MaxTaskBytes = 1 << 20
		in := &installation{t: t, cfg: cfg}
		var mu sync.Mutex
		var order []string
		handled := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(order)
		}
		r := in.node(func(r *Router) error {
			return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, m.GetMessage().GetContent()[:1])
				return nil
			})
		})
		large := strings.Repeat("x", 64_000)
		const fill = 16 // all but what the next large one needs
		for range fill {
			in.publish(r, task("k", "f"+large))
		}
		waitFor(t, "the first ones to be handled", func() bool { return len(handled()) == fill })
		d := r.drv.(*natsDriver)
		consumer, err := d.taskConsumer(t.Context(), Topic(cfg.TopicPrefix, &tasks.ArchiveMessage{}), "work")
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "their acks", func() bool {
			info, err := consumer.Info(t.Context())
			return err == nil && info.NumAckPending == 0
		})
		in.publish(r, task("k", "1"+large), task("k", "2"))
		waitFor(t, "the call to be handled", func() bool { return len(handled()) == fill+2 })
		if got, want := handled()[fill:], []string{"1", "2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestAgedNATSEventsAreMissedOnlyByThoseWhoDidNotSeeThem purges streams, as the age of
// events does.
func TestAgedNATSEventsAreMissedOnlyByThoseWhoDidNotSeeThem(t *testing.T) {
	t.Parallel()
	natsServers(t, func(t *testing.T, cfg Config) {
		d := openTestDriver(t, cfg).(*natsDriver)
		topic, other := cfg.TopicPrefix+".chat.ChatMessage", cfg.TopicPrefix+".chat.Other"
		publish := func(topic string, from, to int) {
			t.Helper()
			for _, n := range numbers(from, to) {
				if err := d.publish(t.Context(), topic, Event, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(n))}); err != nil {
					t.Fatal(err)
				}
			}
		}
		age := func(topic string) {
			t.Helper()
			stream, err := d.conn().subJS.Stream(t.Context(), d.streamName(topic, Event))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		gaps := 0
		sub := &subscription{topic: topic, delivery: Event, group: "hub", window: 16, gap: func() { gaps++ }}
		if err := d.declare(t.Context(), topic, Event, sub.group); err != nil {
			t.Fatal(err)
		}
		src, err := d.open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = src.close(context.WithoutCancel(t.Context()), true) }()

		publish(topic, 0, 5)
		read(t, src, 5)
		publish(other, 0, 50)
		age(topic)
		age(other)
		publish(topic, 5, 10)
		read(t, src, 5)
		if gaps != 0 {
			t.Errorf("told of %d gaps after all was read, want none", gaps)
		}

		publish(topic, 10, 210) // of which a window is read ahead
		age(topic)
		publish(topic, 210, 211)
		got := 0
		for last := ""; last != "210"; got++ {
			last = payloads(read(t, src, 1))[0]
		}
		if gaps != 1 || got >= 201 {
			t.Errorf("told of %d gaps after %d of 201 events, want 1", gaps, got)
		}

		publish(topic, 211, 300) // and nothing after them
		age(topic)
		waitFor(t, "it is told of those that were not sent", func() bool {
			ds, err := src.next(t.Context(), 16)
			if err != nil {
				t.Fatal(err)
			}
			got += len(ds)
			return gaps == 2
		})
		if _, err := src.next(t.Context(), 16); err != nil || gaps != 2 || got >= 290 {
			t.Errorf("told of %d gaps after %d of 290 events (%v), want 2", gaps, got, err)
		}
	})
}

// TestATaskOfANewNATSStreamIsNotTakenForAnOldOne: its number may be that of a task which
// this node still works on. The server forgets now and then to tell a reader that its
// stream is gone.
func TestATaskOfANewNATSStreamIsNotTakenForAnOldOne(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("told ", told), func(t *testing.T) {
			t.Parallel()
			natsServers(t, func(t *testing.T, cfg Config) { testNewNATSStream(t, cfg, told) })
		})
	}
}

func testNewNATSStream(t *testing.T, cfg Config, told bool) {
	d := openTestDriver(t, cfg).(*natsDriver)
	topic := cfg.TopicPrefix + ".tasks.Work"
	publish := func(what string) {
		t.Helper()
		if err := d.publish(t.Context(), topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(what))}); err != nil {
			t.Fatal(err)
		}
	}
	sub := &subscription{topic: topic, delivery: Task, group: "work", window: 16}
	open := func() *natsSource {
		t.Helper()
		// A server that still removes the directory of its last stream fails to make one in it.
		waitFor(t, "the stream is there", func() bool { return d.declare(t.Context(), topic, Task, sub.group) == nil })
		src, err := d.open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		return src.(*natsSource)
	}
	src := open()
	publish("old")
	var old []*delivered
	for len(old) == 0 { // with room for more: the server tells who waits that a stream is gone
		var err error
		if old, err = src.next(t.Context(), 16); err != nil {
			t.Fatal(err)
		}
	}
	if !told {
		if err := src.inbox.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.conn().subJS.DeleteStream(t.Context(), d.streamName(topic, Task)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	if told || d.server == nil { // a server before 2.10 needs a reader who knows, or has noticed the silence
		for {
			if _, err := src.next(ctx, 1); err != nil {
				if ctx.Err() != nil {
					t.Fatal("the source does not notice that its stream is gone")
				}
				break
			}
		}
		_ = src.close(ctx, false)
	}
	next := open()
	defer func() { _ = next.close(context.WithoutCancel(t.Context()), true) }()
	publish("new")
	fresh := read(t, next, 1)
	if fresh[0].id == old[0].id {
		t.Errorf("both tasks have the id %s", old[0].id)
	}
	// The old one is done now.
	if err := src.ack(ctx, old); err != nil {
		t.Error(err)
	}
	if err := next.extend(ctx, fresh); err != nil { // the server gets it after the ack
		t.Error(err)
	}
	consumer, err := d.taskConsumer(ctx, topic, sub.group)
	if err != nil {
		t.Fatal(err)
	}
	if n := consumer.CachedInfo().NumAckPending; n != 1 {
		t.Errorf("%d tasks wait for their ack, want the new one", n)
	}
	if err := next.ack(ctx, fresh); err != nil {
		t.Error(err)
	}
	waitFor(t, "the ack of the new task", func() bool {
		info, err := consumer.Info(ctx)
		return err == nil && info.NumAckPending == 0
	})
}

// TestPublishOnNATSDoesNotWaitForOthersLongerThanItsTimeout: something holds the lock of
// streams and consumers, as a server does that answers nobody.
func TestPublishOnNATSDoesNotWaitForOthersLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	cfg.PublishTimeout = 50 * time.Millisecond
	r, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	d := r.drv.(*natsDriver)
	if err := d.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.unlock()
	done := make(chan error, 1)
	go func() { done <- r.Publish(t.Context(), say("u", "x")) }()
	select {
	case err := <-done:
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	case <-time.After(testWait):
		t.Error("it still waits")
	}
}

// TestNATSRefusesACallWithAMessageThatIsTooLargeWithItsHeaders: the server takes as
// much as Burrow does, with headers, as one does that has its defaults.
func TestNATSRefusesACallWithAMessageThatIsTooLargeWithItsHeaders(t *testing.T) {
	t.Parallel()
	const largest = 32 << 10
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), MaxPayload: largest})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server did not start")
	}
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = srv.ClientURL()
	cfg.MaxMessageBytes = largest
	log := new(logBuffer)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	r, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	want := fmt.Sprint("set max_payload of nats to ", largest+natsHeaders)
	if strings.Contains(log.String(), "level=WARN") {
		t.Errorf("a warning before a message was refused: %s", log)
	}
	over := say("u", "")
	over.Content = strings.Repeat("x", largest-proto.Size(over)-10)
	if err := r.Publish(t.Context(), say("u", "first"), over); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("%d lines with %q, want 1: %s", n, want, log)
	}
	d := r.drv.(*natsDriver)
	if _, err := d.conn().subJS.Stream(t.Context(), d.streamName(Topic(cfg.TopicPrefix, over), Event)); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("got %v: something of the call was sent", err)
	}
	over.Content = over.Content[1000:]
	if err := r.Publish(t.Context(), over); err != nil {
		t.Errorf("a message that fits: %v", err)
	}
}

// TestNATSStreamsOfOtherSettingsAreTakenOver: the bound of tasks may be raised. One that
// is lowered would make some servers throw away what waits.
func TestNATSStreamsOfOtherSettingsAreTakenOver(t *testing.T) {
	t.Parallel()
	natsServers(t, func(t *testing.T, cfg Config) {
		d := openTestDriver(t, cfg).(*natsDriver)
		topic := cfg.TopicPrefix + ".tasks.Work"
		old := d.streamConfig(topic, Task)
		old.MaxAge = time.Hour
		old.MaxBytes = 8 << 20
		if _, err := d.conn().pubJS.CreateStream(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if err := d.publish(t.Context(), topic, Task, []*message.Message{message.NewMessage("one", make([]byte, 512<<10))}); err != nil {
			t.Fatal(err)
		}
		info := func() *jetstream.StreamInfo {
			t.Helper()
			stream, err := d.conn().subJS.Stream(t.Context(), d.streamName(topic, Task))
			if err != nil {
				t.Fatal(err)
			}
			return stream.CachedInfo()
		}
		if have := info(); have.Config.MaxAge != 0 || have.Config.MaxBytes != cfg.NATS.MaxTaskBytes || have.State.Msgs != 1 {
			t.Errorf("after a start the stream has an age of %s, %d bytes and %d tasks", have.Config.MaxAge, have.Config.MaxBytes, have.State.Msgs)
		}
		all := d.streamConfig(cfg.TopicPrefix+".chat.One", Event)
		all.Name, all.Subjects = strings.ToUpper(cfg.TopicPrefix)+"_EVENTS", append(all.Subjects, cfg.TopicPrefix+".chat.Two")
		if _, err := d.conn().pubJS.CreateStream(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		for _, event := range all.Subjects {
			if err := d.ensure(t.Context(), event, Event); err != nil {
				t.Errorf("with one stream of all events: %v", err)
			}
		}
		d.cfg.NATS.MaxTaskBytes = 1 << 10
		d.forget(topic)
		if err := d.ensure(t.Context(), topic, Task); err != nil {
			t.Fatal(err)
		}
		if have := info(); have.Config.MaxBytes != cfg.NATS.MaxTaskBytes || have.State.Msgs != 1 {
			t.Errorf("with a lower setting the stream has %d bytes and %d tasks", have.Config.MaxBytes, have.State.Msgs)
		}
	})
}

// TestTheTasksOfTheLastProcessComeAtOnce: also behind one that was never acked, with more
// between than are named one by one.
func TestTheTasksOfTheLastProcessComeAtOnce(t *testing.T) {
	t.Parallel()
	for _, byName := range []uint64{takeBackMost, 10} {
		t.Run(fmt.Sprint(byName), func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, "nats")
			topic := cfg.TopicPrefix + ".tasks.Work"
			open := func() (*natsDriver, source) {
				drv, err := openNATS(t.Context(), cfg, byName)
				if err != nil {
					t.Fatal(err)
				}
				d := drv.(*natsDriver)
				if err := d.declare(t.Context(), topic, Task, "work"); err != nil {
					t.Fatal(err)
				}
				src, err := d.open(t.Context(), &subscription{topic: topic, delivery: Task, group: "work", window: 64})
				if err != nil {
					t.Fatal(err)
				}
				return d, src
			}
			d, src := open()
			begun := time.Now()
			for i := range 40 {
				if err := d.publish(t.Context(), topic, Task, []*message.Message{message.NewMessage(fmt.Sprint(i), nil)}); err != nil {
					t.Fatal(err)
				}
			}
			ds := read(t, src, 40)
			if err := src.ack(t.Context(), ds[2:30]); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the server has the acks", func() bool {
				c, err := d.conn().subJS.Consumer(t.Context(), d.streamName(topic, Task), src.(*natsSource).name)
				return err == nil && c.CachedInfo().NumAckPending == 12
			})
			if err := d.close(); err != nil { // with nothing given back, as if it was killed
				t.Fatal(err)
			}
			d, src = open()
			defer func() { _ = d.close() }()
			var got []string
			for _, one := range read(t, src, 12) {
				got = append(got, one.msg.UUID)
			}
			if want := []string{"0", "1", "30", "31", "32", "33", "34", "35", "36", "37", "38", "39"}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if took := time.Since(begun); took >= ackWait { // Not earlier would the server send them without being asked.
				t.Errorf("they came %s after they were published", took)
			}
		})
	}
}

// TestANATSReaderHoldsNoTaskThatItHasNoRoomFor: nobody extends the time of such a one, so
// that another worker would have it too.
func TestANATSReaderHoldsNoTaskThatItHasNoRoomFor(t *testing.T) {
	t.Parallel()
	natsServers(t, func(t *testing.T, cfg Config) {
		d := openTestDriver(t, cfg).(*natsDriver)
		topic := cfg.TopicPrefix + ".tasks.Work"
		if err := d.declare(t.Context(), topic, Task, "work"); err != nil {
			t.Fatal(err)
		}
		var msgs []*message.Message
		for _, n := range numbers(0, 500) {
			msgs = append(msgs, message.NewMessage(watermill.NewUUID(), []byte(n)))
		}
		if err := d.publish(t.Context(), topic, Task, msgs); err != nil {
			t.Fatal(err)
		}
		src, err := d.open(t.Context(), &subscription{topic: topic, delivery: Task, group: "work", window: 400})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = src.close(context.WithoutCancel(t.Context()), true) }()
		var got []string
		for _, room := range []int{10, 1, 300, 100, 89} { // each is taken in full before the next
			for left := room; left > 0; {
				ds, err := src.next(t.Context(), left)
				if err != nil {
					t.Fatal(err)
				}
				got, left = append(got, payloads(ds)...), left-len(ds)
			}
			consumer, err := d.taskConsumer(t.Context(), topic, "work")
			if err != nil {
				t.Fatal(err)
			}
			if held := consumer.CachedInfo().NumAckPending; held != len(got) {
				t.Errorf("the reader holds %d tasks, and had room for %d", held, len(got))
			}
		}
		if !slices.Equal(got, numbers(0, 500)) {
			t.Errorf("got %q", got)
		}
	})
}
