package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
)

// broker is one to run a test on.
type broker struct {
	driver string
	env    string // names the variable with the URL; "" for one inside the program
	url    string // where it is unless the variable says something else
	config string // the setting that takes the URL
	// wipe deletes what topics with a prefix leave at address; nil for nothing.
	wipe func(ctx context.Context, address, prefix string) error
	// nodes is how many nodes of one installation these tests can start.
	nodes int
}

var (
	memory   = &broker{driver: "gochannel", nodes: 2}
	embedded = &broker{driver: "nats", nodes: 1}
	external = &broker{driver: "nats", env: "BURROW_TEST_NATS_URL", url: "nats://127.0.0.1:4222", config: "BURROW_BROKER_NATS_URL", wipe: wipeNATS, nodes: 2}
	onRedis  = &broker{driver: "redis", env: "BURROW_TEST_REDIS_URL", url: "redis://127.0.0.1:6379/0", config: "BURROW_BROKER_REDIS_URL", wipe: wipeRedis, nodes: 2}
	onAMQP   = &broker{driver: "amqp", env: "BURROW_TEST_AMQP_URL", url: "amqp://guest:guest@127.0.0.1:5672/", config: "BURROW_BROKER_AMQP_URL", wipe: wipeAMQP, nodes: 2}
)

func (b *broker) String() string {
	if b.driver == "nats" && b.env == "" {
		return "embedded"
	}
	return b.driver
}

// need returns where b is. Without a broker there the test is skipped, or fails
// where BURROW_TEST_REQUIRE is set.
func (b *broker) need(t testing.TB) string {
	t.Helper()
	if b.env == "" {
		return ""
	}
	address := os.Getenv(b.env)
	if address == "" {
		address = b.url
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("%s: %v", b.env, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
	if err == nil {
		_ = conn.Close()
		return address
	}
	if os.Getenv("BURROW_TEST_REQUIRE") != "" {
		t.Fatalf("no broker at %s: %v; set %s", u.Host, err, b.env)
	}
	t.Skipf("no broker at %s: set %s to run this", u.Host, b.env)
	return ""
}

// clean deletes what a test has left on b. Durable topics outlive every process,
// and on NATS each installation reserves disk space.
func (b *broker) clean(t testing.TB, address, prefix string) {
	if b.wipe == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.wipe(ctx, address, prefix); err != nil {
		t.Errorf("clean %s after the test: %v", b, err)
	}
}

func wipeNATS(ctx context.Context, address, prefix string) error {
	nc, err := nats.Connect(address)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, strings.ToUpper(prefix)+"_") {
			continue
		}
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
	}
	return names.Err()
}

func wipeRedis(ctx context.Context, address, prefix string) error {
	opts, err := redis.ParseURL(address)
	if err != nil {
		return err
	}
	rdb := redis.NewClient(opts)
	defer func() { _ = rdb.Close() }()
	keys := rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		if err := rdb.Del(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// wipeAMQP names everything, because the protocol cannot list. What is not there
// counts as deleted; the queues of events expire by themselves.
func wipeAMQP(_ context.Context, address, prefix string) error {
	conn, err := amqp.Dial(address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	exchanges := []string{"chat.ChatMessage", "chat.Typing", "chat.UserStatus", "presence.NodeState", "presence.StateRequest"}
	var queues []string
	for topic, functions := range map[string][]string{"tasks.ArchiveMessage": {"archive", "print", "count"}, "tasks.DeadLetter": {deadLetters}} {
		exchanges = append(exchanges, topic, topic+".unrouted")
		queues = append(queues, topic+".unrouted")
		for _, function := range functions {
			queues = append(queues, topic+"."+function)
		}
	}
	var errs []error
	for _, name := range queues {
		_, err := ch.QueueDelete(prefix+"."+name, false, false, false)
		errs = append(errs, err)
	}
	for _, name := range exchanges {
		errs = append(errs, ch.ExchangeDelete(prefix+"."+name, false, false))
	}
	return errors.Join(errs...)
}
