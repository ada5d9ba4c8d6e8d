package router

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/internal/brokertest"
)

// credentialsFault is a broker that refuses the credentials of a driver for a while.
type credentialsFault struct {
	refuse  func()
	refused func() bool // true once the client has tried in vain several times
	restore func()
}

// TestDriver_CredentialsRefused refuses the credentials of a running driver: the health
// check fails with the reason, closing is quick, and everything resumes once they are
// accepted again.
func TestDriver_CredentialsRefused(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) (Config, credentialsFault){
		"nats password reload":   natsPasswordFault,
		"nats connection limit":  natsLimitFault,
		"nats inbox denied":      natsInboxFault,
		"nats few subscriptions": natsSubscriptionsFault,
		"redis password changed": redisPasswordFault,
		"amqp user deleted":      amqpUserFault,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, fault := prepare(t)
			drv := openTestDriver(t, cfg)
			if cfg.Driver == "nats" {
				impatient(drv) // what the server sends to a lost subscription is redelivered
			}
			var others []driver
			for range 3 {
				other, err := openDriver(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				others = append(others, other)
			}
			topic := cfg.TopicPrefix + ".tasks.Work"
			sub := newSubscriber(drv, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
			t.Cleanup(func() { _ = sub.Close() })
			ch, err := sub.Subscribe(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			got := newSink(ch)
			stop, confirmed := make(chan struct{}), make(chan []string, 1)
			go func() { confirmed <- confirmedAll(t, drv, Task, topic, stop) }()
			waitFor(t, "tasks flow", func() bool { got.mu.Lock(); defer got.mu.Unlock(); return len(got.seen) > 20 })

			fault.refuse()
			waitFor(t, "several refused attempts", fault.refused)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := drv.ping(ctx); err == nil {
				t.Error("the health check passes")
			}
			quickest := testWait // of several: a busy machine delays one
			for _, other := range others {
				begun := time.Now()
				_ = other.close()
				quickest = min(quickest, time.Since(begun))
			}
			if quickest >= opTimeout {
				t.Errorf("closing while refused took %s", quickest)
			}

			fault.restore()
			waitFor(t, "the health check passes again", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				return drv.ping(ctx) == nil
			})
			seen := func() int { got.mu.Lock(); defer got.mu.Unlock(); return len(got.seen) }
			before := seen()
			waitFor(t, "tasks flow again", func() bool { return seen() > before+20 })
			close(stop)
			got.expect(t, <-confirmed)
		})
	}
}

func natsPasswordFault(t *testing.T) (Config, credentialsFault) {
	server := brokertest.Start(t, brokertest.NATS)
	password := func(p string) string {
		return fmt.Sprintf("max_payload: 2MB\nauthorization { user: burrow, password: %q }\n", p)
	}
	server.Reload(password("right"))
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = strings.Replace(server.URL(), "://", "://burrow:right@", 1)
	return cfg, credentialsFault{
		refuse:  func() { server.Reload(password("other")) },
		refused: func() bool { return strings.Count(server.Output(), "authentication error") > 8 },
		restore: func() { server.Reload(password("right")) },
	}
}

// natsLimitFault makes the server refuse connections above its limit.
func natsLimitFault(t *testing.T) (Config, credentialsFault) {
	server := brokertest.Start(t, brokertest.NATS)
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = server.URL()
	return cfg, credentialsFault{
		refuse: func() {
			server.Reload("max_payload: 2MB\nmax_connections: 1\n")
			server.Restart()
		},
		refused: func() bool { return strings.Count(server.Output(), "maximum connections exceeded") > 8 },
		restore: func() { server.Reload("max_payload: 2MB\n") },
	}
}

// natsInboxFault makes the server end the subscriptions of connections, which stay open.
func natsInboxFault(t *testing.T) (Config, credentialsFault) {
	server := brokertest.Start(t, brokertest.NATS)
	may := func(subscribe string) string {
		return fmt.Sprintf("max_payload: 2MB\naccounts { A: { jetstream: enabled, users: [ {user: burrow, password: right, permissions: {publish: \">\", subscribe: {%s}}} ] } }\n", subscribe)
	}
	server.Reload(may(`allow: ">"`))
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = strings.Replace(server.URL(), "://", "://burrow:right@", 1)
	return cfg, credentialsFault{
		refuse:  func() { server.Reload(may(`deny: "_INBOX.>"`)) },
		refused: func() bool { return strings.Count(server.Output(), "Subscription Violation") > 4 },
		restore: func() { server.Reload(may(`allow: ">"`)) },
	}
}

