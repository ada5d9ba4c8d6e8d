package router

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"burrow/internal/brokertest"
)

// natsAccounts has a user for each refusal.
const natsAccounts = `max_payload: 2MB
accounts {
  NOJS { users: [{user: nojs, password: pw}] }
  FEW { jetstream: {max_streams: 1, max_file: 200MB, max_mem: 10MB}, users: [{user: few, password: pw}] }
  SMALL { jetstream: {max_file: 10MB, max_mem: 10MB}, users: [{user: small, password: pw}] }
  LAZY { jetstream: {max_consumers: 0, max_file: 200MB, max_mem: 10MB}, users: [{user: lazy, password: pw}] }
  ALL { jetstream: enabled, users: [
    {user: ok, password: pw, permissions: {publish: ["$JS.API.>", "$JS.ACK.>", "rights.>"], subscribe: "_INBOX.>"}},
    {user: nopublish, password: pw, permissions: {publish: ["$JS.API.>", "$JS.ACK.>"]}},
    {user: noapi, password: pw, permissions: {publish: {deny: "$JS.API.>"}}},
    {user: nocreate, password: pw, permissions: {publish: {deny: "$JS.API.STREAM.CREATE.>"}}},
    {user: noconsumer, password: pw, permissions: {publish: {deny: ["$JS.API.CONSUMER.>"]}}},
    {user: noinbox, password: pw, permissions: {subscribe: {deny: "_INBOX.>"}}},
    {user: nonext, password: pw, permissions: {publish: {deny: "$JS.API.CONSUMER.MSG.NEXT.>"}}},
    {user: noack, password: pw, permissions: {publish: {deny: "$JS.ACK.>"}}} ] }
}
`

// TestNATS_RefusalNamesFix subscribes a task function for users that lack something: the
// refusal is immediate and names the cause and the setting.
func TestNATS_RefusalNamesFix(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.NATS)
	server.Reload(natsAccounts)
	server.Restart()
	for _, test := range []struct{ user, password, want string }{
		{"ok", "pw", ""},
		{"ok", "sesame", "correct user and password"},
		{"nojs", "pw", "enable JetStream for the account"},
		{"few", "pw", "raise max_streams"},
		{"small", "pw", "broker.nats.max_task_bytes (67108864)"},
		{"noapi", "pw", "needs to publish to $JS.API.>"},
		{"nocreate", "pw", "needs to publish to $JS.API.>"},
		{"noconsumer", "pw", "needs to publish to $JS.API.>"},
		{"noinbox", "pw", "subscribe to _INBOX.>"},
		{"nonext", "pw", "$JS.API.CONSUMER.MSG.NEXT"},
		{"noack", "pw", "$JS.ACK.>"},
		{"nopublish", "pw", "names with broker.topic_prefix"},
	} {
		t.Run(test.user+" "+test.want, func(t *testing.T) {
			var log logBuffer
			cfg := testConfig(t, "nats")
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg.NATS.URL = strings.Replace(server.URL(), "://", "://"+test.user+":"+test.password+"@", 1)
			cfg.ConnectTimeout, cfg.TopicPrefix = 4*testWait, "rights."+test.user
			begun := time.Now()
			err := natsTry(t, cfg)
			if took := time.Since(begun); took > testWait {
				t.Errorf("took %s", took)
			}
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if strings.Contains(log.String(), "sesame") || err != nil && strings.Contains(err.Error(), "sesame") {
				t.Error("the password is shown")
			}
		})
	}
}

// natsTry starts a task function twice over, on two topics, and handles a task.
func natsTry(t *testing.T, cfg Config) error {
	drv, err := newNATSDriver(t.Context(), cfg)
	if err != nil {
		return err
	}
	defer func() { _ = drv.close() }()
	for _, topic := range []string{cfg.TopicPrefix + ".tasks.One", cfg.TopicPrefix + ".tasks.Two"} {
		sub := &subscription{topic: topic, delivery: Task, group: "work", window: 8}
		var src source
		err := insist(t.Context(), drv, time.Minute, cfg.Log, func(ctx context.Context) error {
			err := drv.declare(ctx, topic, Task, "work")
			if err == nil {
				src, err = drv.open(ctx, sub)
			}
			return err
		})
		if err != nil {
			return err
		}
		defer func() { _ = src.close(t.Context(), false) }()
		ctx, cancel := context.WithTimeout(t.Context(), testWait/3)
		defer cancel()
		if err := drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), nil)}); err != nil {
			return err
		}
		if err := src.ack(t.Context(), read(t, src, 1)); err != nil {
			return err
		}
	}
	return drv.ping(t.Context())
}

// TestNATS_RightsRemovedWhileRunning takes the right to acknowledge away: the health check
// says so, and the log is in the format of the process.
func TestNATS_RightsRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.NATS)
	const all = "max_payload: 2MB\nauthorization { users: [{user: u, password: pw}] }\n"
	server.Reload(all)
	server.Restart() // a reload disconnects clients at some later moment
	var log logBuffer
	cfg := testConfig(t, "nats")
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	cfg.NATS.URL = strings.Replace(server.URL(), "://", "://u:pw@", 1)
	drv := openTestDriver(t, cfg)
	topic := cfg.TopicPrefix + ".tasks.Work"
	sub := newSubscriber(drv, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
	t.Cleanup(func() { _ = sub.Close() })
	ch, err := sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	newSink(ch)
	server.Reload(strings.Replace(all, "password: pw", `password: pw, permissions: {publish: {deny: "$JS.ACK.>"}}`, 1))
	waitFor(t, "a health check that names the right", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_ = drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte("x"))})
		err := drv.ping(ctx)
		return err != nil && strings.Contains(err.Error(), "$JS.ACK")
	})
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the log says nothing:\n%s", log.String())
	}
}

// TestNATS_UnsafeStreamIsCorrected changes the stream of a topic as an operator might.
func TestNATS_UnsafeStreamIsCorrected(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			cfg := testConfig(t, "nats")
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			d := openTestDriver(t, cfg).(*natsDriver)
			topic := cfg.TopicPrefix + ".tasks.Work"
			publishTo(t, d, Task, topic, "1")
			config := func() jetstream.StreamConfig {
				t.Helper()
				stream, err := d.conn().pubJS.Stream(t.Context(), d.streamName(topic, Task))
				if err != nil {
					t.Fatal(err)
				}
				return stream.CachedInfo().Config
			}
			for _, again := range []func() error{
				func() error { return d.declare(t.Context(), topic, Task, "work") }, // at start
				func() error { return d.trim(t.Context(), topic, natsTrimLeast) },   // every half minute
			} {
				unsafe := config()
				change(&unsafe)
				if _, err := d.conn().pubJS.UpdateStream(t.Context(), unsafe); err != nil {
					t.Fatal(err)
				}
				if err := again(); err != nil {
					t.Fatal(err)
				}
				if left := natsUnsafe(config()); len(left) > 0 {
					t.Errorf("%v is still unsafe", left)
				}
			}
			if got := strings.Count(log.String(), "unsafe=["+name+"]"); got != 2 {
				t.Errorf("%d warnings with %s, want 2:\n%s", got, name, log.String())
			}
		})
	}
}
