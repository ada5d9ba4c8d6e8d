package router

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

func TestAMQPCutLosesNothing(t *testing.T) {
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			b := newAMQPBench(t)
			cfg, proxy := b.behindProxy()
			drv := b.open(t, cfg)
			topic := b.topic("Cut")
			r := b.read(drv, topic, delivery, "test")
			stop := make(chan struct{})
			wait := b.publishers(drv, topic, delivery, stop)
			for cut := range 3 {
				before := len(r.ids())
				waitFor(t, "messages flow", func() bool { return len(r.ids()) > before+100 })
				proxy.refuse.Store(cut == 1) // once for longer
				proxy.cut()
				if cut == 1 {
					refused := proxy.refused.Load()
					waitFor(t, "both connections are dialled in vain", func() bool { return proxy.refused.Load() > refused+5 })
					proxy.refuse.Store(false)
				}
			}
			close(stop)
			confirmed := wait()
			r.wait(t, confirmed...)
			t.Logf("%d confirmed, %d came", len(confirmed), len(r.ids()))
		})
	}
}

func TestAMQPTwentyReconnectsWithPublishers(t *testing.T) {
	b := newAMQPBench(t)
	cfg, proxy := b.behindProxy()
	drv := b.open(t, cfg)
	topic := b.topic("Reconnects")
	r := b.read(b.drv, topic, Task, "test")
	stop := make(chan struct{})
	wait := b.publishers(drv, topic, Task, stop)
	for range 20 {
		before := len(r.ids())
		waitFor(t, "messages flow", func() bool { return len(r.ids()) > before+4 })
		proxy.cut()
	}
	close(stop)
	done := make(chan []string)
	go func() { done <- wait() }()
	select {
	case confirmed := <-done:
		r.wait(t, confirmed...)
	case <-time.After(testWait):
		t.Fatal("publishers hang")
	}
	if err := drv.ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func TestAMQPSubscriberHealsWhenItsQueueIsDeleted(t *testing.T) {
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			b := newAMQPBench(t)
			topic := b.topic("Heals")
			r := b.read(b.drv, topic, delivery, "test")
			b.publish(topic, delivery, "before")
			r.wait(t, "before")
			queue := amqpQueueOf(topic, "test")
			if delivery == Event {
				queue = b.eventQueue(topic, "test")
			}
			ch := b.channel()
			if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
				t.Fatal(err)
			}
			if err := ch.ExchangeDelete(topic, false, false); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the queue is back", func() bool { return b.waiting(queue) >= 0 })
			b.publish(topic, delivery, "after") // also declares the exchange where the reader has not yet
			if delivery == Task {
				r.wait(t, "after")
				return
			}
			waitFor(t, "events arrive again", func() bool {
				b.publish(topic, delivery, "after")
				return slices.Contains(r.ids(), "after")
			})
		})
	}
}

func TestAMQPNackedTaskComesAgainWithItsCount(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Again")
	sub := &subscription{gap: func() {}, topic: topic, delivery: Task, group: "test", window: 8}
	if err := b.drv.declare(t.Context(), topic, Task, "test"); err != nil {
		t.Fatal(err)
	}
	b.publish(topic, Task, "a", "b", "c")
	seen := make(map[string]int)
	for seen["a"] < 30 || seen["b"] < 30 || seen["c"] < 30 { // over any delivery limit
		src, err := b.drv.open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := src.next(t.Context(), 8)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if reason := d.msg.Metadata.Get(metaPoison); reason != "" {
				t.Fatalf("%s is poison: %s", d.msg.UUID, reason)
			}
			seen[d.msg.UUID]++
		}
		if err := src.close(t.Context(), false); err != nil { // gives back, and counts
			t.Fatal(err)
		}
	}
	b.read(b.drv, topic, Task, "test").wait(t, "a", "b", "c")
}

