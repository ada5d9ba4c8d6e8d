package router

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"

	"burrow/internal/brokertest"
)

// faultWidth is how many faults are measured at a time, so that they measure the
// brokers and not the machine.
const faultWidth = 4

// faultBroker is a broker with the faults that it can have.
type faultBroker struct {
	kind   brokertest.Kind
	set    func(cfg *Config, url string)
	faults []fault // of what one installation has on the broker
	wiped  []fault // and of the whole broker, server given
	// within bounds the recovery after the broker was killed.
	within time.Duration
	// forgets says that events do not survive the broker.
	forgets bool
	// settle is how old a queue must be to survive the broker: RabbitMQ 3.10 writes
	// the name of a quorum queue to disk seconds after it has confirmed it. If it is
	// killed before, the queue comes back empty and without a leader, and stays so.
	settle time.Duration
	// handover is after how long another worker has the tasks of a killed one.
	handover time.Duration
}

// taken is how long NATS waits for a message that it sent into a connection that
// was just going down.
const taken = ackWait + 5*time.Second

var faultBrokers = []faultBroker{
	{
		kind: brokertest.NATS, within: taken, handover: ackWait + 5*time.Second,
		set: func(cfg *Config, url string) { cfg.NATS.URL = url },
		faults: []fault{
			{name: "consumers deleted", within: 20 * time.Second, begin: func(run *faultRun) {
				js := run.jetStream()
				run.must(js.DeleteConsumer(run.t.Context(), run.stream(Task), run.name(Task)))
				run.must(js.DeleteConsumer(run.t.Context(), run.stream(Event), run.name(Event)))
			}},
			{name: "streams deleted", within: 20 * time.Second, wipes: true, begin: func(run *faultRun) {
				js := run.jetStream()
				run.must(js.DeleteStream(run.t.Context(), run.stream(Task)))
				run.must(js.DeleteStream(run.t.Context(), run.stream(Event)))
			}},
		},
	},
	{
		kind: brokertest.Redis, within: 20 * time.Second, handover: ackWait + 5*time.Second,
		set: func(cfg *Config, url string) { cfg.Redis.URL = url },
		faults: []fault{
			{name: "group destroyed", within: 20 * time.Second, begin: func(run *faultRun) {
				rdb := redisClient(run.t, run.cfg.Redis.URL)
				run.must(rdb.XGroupDestroy(run.t.Context(), run.topic(Task), "work").Err())
			}},
			{name: "streams deleted", within: 20 * time.Second, wipes: true, begin: func(run *faultRun) {
				rdb := redisClient(run.t, run.cfg.Redis.URL)
				run.must(rdb.Del(run.t.Context(), run.topic(Task), run.topic(Event)).Err())
			}},
		},
		wiped: []fault{
			{name: "FLUSHALL", within: 20 * time.Second, wipes: true, begin: func(run *faultRun) {
				run.must(redisClient(run.t, run.cfg.Redis.URL).FlushAll(run.t.Context()).Err())
			}},
		},
	},
	{
		kind: brokertest.AMQP, within: 20 * time.Second, forgets: true, settle: 5 * time.Second, handover: 5 * time.Second,
		set: func(cfg *Config, url string) { cfg.AMQP.URL = url },
		faults: []fault{
			{name: "queues deleted", within: 20 * time.Second, wipes: true, gaps: true, begin: func(run *faultRun) {
				ch := run.amqpChannel()
				for _, queue := range []string{run.name(Task), run.name(Event)} {
					_, err := ch.QueueDelete(queue, false, false, false)
					run.must(err)
				}
			}},
			{name: "exchanges deleted", within: 20 * time.Second, wipes: true, gaps: true, begin: func(run *faultRun) {
				ch := run.amqpChannel()
				run.must(ch.ExchangeDelete(run.topic(Task), false, false))
				run.must(ch.ExchangeDelete(run.topic(Event), false, false))
			}},
		},
	},
}

// TestFaults measures what faults do to confirmed messages on every broker that is
// a process of its own. `make faults` prints the table.
func TestFaults(t *testing.T) {
	t.Parallel()
	results := new(faultResults)
	turns := make(chan struct{}, faultWidth)
	var brokers sync.WaitGroup // not t.Parallel: faults wait more than they work
	brokers.Go(func() { t.Run("embedded", func(t *testing.T) { embeddedFaults(t, results) }) })
	for _, b := range faultBrokers {
		brokers.Go(func() {
			t.Run(string(b.kind), func(t *testing.T) { b.run(t, results, turns) })
		})
	}
	brokers.Wait()
	t.Logf("faults:\n%s", results.table())
}

