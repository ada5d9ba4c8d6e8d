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
	"github.com/redis/go-redis/v9"
)

const rawBatch = 256 // read, and acked, at a time

// rawNATS publishes asynchronously and pulls in batches.
type rawNATS struct{ js jetstream.JetStream }

func newRawNATS(b *testing.B, url string) *rawNATS {
	b.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	return &rawNATS{js: js}
}

func (r *rawNATS) prepare(b *testing.B, topic string, d Delivery) {
	b.Helper()
	_, err := r.js.CreateStream(b.Context(), jetstream.StreamConfig{Name: topic, Subjects: []string{topic}, Storage: jetstream.FileStorage})
	if err == nil && d == Task {
		_, err = r.js.CreateConsumer(b.Context(), topic, jetstream.ConsumerConfig{Durable: "raw", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (r *rawNATS) publish(b *testing.B, topic string, _ Delivery, payloads [][]byte) {
	futures := make([]jetstream.PubAckFuture, len(payloads))
	for i, p := range payloads {
		var err error
		if futures[i], err = r.js.PublishAsync(topic, p); err != nil {
			b.Error(err)
			return
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			b.Error(err)
		}
	}
}

func (r *rawNATS) consume(b *testing.B, topic string, d Delivery, n int, ready func()) {
	var consumer jetstream.Consumer
	var err error
	if d == Task {
		consumer, err = r.js.Consumer(context.Background(), topic, "raw")
	} else {
		consumer, err = r.js.CreateConsumer(context.Background(), topic, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true})
	}
	if err != nil {
		b.Error(err)
		return
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(2 * rawBatch))
	if err != nil {
		b.Error(err)
		return
	}
	defer messages.Stop()
	ready()
	for range n {
		msg, err := messages.Next()
		if err != nil {
			b.Error(err)
			return
		}
		decodeRaw(b, d, msg.Data())
		if d == Task {
			if err := msg.Ack(); err != nil {
				b.Error(err)
			}
		}
	}
}

// rawRedis pipelines, and reads and acks in batches.
type rawRedis struct{ rdb *redis.Client }

func newRawRedis(b *testing.B, url string) *rawRedis {
	b.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		b.Fatal(err)
	}
	rdb := redis.NewClient(opts)
	b.Cleanup(func() { _ = rdb.Close() })
	return &rawRedis{rdb: rdb}
}

func (r *rawRedis) prepare(b *testing.B, topic string, d Delivery) {
	b.Helper()
	if d == Event {
		return
	}
	if err := r.rdb.XGroupCreateMkStream(b.Context(), topic, "raw", "0").Err(); err != nil {
		b.Fatal(err)
	}
}

func (r *rawRedis) publish(b *testing.B, topic string, d Delivery, payloads [][]byte) {
	pipe := r.rdb.Pipeline()
	for _, p := range payloads {
		args := &redis.XAddArgs{Stream: topic, Values: []any{"payload", p}}
		if d == Event {
			args.MaxLen, args.Approx = redisEventLength, true
		}
		pipe.XAdd(context.Background(), args)
	}
	if _, err := pipe.Exec(context.Background()); err != nil {
		b.Error(err)
	}
}

func (r *rawRedis) consume(b *testing.B, topic string, d Delivery, n int, ready func()) {
	ctx := context.Background()
	ready()
	last := "0"
	for n > 0 {
		var streams []redis.XStream
		var err error
		if d == Task {
			streams, err = r.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "raw", Consumer: "raw", Streams: []string{topic, ">"}, Count: rawBatch, Block: time.Second}).Result()
		} else {
			streams, err = r.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{topic}, ID: last, Count: rawBatch, Block: time.Second}).Result()
		}
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			b.Error(err)
			return
		}
		ids := make([]string, len(streams[0].Messages))
		for i, m := range streams[0].Messages {
			ids[i] = m.ID
			payload, _ := m.Values["payload"].(string)
			decodeRaw(b, d, []byte(payload))
		}
		last = ids[len(ids)-1]
		n -= len(ids)
		if d == Task {
			if err := r.rdb.XAck(ctx, topic, "raw", ids...).Err(); err != nil {
				b.Error(err)
				return
			}
		}
	}
}

// rawAMQP publishes with deferred confirms on a few channels and acks many at once.
type rawAMQP struct {
	conn     *amqp.Connection
	mu       sync.Mutex
	channels []*amqp.Channel
}

func newRawAMQP(b *testing.B, url string) *rawAMQP {
	b.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &rawAMQP{conn: conn}
}

func (r *rawAMQP) prepare(b *testing.B, topic string, d Delivery) {
	b.Helper()
	ch, err := r.conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ch.Close() }()
	if err := ch.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		b.Fatal(err)
	}
	args := amqp.Table{"x-queue-type": "quorum"}
	if d == Event {
		args = amqp.Table{"x-expires": int32(60_000), "x-max-length": int32(10 * benchMessages)}
	}
	if _, err := ch.QueueDeclare(topic, true, false, false, false, args); err != nil {
		b.Fatal(err)
	}
	if err := ch.QueueBind(topic, "", topic, false, nil); err != nil {
		b.Fatal(err)
	}
}

// borrow returns a channel in confirm mode that nobody else uses.
func (r *rawAMQP) borrow() (*amqp.Channel, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.channels); n > 0 {
		ch := r.channels[n-1]
		r.channels = r.channels[:n-1]
		return ch, nil
	}
	ch, err := r.conn.Channel()
	if err != nil {
		return nil, err
	}
	return ch, ch.Confirm(false)
}

func (r *rawAMQP) publish(b *testing.B, topic string, d Delivery, payloads [][]byte) {
	ch, err := r.borrow()
	if err != nil {
		b.Error(err)
		return
	}
	mode := amqp.Transient
	if d == Task {
		mode = amqp.Persistent
	}
	confirms := make([]*amqp.DeferredConfirmation, len(payloads))
	for i, p := range payloads {
		confirms[i], err = ch.PublishWithDeferredConfirmWithContext(context.Background(), topic, "", false, false, amqp.Publishing{DeliveryMode: mode, Body: p})
		if err != nil {
			b.Error(err)
			return
		}
	}
	for _, c := range confirms {
		c.Wait()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels = append(r.channels, ch)
}

func (r *rawAMQP) consume(b *testing.B, topic string, d Delivery, n int, ready func()) {
	ch, err := r.conn.Channel()
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = ch.Close() }()
	if err := ch.Qos(2*rawBatch, 0, false); err != nil {
		b.Error(err)
		return
	}
	deliveries, err := ch.Consume(topic, "", false, false, false, false, nil)
	if err != nil {
		b.Error(err)
		return
	}
	ready()
	unacked := 0
	for m := range deliveries {
		n--
		decodeRaw(b, d, m.Body)
		unacked++
		if unacked == rawBatch || n == 0 || len(deliveries) == 0 {
			if err := m.Ack(true); err != nil {
				b.Error(err)
				return
			}
			unacked = 0
		}
		if n == 0 {
			return
		}
	}
	b.Error("the channel ended")
}