func TestAMQPDeadLetteredTaskReturnsToItsQueue(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Limit")
	for _, group := range []string{"first", "second"} {
		if err := b.drv.declare(t.Context(), topic, Task, group); err != nil {
			t.Fatal(err)
		}
	}
	b.publish(topic, Task, "a")
	// The server's own delivery limit does the same with another reason.
	ch := b.channel()
	d, ok, err := ch.Get(amqpQueueOf(topic, "second"), false)
	if err != nil || !ok {
		t.Fatalf("get: %v, %v", ok, err)
	}
	if err := d.Nack(false, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the task is dead-lettered", func() bool { return b.waiting(amqpKeptOf(topic)) == 1 })
	if err := b.drv.collect(t.Context(), topic, "first"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the task is back in the second queue", func() bool { return b.waiting(amqpQueueOf(topic, "second")) == 1 })
	if got := b.waiting(amqpQueueOf(topic, "first")); got != 1 {
		t.Errorf("%d tasks in the first queue, want its own only", got)
	}
	b.read(b.drv, topic, Task, "second").wait(t, "a")
}

func TestAMQPPublishWhileAway(t *testing.T) {
	b := newAMQPBench(t)
	cfg, proxy := b.behindProxy()
	drv := b.open(t, cfg)
	topic := b.topic("Away")
	if err := drv.publish(t.Context(), topic, Task, amqpMessages("a")); err != nil {
		t.Fatal(err)
	}
	proxy.refuse.Store(true)
	proxy.cut()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := drv.publish(ctx, topic, Task, amqpMessages("b"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("publish while away: %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(start); took > testWait/2 {
		t.Errorf("publish took %s, its context 300ms", took)
	}
	if err := drv.ping(ctx); err == nil {
		t.Error("ping: want an error while away")
	}
	proxy.refuse.Store(false)
	if err := drv.publish(t.Context(), topic, Task, amqpMessages("c")); err != nil {
		t.Errorf("publish after the cut: %v", err)
	}
}

func TestAMQPStalledLinkBlocksNobody(t *testing.T) {
	b := newAMQPBench(t)
	cfg, proxy := b.behindProxy()
	drv, err := newAMQPDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	spy := amqpSpy{drv.(*amqpDriver), b}
	topic := b.topic("Stalled")
	r := b.read(spy, topic, Event, "test")
	if err := spy.publish(t.Context(), topic, Event, amqpMessages("a")); err != nil {
		t.Fatal(err)
	}
	r.wait(t, "a")
	proxy.stalled.Lock()
	unstall := sync.OnceFunc(proxy.stalled.Unlock)
	defer unstall()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	big := message.NewMessage("big", make([]byte, 32<<20)) // more than the sockets hold
	start := time.Now()
	var wg sync.WaitGroup
	for _, msg := range []*message.Message{big, message.NewMessage("b", nil), message.NewMessage("c", nil)} {
		wg.Go(func() {
			if err := spy.publish(ctx, topic, Event, []*message.Message{msg}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("publish of %s: %v, want %v", msg.UUID, err, context.DeadlineExceeded)
			}
		})
	}
	wg.Wait()
	if err := spy.ping(ctx); err == nil {
		t.Error("ping: want an error while nothing gets through")
	}
	if took := time.Since(start); took > testWait/2 {
		t.Errorf("publishers waited %s, their context 300ms", took)
	}
	if err := r.sub.Close(); err != nil {
		t.Error(err)
	}
	if err := drv.close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > testWait {
		t.Errorf("closing took %s", took)
	}
}

func TestAMQPRefusesWrongCredentialsAtOnce(t *testing.T) {
	u, err := url.Parse(amqpTestURL(t))
	if err != nil {
		t.Fatal(err)
	}
	user, vhost := *u, *u
	user.User = url.UserPassword("nobody-"+strconv.Itoa(len(u.Host)), "sesame")
	vhost.Path = "/no-such-vhost"
	for name, address := range map[string]string{"user": user.String(), "vhost": vhost.String()} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, "amqp")
			cfg.AMQP.URL, cfg.ConnectTimeout = address, time.Hour // a driver that tries again ends with the context
			ctx, cancel := context.WithTimeout(t.Context(), testWait)
			defer cancel()
			_, err := newAMQPDriver(ctx, cfg)
			if err == nil || !strings.Contains(err.Error(), "correct broker.amqp.url") {
				t.Fatalf("got %v, want an error that names the setting", err)
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
}
