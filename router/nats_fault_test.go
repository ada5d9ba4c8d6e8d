package router

import (
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// TestEventsOfANewNATSStreamComeFromItsBeginning: its numbers begin at 1 again, and
// may have passed the place where the function stood in the old one.
func TestEventsOfANewNATSStreamComeFromItsBeginning(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	cfg.NATS.URL = testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
	cleanNATS(t, cfg)
	d := openTestDriver(t, cfg).(*natsDriver)
	topic := cfg.TopicPrefix + ".chat.ChatMessage"
	publish := func(from, to int) {
		t.Helper()
		for _, n := range numbers(from, to) {
			if err := d.publish(t.Context(), topic, Event, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(n))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	gaps := 0
	sub := &subscription{topic: topic, delivery: Event, group: "hub", window: 100, gap: func() { gaps++ }}
	open := func() source {
		t.Helper()
		if err := d.declare(t.Context(), topic, Event, sub.group); err != nil {
			t.Fatal(err)
		}
		src, err := d.open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	src := open()
	publish(0, 5)
	read(t, src, 5)
	_ = src.close(t.Context(), false)
	if err := d.conn().subJS.DeleteStream(t.Context(), d.streamName(topic, Event)); err != nil {
		t.Fatal(err)
	}
	// A server that still removes the directory of its last stream fails to make one in it.
	waitFor(t, "the stream is there", func() bool { return d.declare(t.Context(), topic, Event, sub.group) == nil })
	publish(5, 15)
	src = open()
	defer func() { _ = src.close(t.Context(), true) }()
	if got, want := payloads(read(t, src, 10)), numbers(5, 15); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if gaps != 1 {
		t.Errorf("%d gaps were told, want 1", gaps)
	}
}
