package router

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
)

// testURL returns the broker that the environment names, or def. Without a broker
// there the test is skipped, or fails where BURROW_TEST_REQUIRE is set.
func testURL(t testing.TB, env, def string) string {
	t.Helper()
	address := os.Getenv(env)
	if address == "" {
		address = def
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
	if err == nil {
		_ = conn.Close()
		return address
	}
	if os.Getenv("BURROW_TEST_REQUIRE") != "" {
		t.Fatalf("no broker at %s: %v; set %s", u.Host, err, env)
	}
	t.Skipf("no broker at %s: set %s to run this", u.Host, env)
	return ""
}

// testPrefix returns a topic prefix that no other test uses.
func testPrefix() string { return "test-" + strings.ToLower(rand.Text()[:10]) }

// testConfig returns a quiet configuration with a prefix of its own.
func testConfig(t testing.TB, name string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Driver = name
	cfg.TopicPrefix = testPrefix()
	cfg.ConnectTimeout = 10 * time.Second
	cfg.DataDir = t.TempDir()
	cfg.NATS.MaxTaskBytes = 64 << 20 // a server reserves it for each type
	cfg.Metrics = prometheus.NewRegistry()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return cfg
}

func testMetrics(t testing.TB) *metrics {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// testPublisher is a driver as a Watermill publisher.
type testPublisher struct {
	drv      driver
	delivery Delivery
}

func (p testPublisher) Publish(topic string, msgs ...*message.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	return p.drv.publish(ctx, topic, p.delivery, msgs)
}

func (p testPublisher) Close() error { return nil }
