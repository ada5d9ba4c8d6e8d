package main

import (
	"crypto/rand"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"burrow/internal/brokertest"
)

// TestStart_BrokerRefuses starts the program, as a node, as a worker and with -check, on
// brokers that refuse what it needs: each exits with 1, and the last line has the reason.
func TestStart_BrokerRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		// broken returns a broker that refuses, and the prefix of the topics.
		broken func(t *testing.T) (b *broker, address, prefix string)
		says   string
	}{
		{"Redis user without the keys", redisUser("~other*", "+@all"), "NOPERM"},
		{"Redis user without XGROUP", redisUser("~*", "+@all", "-xgroup"), "NOPERM"},
		{"Redis user without XADD", redisUser("~*", "+@all", "-xadd"), "XADD: NOPERM"},
		{"Redis user without XREADGROUP", redisUser("~*", "+@all", "-xreadgroup"), "XREADGROUP: NOPERM"},
		{"Redis user without XACK", redisUser("~*", "+@all", "-xack"), "XACK: NOPERM"},
		{"Redis user without XREAD", redisUser("~*", "+@all", "-xread"), "XREAD: NOPERM"},
		{"Redis user without CLIENT", redisUser("~*", "+@all", "-client"), "NOPERM"},
		{"Redis Cluster without slots", func(t *testing.T) (*broker, string, string) {
			return onRedis, brokertest.Start(t, brokertest.Redis, "--cluster-enabled", "yes").URL(), "check"
		}, "CLUSTERDOWN"},
		{"Redis Cluster with the slots elsewhere", movedRedis, "MOVED"},
		{"Redis that is read-only", func(t *testing.T) (*broker, string, string) {
			server := brokertest.Start(t, brokertest.Redis)
			ask(t, server.URL(), "REPLICAOF", "127.0.0.1", "1")
			return onRedis, server.URL(), "check"
		}, "READONLY"},
		{"Redis without memory", func(t *testing.T) (*broker, string, string) {
			server := brokertest.Start(t, brokertest.Redis)
			ask(t, server.URL(), "CONFIG", "SET", "maxmemory", "1")
			return onRedis, server.URL(), "check"
		}, "OOM"},
		{"Redis with a key of another kind", func(t *testing.T) (*broker, string, string) {
			server := brokertest.Start(t, brokertest.Redis)
			ask(t, server.URL(), "SET", "check.tasks.ArchiveMessage", "text")
			return onRedis, server.URL(), "check"
		}, "WRONGTYPE"},
		{"RabbitMQ user without configure", rabbitUser("^$", ".*", ".*"), "ACCESS_REFUSED"},
		{"RabbitMQ user without write", rabbitUser(".*", "^$", ".*"), "ACCESS_REFUSED"},
		{"RabbitMQ user without read", rabbitUser(".*", ".*", "^$"), "ACCESS_REFUSED"},
		{"NATS where another stream has the subject", natsOverlap, "STRANGER"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, address, prefix := test.broken(t)
			modes := []string{"", "-edge=false", "-check", "-check -edge=false"}
			if strings.HasSuffix(test.name, "XREAD") {
				modes = []string{"", "-check"} // a worker reads no events
			}
			for _, mode := range modes {
				dir := t.TempDir()
				env := []string{
					"BURROW_DATA_DIR=" + dir, "BURROW_HTTP_ADDR=127.0.0.1:0", "BURROW_BROKER_DRIVER=" + b.driver,
					b.config + "=" + address, "BURROW_BROKER_TOPIC_PREFIX=" + prefix, "BURROW_BROKER_CONNECT_TIMEOUT=1s",
				}
				code, out, log := runs(t, env, strings.Fields(mode)...)
				all := strings.Split(strings.TrimSpace(log), "\n")
				last := all[len(all)-1]
				if code != exitFailed || out != "" {
					t.Errorf("%q: got %d and %q, want %d", mode, code, out, exitFailed)
				}
				if !strings.Contains(last, "level=ERROR") || !strings.Contains(last, test.says) {
					t.Errorf("%q: the last line does not say %q: %s", mode, test.says, last)
				}
			}
		})
	}
}

// ask sends a command to Redis.
func ask(t *testing.T, address string, command ...any) {
	t.Helper()
	opts, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opts)
	defer rdb.Close()
	if err := rdb.Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
}

