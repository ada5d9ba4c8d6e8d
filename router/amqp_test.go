package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"
)

const amqpTestWait = 20 * time.Second

// amqpBench is a driver with a prefix of its own on the broker for tests, and a
// connection past the driver to look and meddle. It takes note of what its
// drivers make and deletes that when the test ends.
type amqpBench struct {
	t   *testing.T
	cfg Config
	drv amqpSpy
	raw *amqp.Connection

	mu     sync.Mutex
	topics map[string]Delivery
	queues map[string]bool
}

// amqpSpy is a driver that the bench watches.
type amqpSpy struct {
	*amqpDriver
	b *amqpBench
}

func (s amqpSpy) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	s.b.saw(topic, delivery, "")
	return s.amqpDriver.publish(ctx, topic, delivery, msgs)
}

func (s amqpSpy) declare(ctx context.Context, topic string, delivery Delivery, group string) error {
	s.b.saw(topic, delivery, amqpQueueOf(topic, group))
	return s.amqpDriver.declare(ctx, topic, delivery, group)
}

func (s amqpSpy) open(ctx context.Context, sub *subscription) (source, error) {
	src, err := s.amqpDriver.open(ctx, sub)
	if sub.cursor != "" {
		s.b.saw(sub.topic, sub.delivery, sub.cursor)
	}
	return src, err
}

func amqpTestURL(t testing.TB) string {
	return testURL(t, "BURROW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
}

func newAMQPBench(t *testing.T) *amqpBench {
	t.Helper()
	address := amqpTestURL(t)
	b := &amqpBench{t: t, cfg: testConfig(t, "amqp"), topics: make(map[string]Delivery), queues: make(map[string]bool)}
	b.cfg.AMQP.URL = address
	raw, err := amqp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	b.raw = raw
	t.Cleanup(b.clean)
	b.drv = b.open(t, b.cfg)
	return b
}

func (b *amqpBench) open(t *testing.T, cfg Config) amqpSpy {
	t.Helper()
	return amqpSpy{openTestDriver(t, cfg).(*amqpDriver), b}
}

func (b *amqpBench) topic(name string) string { return b.cfg.TopicPrefix + "." + name }

func (b *amqpBench) saw(topic string, delivery Delivery, queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[topic] = delivery
	if queue != "" {
		b.queues[queue] = true
	}
}

// eventQueue returns the queue of the only event subscription to topic.
func (b *amqpBench) eventQueue(topic, group string) string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for queue := range b.queues {
		if strings.HasPrefix(queue, amqpQueueOf(topic, group)+".") {
			return queue
		}
	}
	b.t.Fatalf("no event queue of %s", topic)
	return ""
}

func (b *amqpBench) clean() {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { _ = b.raw.Close() }()
	ch, err := b.raw.Channel()
	if err != nil {
		b.t.Error(err)
		return
	}
	for topic, delivery := range b.topics {
		exchanges := []string{topic}
		if delivery == Task {
			exchanges = append(exchanges, amqpUnroutedOf(topic))
			b.queues[amqpUnroutedOf(topic)] = true
		}
		for _, name := range exchanges {
			if err := ch.ExchangeDelete(name, false, false); err != nil {
				b.t.Error(err)
			}
		}
	}
	for queue := range b.queues { // one that is gone counts as deleted
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *amqpBench) channel() *amqp.Channel {
	b.t.Helper()
	ch, err := b.raw.Channel()
	if err != nil {
		b.t.Fatal(err)
	}
	return ch
}

// waiting returns how many messages lie in a queue, or -1 if there is none.
func (b *amqpBench) waiting(queue string) int {
	b.t.Helper()
	ch := b.channel()
	defer func() { _ = ch.Close() }()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if amqpCode(err) == amqp.NotFound {
		return -1
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return q.Messages
}

func (b *amqpBench) publish(topic string, delivery Delivery, ids ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), amqpTestWait)
	defer cancel()
	if err := b.drv.publish(ctx, topic, delivery, amqpMessages(ids...)); err != nil {
		b.t.Fatal(err)
	}
}