// natsSubscriptionsFault makes the server refuse subscriptions above its limit.
func natsSubscriptionsFault(t *testing.T) (Config, credentialsFault) {
	server := brokertest.Start(t, brokertest.NATS)
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = server.URL()
	return cfg, credentialsFault{
		refuse:  func() { server.RestartWith("max_payload: 2MB\nmax_subscriptions: 1\n") },
		refused: func() bool { return strings.Count(server.Output(), "maximum subscriptions exceeded") > 4 },
		restore: func() { server.RestartWith("max_payload: 2MB\n") },
	}
}

func redisPasswordFault(t *testing.T) (Config, credentialsFault) {
	server := brokertest.Start(t, brokertest.Redis)
	admin := redisClient(t, server.URL())
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	do("ACL", "SETUSER", "burrow", "on", ">right", "~*", "&*", "+@all")
	cfg := testConfig(t, "redis")
	cfg.Redis.URL = strings.Replace(server.URL(), "://", "://burrow:right@", 1)
	return cfg, credentialsFault{
		refuse: func() {
			do("ACL", "SETUSER", "burrow", "resetpass", ">other")
			do("CLIENT", "KILL", "USER", "burrow")
		},
		refused: func() bool {
			info, err := admin.Info(t.Context(), "errorstats").Result()
			return err == nil && strings.Contains(info, "errorstat_WRONGPASS:count=") && !strings.Contains(info, "errorstat_WRONGPASS:count=1\r")
		},
		restore: func() { do("ACL", "SETUSER", "burrow", "resetpass", ">right") },
	}
}

// rabbitmqctl runs a command of the administrator on the shared server.
func rabbitmqctl(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("rabbitmqctl")
	if err != nil || os.Getuid() != 0 {
		if os.Getenv("BURROW_TEST_REQUIRE") != "" {
			t.Fatalf("rabbitmqctl cannot be run: %v, user %d", err, os.Getuid())
		}
		t.Skip("needs rabbitmqctl and root")
	}
	if out, err := exec.Command(program, append([]string{"-q"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func amqpUserFault(t *testing.T) (Config, credentialsFault) {
	u, err := url.Parse(amqpTestURL(t))
	if err != nil {
		t.Fatal(err)
	}
	name := testPrefix()
	create := func() {
		t.Helper()
		rabbitmqctl(t, "add_user", name, "right")
		rabbitmqctl(t, "set_permissions", "-p", name, name, ".*", ".*", ".*")
	}
	rabbitmqctl(t, "add_vhost", name)
	t.Cleanup(func() { rabbitmqctl(t, "delete_vhost", name); rabbitmqctl(t, "delete_user", name) })
	create()
	u.User, u.Path = url.UserPassword(name, "right"), "/"+name
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL = u.String()
	var refusals int
	probe := func() error {
		drv, err := newAMQPDriver(t.Context(), cfg)
		if err == nil {
			_ = drv.close()
		}
		return err
	}
	return cfg, credentialsFault{
		refuse:  func() { rabbitmqctl(t, "delete_user", name) },
		refused: func() bool { refusals++; return probe() != nil && refusals > 1 },
		restore: create,
	}
}

// TestNATS_ClosedClientReplaced closes the connections underneath the driver, as the
// client library does after errors that it takes for final.
func TestNATS_ClosedClientReplaced(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*natsConns){
		"publisher": func(c *natsConns) { c.pub.Close() },
		"reader":    func(c *natsConns) { c.sub.Close() },
		"both":      func(c *natsConns) { c.pub.Close(); c.sub.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, "nats")
			d := openTestDriver(t, cfg).(*natsDriver)
			topic := cfg.TopicPrefix + ".tasks.Work"
			sub := newSubscriber(d, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
			t.Cleanup(func() { _ = sub.Close() })
			ch, err := sub.Subscribe(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			publishTo(t, d, Task, topic, "in hand")
			var held *message.Message
			select {
			case held = <-ch:
			case <-time.After(testWait):
				t.Fatal("no task came")
			}
			old := d.conn()
			end(old)
			publishTo(t, d, Task, topic, "after")
			waitFor(t, "new connections", func() bool { return d.conn() != old && d.ping(t.Context()) == nil && sub.state() == nil })
			held.Ack()
			collect(t, ch, []string{"after"})
			waitFor(t, "the ack of a task from the closed connection", func() bool {
				c, err := d.conn().subJS.Consumer(t.Context(), d.streamName(topic, Task), d.consumerName(topic, "work"))
				return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
			})
		})
	}
}
