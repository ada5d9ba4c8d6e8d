package router

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

func TestRedisTidyKeepsWhatAnyGroupNeeds(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openRedis(t, cfg)
	length := func() int64 {
		t.Helper()
		if err := drv.tidy(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		n, err := drv.rdb.XLen(t.Context(), topic).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := length(); got != 0 {
		t.Errorf("a topic that does not exist has %d", got)
	}
	publishTo(t, drv, Task, topic, numbers(0, 1000)...)
	if got := length(); got != 1000 {
		t.Errorf("%d of 1000 are left before the first worker", got)
	}
	one := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "one"})
	two := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "two"})
	if err := one.ack(t.Context(), read(t, one, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := length(); got != 1000 {
		t.Errorf("%d of 1000 are left, and the second group has seen none", got)
	}
	held := read(t, two, 1000)
	if err := two.ack(t.Context(), append(slices.Clone(held[:500]), held[501:]...)); err != nil {
		t.Fatal(err)
	}
	if got := length(); got < 500 || got > 700 {
		t.Errorf("%d are left, want the 500 from the pending one on and a little more", got)
	}
	if left, err := drv.rdb.XRange(t.Context(), topic, held[500].id, held[500].id).Result(); err != nil || len(left) != 1 {
		t.Errorf("the pending task is gone: %v", err)
	}
	if err := two.ack(t.Context(), held[500:501]); err != nil {
		t.Fatal(err)
	}
	if got := length(); got > 150 {
		t.Errorf("%d are left of what all have handled", got)
	}
	// Consumers of dead processes go when they hold nothing.
	publishTo(t, drv, Task, topic, "last")
	read(t, two, 1)
	drv.limits.goneAfter = 0
	waitFor(t, "only the consumer that holds something is left", func() bool {
		length()
		ones, _ := drv.rdb.XInfoConsumers(t.Context(), topic, "one").Result()
		twos, _ := drv.rdb.XInfoConsumers(t.Context(), topic, "two").Result()
		return len(ones) == 0 && len(twos) == 1
	})
}

func TestRedisRefusesTasksOverTheBound(t *testing.T) {
	t.Parallel()
	cfg := redisConfig(t)
	topic := cfg.TopicPrefix + ".tasks"
	drv := openRedis(t, cfg)
	drv.limits.taskLength = 300
	publishTo(t, drv, Task, topic, numbers(0, 300)...)
	expire := func() {
		drv.mu.Lock()
		defer drv.mu.Unlock()
		drv.topics[topic].checked = time.Time{}
	}
	expire()
	err := testPublisher{drv, Task}.Publish(topic, message.NewMessage("1", nil))
	if err == nil || !strings.Contains(err.Error(), "300 tasks on "+topic) {
		t.Errorf("got %v, want a refusal that tells the number and the topic", err)
	}
	src := openSource(t, drv, &subscription{gap: func() {}, topic: topic, delivery: Task, group: "archive"})
	if err := src.ack(t.Context(), read(t, src, 300)); err != nil {
		t.Fatal(err)
	}
	expire()
	publishTo(t, drv, Task, topic, "room again")
}
