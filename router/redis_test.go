package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// redisConfig returns the configuration of the shared test server, and deletes
// what the test leaves there.
func redisConfig(t *testing.T) Config {
	t.Helper()
	cfg := testConfig(t, "redis")
	cfg.Redis.URL = testURL(t, "BURROW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
	cleanRedis(t, cfg)
	return cfg
}

// cleanRedis deletes the keys of a test when it ends.
func cleanRedis(t *testing.T, cfg Config) {
	t.Cleanup(func() {
		rdb := redisClient(t, cfg.Redis.URL)
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
}

func redisClient(t *testing.T, address string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	return redis.NewClient(opts)
}

func openRedis(t *testing.T, cfg Config) *redisDriver {
	t.Helper()
	return openTestDriver(t, cfg).(*redisDriver)
}

// openPatientRedis never takes tasks of a silent worker over: only released ones come to another worker.
func openPatientRedis(t *testing.T, cfg Config) *redisDriver {
	t.Helper()
	drv := openRedis(t, cfg)
	drv.limits.ackWait = redisReleasedIdle - time.Minute
	return drv
}

// subscribeRedis reads topic through the delivery core until the test ends.
func subscribeRedis(t *testing.T, drv driver, delivery Delivery, group, topic string) (*subscriber, <-chan *message.Message) {
	t.Helper()
	s := newSubscriber(drv, delivery, group, FunctionConfig{}, context.Background(), testConfig(t, "redis").Log, testMetrics(t))
	ch, err := s.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, ch
}

func TestPubSubRedis(t *testing.T) {
	cfg := redisConfig(t)
	features := pubSubFeatures
	features.GenerateTopicFunc = func(ctx tests.TestContext) string { return cfg.TopicPrefix + "." + string(ctx.TestID) }
	pubSubSuite(t, features, func(t *testing.T) driver { return openTestDriver(t, cfg) })
}

func TestRedisTaskWaitsForItsFirstWorker(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openRedis(t, cfg)
	publishTo(t, drv, Task, topic, numbers(0, 500)...)
	_, ch := subscribeRedis(t, drv, Task, "late", topic)
	collect(t, ch, numbers(0, 500))
}

func TestRedisEveryGroupGetsEveryTask(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openRedis(t, cfg)
	_, one := subscribeRedis(t, drv, Task, "one", topic)
	_, two := subscribeRedis(t, openRedis(t, cfg), Task, "two", topic)
	publishTo(t, drv, Task, topic, numbers(0, 300)...)
	collect(t, one, numbers(0, 300))
	collect(t, two, numbers(0, 300))
}

func TestRedisEventsBeginWhereTheStreamStoodAtSubscribe(t *testing.T) {
	t.Parallel()
	for _, exists := range []bool{true, false} {
		t.Run(fmt.Sprintf("stream exists=%t", exists), func(t *testing.T) {
			cfg := redisConfig(t)
			topic := cfg.TopicPrefix + ".events"
			drv := openRedis(t, cfg)
			if exists {
				publishTo(t, drv, Event, topic, "before")
			}
			src := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Event, group: "hub"})
			publishTo(t, drv, Event, topic, "a", "b") // before the first read
			if got := payloads(read(t, src, 2)); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("got %q, want a and b", got)
			}
		})
	}
}

func TestRedisEventsGoOnExactlyAfterAReopen(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".events"
	drv := openRedis(t, cfg)
	sub := &subscription{gap: func() {}, topic: topic, delivery: Event, group: "hub"}
	src := openSource(t, drv, sub)
	publishTo(t, drv, Event, topic, numbers(0, 10)...)
	got := payloads(read(t, src, 4))
	// The link of this source dies.
	if err := drv.rdb.ClientKillByFilter(t.Context(), "ID", strconv.FormatInt(src.(*redisEvents).id, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the source ends with an error", func() bool {
		_, err := src.next(t.Context(), 256)
		return err != nil
	})
	if err := src.close(t.Context(), false); err != nil {
		t.Log(err)
	}
	publishTo(t, drv, Event, topic, numbers(10, 15)...)
	got = append(got, payloads(read(t, openSource(t, drv, sub), 11))...)
	if want := numbers(0, 15); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRedisTasksSentToADeadLinkComeAtOnceAfterAReopen(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openPatientRedis(t, cfg)
	sub := &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"}
	src := openSource(t, drv, sub)
	publishTo(t, drv, Task, topic, numbers(0, 9)...)
	read(t, src, 9) // as if the answer had been lost
	if err := src.close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	again := openSource(t, drv, sub)
	var got []string
	for len(got) < 9 {
		got = append(got, payloads(read(t, again, 1))...)
	}
	if !slices.Equal(got, numbers(0, 9)) {
		t.Errorf("got %q", got)
	}
}

func TestRedisEventsFollowAStreamThatBeganAnewWithLowerIDs(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".events"
	drv := openRedis(t, cfg)
	sub := &subscription{gap: func() {}, topic: topic, delivery: Event, group: "hub"}
	src := openSource(t, drv, sub)
	publishTo(t, drv, Event, topic, "old")
	read(t, src, 1)
	fields, err := redisEncode(topic, message.NewMessage("1", []byte("new")))
	if err != nil {
		t.Fatal(err)
	}
	drv.rdb.Del(t.Context(), topic)
	if err := drv.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: topic, ID: "1-1", Values: fields}).Err(); err != nil {
		t.Fatal(err)
	}
	if got := payloads(read(t, src, 1)); got[0] != "new" { // found by the check while it runs
		t.Errorf("got %q, want new", got)
	}
}

