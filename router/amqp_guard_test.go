package router

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"burrow/internal/brokertest"
)

// TestAMQP_PolicyKeepsTasks sets a policy for all queues of a prefix, publishes, lets the
// tasks wait for longer than the policy allows, and starts the worker.
func TestAMQP_PolicyKeepsTasks(t *testing.T) {
	address, vhost, ctl := amqpVhost(t)
	for name, test := range map[string]struct{ policy, key string }{
		"message-ttl":      {`{"message-ttl":3000}`, "message-ttl"},
		"short ttl":        {`{"message-ttl":300}`, "message-ttl"},
		"max-length":       {`{"max-length":10}`, ""},
		"max-length-bytes": {`{"max-length-bytes":20}`, ""},
		"drop-head":        {`{"max-length":10,"overflow":"drop-head"}`, "overflow"},
		"expires":          {`{"expires":4000}`, "expires"},
		"other exchange":   {`{"message-ttl":3000,"dead-letter-exchange":"nowhere","dead-letter-strategy":"at-most-once","delivery-limit":2}`, "message-ttl"},
		"ttl and length":   {`{"message-ttl":2000,"max-length":10,"expires":60000}`, "message-ttl"},
	} {
		for _, known := range []bool{false, true} {
			kind := " before the first worker"
			if known {
				kind = " with a known function"
			}
			t.Run(name+kind, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(t, "amqp")
				cfg.AMQP.URL = address
				var log logBuffer
				cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				topic := cfg.TopicPrefix + ".tasks.Work"
				ctl("set_policy", "-p", vhost, cfg.TopicPrefix, "^"+cfg.TopicPrefix, test.policy)
				edge := openTestDriver(t, cfg)
				if known {
					if err := edge.declare(t.Context(), topic, Task, "work"); err != nil {
						t.Fatal(err)
					}
				}
				var confirmed []string
				refused := 0
				for _, n := range numbers(0, 50) {
					ctx, cancel := context.WithTimeout(t.Context(), testWait)
					err := edge.publish(ctx, topic, Task, []*message.Message{message.NewMessage("id-"+n, []byte(n))})
					cancel()
					switch {
					case err == nil:
						confirmed = append(confirmed, n)
					case !errors.Is(err, errAMQPNacked):
						t.Errorf("publish: %v", err)
					default:
						refused++
					}
				}
				if limited := strings.Contains(name, "length") || name == "drop-head"; limited != (refused > 0) {
					t.Errorf("%d of 50 refused", refused)
				}
				if test.key != "" {
					waitFor(t, "the warning", func() bool { return strings.Contains(log.String(), "policy_key="+test.key+" ") })
				}
				worker := openTestDriver(t, cfg)
				sub := newSubscriber(worker, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
				t.Cleanup(func() { _ = sub.Close() })
				ch, err := sub.Subscribe(t.Context(), topic)
				if err != nil {
					t.Fatal(err)
				}
				newSink(ch).expect(t, confirmed)
			})
		}
	}
}

// TestAMQP_TasksExpireWithoutProcess lets tasks expire without any process. They have an
// age limit each, with the same effect as a policy.
func TestAMQP_TasksExpireWithoutProcess(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.AMQP)
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL = server.URL()
	topic := cfg.TopicPrefix + ".tasks.Work"
	edge, err := newAMQPDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	publishTo(t, edge, Task, topic, "kept")
	if err := edge.close(); err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.Dial(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	list := numbers(0, 100)
	for _, n := range list {
		pub := amqp.Publishing{
			Headers: amqp.Table{"_watermill_message_uuid": "id-" + n}, Body: []byte(n),
			DeliveryMode: amqp.Persistent, Expiration: "100",
		}
		confirm, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), topic, "", true, false, pub)
		if err != nil || !confirm.Wait() {
			t.Fatalf("publish %s: %v", n, err)
		}
	}
	ready := func() int {
		q, err := ch.QueueDeclarePassive(amqpKeptOf(topic), true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Messages
	}
	// A quorum queue expires what is at its head.
	if _, _, err := ch.Get(amqpKeptOf(topic), true); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all tasks expired", func() bool { return ready() == 0 })
	worker := openTestDriver(t, cfg)
	sub := newSubscriber(worker, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
	t.Cleanup(func() { _ = sub.Close() })
	tasks, err := sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	newSink(tasks).expect(t, list)
}

// TestAMQP_QueueOfEarlierVersion moves what an earlier version left in its queue of the
// unrouted, which had no arguments, and takes no more into it.
func TestAMQP_QueueOfEarlierVersion(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Earlier")
	b.saw(topic, Task, "")
	ch := b.channel()
	old := amqpUnroutedOf(topic)
	for _, err := range []error{
		ch.ExchangeDeclare(old, amqp.ExchangeFanout, true, false, false, false, nil),
		func() error {
			_, err := ch.QueueDeclare(old, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
			return err
		}(),
		ch.QueueBind(old, "", old, false, nil),
		ch.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, amqp.Table{"alternate-exchange": old}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	earlier := amqpIDs(0, 20)
	for _, id := range earlier {
		pub := amqp.Publishing{Headers: amqp.Table{"_watermill_message_uuid": id}, DeliveryMode: amqp.Persistent}
		if err := ch.PublishWithContext(t.Context(), topic, "", false, false, pub); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the tasks of the earlier version", func() bool { return b.waiting(old) == len(earlier) })
	now := amqpIDs(20, 40)
	b.publish(topic, Task, now...)
	if got := b.waiting(old); got != len(earlier) {
		t.Errorf("%d tasks in the queue of the earlier version, want %d", got, len(earlier))
	}
	r := b.read(b.drv, topic, Task, "work")
	r.wait(t, append(earlier, now...)...)
	if got := len(r.ids()); got != 40 {
		t.Errorf("%d tasks came, want 40", got)
	}
}