func (b faultBroker) run(t *testing.T, results *faultResults, turns chan struct{}) {
	server := brokertest.Start(t, b.kind)
	one := func(t *testing.T, url string, f fault) {
		turns <- struct{}{}
		defer func() { <-turns }()
		t.Run(f.name, func(t *testing.T) {
			cfg := testConfig(t, string(b.kind))
			b.set(&cfg, url)
			results.add(t, measure(t, string(b.kind), cfg, f))
		})
	}
	// First what does not touch the others, at the same time.
	var cases sync.WaitGroup
	cases.Go(func() {
		t.Run("worker killed", func(t *testing.T) {
			cfg := testConfig(t, string(b.kind))
			b.set(&cfg, server.URL())
			results.add(t, workerKilled(t, string(b.kind), cfg, b.handover))
		})
	})
	for _, f := range b.faults {
		cases.Go(func() { one(t, server.URL(), f) })
	}
	for _, f := range []fault{
		{name: "link cut", away: 2 * time.Second},
		{name: "link stalled", away: 8 * time.Second},
	} {
		cases.Go(func() {
			url, link := server.Proxied(t)
			f.begin = func(*faultRun) { link.Cut() }
			if f.name == "link stalled" {
				f.begin = func(*faultRun) { link.Stall() }
			}
			f.end = func(*faultRun) { link.Restore() }
			f.within = b.within
			one(t, url, f)
		})
	}
	cases.Go(func() {
		url, link := server.Proxied(t)
		one(t, url, fault{
			name: "link cut 10 times", within: b.within,
			begin: func(run *faultRun) {
				for range 10 {
					link.Cut()
					waitFor(run.t, "the cut shows", func() bool { return run.check() != nil })
					link.Restore()
					waitFor(run.t, "the functions are subscribed again", func() bool { return run.check() == nil })
				}
			},
		})
	})
	cases.Wait()
	// Then what does, one after the other.
	for _, f := range append(b.wiped,
		fault{
			name: "broker paused", away: 3 * time.Second, within: b.within,
			begin: func(*faultRun) { server.Pause() }, end: func(*faultRun) { server.Resume() },
		},
		fault{
			name: "broker killed", away: 2 * time.Second, within: b.within, gaps: b.forgets, settle: b.settle,
			begin: func(*faultRun) { server.Kill() }, end: func(*faultRun) { server.Restart() },
		},
		fault{
			name: "broker killed, reader behind", away: 2 * time.Second, within: b.within, gaps: b.forgets, settle: b.settle, behind: true,
			begin: func(*faultRun) { server.Kill() }, end: func(*faultRun) { server.Restart() },
		},
		fault{
			name: "broker killed, data lost", away: 6 * time.Second, within: b.within, wipes: true, gaps: b.forgets,
			begin: func(*faultRun) { server.Kill() }, end: func(*faultRun) { server.RestartEmpty() },
		},
	) {
		one(t, server.URL(), f)
	}
}

func (run *faultRun) must(err error) {
	run.t.Helper()
	if err != nil {
		run.t.Fatal(err)
	}
}

func (run *faultRun) stream(delivery Delivery) string {
	return (&natsDriver{cfg: run.cfg}).streamName(run.topic(delivery), delivery)
}

func (run *faultRun) jetStream() jetstream.JetStream {
	run.t.Helper()
	nc, err := nats.Connect(run.cfg.NATS.URL)
	run.must(err)
	run.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	run.must(err)
	return js
}

func (run *faultRun) amqpChannel() *amqp.Channel {
	run.t.Helper()
	conn, err := amqp.Dial(run.cfg.AMQP.URL)
	run.must(err)
	run.t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	run.must(err)
	return ch
}

// TestPublishWithoutABrokerIsAnErrorInTime: nobody waits for longer than
// PublishTimeout, and a batch is no slower than one message.
func TestPublishWithoutABrokerIsAnErrorInTime(t *testing.T) {
	t.Parallel()
	for _, b := range faultBrokers {
		if b.kind == brokertest.AMQP {
			continue // TestFaults does that: to start one more takes too long
		}
		t.Run(string(b.kind), func(t *testing.T) {
			t.Parallel()
			server := brokertest.Start(t, b.kind)
			cfg := testConfig(t, string(b.kind))
			cfg.PublishTimeout = time.Second
			b.set(&cfg, server.URL())
			in := &installation{t: t, cfg: cfg}
			r := in.node(func(*Router) error { return nil })
			// The first ones make what they need; a busy disk may take longer than the bound for that.
			waitFor(t, "publishing works", func() bool { return r.Publish(t.Context(), say("a", "1"), task("a", "1")) == nil })
			for _, stop := range []struct {
				name        string
				begin, ends func()
			}{{"killed", server.Kill, server.Restart}, {"paused", server.Pause, server.Resume}} {
				stop.begin()
				var took time.Duration
				for range 10 { // one of them is in time, also on a busy machine
					begun := time.Now()
					if err := r.Publish(t.Context(), task("a", "2"), task("b", "2"), say("a", "2")); !errors.Is(err, ErrUnavailable) {
						t.Errorf("%s: got %v, want ErrUnavailable", stop.name, err)
					}
					if took = time.Since(begun); took < 2*cfg.PublishTimeout {
						break
					}
				}
				if took >= 2*cfg.PublishTimeout {
					t.Errorf("%s: the publish took %s, want %s", stop.name, took, cfg.PublishTimeout)
				}
				stop.ends()
				waitFor(t, "publishing works again", func() bool { return r.Publish(context.Background(), task("a", "3")) == nil })
			}
		})
	}
}
