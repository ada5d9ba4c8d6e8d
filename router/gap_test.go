package router

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/gen/chat"
)

// TestAReaderThatIsTooSlowIsTold publishes more events than the broker keeps for one
// reader, who then reads: what is missing is told, and what is kept comes in order.
func TestAReaderThatIsTooSlowIsTold(t *testing.T) {
	for _, b := range []struct {
		name, driver, env, url string
		events, size           int
	}{
		{"gochannel", "gochannel", "", "", 2 * memoryEventQueue, 10},
		{"embedded", "nats", "", "", 100, 1 << 20},
		{"nats", "nats", "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222", 100, 1000 << 10},
		{"redis", "redis", "BURROW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0", 2 * redisEventLength, 10},
		{"amqp", "amqp", "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/", 3 * amqpEventQueue / 2, 10},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, b.driver)
			if b.env != "" {
				address := testURL(t, b.env, b.url)
				cfg.NATS.URL, cfg.Redis.URL, cfg.AMQP.URL = address, address, address
			}
			switch b.name {
			case "nats":
				cleanNATS(t, cfg)
			case "redis":
				cleanRedis(t, cfg)
			case "amqp":
				cleanAMQP(t, cfg)
			}
			drv := openTestDriver(t, cfg)
			topic := Topic(cfg.TopicPrefix, &chat.ChatMessage{})
			gaps := 0
			sub := &subscription{topic: topic, delivery: Event, group: "slow", window: 16, gap: func() { gaps++ }}
			if err := drv.declare(t.Context(), topic, Event, "slow"); err != nil {
				t.Fatal(err)
			}
			src, err := drv.open(t.Context(), sub)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = src.close(context.WithoutCancel(t.Context()), true) }()
			payload := bytes.Repeat([]byte("x"), b.size)
			var last string
			publish := func(n int) {
				for n > 0 {
					batch := make([]*message.Message, min(n, 20))
					for i := range batch {
						last = watermill.NewUUID()
						batch[i] = message.NewMessage(last, payload)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					err := drv.publish(ctx, topic, Event, batch)
					cancel()
					if err != nil {
						t.Fatal(err)
					}
					n -= len(batch)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			read := func() (n int) {
				for {
					ds, err := src.next(ctx, 16)
					if err != nil {
						t.Fatal(err)
					}
					n += len(ds)
					if err := src.ack(ctx, ds); err != nil {
						t.Fatal(err)
					}
					if len(ds) > 0 && ds[len(ds)-1].msg.UUID == last {
						return n
					}
				}
			}
			look := func() { // for those who look now and then
				switch s := src.(type) {
				case *amqpSource:
					err = s.bind(ctx)
				case *redisEvents:
					err = s.check(ctx)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			publish(1)
			n := read()
			look()
			if n != 1 || gaps != 0 {
				t.Fatalf("read %d events, told of %d gaps, want 1 and none", n, gaps)
			}
			publish(b.events)
			n = read()
			look()
			if n >= b.events || gaps == 0 {
				t.Errorf("read %d of %d events and was told of %d gaps", n, b.events, gaps)
			}
			t.Logf("read %d of %d events, told of %d gaps", n, b.events, gaps)
		})
	}
}

// TestReadersOfADeletedExchangeAreTold has the exchange of an event deleted on RabbitMQ,
// which ends no subscription, and made again by a publisher or by another node.
func TestReadersOfADeletedExchangeAreTold(t *testing.T) {
	t.Parallel()
	for _, again := range []string{"publisher", "node"} {
		t.Run(again, func(t *testing.T) {
			cfg := testConfig(t, "amqp")
			cfg.AMQP.URL = testURL(t, "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
			cleanAMQP(t, cfg)
			topic := Topic(cfg.TopicPrefix, &chat.ChatMessage{})
			ctx, cancel := context.WithTimeout(t.Context(), testWait)
			defer cancel()
			publisher := openTestDriver(t, cfg).(*amqpDriver)
			publish := func() {
				t.Helper()
				if err := publisher.publish(ctx, topic, Event, []*message.Message{message.NewMessage(watermill.NewUUID(), nil)}); err != nil {
					t.Fatal(err)
				}
			}
			gaps := make([]int, 2)
			var sources []*amqpSource
			for i := range gaps {
				drv := openTestDriver(t, cfg)
				if err := drv.declare(ctx, topic, Event, "show"); err != nil {
					t.Fatal(err)
				}
				src, err := drv.open(ctx, &subscription{topic: topic, delivery: Event, group: "show", window: 16, gap: func() { gaps[i]++ }})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = src.close(context.WithoutCancel(ctx), true) }()
				sources = append(sources, src.(*amqpSource))
			}
			look := func(want int) {
				t.Helper()
				for i, s := range sources {
					waitFor(t, "they look", func() bool {
						if err := s.bind(ctx); err != nil {
							t.Fatal(err)
						}
						return gaps[i] >= want
					})
				}
			}
			publish()
			look(0)
			if gaps[0]+gaps[1] > 0 {
				t.Fatalf("told of %v gaps before anything happened", gaps)
			}
			conn, err := publisher.writing.get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ch.Close() }()
			if err := ch.ExchangeDelete(topic, false, false); err != nil {
				t.Fatal(err)
			}
			if again == "publisher" {
				publish()
			} else if err := openTestDriver(t, cfg).declare(ctx, topic, Event, "show"); err != nil {
				t.Fatal(err)
			}
			look(1)
			look(1)
			if gaps[0] != 1 || gaps[1] != 1 {
				t.Errorf("told of %v gaps, want one each", gaps)
			}
			publish()
			for i, s := range sources {
				for got := 0; got < 2; { // the first and the last

					ds, err := s.next(ctx, 1)
					if err != nil {
						t.Fatalf("reader %d: %v", i, err)
					}
					got += len(ds)
				}
			}
		})
	}
}