func TestRedisTellsOfAStreamThatBeganAnewWithHigherIDs(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".events"
	drv := openRedis(t, cfg)
	gaps := 0
	sub := &subscription{gap: func() { gaps++ }, topic: topic, delivery: Event, group: "hub"}
	src := openSource(t, drv, sub).(*redisEvents)
	publishTo(t, drv, Event, topic, numbers(0, 5)...)
	read(t, src, 3)
	drv.rdb.Del(t.Context(), topic) // with two that are unread
	publishTo(t, drv, Event, topic, "new")
	if err := src.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := payloads(read(t, src, 1)); got[0] != "new" || gaps != 1 {
		t.Errorf("got %q, told of %d gaps, want new and 1", got, gaps)
	}
	if err := src.check(t.Context()); err != nil || gaps != 1 {
		t.Errorf("once more: %v, told of %d gaps", err, gaps)
	}
}

func TestRedisTellsHowManyEventsWereTrimmedUnread(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	var log logBuffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	topic := cfg.TopicPrefix + ".events"
	drv := openRedis(t, cfg)
	sub := &subscription{gap: func() {}, topic: topic, delivery: Event, group: "hub"}
	src := openSource(t, drv, sub).(*redisEvents)
	publishTo(t, drv, Event, topic, numbers(0, 30)...)
	read(t, src, 10)
	drv.rdb.XTrimMaxLen(t.Context(), topic, 5) // 15 of the 20 that are unread
	if err := src.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "dropped=15") {
		t.Errorf("the log tells nothing of 15 dropped events:\n%s", log.String())
	}
	read(t, src, 5)
	publishTo(t, drv, Event, topic, numbers(30, 40)...)
	drv.rdb.XTrimMaxLen(t.Context(), topic, 0)
	_ = src.close(t.Context(), false)
	openSource(t, drv, sub)
	if !strings.Contains(log.String(), "dropped=10") {
		t.Errorf("the log tells nothing of 10 dropped events:\n%s", log.String())
	}
}

func TestRedisPoison(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	drv := openRedis(t, cfg)
	for _, delivery := range []Delivery{Task, Event} {
		topic := cfg.TopicPrefix + "." + delivery.String()
		_, ch := subscribeRedis(t, drv, delivery, "archive", topic)
		entries := [][]any{
			{"who", "knows\xff"},
			{"payload", "body only"},
			{redisstream.UUIDHeaderKey, "", "payload", "no id"},
			{redisstream.UUIDHeaderKey, "bad", "payload", "bad metadata", "metadata", "\xc1garbage"},
			{redisstream.UUIDHeaderKey, "huge", "payload", "huge metadata", "metadata", "\xdf\xff\xff\xff\xff"},
			{redisstream.UUIDHeaderKey, "wrong", "payload", "wrong metadata", "metadata", "\x93\x01\x02\x03"},
		}
		for _, fields := range entries {
			if err := drv.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: topic, Values: fields}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		publishTo(t, drv, delivery, topic, "good")
		marked := message.NewMessage("marked", []byte("a stranger's mark"))
		marked.Metadata.Set(metaPoison, "no")
		if err := drv.publish(t.Context(), topic, delivery, []*message.Message{marked}); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{
			"a stranger's mark":        false,
			"\"who\"=\"knows\\xff\"\n": true, "body only": true, "no id": true, "bad metadata": true,
			"huge metadata": true, "wrong metadata": true, "good": false,
		}
		for range want {
			select {
			case msg := <-ch:
				reason := msg.Metadata.Get(metaPoison)
				poison, known := want[string(msg.Payload)]
				if !known || poison != (reason != "") || msg.UUID == "" {
					t.Errorf("%s: got %q with id %q and reason %q", delivery, msg.Payload, msg.UUID, reason)
				}
				msg.Ack()
			case <-time.After(testWait):
				t.Fatal("nothing came")
			}
		}
	}
	waitFor(t, "poison is acked as well", func() bool {
		p, err := drv.rdb.XPending(t.Context(), cfg.TopicPrefix+".task", "archive").Result()
		return err == nil && p.Count == 0
	})
}