func amqpMessages(ids ...string) []*message.Message {
	var msgs []*message.Message
	for _, id := range ids {
		msg := message.NewMessage(id, []byte("payload of "+id))
		msg.Metadata.Set(metaKey, "one lane")
		msgs = append(msgs, msg)
	}
	return msgs
}

// reader subscribes and acks all it gets.
type amqpReader struct {
	sub  *subscriber
	more chan struct{}
	mu   sync.Mutex
	got  []*message.Message
}

func (b *amqpBench) read(drv driver, topic string, delivery Delivery, group string) *amqpReader {
	b.t.Helper()
	r := &amqpReader{
		sub:  newSubscriber(drv, delivery, group, FunctionConfig{}, context.Background(), b.cfg.Log, testMetrics(b.t)),
		more: make(chan struct{}, 1),
	}
	msgs, err := r.sub.Subscribe(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for msg := range msgs {
			r.mu.Lock()
			r.got = append(r.got, msg)
			r.mu.Unlock()
			msg.Ack()
			select {
			case r.more <- struct{}{}:
			default:
			}
		}
	}()
	b.t.Cleanup(func() {
		_ = r.sub.Close()
		<-done
	})
	return r
}

func (r *amqpReader) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, msg := range r.got {
		ids = append(ids, msg.UUID)
	}
	return ids
}

// wait returns when every id came at least once.
func (r *amqpReader) wait(t *testing.T, want ...string) {
	t.Helper()
	timeout := time.After(amqpTestWait)
	for {
		have := make(map[string]bool)
		for _, id := range r.ids() {
			have[id] = true
		}
		missing := slices.DeleteFunc(slices.Clone(want), func(id string) bool { return have[id] })
		if len(missing) == 0 {
			return
		}
		select {
		case <-r.more:
		case <-timeout:
			t.Fatalf("%d of %d did not come, such as %s", len(missing), len(want), missing[0])
		}
	}
}

func amqpIDs(from, to int) []string {
	var ids []string
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprintf("m%05d", i))
	}
	return ids
}

func TestPubSubAMQP(t *testing.T) {
	b := newAMQPBench(t)
	features := pubSubFeatures
	features.GenerateTopicFunc = func(ctx tests.TestContext) string { return b.topic(string(ctx.TestID)) }
	pubSubSuite(t, features, func(t *testing.T) driver { return b.open(t, b.cfg) })
}