// redisUser starts a Redis with a user who has these rights.
func redisUser(rights ...any) func(*testing.T) (*broker, string, string) {
	return func(t *testing.T) (*broker, string, string) {
		server := brokertest.Start(t, brokertest.Redis)
		ask(t, server.URL(), append([]any{"ACL", "SETUSER", "x", "on", ">pw"}, rights...)...)
		return onRedis, "redis://x:pw@" + server.Addr(), "check"
	}
}

// movedRedis starts a Redis Cluster of two nodes, the first of which has no slots.
func movedRedis(t *testing.T) (*broker, string, string) {
	first := brokertest.Start(t, brokertest.Redis, "--cluster-enabled", "yes")
	second := brokertest.Start(t, brokertest.Redis, "--cluster-enabled", "yes")
	ask(t, second.URL(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	host, port, _ := strings.Cut(first.Addr(), ":")
	ask(t, second.URL(), "CLUSTER", "MEET", host, port)
	opts, err := redis.ParseURL(first.URL())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opts)
	defer rdb.Close()
	eventually(t, patience, "the first node knows the slots of the second", func() bool {
		err := rdb.XLen(t.Context(), "check.tasks.ArchiveMessage").Err()
		return err != nil && strings.Contains(err.Error(), "MOVED")
	})
	return onRedis, first.URL(), "check"
}

// rabbitUser makes a user with these permissions in a vhost on the shared server.
func rabbitUser(permissions ...string) func(*testing.T) (*broker, string, string) {
	return func(t *testing.T) (*broker, string, string) {
		u, err := url.Parse(onAMQP.need(t))
		if err != nil {
			t.Fatal(err)
		}
		program, err := exec.LookPath("rabbitmqctl")
		if err != nil || os.Getuid() != 0 {
			if os.Getenv("BURROW_TEST_REQUIRE") != "" {
				t.Fatalf("rabbitmqctl cannot be run: %v, user %d", err, os.Getuid())
			}
			t.Skip("needs rabbitmqctl and root")
		}
		ctl := func(args ...string) {
			t.Helper()
			if out, err := exec.Command(program, append([]string{"-q"}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("rabbitmqctl %s: %v: %s", strings.Join(args, " "), err, out)
			}
		}
		name := "test-app-" + strings.ToLower(rand.Text()[:10])
		ctl("add_vhost", name)
		t.Cleanup(func() { ctl("delete_vhost", name); ctl("delete_user", name) })
		ctl("add_user", name, "pw")
		ctl(append([]string{"set_permissions", "-p", name, name}, permissions...)...)
		u.User, u.Path = url.UserPassword(name, "pw"), "/"+name
		return onAMQP, u.String(), "check"
	}
}

// natsOverlap makes a stream that has the subjects of a prefix.
func natsOverlap(t *testing.T) (*broker, string, string) {
	server := brokertest.Start(t, brokertest.NATS)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "STRANGER", Subjects: []string{"check.>"}}); err != nil {
		t.Fatal(err)
	}
	return external, server.URL(), "check"
}

// TestStart_StoreIsRemoved removes the database file of a running node: a stop works, and so
// does the next start.
func TestStart_StoreIsRemoved(t *testing.T) {
	for _, b := range []*broker{memory, embedded} {
		t.Run(b.String(), func(t *testing.T) {
			in := install(t, b)
			p := in.start(t)
			files, err := filepath.Glob(filepath.Join(in.dir, "archive.db*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("files of the archive: %v, %v", files, err)
			}
			for _, file := range files {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			p.stop()
			in.start(t).stop()
		})
	}
}

// TestStart_StoreIsClosed closes the store underneath a node that starts, and underneath one that
// runs: the one is refused with the reason, the other stops.
func TestStart_StoreIsClosed(t *testing.T) {
	closed := func(when string) func(*options) {
		return func(o *options) {
			var stop func()
			o.part = func(p part) part {
				switch p.name {
				case "store":
					whole := p.stop
					stop = func() { _ = whole(t.Context()) }
				case when:
					stop()
				}
				return p
			}
		}
	}
	p, _ := install(t, memory).launchWith(t, nil, closed("functions"))
	if code := p.wait(); code != exitFailed || !strings.Contains(p.lastLine(), "store is closed") {
		t.Errorf("while it starts: got %d and %s", code, p.lastLine())
	}
	p, told := install(t, memory).launchWith(t, nil, closed("edge"))
	p.isReady(told)
	p.stop()
}
