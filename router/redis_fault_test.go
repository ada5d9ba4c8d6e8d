package router

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/internal/brokertest"
)

// redisOn returns a configuration for a server that a test may break.
func redisOn(t *testing.T, server *brokertest.Server) Config {
	t.Helper()
	cfg := testConfig(t, "redis")
	cfg.Redis.URL = server.URL()
	return cfg
}

// confirmedAll publishes until stop returns true, many callers at a time, and
// returns the payloads that were confirmed.
func confirmedAll(t *testing.T, drv driver, delivery Delivery, topic string, stop <-chan struct{}) []string {
	t.Helper()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		list   []string
		failed atomic.Int64
	)
	for p := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				payload := fmt.Sprintf("%d-%d", p, i)
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				err := drv.publish(ctx, topic, delivery, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(payload))})
				cancel()
				if err != nil {
					failed.Add(1)
					continue
				}
				mu.Lock()
				list = append(list, payload)
				mu.Unlock()
				sleep(context.Background(), time.Millisecond)
			}
		})
	}
	wg.Wait()
	t.Logf("%d confirmed, %d refused", len(list), failed.Load())
	return list
}

// sink acks all that comes and counts by payload.
type sink struct {
	mu   sync.Mutex
	seen map[string]int
}

func newSink(ch <-chan *message.Message) *sink {
	s := &sink{seen: make(map[string]int)}
	go func() {
		for msg := range ch {
			s.mu.Lock()
			s.seen[string(msg.Payload)]++
			s.mu.Unlock()
			msg.Ack()
		}
	}()
	return s
}

func (s *sink) missing(want []string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range want {
		if s.seen[w] == 0 {
			n++
		}
	}
	return n
}

func (s *sink) expect(t *testing.T, want []string) {
	t.Helper()
	t.Cleanup(func() {
		if n := s.missing(want); n > 0 {
			t.Logf("%d of %d did not come", n, len(want))
		}
	})
	waitFor(t, "every confirmed message has come", func() bool { return s.missing(want) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	doubled := 0
	for _, n := range s.seen {
		doubled += n - 1
	}
	t.Logf("%d came, %d of them twice", len(s.seen), doubled)
}

func TestRedisLosesNothingByAFlush(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	drv := openRedis(t, redisOn(t, server))
	_, tasks := subscribeRedis(t, drv, Task, "archive", "tasks")
	_, events := subscribeRedis(t, drv, Event, "hub", "events")
	for round := range 3 {
		list := numbers(100*round, 100*(round+1))
		publishTo(t, drv, Task, "tasks", list...)
		publishTo(t, drv, Event, "events", list...)
		collect(t, tasks, list)
		collect(t, events, list)
		if err := drv.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisLosesNothingConfirmedByKilledServers(t *testing.T) {
	t.Parallel()
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			server := brokertest.Start(t, brokertest.Redis)
			drv := openRedis(t, redisOn(t, server))
			_, ch := subscribeRedis(t, drv, delivery, "archive", "topic")
			all := newSink(ch)
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for range 2 {
					sleep(t.Context(), 300*time.Millisecond)
					server.Kill()
					sleep(t.Context(), 500*time.Millisecond)
					server.Restart()
				}
				sleep(t.Context(), time.Second)
			}()
			all.expect(t, confirmedAll(t, drv, delivery, "topic", stop))
		})
	}
}

func TestRedisLosesNothingByCutLinks(t *testing.T) {
	t.Parallel()
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			server := brokertest.Start(t, brokertest.Redis)
			drv := openRedis(t, redisOn(t, server))
			_, ch := subscribeRedis(t, drv, delivery, "archive", "topic")
			all := newSink(ch)
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				admin := redisClient(t, server.URL())
				defer func() { _ = admin.Close() }()
				for range 20 {
					admin.ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes")
					sleep(context.Background(), 100*time.Millisecond)
				}
			}()
			all.expect(t, confirmedAll(t, drv, delivery, "topic", stop))
		})
	}
}

func TestRedisNoticesAStalledServer(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	drv := openRedis(t, redisOn(t, server))
	sub, ch := subscribeRedis(t, drv, Task, "archive", "tasks")
	publishTo(t, drv, Task, "tasks", "0")
	collect(t, ch, []string{"0"})
	server.Pause()
	waitFor(t, "the silence is noticed", func() bool { return sub.state() != nil })
	server.Resume()
	publishTo(t, drv, Task, "tasks", "1")
	collect(t, ch, []string{"1"})
	waitFor(t, "the subscription is well", func() bool { return sub.state() == nil })
}

func TestRedisPublishWhileDown(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis)
	drv := openRedis(t, redisOn(t, server))
	server.Kill()
	for _, n := range []int{1, 3} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		var msgs []*message.Message
		for range n {
			msgs = append(msgs, message.NewMessage("1", nil))
		}
		start := time.Now()
		err := drv.publish(ctx, "tasks", Task, msgs)
		cancel()
		if err == nil || time.Since(start) > testWait/2 {
			t.Errorf("%d messages: error %v after %s", n, err, time.Since(start))
		}
	}
	done := make(chan error)
	go func() { done <- testPublisher{drv, Task}.Publish("tasks", message.NewMessage("2", []byte("kept"))) }()
	sleep(t.Context(), 300*time.Millisecond)
	server.Restart()
	if err := <-done; err != nil {
		t.Errorf("a server that is back in time: %v", err)
	}
	_, ch := subscribeRedis(t, drv, Task, "archive", "tasks")
	collect(t, ch, []string{"kept"})
}

func TestRedisConnect(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.Redis, "--appendonly", "no", "--requirepass", "rightword", "--maxmemory-policy", "allkeys-lru")
	open := func(t *testing.T, address string, within time.Duration) (string, error) {
		t.Helper()
		var log logBuffer
		cfg := testConfig(t, "redis")
		cfg.ConnectTimeout = within
		cfg.Redis.URL = address
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		drv, err := newRedisDriver(t.Context(), cfg)
		if err == nil {
			err = drv.close()
		}
		return log.String(), err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()
	for _, c := range []struct{ name, url, wantErr, wantLog string }{
		{"right", "redis://:rightword@" + server.Addr(), "", "appendonly yes"},
		{"evicting", "redis://:rightword@" + server.Addr(), "", "maxmemory-policy noeviction"},
		{"wrong password", "redis://:wrongword@" + server.Addr(), "refuses: WRONGPASS", ""},
		{"no password", "redis://" + server.Addr(), "refuses: NOAUTH", ""},
		{"wrong database", "redis://:rightword@" + server.Addr() + "/99", "refuses: ERR DB index", ""},
		{"nobody there", "redis://:wrongword@" + nobody, "did not answer within broker.connect_timeout (1s)", "waiting for redis at " + nobody},
		{"not a URL", "redis://:wrong/word@host", "broker.redis.url cannot be read", ""},
		{"no scheme", "wrongword", "broker.redis.url cannot be read", ""},
		{"empty", "", "broker.redis.url cannot be read", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			within := 20 * time.Second
			if c.name == "nobody there" {
				within = time.Second
			}
			log, err := open(t, c.url, within)
			if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got error %v, want %q", err, c.wantErr)
			}
			if !strings.Contains(log, c.wantLog) {
				t.Errorf("the log has no %q:\n%s", c.wantLog, log)
			}
			for _, said := range []string{fmt.Sprint(err), log} {
				if strings.Contains(said, "wrong/") || strings.Contains(said, "wrongword") || strings.Contains(said, "rightword") {
					t.Errorf("shows the password: %s", said)
				}
			}
		})
	}
}
