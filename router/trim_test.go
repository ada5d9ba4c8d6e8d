package router

import (
	"context"
	"testing"
)

// trimmer is what a test of trimming needs of a broker.
type trimmer struct {
	driver
	trim    func(ctx context.Context, topic string) error
	lose    func(ctx context.Context, topic, group string) error // Forgets a function.
	tasks   func(ctx context.Context, topic string) (int64, error)
	pending func(ctx context.Context, topic, group string) (int64, error) // Neither handled nor given back.
}

func trimmers(t *testing.T, test func(t *testing.T, b trimmer, topic string)) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		cfg := redisConfig(t)
		d := openRedis(t, cfg)
		test(t, trimmer{
			driver: d,
			trim:   d.tidy,
			lose: func(ctx context.Context, topic, group string) error {
				return d.rdb.XGroupDestroy(ctx, topic, group).Err()
			},
			tasks: func(ctx context.Context, topic string) (int64, error) { return d.rdb.XLen(ctx, topic).Result() },
			pending: func(ctx context.Context, topic, group string) (int64, error) {
				p, err := d.rdb.XPending(ctx, topic, group).Result()
				if err != nil {
					return 0, err
				}
				return p.Count, nil
			},
		}, cfg.TopicPrefix+".tasks.Both")
	})
	t.Run("nats", func(t *testing.T) {
		natsServers(t, func(t *testing.T, cfg Config) {
			d := openTestDriver(t, cfg).(*natsDriver)
			test(t, trimmer{
				driver: d,
				trim:   func(ctx context.Context, topic string) error { return d.trim(ctx, topic, 1) },
				lose: func(ctx context.Context, topic, group string) error {
					return d.conn().subJS.DeleteConsumer(ctx, d.streamName(topic, Task), d.consumerName(topic, group))
				},
				tasks: func(ctx context.Context, topic string) (int64, error) {
					s, err := d.conn().subJS.Stream(ctx, d.streamName(topic, Task))
					if err != nil {
						return 0, err
					}
					return int64(s.CachedInfo().State.Msgs), nil
				},
				pending: func(ctx context.Context, topic, group string) (int64, error) {
					c, err := d.conn().subJS.Consumer(ctx, d.streamName(topic, Task), d.consumerName(topic, group))
					if err != nil {
						return 0, err
					}
					return int64(c.CachedInfo().NumAckPending), nil
				},
			}, cfg.TopicPrefix+".tasks.Both")
		})
	})
}

// TestHandledTasksWaitForAFunctionThatIsNotBackYet: a broker that has lost a topic gets to know its
// functions one after the other, and each of them is to have what was published meanwhile.
func TestHandledTasksWaitForAFunctionThatIsNotBackYet(t *testing.T) {
	t.Parallel()
	trimmers(t, func(t *testing.T, b trimmer, topic string) {
		const n = 1000
		open := func(group string) source {
			return openSource(t, b, &subscription{gap: func() {}, topic: topic, delivery: Task, group: group, window: n})
		}
		handle := func(src source, group string) {
			t.Helper()
			if err := src.ack(t.Context(), read(t, src, n)); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the broker to know what was handled", func() bool {
				pending, err := b.pending(t.Context(), topic, group)
				return err == nil && pending == 0
			})
		}
		left := func() int64 {
			t.Helper()
			if err := b.trim(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
			tasks, err := b.tasks(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			return tasks
		}
		one, two := open("one"), open("two")
		if err := two.close(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := b.lose(t.Context(), topic, "two"); err != nil {
			t.Fatal(err)
		}
		publishTo(t, b, Task, topic, numbers(0, n)...)
		handle(one, "one")
		if got := left(); got != n {
			t.Fatalf("%d of %d are left, and the second function has seen none", got, n)
		}
		handle(open("two"), "two")
		if got := left(); got > n/2 {
			t.Errorf("%d of %d are left, and both functions have handled all", got, n)
		}
	})
}
