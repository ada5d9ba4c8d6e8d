package routertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"

	"burrow/router"
	"burrow/router/routertest"
)

const uuidHeader = "_watermill_message_uuid"

// NATS

func embeddedConfig(t testing.TB) router.Config {
	cfg := freshConfig("nats")
	cfg.DataDir = t.TempDir()
	return cfg
}

func natsConfig(t testing.TB) router.Config {
	cfg := freshConfig("nats")
	direct := testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
	cfg.NATS.URL = throughWire(t, cfg.TopicPrefix, direct, nil)
	t.Cleanup(func() {
		withNATS(t, direct.String(), nil, func(ctx context.Context, js jetstream.JetStream) {
			for _, stream := range natsStreams(ctx, t, js, cfg) {
				if err := js.DeleteStream(ctx, stream.CachedInfo().Config.Name); err != nil {
					t.Error(err)
				}
			}
		})
	})
	return cfg
}

// withNATS calls do with a connection of its own.
func withNATS(t testing.TB, address string, srv *server.Server, do func(context.Context, jetstream.JetStream)) {
	t.Helper()
	var opts []nats.Option
	if srv != nil {
		opts = append(opts, nats.InProcessServer(srv))
	}
	nc, err := nats.Connect(address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	do(ctx, js)
}

// withEmbedded opens the store that a node has left.
func withEmbedded(t testing.TB, cfg router.Config, do func(context.Context, jetstream.JetStream)) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "burrow", DontListen: true, NoSigs: true, NoLog: true, JetStream: true,
		StoreDir: filepath.Join(cfg.DataDir, "nats"), MaxPayload: 8 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	if !srv.ReadyForConnections(30 * time.Second) {
		t.Fatal("the embedded server did not start")
	}
	withNATS(t, "", srv, do)
}

func natsStreams(ctx context.Context, t testing.TB, js jetstream.JetStream, cfg router.Config) []jetstream.Stream {
	t.Helper()
	var streams []jetstream.Stream
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if !strings.HasPrefix(name, strings.ToUpper(cfg.TopicPrefix)+"_") {
			continue
		}
		stream, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	return streams
}

func natsPoison(ctx context.Context, t testing.TB, js jetstream.JetStream, topic string, poison routertest.Poison) {
	t.Helper()
	msg := &nats.Msg{Subject: topic, Data: poison.Payload()}
	switch poison {
	case routertest.Garbage:
		msg.Header = nats.Header{uuidHeader: []string{fmt.Sprint("raw ", time.Now().UnixNano())}}
	case routertest.WrongTypes: // all headers are texts here, but one may come twice
		msg.Header = nats.Header{uuidHeader: []string{"one", "two"}, "other": []string{"a", "b"}}
	}
	if _, err := js.PublishMsg(ctx, msg); err != nil {
		t.Fatal(err)
	}
}

func publishRawNATS(t testing.TB, cfg router.Config, topic string, poison routertest.Poison) {
	withNATS(t, cfg.NATS.URL, nil, func(ctx context.Context, js jetstream.JetStream) { natsPoison(ctx, t, js, topic, poison) })
}

func publishRawEmbedded(t testing.TB, cfg router.Config, topic string, poison routertest.Poison) {
	withEmbedded(t, cfg, func(ctx context.Context, js jetstream.JetStream) { natsPoison(ctx, t, js, topic, poison) })
}

