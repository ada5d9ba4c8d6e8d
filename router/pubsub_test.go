package router

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
)

// pubSubFeatures are what every broker promises for tasks.
var pubSubFeatures = tests.Features{
	ConsumerGroups: true, Persistent: true,
	GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true,
	ForceShort: true, // the same promises with fewer messages
}

// pubSubSuite runs Watermill's own suite over tasks of drivers made by open, with
// one lane, for the suite has no routing keys and wants one order.
// All drivers of one suite must reach the same broker with the same prefix.
func pubSubSuite(t *testing.T, features tests.Features, open func(t *testing.T) driver) {
	t.Helper()
	group := func(t *testing.T, name string) (message.Publisher, message.Subscriber) {
		drv := open(t)
		sub := newSubscriber(drv, Task, name, FunctionConfig{Concurrency: 1, Backoff: 200 * time.Millisecond}, context.Background(), slog.New(slog.DiscardHandler), testMetrics(t))
		sub.keyOf = func(*message.Message) laneKey { return laneKey{} }
		sub.drain = time.Second               // the suite closes subscribers with messages in flight
		t.Cleanup(func() { _ = sub.Close() }) // the suite leaves some open; never fails
		return testPublisher{drv, Task}, sub
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return group(t, "all")
	}, group)
}

func openTestDriver(t *testing.T, cfg Config) driver {
	t.Helper()
	drv, err := openDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drv.close(); err != nil {
			t.Error(err)
		}
	})
	return drv
}

func TestPubSubGoChannel(t *testing.T) {
	cfg := testConfig(t, "gochannel")
	cfg.Memory = NewMemory()
	pubSubSuite(t, pubSubFeatures, func(t *testing.T) driver { return openTestDriver(t, cfg) })
}

func TestPubSubNATS(t *testing.T) {
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
	cleanNATS(t, cfg)
	pubSubSuite(t, pubSubFeatures, func(t *testing.T) driver { return impatient(openTestDriver(t, cfg)) })
}

func TestPubSubEmbeddedNATS(t *testing.T) {
	drv := impatient(openTestDriver(t, testConfig(t, "nats")))
	pubSubSuite(t, pubSubFeatures, func(t *testing.T) driver { return drv })
}

// impatient shortens the ack wait of a driver below the 15 s for which the suite waits. A
// message that the server sends at the moment its reader leaves is lost on the way, and
// redelivered after the ack wait.
func impatient(drv driver) driver {
	drv.(*natsDriver).ackWait = extendEvery + 2*time.Second
	return drv
}

// cleanNATS deletes the streams of a test when it ends.
func cleanNATS(t *testing.T, cfg Config) {
	t.Cleanup(func() {
		drv, err := newNATSDriver(context.Background(), cfg)
		if err != nil {
			t.Error(err)
			return
		}
		d := drv.(*natsDriver)
		names := d.conn().pubJS.StreamNames(context.Background())
		for name := range names.Name() {
			if strings.HasPrefix(name, strings.ToUpper(cfg.TopicPrefix)+"_") {
				_ = d.conn().pubJS.DeleteStream(context.Background(), name) // another test may wipe it too
			}
		}
		_ = d.close()
	})
}
