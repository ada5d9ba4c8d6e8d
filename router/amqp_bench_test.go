package router

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

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
			exchanges = append(exchanges, amqpUnroutedOf(topic), amqpExpiredOf(topic))
			b.queues[amqpUnroutedOf(topic)], b.queues[amqpKeptOf(topic)], b.queues[amqpExpiredOf(topic)] = true, true, true
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
	ctx, cancel := context.WithTimeout(b.t.Context(), testWait)
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
	timeout := time.After(testWait)
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
