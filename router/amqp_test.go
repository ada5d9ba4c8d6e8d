package router

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"
)

func TestPubSubAMQP(t *testing.T) {
	b := newAMQPBench(t)
	features := pubSubFeatures
	features.GenerateTopicFunc = func(ctx tests.TestContext) string { return b.topic(string(ctx.TestID)) }
	pubSubSuite(t, features, func(t *testing.T) driver { return b.open(t, b.cfg) })
}

func TestAMQPTaskWaitsForItsFirstWorker(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Early")
	early := amqpIDs(0, 250)
	b.publish(topic, Task, early...) // no group exists
	if got := b.waiting(amqpKeptOf(topic)); got != len(early) {
		t.Errorf("%d tasks wait without a group, want %d", got, len(early))
	}
	// Two processes declare at the same time.
	other := b.open(t, b.cfg)
	var wg sync.WaitGroup
	for _, drv := range []driver{b.drv, other} {
		wg.Go(func() {
			if err := drv.declare(t.Context(), topic, Task, "first"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	late := amqpIDs(250, 300)
	b.publish(topic, Task, late...) // no worker exists
	waitFor(t, "all tasks wait for the group", func() bool {
		return b.waiting(amqpQueueOf(topic, "first")) == 300 && b.waiting(amqpKeptOf(topic)) == 0
	})
	r := b.read(b.drv, topic, Task, "first")
	r.wait(t, append(early, late...)...)
	if got := len(r.ids()); got != 300 {
		t.Errorf("%d tasks came, want 300", got)
	}
}

func TestAMQPGroupsGetEveryTaskOnce(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Groups")
	first, second := b.read(b.drv, topic, Task, "first"), b.read(b.drv, topic, Task, "second")
	again := b.read(b.open(t, b.cfg), topic, Task, "second") // another process
	ids := amqpIDs(0, 500)
	b.publish(topic, Task, ids...)
	first.wait(t, ids...)
	waitFor(t, "the second group has all", func() bool { return len(second.ids())+len(again.ids()) >= 500 })
	both := append(second.ids(), again.ids()...)
	slices.Sort(both)
	if !slices.Equal(both, ids) {
		t.Errorf("the second group got %d tasks, want each of %d once", len(both), len(ids))
	}
	if got := first.ids(); !slices.Equal(got, ids) {
		t.Errorf("the first group got %d tasks or another order, want %d in order", len(got), len(ids))
	}
}

func TestAMQPEventPositionIsFixedAtSubscribe(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Position")
	b.publish(topic, Event, "before") // nobody is there
	sub := &subscription{gap: func() {}, topic: topic, delivery: Event, group: "test", window: 256}
	if err := b.drv.declare(t.Context(), topic, Event, "test"); err != nil {
		t.Fatal(err)
	}
	src, err := b.drv.open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	ids := amqpIDs(0, 20)
	b.publish(topic, Event, ids...)
	var got []string
	for len(got) < len(ids) {
		ds, err := src.next(t.Context(), 256)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			got = append(got, d.msg.UUID)
		}
		if err := src.ack(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
	// What was published while the source was away comes to the next one.
	if err := src.close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	b.publish(topic, Event, "meanwhile")
	if src, err = b.drv.open(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	ds, err := src.next(t.Context(), 256)
	if err != nil || len(ds) != 1 || ds[0].msg.UUID != "meanwhile" {
		t.Errorf("after opening again: %v, %v; want the event published meanwhile", ds, err)
	}
	if err := src.close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := b.waiting(sub.cursor); got != -1 {
		t.Errorf("the queue of the events is still there with %d messages", got)
	}
}

func TestAMQPReadsWhatStrangersWrite(t *testing.T) {
	id := wamqp.DefaultMessageUUIDHeaderKey
	for name, test := range map[string]struct {
		pub    amqp.Publishing
		id     string // "" means any
		poison bool
		meta   map[string]string
	}{
		"no id":          {pub: amqp.Publishing{}},
		"id as property": {pub: amqp.Publishing{MessageId: "prop"}, id: "prop"},
		"id is a number": {pub: amqp.Publishing{Headers: amqp.Table{id: int32(7)}}, poison: true},
		"id is a table":  {pub: amqp.Publishing{Headers: amqp.Table{id: amqp.Table{"a": "b"}}, MessageId: "prop"}, id: "prop", poison: true},
		"delivery count": {pub: amqp.Publishing{Headers: amqp.Table{id: "one", "x-delivery-count": int64(3)}}, id: "one", meta: map[string]string{"x-delivery-count": ""}},
		"instructions":   {pub: amqp.Publishing{Headers: amqp.Table{id: "four", "CC": []any{"x"}, "BCC": []any{"y"}, "x-death": "none"}}, id: "four", meta: map[string]string{"CC": "", "BCC": "", "x-death": ""}},
		"poison mark":    {pub: amqp.Publishing{Headers: amqp.Table{id: "two", metaPoison: "no"}}, id: "two"},
		"headers of any type": {
			pub: amqp.Publishing{Headers: amqp.Table{
				id: "three", "bool": true, "nil": nil, "float": 1.5, "bytes": []byte("b"), "text": "t",
				"time": time.Unix(1, 0), "array": []any{"a", int32(1)}, "decimal": amqp.Decimal{Scale: 1, Value: 5}, "table": amqp.Table{"k": int64(1)},
			}},
			id: "three", meta: map[string]string{"bool": "true", "float": "1.5", "bytes": "b", "text": "t", "table": "map[k:1]"},
		},
	} {
		for _, delivery := range []Delivery{Task, Event} {
			t.Run(name+" as "+delivery.String(), func(t *testing.T) {
				b := newAMQPBench(t)
				topic := b.topic("Strangers")
				if delivery == Task { // through the queue of the unrouted, so that the mover reads it too
					ctx, cancel := context.WithTimeout(t.Context(), testWait)
					defer cancel()
					conn, err := b.drv.writing.get(ctx)
					if err != nil {
						t.Fatal(err)
					}
					b.saw(topic, Task, "")
					if err := conn.ensure(ctx, topic, Task); err != nil {
						t.Fatal(err)
					}
				}
				var r *amqpReader
				if delivery == Event {
					r = b.read(b.drv, topic, delivery, "test")
				}
				test.pub.Body = []byte("raw")
				if err := b.channel().PublishWithContext(t.Context(), topic, "any", false, false, test.pub); err != nil {
					t.Fatal(err)
				}
				if delivery == Task {
					waitFor(t, "the task waits", func() bool { return b.waiting(amqpKeptOf(topic)) == 1 })
					r = b.read(b.drv, topic, delivery, "test")
				}
				waitFor(t, "the message came", func() bool { return len(r.ids()) > 0 })
				got := r.got[0]
				if string(got.Payload) != "raw" {
					t.Errorf("payload %q, want it raw", got.Payload)
				}
				if test.id != "" && got.UUID != test.id || got.UUID == "" {
					t.Errorf("id %q, want %q", got.UUID, test.id)
				}
				if reason := got.Metadata.Get(metaPoison); (reason != "") != test.poison {
					t.Errorf("poison: %q, want %v", reason, test.poison)
				}
				for key, want := range test.meta {
					if got := got.Metadata.Get(key); got != want {
						t.Errorf("header %s: %q, want %q", key, got, want)
					}
				}
				if err := b.drv.publish(t.Context(), topic, delivery, []*message.Message{message.NewMessage("again", nil), got}); err != nil {
					t.Errorf("published again, as a dead letter is: %v", err)
				}
			})
		}
	}
}

func TestAMQPMessageWithoutIDKeepsItsOwn(t *testing.T) {
	first := amqpMessage(amqp.Delivery{Body: []byte("a"), DeliveryTag: 1})
	again := amqpMessage(amqp.Delivery{Body: []byte("a"), DeliveryTag: 2, Redelivered: true, Headers: amqp.Table{"x-delivery-count": int64(1)}})
	other := amqpMessage(amqp.Delivery{Body: []byte("b"), DeliveryTag: 3})
	if first.UUID != again.UUID || first.UUID == other.UUID {
		t.Errorf("ids %q, %q when it came again, %q of another one", first.UUID, again.UUID, other.UUID)
	}
}

func TestAMQPTaskWithoutAnyQueue(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Unroutable")
	b.publish(topic, Task, "a")
	ch := b.channel()
	if _, err := ch.QueueDelete(amqpKeptOf(topic), false, false, false); err != nil {
		t.Fatal(err)
	}
	// The server gives the task back, which shows at the confirm.
	conn, err := b.drv.writing.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := newAMQPChannel(conn)
	if err != nil {
		t.Fatal(err)
	}
	pub := amqp.Publishing{Headers: amqp.Table{wamqp.DefaultMessageUUIDHeaderKey: "b"}}
	if err := raw.send(t.Context(), topic, "", true, []amqp.Publishing{pub}); !errors.Is(err, errAMQPUnroutable) {
		t.Errorf("send: %v, want %v", err, errAMQPUnroutable)
	}
	b.publish(topic, Task, "b") // the driver makes the queue again
	if got := b.waiting(amqpKeptOf(topic)); got != 1 {
		t.Errorf("%d tasks wait, want 1", got)
	}
}

func TestAMQPWireIsWatermills(t *testing.T) {
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			b := newAMQPBench(t)
			topic := b.topic("Wire")
			r := b.read(b.drv, topic, delivery, "test")
			cfg := wamqp.NewDurablePubSubConfig(b.cfg.AMQP.URL, wamqp.GenerateQueueNameTopicNameWithSuffix("stock"))
			if delivery == Task {
				// A program that declares the exchange itself has to name the same arguments.
				cfg.Exchange.Arguments = amqp.Table{"alternate-exchange": amqpUnroutedOf(topic)}
			}
			b.saw(topic, delivery, topic+"_stock")
			quiet := watermill.NopLogger{}
			stockSub, err := wamqp.NewSubscriber(cfg, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stockSub.Close() }()
			msgs, err := stockSub.Subscribe(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			stockPub, err := wamqp.NewPublisher(cfg, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stockPub.Close() }()

			theirs := message.NewMessage("theirs", []byte{0, 1, 255})
			theirs.Metadata.Set("some", "metadata")
			if err := stockPub.Publish(topic, theirs); err != nil {
				t.Fatal(err)
			}
			r.wait(t, "theirs")
			if got := r.got[0]; !got.Equals(theirs) {
				t.Errorf("from the stock publisher: %v %v %v", got.UUID, got.Payload, got.Metadata)
			}
			ours := message.NewMessage("ours", []byte{255, 0})
			ours.Metadata.Set("other", "metadata")
			if err := b.drv.publish(t.Context(), topic, delivery, []*message.Message{ours}); err != nil {
				t.Fatal(err)
			}
			timeout := time.After(testWait)
			for {
				select {
				case got := <-msgs:
					got.Ack()
					if got.UUID == "theirs" {
						continue
					}
					if !got.Equals(ours) {
						t.Errorf("at the stock subscriber: %v %v %v", got.UUID, got.Payload, got.Metadata)
					}
					return
				case <-timeout:
					t.Fatal("the stock subscriber got nothing")
				}
			}
		})
	}
}

func TestAMQPLeavesNothingButTaskQueues(t *testing.T) {
	address := amqpTestURL(t)
	b := newAMQPBench(t)
	ignore := goleak.IgnoreCurrent()
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL, cfg.TopicPrefix = address, b.cfg.TopicPrefix
	drv, err := newAMQPDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	spy := amqpSpy{drv.(*amqpDriver), b}
	task, event := b.topic("Left"), b.topic("Gone")
	for topic, delivery := range map[string]Delivery{task: Task, event: Event} {
		r := b.read(spy, topic, delivery, "test")
		if err := spy.publish(t.Context(), topic, delivery, amqpMessages("a", "b")); err != nil {
			t.Fatal(err)
		}
		r.wait(t, "a", "b")
		if err := r.sub.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := drv.close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, ignore)
	b.mu.Lock()
	queues := slices.Sorted(maps.Keys(b.queues))
	b.mu.Unlock()
	var left []string
	for _, queue := range queues {
		if b.waiting(queue) >= 0 {
			left = append(left, queue)
		}
	}
	if want := []string{amqpQueueOf(task, "test")}; !slices.Equal(left, want) {
		t.Errorf("queues left: %v, want %v", left, want)
	}
	if got := b.waiting(amqpQueueOf(task, "test")); got != 0 {
		t.Errorf("%d acked tasks are still there", got)
	}
}

func TestAMQPOtherSettingsAreExplained(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Other")
	ch := b.channel()
	b.saw(topic, Task, "")
	if err := ch.ExchangeDeclare(topic, "direct", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"declare": b.drv.declare(t.Context(), topic, Task, "test"),
		"publish": b.drv.publish(t.Context(), topic, Task, amqpMessages("a")),
	} {
		if err == nil || !strings.Contains(err.Error(), "other settings") || !strings.Contains(err.Error(), topic) {
			t.Errorf("%s: %v, want an error that names the exchange and the way out", name, err)
		}
	}
}

func TestAMQPConfig(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := closed.Addr().String()
	_ = closed.Close()
	for name, test := range map[string]struct{ url, want string }{
		"not amqp":          {"redis://me:sesame@host/", "broker.amqp.url: not a URL"},
		"slash in password": {"amqp://me:ses/ame@host/", "broker.amqp.url: not a URL"},
		"nobody answers":    {"amqp://me:sesame@" + away + "/", "did not answer within broker.connect_timeout (300ms)"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, "amqp")
			var log strings.Builder
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg.AMQP.URL, cfg.ConnectTimeout = test.url, 300*time.Millisecond
			_, err := newAMQPDriver(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if said := err.Error() + log.String(); strings.Contains(said, "ame@") || strings.Contains(said, "sesame") {
				t.Errorf("the password is shown: %s", said)
			}
			if name == "nobody answers" && !strings.Contains(log.String(), "waiting for rabbitmq at "+away) {
				t.Errorf("log: %q", log.String())
			}
		})
	}
}

func TestAMQPTags(t *testing.T) {
	ds := func(tags ...uint64) (ds []*delivered) {
		for _, tag := range tags {
			ds = append(ds, &delivered{tag: amqpTag{n: tag}})
		}
		return ds
	}
	var tags amqpTags
	for i, step := range []struct {
		settle, single []uint64
		upTo           uint64
	}{
		{settle: []uint64{3}, single: []uint64{3}},
		{settle: []uint64{5, 2}, single: []uint64{5, 2}},
		{settle: []uint64{1}, upTo: 1},
		{settle: []uint64{3, 5, 1}}, // settled before
		{settle: []uint64{9, 4, 6}, upTo: 6, single: []uint64{9}},
		{settle: []uint64{7, 8}, upTo: 8},
		{settle: []uint64{10, 11}, upTo: 11},
	} {
		upTo, single := tags.settle(ds(step.settle...))
		if upTo != step.upTo || !slices.Equal(single, step.single) {
			t.Errorf("step %d, settle %v: got %d and %v, want %d and %v", i, step.settle, upTo, single, step.upTo, step.single)
		}
	}
	if len(tags.more) != 0 {
		t.Errorf("%d tags are still remembered", len(tags.more))
	}
}