// natsConsumers lists the consumers that belong to no function: those of event
// readers, which have no durable name.
func natsConsumers(ctx context.Context, t testing.TB, js jetstream.JetStream, cfg router.Config) []routertest.Leftover {
	t.Helper()
	var left []routertest.Leftover
	for _, stream := range natsStreams(ctx, t, js, cfg) {
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			if info.Config.Durable == "" {
				left = append(left, routertest.Leftover{Name: info.Stream + " " + info.Name, Expires: info.Config.InactiveThreshold})
			}
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return left
}

func natsLeftovers(t testing.TB, cfg router.Config) (left []routertest.Leftover) {
	withNATS(t, cfg.NATS.URL, nil, func(ctx context.Context, js jetstream.JetStream) { left = natsConsumers(ctx, t, js, cfg) })
	return left
}

func embeddedLeftovers(t testing.TB, cfg router.Config) (left []routertest.Leftover) {
	withEmbedded(t, cfg, func(ctx context.Context, js jetstream.JetStream) { left = natsConsumers(ctx, t, js, cfg) })
	return left
}

// Redis

func redisConfig(t testing.TB) router.Config {
	cfg := freshConfig("redis")
	direct := testURL(t, "BURROW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
	cfg.Redis.URL = throughWire(t, cfg.TopicPrefix, direct, nil)
	t.Cleanup(func() {
		rdb := redisClient(t, direct.String())
		defer func() { _ = rdb.Close() }()
		ctx := context.Background()
		keys := rdb.Scan(ctx, 0, cfg.TopicPrefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			rdb.Del(ctx, keys.Val())
		}
		if err := keys.Err(); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

func redisClient(t testing.TB, address string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	return redis.NewClient(opts)
}

func publishRawRedis(t testing.TB, cfg router.Config, topic string, poison routertest.Poison) {
	t.Helper()
	payload := string(poison.Payload())
	values := map[string]any{"payload": payload}
	switch poison {
	case routertest.Garbage:
		values["metadata"], values[uuidHeader] = "\x80", fmt.Sprint("raw ", time.Now().UnixNano()) // an empty map
	case routertest.Empty:
		values = map[string]any{"": ""} // Redis wants one field
	case routertest.WrongTypes:
		values["metadata"], values[uuidHeader] = "\x2a", "raw" // a number
	}
	rdb := redisClient(t, cfg.Redis.URL)
	defer func() { _ = rdb.Close() }()
	if err := rdb.XAdd(context.Background(), &redis.XAddArgs{Stream: topic, Values: values}).Err(); err != nil {
		t.Fatal(err)
	}
}

// redisGoneAfter is when other nodes forget an idle consumer of tasks. That they do
// is shown in router/redis_test.go with a shorter time; nothing on the server tells it.
const redisGoneAfter = 10 * time.Minute

// redisLeftovers lists consumers of tasks. The readers of events have no groups: one
// that is found on a stream of events is listed as staying for ever.
func redisLeftovers(t testing.TB, cfg router.Config) (left []routertest.Leftover) {
	t.Helper()
	rdb := redisClient(t, cfg.Redis.URL)
	defer func() { _ = rdb.Close() }()
	ctx := context.Background()
	keys := rdb.Scan(ctx, 0, cfg.TopicPrefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		if !strings.Contains(keys.Val(), ".events.") && !strings.Contains(keys.Val(), ".tasks.") {
			left = append(left, routertest.Leftover{Name: keys.Val()})
			continue
		}
		groups, err := rdb.XInfoGroups(ctx, keys.Val()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range groups {
			if strings.Contains(keys.Val(), ".events.") {
				left = append(left, routertest.Leftover{Name: keys.Val() + " " + group.Name})
				continue
			}
			consumers, err := rdb.XInfoConsumers(ctx, keys.Val(), group.Name).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range consumers {
				if c.Name == "released" && c.Pending == 0 {
					continue // nobody's, and one for each function
				}
				left = append(left, routertest.Leftover{Name: keys.Val() + " " + group.Name + " " + c.Name, Expires: redisGoneAfter})
			}
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return left
}

// RabbitMQ

// amqpSeen holds the names that the nodes of an installation declared.
type amqpSeen struct {
	mu        sync.Mutex
	queues    map[string]bool
	exchanges map[string]bool
}

var amqpInstallations sync.Map // *amqpSeen by topic prefix

func amqpConfig(t testing.TB) router.Config {
	cfg := freshConfig("amqp")
	direct := testURL(t, "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
	seen := &amqpSeen{queues: make(map[string]bool), exchanges: make(map[string]bool)}
	amqpInstallations.Store(cfg.TopicPrefix, seen)
	t.Cleanup(func() { seen.clean(t, direct.String()) })
	cfg.AMQP.URL = throughWire(t, cfg.TopicPrefix, direct, func() io.Writer {
		return &amqpNames{found: seen.note}
	})
	return cfg
}

func (s *amqpSeen) note(class, method uint16, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const exchange, queue, declare = 40, 50, 10
	switch {
	case method != declare:
	case class == exchange:
		s.exchanges[name] = true
	case class == queue:
		s.queues[name] = true
	}
}

func (s *amqpSeen) clean(t testing.TB, address string) {
	withAMQP(t, address, func(conn *amqp.Connection) {
		ch, err := conn.Channel()
		if err != nil {
			t.Error(err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for exchange := range s.exchanges {
			if err := ch.ExchangeDelete(exchange, false, false); err != nil {
				t.Error(err)
				return
			}
		}
		for queue := range s.queues { // one that is gone counts as deleted
			if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

func withAMQP(t testing.TB, address string, do func(*amqp.Connection)) {
	t.Helper()
	conn, err := amqp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	do(conn)
}

func publishRawAMQP(t testing.TB, cfg router.Config, topic string, poison routertest.Poison) {
	t.Helper()
	pub := amqp.Publishing{Body: poison.Payload()}
	switch poison {
	case routertest.Garbage:
		pub.Headers = amqp.Table{uuidHeader: fmt.Sprint("raw ", time.Now().UnixNano())}
	case routertest.WrongTypes:
		pub.Headers = amqp.Table{uuidHeader: int64(7), "burrow_key": amqp.Table{"a": int32(1)}, "list": []any{int32(1), "x"}}
	}
	withAMQP(t, cfg.AMQP.URL, func(conn *amqp.Connection) {
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.Confirm(false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, topic, "", false, false, pub)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := confirm.WaitContext(ctx); !ok || err != nil {
			t.Fatal(ok, err)
		}
	})
}

// amqpEventExpires is what the queues of events must have been declared with.
const amqpEventExpires = time.Minute

// amqpLeftovers lists the queues of events that are there.
func amqpLeftovers(t testing.TB, cfg router.Config) (left []routertest.Leftover) {
	t.Helper()
	found, _ := amqpInstallations.Load(cfg.TopicPrefix)
	seen := found.(*amqpSeen)
	seen.mu.Lock()
	queues := slices.Sorted(maps.Keys(seen.queues))
	seen.mu.Unlock()
	withAMQP(t, cfg.AMQP.URL, func(conn *amqp.Connection) {
		for _, queue := range queues {
			if !strings.Contains(queue, ".events.") {
				continue // of a function of tasks
			}
			expires, there := amqpExpires(t, conn, queue)
			if there {
				left = append(left, routertest.Leftover{Name: queue, Expires: expires})
			}
		}
	})
	return left
}

// amqpExpires asks for a queue with the settings it should have: RabbitMQ refuses
// if it has others.
func amqpExpires(t testing.TB, conn *amqp.Connection, queue string) (expires time.Duration, there bool) {
	t.Helper()
	const mark = ".mark"
	with := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueTTLArg: int32(amqpEventExpires / time.Millisecond)}
	if strings.HasSuffix(queue, mark) {
		with[amqp.QueueMaxLenArg] = int32(2)
	} else {
		topic := strings.Join(strings.Split(queue, ".")[:strings.Count(queue, ".")-1], ".") // without .<group>.<random>
		with[amqp.QueueMaxLenArg] = int32(10_000)
		with[amqp.QueueOverflowArg] = amqp.QueueOverflowDropHead
		with["x-dead-letter-exchange"] = topic + mark
		with["x-dead-letter-routing-key"] = queue + mark
	}
	for _, args := range []amqp.Table{nil, with} {
		ch, err := conn.Channel() // an answer that is no ends it
		if err != nil {
			t.Fatal(err)
		}
		if args == nil {
			_, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		} else {
			_, err = ch.QueueDeclare(queue, true, false, false, false, args)
		}
		_ = ch.Close()
		var answer *amqp.Error
		switch {
		case errors.As(err, &answer) && answer.Code == amqp.NotFound:
			return 0, false
		case errors.As(err, &answer) && answer.Code == amqp.PreconditionFailed:
			return 0, true
		case err != nil:
			t.Fatal(err)
		}
	}
	return amqpEventExpires, true
}