func TestAMQPTaskWaitsForItsFirstWorker(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Early")
	early := amqpIDs(0, 250)
	b.publish(topic, Task, early...) // no group exists
	if got := b.waiting(amqpUnroutedOf(topic)); got != len(early) {
		t.Errorf("%d tasks wait without a group, want %d", got, len(early))
	}
	// Two processes declare at the same time.
	other := b.open(t, b.cfg)
	var wg sync.WaitGroup
	for _, drv := range []driver{b.drv, other} {
		wg.Go(func() {
			if err := drv.declare(t.Context(), topic, Task, "first"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	late := amqpIDs(250, 300)
	b.publish(topic, Task, late...) // no worker exists
	waitFor(t, "all tasks wait for the group", func() bool {
		return b.waiting(amqpQueueOf(topic, "first")) == 300 && b.waiting(amqpUnroutedOf(topic)) == 0
	})
	r := b.read(b.drv, topic, Task, "first")
	r.wait(t, append(early, late...)...)
	if got := len(r.ids()); got != 300 {
		t.Errorf("%d tasks came, want 300", got)
	}
}

func TestAMQPGroupsGetEveryTaskOnce(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Groups")
	first, second := b.read(b.drv, topic, Task, "first"), b.read(b.drv, topic, Task, "second")
	again := b.read(b.open(t, b.cfg), topic, Task, "second") // another process
	ids := amqpIDs(0, 500)
	b.publish(topic, Task, ids...)
	first.wait(t, ids...)
	waitFor(t, "the second group has all", func() bool { return len(second.ids())+len(again.ids()) >= 500 })
	both := append(second.ids(), again.ids()...)
	slices.Sort(both)
	if !slices.Equal(both, ids) {
		t.Errorf("the second group got %d tasks, want each of %d once", len(both), len(ids))
	}
	if got := first.ids(); !slices.Equal(got, ids) {
		t.Errorf("the first group got %d tasks or another order, want %d in order", len(got), len(ids))
	}
}

func TestAMQPEventPositionIsFixedAtSubscribe(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Position")
	b.publish(topic, Event, "before") // nobody is there
	sub := &subscription{gap: func() {}, topic: topic, delivery: Event, group: "test", window: 256}
	if err := b.drv.declare(t.Context(), topic, Event, "test"); err != nil {
		t.Fatal(err)
	}
	src, err := b.drv.open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	ids := amqpIDs(0, 20)
	b.publish(topic, Event, ids...)
	var got []string
	for len(got) < len(ids) {
		ds, err := src.next(t.Context(), 256)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			got = append(got, d.msg.UUID)
		}
		if err := src.ack(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
	// What was published while the source was away comes to the next one.
	if err := src.close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	b.publish(topic, Event, "meanwhile")
	if src, err = b.drv.open(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	ds, err := src.next(t.Context(), 256)
	if err != nil || len(ds) != 1 || ds[0].msg.UUID != "meanwhile" {
		t.Errorf("after opening again: %v, %v; want the event published meanwhile", ds, err)
	}
	if err := src.close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := b.waiting(sub.cursor); got != -1 {
		t.Errorf("the queue of the events is still there with %d messages", got)
	}
}

// amqpProxy is a TCP proxy that can cut what runs through it.
type amqpProxy struct {
	listener net.Listener
	target   string
	refuse   atomic.Bool
	refused  atomic.Int32
	stalled  sync.RWMutex // held to let nothing through
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

// behindProxy returns cfg with an URL that leads through a proxy.
func (b *amqpBench) behindProxy() (Config, *amqpProxy) {
	b.t.Helper()
	u, err := url.Parse(b.cfg.AMQP.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	p := &amqpProxy{listener: l, target: u.Host, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	b.t.Cleanup(func() {
		_ = l.Close()
		p.refuse.Store(true)
		p.cut()
		p.wg.Wait()
	})
	cfg := b.cfg
	u.Host = l.Addr().String()
	cfg.AMQP.URL = u.String()
	return cfg, p
}

func (p *amqpProxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.refuse.Load() {
			p.refused.Add(1)
			_ = in.Close()
			continue
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
			p.wg.Go(func() {
				_, _ = io.Copy(amqpGate{to, p}, from)
				_ = to.Close()
				_ = from.Close()
				p.mu.Lock()
				delete(p.conns, from)
				p.mu.Unlock()
			})
		}
	}
}

// amqpGate writes while the proxy is not stalled.
type amqpGate struct {
	io.Writer
	p *amqpProxy
}

func (g amqpGate) Write(b []byte) (int, error) {
	g.p.stalled.RLock()
	defer g.p.stalled.RUnlock()
	return g.Writer.Write(b)
}

// cut resets all connections.
func (p *amqpProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// publishers send until stop is closed and return the ids that were confirmed.
func (b *amqpBench) publishers(drv driver, topic string, delivery Delivery, stop chan struct{}) func() []string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var confirmed []string
	for p := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ids := []string{fmt.Sprintf("p%d-%05d", p, 2*i), fmt.Sprintf("p%d-%05d", p, 2*i+1)}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				err := drv.publish(ctx, topic, delivery, amqpMessages(ids...))
				cancel()
				if err != nil {
					b.t.Logf("publish: %v", err)
					continue
				}
				mu.Lock()
				confirmed = append(confirmed, ids...)
				mu.Unlock()
			}
		})
	}
	return func() []string {
		wg.Wait()
		return confirmed
	}
}

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
	case <-time.After(amqpTestWait):
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

func TestAMQPReadsWhatStrangersWrite(t *testing.T) {
	id := wamqp.DefaultMessageUUIDHeaderKey
	for name, test := range map[string]struct {
		pub    amqp.Publishing
		id     string // "" means any
		poison bool
		meta   map[string]string
	}{
		"no id":          {pub: amqp.Publishing{}},
		"id as property": {pub: amqp.Publishing{MessageId: "prop"}, id: "prop"},
		"id is a number": {pub: amqp.Publishing{Headers: amqp.Table{id: int32(7)}}, poison: true},
		"id is a table":  {pub: amqp.Publishing{Headers: amqp.Table{id: amqp.Table{"a": "b"}}, MessageId: "prop"}, id: "prop", poison: true},
		"delivery count": {pub: amqp.Publishing{Headers: amqp.Table{id: "one", "x-delivery-count": int64(3)}}, id: "one", meta: map[string]string{"x-delivery-count": ""}},
		"instructions":   {pub: amqp.Publishing{Headers: amqp.Table{id: "four", "CC": []any{"x"}, "BCC": []any{"y"}, "x-death": "none"}}, id: "four", meta: map[string]string{"CC": "", "BCC": "", "x-death": ""}},
		"poison mark":    {pub: amqp.Publishing{Headers: amqp.Table{id: "two", metaPoison: "no"}}, id: "two"},
		"headers of any type": {
			pub: amqp.Publishing{Headers: amqp.Table{
				id: "three", "bool": true, "nil": nil, "float": 1.5, "bytes": []byte("b"), "text": "t",
				"time": time.Unix(1, 0), "array": []any{"a", int32(1)}, "decimal": amqp.Decimal{Scale: 1, Value: 5}, "table": amqp.Table{"k": int64(1)},
			}},
			id: "three", meta: map[string]string{"bool": "true", "float": "1.5", "bytes": "b", "text": "t", "table": "map[k:1]"},
		},
	} {
		for _, delivery := range []Delivery{Task, Event} {
			t.Run(name+" as "+delivery.String(), func(t *testing.T) {
				b := newAMQPBench(t)
				topic := b.topic("Strangers")
				if delivery == Task { // through the queue of the unrouted, so that the mover reads it too
					ctx, cancel := context.WithTimeout(t.Context(), amqpTestWait)
					defer cancel()
					conn, err := b.drv.writing.get(ctx)
					if err != nil {
						t.Fatal(err)
					}
					b.saw(topic, Task, "")
					if err := conn.ensure(ctx, topic, Task); err != nil {
						t.Fatal(err)
					}
				}
				var r *amqpReader
				if delivery == Event {
					r = b.read(b.drv, topic, delivery, "test")
				}
				test.pub.Body = []byte("raw")
				if err := b.channel().PublishWithContext(t.Context(), topic, "any", false, false, test.pub); err != nil {
					t.Fatal(err)
				}
				if delivery == Task {
					waitFor(t, "the task waits", func() bool { return b.waiting(amqpUnroutedOf(topic)) == 1 })
					r = b.read(b.drv, topic, delivery, "test")
				}
				waitFor(t, "the message came", func() bool { return len(r.ids()) > 0 })
				got := r.got[0]
				if string(got.Payload) != "raw" {
					t.Errorf("payload %q, want it raw", got.Payload)
				}
				if test.id != "" && got.UUID != test.id || got.UUID == "" {
					t.Errorf("id %q, want %q", got.UUID, test.id)
				}
				if reason := got.Metadata.Get(metaPoison); (reason != "") != test.poison {
					t.Errorf("poison: %q, want %v", reason, test.poison)
				}
				for key, want := range test.meta {
					if got := got.Metadata.Get(key); got != want {
						t.Errorf("header %s: %q, want %q", key, got, want)
					}
				}
				if err := b.drv.publish(t.Context(), topic, delivery, []*message.Message{message.NewMessage("again", nil), got}); err != nil {
					t.Errorf("published again, as a dead letter is: %v", err)
				}
			})
		}
	}
}

func TestAMQPMessageWithoutIDKeepsItsOwn(t *testing.T) {
	first := amqpMessage(amqp.Delivery{Body: []byte("a"), DeliveryTag: 1})
	again := amqpMessage(amqp.Delivery{Body: []byte("a"), DeliveryTag: 2, Redelivered: true, Headers: amqp.Table{"x-delivery-count": int64(1)}})
	other := amqpMessage(amqp.Delivery{Body: []byte("b"), DeliveryTag: 3})
	if first.UUID != again.UUID || first.UUID == other.UUID {
		t.Errorf("ids %q, %q when it came again, %q of another one", first.UUID, again.UUID, other.UUID)
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
	waitFor(t, "the task is dead-lettered", func() bool { return b.waiting(amqpUnroutedOf(topic)) == 1 })
	if err := b.drv.collect(t.Context(), topic, "first"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the task is back in the second queue", func() bool { return b.waiting(amqpQueueOf(topic, "second")) == 1 })
	if got := b.waiting(amqpQueueOf(topic, "first")); got != 1 {
		t.Errorf("%d tasks in the first queue, want its own only", got)
	}
	b.read(b.drv, topic, Task, "second").wait(t, "a")
}

func TestAMQPTaskWithoutAnyQueue(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Unroutable")
	b.publish(topic, Task, "a")
	ch := b.channel()
	if _, err := ch.QueueDelete(amqpUnroutedOf(topic), false, false, false); err != nil {
		t.Fatal(err)
	}
	// The server gives the task back, which shows at the confirm.
	conn, err := b.drv.writing.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := newAMQPChannel(conn)
	if err != nil {
		t.Fatal(err)
	}
	pub := amqp.Publishing{Headers: amqp.Table{wamqp.DefaultMessageUUIDHeaderKey: "b"}}
	if err := raw.send(t.Context(), topic, "", true, []amqp.Publishing{pub}); !errors.Is(err, errAMQPUnroutable) {
		t.Errorf("send: %v, want %v", err, errAMQPUnroutable)
	}
	b.publish(topic, Task, "b") // the driver makes the queue again
	if got := b.waiting(amqpUnroutedOf(topic)); got != 1 {
		t.Errorf("%d tasks wait, want 1", got)
	}
}

func TestAMQPWireIsWatermills(t *testing.T) {
	for _, delivery := range []Delivery{Task, Event} {
		t.Run(delivery.String(), func(t *testing.T) {
			b := newAMQPBench(t)
			topic := b.topic("Wire")
			r := b.read(b.drv, topic, delivery, "test")
			cfg := wamqp.NewDurablePubSubConfig(b.cfg.AMQP.URL, wamqp.GenerateQueueNameTopicNameWithSuffix("stock"))
			if delivery == Task {
				// A program that declares the exchange itself has to name the same arguments.
				cfg.Exchange.Arguments = amqp.Table{"alternate-exchange": amqpUnroutedOf(topic)}
			}
			b.saw(topic, delivery, topic+"_stock")
			quiet := watermill.NopLogger{}
			stockSub, err := wamqp.NewSubscriber(cfg, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stockSub.Close() }()
			msgs, err := stockSub.Subscribe(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			stockPub, err := wamqp.NewPublisher(cfg, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stockPub.Close() }()

			theirs := message.NewMessage("theirs", []byte{0, 1, 255})
			theirs.Metadata.Set("some", "metadata")
			if err := stockPub.Publish(topic, theirs); err != nil {
				t.Fatal(err)
			}
			r.wait(t, "theirs")
			if got := r.got[0]; !got.Equals(theirs) {
				t.Errorf("from the stock publisher: %v %v %v", got.UUID, got.Payload, got.Metadata)
			}
			ours := message.NewMessage("ours", []byte{255, 0})
			ours.Metadata.Set("other", "metadata")
			if err := b.drv.publish(t.Context(), topic, delivery, []*message.Message{ours}); err != nil {
				t.Fatal(err)
			}
			timeout := time.After(amqpTestWait)
			for {
				select {
				case got := <-msgs:
					got.Ack()
					if got.UUID == "theirs" {
						continue
					}
					if !got.Equals(ours) {
						t.Errorf("at the stock subscriber: %v %v %v", got.UUID, got.Payload, got.Metadata)
					}
					return
				case <-timeout:
					t.Fatal("the stock subscriber got nothing")
				}
			}
		})
	}
}

func TestAMQPLeavesNothingButTaskQueues(t *testing.T) {
	address := amqpTestURL(t)
	b := newAMQPBench(t)
	ignore := goleak.IgnoreCurrent()
	cfg := testConfig(t, "amqp")
	cfg.AMQP.URL, cfg.TopicPrefix = address, b.cfg.TopicPrefix
	drv, err := newAMQPDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	spy := amqpSpy{drv.(*amqpDriver), b}
	task, event := b.topic("Left"), b.topic("Gone")
	for topic, delivery := range map[string]Delivery{task: Task, event: Event} {
		r := b.read(spy, topic, delivery, "test")
		if err := spy.publish(t.Context(), topic, delivery, amqpMessages("a", "b")); err != nil {
			t.Fatal(err)
		}
		r.wait(t, "a", "b")
		if err := r.sub.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := drv.close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, ignore)
	b.mu.Lock()
	queues := slices.Sorted(maps.Keys(b.queues))
	b.mu.Unlock()
	var left []string
	for _, queue := range queues {
		if b.waiting(queue) >= 0 {
			left = append(left, queue)
		}
	}
	if want := []string{amqpQueueOf(task, "test")}; !slices.Equal(left, want) {
		t.Errorf("queues left: %v, want %v", left, want)
	}
	if got := b.waiting(amqpQueueOf(task, "test")); got != 0 {
		t.Errorf("%d acked tasks are still there", got)
	}
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
	if took := time.Since(start); took > 2*time.Second {
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
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("publishers waited %s, their context 300ms", took)
	}
	if err := r.sub.Close(); err != nil {
		t.Error(err)
	}
	if err := drv.close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("closing took %s", took)
	}
}

func TestAMQPOtherSettingsAreExplained(t *testing.T) {
	b := newAMQPBench(t)
	topic := b.topic("Other")
	ch := b.channel()
	b.saw(topic, Task, "")
	if err := ch.ExchangeDeclare(topic, "direct", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"declare": b.drv.declare(t.Context(), topic, Task, "test"),
		"publish": b.drv.publish(t.Context(), topic, Task, amqpMessages("a")),
	} {
		if err == nil || !strings.Contains(err.Error(), "other settings") || !strings.Contains(err.Error(), topic) {
			t.Errorf("%s: %v, want an error that names the exchange and the way out", name, err)
		}
	}
}

func TestAMQPConfig(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := closed.Addr().String()
	_ = closed.Close()
	for name, test := range map[string]struct{ url, want string }{
		"not amqp":          {"redis://me:sesame@host/", "broker.amqp.url: not a URL"},
		"slash in password": {"amqp://me:ses/ame@host/", "broker.amqp.url: not a URL"},
		"nobody answers":    {"amqp://me:sesame@" + away + "/", "did not answer within broker.connect_timeout (300ms)"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, "amqp")
			var log strings.Builder
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg.AMQP.URL, cfg.ConnectTimeout = test.url, 300*time.Millisecond
			_, err := newAMQPDriver(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			if said := err.Error() + log.String(); strings.Contains(said, "ame@") || strings.Contains(said, "sesame") {
				t.Errorf("the password is shown: %s", said)
			}
			if name == "nobody answers" && !strings.Contains(log.String(), "waiting for rabbitmq at "+away) {
				t.Errorf("log: %q", log.String())
			}
		})
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
			cfg.AMQP.URL, cfg.ConnectTimeout = address, time.Minute
			start := time.Now()
			_, err := newAMQPDriver(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), "correct broker.amqp.url") {
				t.Fatalf("got %v, want an error that names the setting", err)
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the password is shown: %v", err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestAMQPTags(t *testing.T) {
	ds := func(tags ...uint64) (ds []*delivered) {
		for _, tag := range tags {
			ds = append(ds, &delivered{tag: amqpTag{n: tag}})
		}
		return ds
	}
	var tags amqpTags
	for i, step := range []struct {
		settle, single []uint64
		upTo           uint64
	}{
		{settle: []uint64{3}, single: []uint64{3}},
		{settle: []uint64{5, 2}, single: []uint64{5, 2}},
		{settle: []uint64{1}, upTo: 1},
		{settle: []uint64{3, 5, 1}}, // settled before
		{settle: []uint64{9, 4, 6}, upTo: 6, single: []uint64{9}},
		{settle: []uint64{7, 8}, upTo: 8},
		{settle: []uint64{10, 11}, upTo: 11},
	} {
		upTo, single := tags.settle(ds(step.settle...))
		if upTo != step.upTo || !slices.Equal(single, step.single) {
			t.Errorf("step %d, settle %v: got %d and %v, want %d and %v", i, step.settle, upTo, single, step.upTo, step.single)
		}
	}
	if len(tags.more) != 0 {
		t.Errorf("%d tags are still remembered", len(tags.more))
	}
}
