package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
)

// holds returns the names of what an installation has on a broker.
func (b *broker) holds(t *testing.T, address, prefix string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	switch b.driver {
	case "nats":
		nc, err := nats.Connect(address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		for name := range js.StreamNames(ctx).Name() {
			if strings.HasPrefix(name, strings.ToUpper(prefix)+"_") {
				names = append(names, name)
			}
		}
	case "redis":
		opts, err := redis.ParseURL(address)
		if err != nil {
			t.Fatal(err)
		}
		rdb := redis.NewClient(opts)
		defer rdb.Close()
		keys := rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			names = append(names, keys.Val())
		}
	}
	return names
}

// setting returns the value of a variable of the installation.
func (in *installation) setting(name string) string {
	for _, line := range in.env {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// TestCheck_LeavesNothingBehind checks a new installation: it is fine, and neither the
// broker nor the directory holds anything afterwards.
func TestCheck_LeavesNothingBehind(t *testing.T) {
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		for _, mode := range []string{"", "-edge=false"} {
			if mode != "" && (b == embedded || b == memory) {
				continue
			}
			t.Run(strings.TrimSpace(b.String()+" "+mode), func(t *testing.T) {
				t.Parallel()
				in := install(t, b)
				code, out, log := runs(t, in.env, append(strings.Fields(mode), "-check")...)
				if code != exitOK || !strings.Contains(out, "broker ("+b.driver+") and address are fine") || strings.Contains(log, "level=ERROR") {
					t.Fatalf("got %d, %q and\n%s", code, out, log)
				}
				if left := b.holds(t, in.setting(b.config), in.setting("BURROW_BROKER_TOPIC_PREFIX")); len(left) > 0 {
					t.Errorf("the broker holds %v", left)
				}
				if b == onAMQP {
					noQueues(t, in.setting(b.config), in.setting("BURROW_BROKER_TOPIC_PREFIX"))
				}
				if left, _ := filepath.Glob(filepath.Join(in.dir, "*burrow-check*")); len(left) > 0 {
					t.Errorf("the directory holds %v", left)
				}
				if _, err := os.Stat(filepath.Join(in.dir, "nats")); err == nil {
					t.Error("the check has made the directory of the embedded broker")
				}
			})
		}
	}
}

// noQueues looks for the exchange of a topic: RabbitMQ lists nothing over AMQP.
func noQueues(t *testing.T, address, prefix string) {
	t.Helper()
	conn, err := amqp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, topic := range []string{"tasks.ArchiveMessage", "chat.ChatMessage"} {
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.ExchangeDeclarePassive(prefix+"."+topic, amqp.ExchangeFanout, true, false, false, false, nil); err == nil {
			t.Errorf("RabbitMQ has the exchange of %s", topic)
		}
		_ = ch.Close() // ended by the answer
	}
}

// TestCheck_BesideARunningNode checks an installation that runs: it is fine, what the node
// uses is not tested, and the node goes on.
func TestCheck_BesideARunningNode(t *testing.T) {
	for _, b := range []*broker{embedded, external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			in := install(t, b)
			node := in.start(t)
			env := append(append([]string{}, in.env...), "BURROW_HTTP_ADDR="+node.addr)
			alice := signIn(t, node.addr, "alice").dial(node.addr)
			for range 2 {
				code, out, log := runs(t, env, "-check")
				if code != exitOK || strings.Contains(log, "level=ERROR") {
					t.Fatalf("got %d, %q and\n%s", code, out, log)
				}
				if want := "address: " + node.addr + " is in use by a running Burrow of this installation, not tested"; !strings.Contains(out, want) {
					t.Errorf("the output does not say %q: %q", want, out)
				}
				if want := "broker: in use by a running Burrow (pid"; strings.Contains(out, want) != (b == embedded) {
					t.Errorf("%q in the output of a check beside %s: %q", want, b, out)
				}
			}
			for _, name := range b.holds(t, in.setting(b.config), in.setting("BURROW_BROKER_TOPIC_PREFIX")) {
				if strings.Contains(name, "check-") {
					t.Errorf("the broker holds %s", name)
				}
			}
			if err := alice.write("", "still here"); err != nil {
				t.Fatal(err)
			}
			alice.await("the message", says("alice", "still here"))
			in.archive(t).comesToHold("still here")
			node.stop()
		})
	}
}

// TestCheck_AddressOfAnotherProgram checks with an address that something else has: another
// Burrow, a web server, or what answers nothing.
func TestCheck_AddressOfAnotherProgram(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, addr := range map[string]string{
		"another Burrow": install(t, memory).start(t).addr,
		"nothing":        silent.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			code, _, log := runs(t, append(install(t, memory).env, "BURROW_HTTP_ADDR="+addr), "-check")
			if code != exitFailed || !strings.Contains(log, "in use") {
				t.Errorf("got %d and\n%s", code, log)
			}
		})
	}
}

// TestCheck_BrokerHangs checks with a broker that takes connections and never answers.
func TestCheck_BrokerHangs(t *testing.T) {
	for _, b := range []*broker{external, onRedis, onAMQP} {
		t.Run(b.driver, func(t *testing.T) {
			t.Parallel()
			hung, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer hung.Close()
			address := map[string]string{"nats": "nats://", "redis": "redis://", "amqp": "amqp://"}[b.driver] + hung.Addr().String()
			code, _, log := runs(t, append(install(t, memory).env, "BURROW_BROKER_DRIVER="+b.driver, b.config+"="+address, "BURROW_BROKER_CONNECT_TIMEOUT=1s"), "-check")
			if failures := lines(log, "level=ERROR"); code != exitFailed || len(failures) != 1 || !strings.Contains(failures[0], "broker.connect_timeout") {
				t.Errorf("got %d and\n%s", code, log)
			}
		})
	}
}

// TestStart_CannotWork starts combinations in which a node could never do anything.
func TestStart_CannotWork(t *testing.T) {
	for _, test := range []struct {
		driver string
		args   string
		says   string
	}{
		{"nats", "-edge=false", "broker.nats.url"},
		{"nats", "-functions archive -edge=false", "broker.nats.url"},
		{"gochannel", "-functions archive -edge=false", "broker.driver"},
		{"redis", "-functions broadcast -edge=false", "broadcast needs the edge"},
		{"redis", "-functions archive,presence -edge=false", "presence needs the edge"},
	} {
		for _, mode := range []string{"", "-check"} {
			t.Run(strings.TrimSpace(test.driver+" "+test.args+" "+mode), func(t *testing.T) {
				data := filepath.Join(t.TempDir(), "data")
				code, out, log := runs(t, []string{"BURROW_DATA_DIR=" + data, "BURROW_BROKER_DRIVER=" + test.driver}, strings.Fields(test.args+" "+mode)...)
				if code != exitUsage || out != "" || !strings.Contains(log, test.says) {
					t.Errorf("got %d, %q and %q, want %d and %q", code, out, log, exitUsage, test.says)
				}
				if _, err := os.Stat(data); err == nil {
					t.Error("it made its data directory")
				}
			})
		}
	}
}