func TestRedisReleasedTasksGoToAnotherWorkerSoon(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openPatientRedis(t, cfg)
	first := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"})
	publishTo(t, drv, Task, topic, numbers(0, 10)...)
	held := read(t, first, 10)
	other := openSource(t, openPatientRedis(t, cfg), &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"})
	if ds, err := other.next(t.Context(), 64); err != nil || len(ds) > 0 {
		t.Fatalf("got %q (%v) of what the other one holds", payloads(ds), err)
	}
	if err := first.ack(t.Context(), held[:2]); err != nil {
		t.Fatal(err)
	}
	if err := first.release(t.Context(), held[2:]); err != nil {
		t.Fatal(err)
	}
	if err := first.close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	got := payloads(read(t, other, 8))
	slices.Sort(got)
	if !slices.Equal(got, numbers(2, 10)) {
		t.Errorf("got %q", got)
	}
	consumers, err := drv.rdb.XInfoConsumers(t.Context(), topic, "archive").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range consumers {
		if strings.HasPrefix(c.Name, drv.name) {
			t.Errorf("the closed consumer %s is still there", c.Name)
		}
	}
}

func TestRedisClosingWorkerHandsOver(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openPatientRedis(t, cfg)
	first, ch := subscribeRedis(t, drv, Task, "archive", topic)
	publishTo(t, drv, Task, topic, numbers(0, 40)...)
	running := <-ch // the other 39 are read ahead
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = first.Close()
	}()
	running.Ack()
	<-closed
	_, other := subscribeRedis(t, openPatientRedis(t, cfg), Task, "archive", topic)
	rest := slices.DeleteFunc(numbers(0, 40), func(p string) bool { return p == string(running.Payload) })
	collect(t, other, rest)
}

func TestRedisTasksOfAKilledWorkerComeAfterTheAckWait(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openRedis(t, cfg)
	dead := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"})
	publishTo(t, drv, Task, topic, numbers(0, 200)...)
	held := read(t, dead, 200)
	if err := drv.rdb.XDel(t.Context(), topic, held[0].id).Err(); err != nil { // must not be in the way
		t.Fatal(err)
	}
	heir := openRedis(t, cfg)
	heir.limits.ackWait = 6 * time.Second // a busy machine may be seconds late with a heartbeat
	src := openSource(t, heir, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"})
	// As long as the holder gives signs of life, nothing moves.
	for begun := time.Now(); time.Since(begun) < 8*time.Second; {
		if err := dead.extend(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		if ds, err := src.next(t.Context(), 64); err != nil || len(ds) > 0 {
			t.Fatalf("got %q (%v) of what the other one works on", payloads(ds), err)
		}
	}
	if got := payloads(read(t, src, 199)); !slices.Equal(got, numbers(1, 200)) {
		t.Errorf("got %d tasks: %q", len(got), got)
	}
}

func TestRedisWireFormat(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	drv := openRedis(t, cfg)
	stock := redisClient(t, cfg.Redis.URL)
	sent := message.NewMessage(watermill.NewUUID(), []byte("body\x00\xff"))
	sent.Metadata.Set(metaKey, "room")
	check := func(t *testing.T, ch <-chan *message.Message) {
		t.Helper()
		select {
		case got := <-ch:
			got.Ack()
			if got.UUID != sent.UUID || !bytes.Equal(got.Payload, sent.Payload) || got.Metadata.Get(metaKey) != "room" {
				t.Errorf("got %v, want %v", got, sent)
			}
		case <-time.After(testWait):
			t.Fatal("nothing came")
		}
	}
	t.Run("stock publisher", func(t *testing.T) {
		topic := cfg.TopicPrefix + ".in"
		_, ch := subscribeRedis(t, drv, Task, "archive", topic)
		pub, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: stock}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := pub.Publish(topic, sent); err != nil {
			t.Fatal(err)
		}
		check(t, ch)
	})
	t.Run("stock subscriber", func(t *testing.T) {
		topic := cfg.TopicPrefix + ".out"
		sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{Client: stock, ConsumerGroup: "stock"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := (testPublisher{drv, Task}).Publish(topic, sent); err != nil {
			t.Fatal(err)
		}
		ch, err := sub.Subscribe(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		check(t, ch)
		if err := sub.Close(); err != nil { // closes the client too
			t.Fatal(err)
		}
	})
}

func TestRedisCloseLeavesNoGoroutine(t *testing.T) {
	cfg := redisConfig(t)
	before := goleak.IgnoreCurrent()
	drv, err := newRedisDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, delivery := range []Delivery{Task, Event} {
		topic := cfg.TopicPrefix + "." + delivery.String()
		var took time.Duration
		for round := range 5 { // one of them is quick, also on a busy machine
			s, ch := subscribeRedis(t, drv, delivery, "archive", topic)
			sent := numbers(20*round, 20*round+20)
			publishTo(t, drv, delivery, topic, sent...)
			collect(t, ch, sent)
			start := time.Now()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if took = time.Since(start); took < redisBlock/2 {
				break
			}
		}
		if took >= redisBlock/2 {
			t.Errorf("closing took %s: it waited for a blocked read", took)
		}
	}
	if err := drv.close(); err != nil {
		t.Fatal(err)
	}
	if err := drv.ping(t.Context()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("ping after close: %v", err)
	}
	goleak.VerifyNone(t, before)
}
