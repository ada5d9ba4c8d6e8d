package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// TestWhatStoppedProcessesGaveBack has more processes in a row than a task may end take
// tasks, stop before they begin them, and give them back in any order. The next one gets
// them in the order in which they were published, and not as tasks that end processes.
func TestWhatStoppedProcessesGaveBack(t *testing.T) {
	t.Parallel()
	const n = 30
	for _, b := range []struct{ name, driver, env, url string }{
		{"gochannel", "gochannel", "", ""},
		{"embedded", "nats", "", ""},
		{"nats", "nats", "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222"},
		{"redis", "redis", "BURROW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0"},
		{"amqp", "amqp", "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/"},
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
			topic := cfg.TopicPrefix + ".tasks.Work"
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if err := drv.declare(ctx, topic, Task, "work"); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint("task ", i))
				if err := drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(want[i], []byte(want[i]))}); err != nil {
					t.Fatal(err)
				}
			}
			stops := maxDeliveries + 5
			if b.name == "nats" {
				stops = renewAfter + 2 // a server before 2.10 takes seconds for each
			}
			for stop := range stops {
				src, err := drv.open(ctx, &subscription{topic: topic, delivery: Task, group: "work", window: 2 * n})
				if err != nil {
					t.Fatal(err)
				}
				var ds []*delivered
				for len(ds) < n {
					more, err := src.next(ctx, n)
					if err != nil {
						t.Fatalf("after %d stops, with %d tasks: %v", stop, len(ds), err)
					}
					ds = append(ds, more...)
				}
				var got []string
				for _, d := range ds {
					got = append(got, d.msg.UUID)
					if d.redelivered > renewAfter {
						t.Fatalf("after %d stops %s is taken for one that ends its processes", stop, d.msg.UUID)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("after %d stops they come as %v", stop, got)
				}
				rand.Shuffle(n, func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
				if err := src.release(ctx, ds); err != nil {
					t.Fatal(err)
				}
				if err := src.close(ctx, true); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
