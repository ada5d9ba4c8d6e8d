package router

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/gen/tasks"
)

func TestHandledTasksMakeRoomAndWaitingOnesStay(t *testing.T) {
	for _, server := range []string{"embedded", "external"} {
		t.Run(server, func(t *testing.T) {
			cfg := testConfig(t, "nats")
			cfg.Route = testRoute
			cfg.NATS.MaxTaskBytes = 1 << 20
			if server == "external" {
				cfg.NATS.URL = testURL(t, "BURROW_TEST_NATS_URL", "nats://127.0.0.1:4222")
				cleanNATS(t, cfg)
			}
			in := &installation{t: t, cfg: cfg}
			var got tally
			r := in.node(func(r *Router) error {
				return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
					got.add(m.GetMessage().GetSender())
					return nil
				})
			})
			d := r.drv.(*natsDriver)
			waiting := d.cfg.TopicPrefix + ".other.tasks.NoFunction"
			if err := d.publish(t.Context(), waiting, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), nil)}); err != nil {
				t.Fatal(err)
			}
			// Five times as much as the stream holds.
			const n = 100
			for i := range n {
				in.publish(r, task(fmt.Sprint("u", i), strings.Repeat("x", 50_000)))
				if i%10 == 9 {
					waitFor(t, "the tasks to be handled", func() bool { return got.len() == i+1 })
				}
			}
			got.eachOnce(t, n)
			topic := Topic(cfg.TopicPrefix, &tasks.ArchiveMessage{})
			stream, err := d.conn().pubJS.Stream(t.Context(), d.streamName(topic, Task))
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "no handled task to be left", func() bool {
				if err := d.trim(t.Context(), topic, 1); err != nil {
					t.Fatal(err)
				}
				info, err := stream.Info(t.Context())
				return err == nil && info.State.Msgs == 0
			})
			if err := d.trim(t.Context(), waiting, 1); err != nil {
				t.Fatal(err)
			}
			other, err := d.conn().pubJS.Stream(t.Context(), d.streamName(waiting, Task))
			if err != nil || other.CachedInfo().State.Msgs != 1 {
				t.Errorf("the task without a function: %v, want it to wait", err)
			}
		})
	}
}
