package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/internal/brokertest"
)

func probeWithin(t *testing.T, drv driver) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait/3)
	defer cancel()
	return drv.probe(ctx)
}

// TestProbe_Redis fails while Redis refuses writes and keeps one entry.
func TestProbe_Redis(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	admin := redisClient(t, server.URL())
	cfg := redisOn(t, server)
	d := openRedis(t, cfg)
	for range 5 {
		if err := probeWithin(t, d); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := admin.XLen(t.Context(), d.healthKey).Result(); n != 1 || err != nil {
		t.Errorf("%d test messages are kept, want 1; %v", n, err)
	}
	for name, set := range map[string][2][]any{
		"memory full": {{"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory", "0"}},
		"read-only":   {{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}},
	} {
		if err := admin.Do(t.Context(), set[0]...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := probeWithin(t, d); err == nil {
			t.Errorf("%s: the probe passes", name)
		}
		if err := admin.Do(t.Context(), set[1]...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := probeWithin(t, d); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	// A user with rights on other keys only works as before.
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "few", "on", ">right", "~"+cfg.TopicPrefix+".tasks.*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	cfg = redisOn(t, server)
	cfg.Redis.URL = strings.Replace(server.URL(), "://", "://few:right@", 1)
	if err := probeWithin(t, openRedis(t, cfg)); err != nil {
		t.Errorf("without the right to write the test message: %v", err)
	}
}

// TestProbe_NATS keeps one message, and passes where the account has no room or the user no
// right for the stream of test messages.
func TestProbe_NATS(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.NATS)
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = server.URL()
	d := openTestDriver(t, cfg).(*natsDriver)
	for range 5 {
		if err := probeWithin(t, d); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := d.conn().subJS.Stream(t.Context(), d.healthStream())
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 || d.unprobed.Load() {
		t.Errorf("%d test messages are kept, want 1", n)
	}
	for name, rights := range map[string]string{
		"no right to create": `publish: { deny: "$JS.API.STREAM.CREATE.%[2]s" }`,
		"no right to write":  `publish: { deny: "%[1]s" }`,
	} {
		t.Run(name, func(t *testing.T) {
			server := brokertest.Start(t, brokertest.NATS)
			cfg := testConfig(t, "nats")
			cfg.NATS.URL = strings.Replace(server.URL(), "://", "://few:right@", 1)
			d := &natsDriver{cfg: cfg}
			server.Reload("max_payload: 2MB\nauthorization { users: [ { user: few, password: right, permissions: { " +
				fmt.Sprintf(rights, d.healthSubject(), d.healthStream()) + " } } ] }\n")
			d = openTestDriver(t, cfg).(*natsDriver)
			if err := probeWithin(t, d); err != nil {
				t.Errorf("the probe fails: %v", err)
			}
			if !d.unprobed.Load() {
				t.Error("the refused write was not noticed")
			}
		})
	}
}

// TestProbe_AMQP keeps one message in its queue, and fails while RabbitMQ blocks publishers.
func TestProbe_AMQP(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL = amqpTestURL(t)
	d := openTestDriver(t, cfg).(*amqpDriver)
	conn, err := d.reading.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := ch.QueueDelete(d.health, false, false, false)
		if err = errors.Join(err, ch.ExchangeDelete(d.health, false, false)); err != nil {
			t.Error(err)
		}
	})
	for range 5 {
		if err := probeWithin(t, d); err != nil {
			t.Fatal(err)
		}
	}
	if d.unprobed.Load() {
		t.Error("the probe does not write")
	}
	queue, err := ch.QueueDeclarePassive(d.health, true, false, false, false, nil)
	if err != nil || queue.Messages > 1 {
		t.Errorf("%d test messages are kept, want 1; %v", queue.Messages, err)
	}
	d.writing.mu.Lock()
	d.writing.held = "low on disk"
	d.writing.mu.Unlock()
	if err := probeWithin(t, d); err == nil || !strings.Contains(err.Error(), "low on disk") {
		t.Errorf("while publishers are blocked the probe says %v", err)
	}
}

// TestHealth_RefusedTopic fails the check while tasks of one topic are refused, though the
// test message is stored, and passes without other traffic once they are accepted.
func TestHealth_RefusedTopic(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "gochannel")
	var log logBuffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	drv := &refusingDriver{}
	r := &Router{cfg: cfg, log: cfg.Log, drv: drv, abandoned: t.Context()}
	drv.refuse = errors.New("no space left")
	r.health.published(r.log, "test.tasks.Work", Task, drv.refuse)
	for range 50 {
		r.health.published(r.log, "test.tasks.Work", Task, drv.refuse)
	}
	if err := r.testBroker(t.Context()); err == nil || !strings.Contains(err.Error(), "test.tasks.Work") {
		t.Errorf("the check says %v, want the refused topic", err)
	}
	drv.refuse = nil
	if err := r.testBroker(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines for one outage, want 2:\n%s", n, log.String())
	}
}

// refusingDriver refuses tasks but stores the test message.
type refusingDriver struct {
	driver
	refuse error
}

func (d *refusingDriver) ping(context.Context) error  { return nil }
func (d *refusingDriver) probe(context.Context) error { return nil }
func (d *refusingDriver) publish(context.Context, string, Delivery, []*message.Message) error {
	return d.refuse
}
