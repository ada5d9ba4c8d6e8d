package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	amqpBeat       = time.Second     // how long next waits for a first message
	amqpCheckEvery = 5 * time.Second // how soon lost events are noticed
)

// amqpSource is one consumer on a channel of its own. Closing the channel gives
// back all that was not acked.
type amqpSource struct {
	drv        *amqpDriver
	sub        *subscription
	queue      string
	tag        string // of the consumer
	gen        uint64 // of the channel: delivery tags begin anew with each
	ch         *amqp.Channel
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
	cancelled  <-chan string
	tags       amqpTags
	// Events only: when the queue was looked at, and when next was called.
	checked, called time.Time
}

func (d *amqpDriver) open(ctx context.Context, sub *subscription) (source, error) {
	conn, err := d.reading.get(ctx)
	if err != nil {
		return nil, err
	}
	s := &amqpSource{drv: d, sub: sub, queue: amqpQueueOf(sub.topic, sub.group), gen: d.gen.Add(1)}
	s.tag = "burrow-" + strconv.FormatUint(s.gen, 10)
	resumed := false
	if sub.delivery == Event {
		if resumed = sub.cursor != ""; resumed {
			s.queue = sub.cursor
		} else {
			s.queue += "." + strings.ToLower(rand.Text())
		}
		if len(s.queue) > amqpMaxName {
			return nil, fmt.Errorf("%q is longer than the %d bytes that RabbitMQ allows; choose a shorter broker.topic_prefix", s.queue, amqpMaxName)
		}
	}
	err = d.within(ctx, func() error { return s.start(conn, resumed) }, func() { _ = s.ch.Close() })
	if err != nil {
		return nil, err
	}
	if sub.delivery == Event {
		sub.cursor = s.queue
	}
	if !resumed {
		s.checked, s.called = time.Now(), time.Now()
	}
	return s, nil
}

func (s *amqpSource) start(conn *amqpConn, resumed bool) (err error) {
	if resumed {
		if err := s.look(conn); err != nil {
			return err
		}
	}
	if s.ch, err = conn.Channel(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = s.ch.Close()
		}
	}()
	s.closed = s.ch.NotifyClose(make(chan *amqp.Error, 1))
	s.cancelled = s.ch.NotifyCancel(make(chan string, 1))
	var args amqp.Table
	if s.sub.delivery == Event {
		if _, err := s.ch.QueueDeclare(s.queue, true, false, false, false, amqpEventArgs); err != nil {
			return amqpExplain("queue "+s.queue, err)
		}
		if err := s.ch.QueueBind(s.queue, "", s.sub.topic, false, nil); err != nil {
			return amqpExplain("queue "+s.queue, err)
		}
		// RabbitMQ may still believe in a consumer whose connection is dead: the newest
		// one goes first.
		args = amqp.Table{"x-priority": int32(s.gen)}
	}
	if err := s.ch.Qos(s.sub.window, 0, false); err != nil {
		return err
	}
	s.deliveries, err = s.ch.Consume(s.queue, s.tag, false, false, false, false, args)
	if err != nil {
		return amqpExplain("queue "+s.queue, err)
	}
	return nil
}

// look warns if the queue of an event subscription is gone. On a channel of its
// own, for the question ends the channel if it is.
func (s *amqpSource) look(conn *amqpConn) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	_, err = ch.QueueDeclarePassive(s.queue, true, false, false, false, nil)
	if amqpCode(err) == amqp.NotFound {
		s.drv.log.Warn("events are gone that this node has not seen: its queue was deleted", "topic", s.sub.topic, "function", s.sub.group)
		s.sub.gap()
		return nil
	}
	return err
}

// check tells of a gap if the queue of an event subscription is full: RabbitMQ then
// drops the oldest for each new one, and says nothing.
func (s *amqpSource) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var waiting int
	err := s.drv.within(ctx, func() error {
		conn := s.drv.reading.now()
		if conn == nil {
			return amqp.ErrClosed
		}
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		queue, err := ch.QueueDeclarePassive(s.queue, true, false, false, false, nil)
		waiting = queue.Messages
		return err
	}, nil)
	if err != nil {
		return err
	}
	s.checked = time.Now()
	if waiting >= amqpEventQueue-s.sub.window { // so many may have left it since it was full
		s.drv.log.Warn("events were dropped: the function is slower than its publishers", "topic", s.sub.topic, "function", s.sub.group)
		s.sub.gap()
	}
	return nil
}

func (s *amqpSource) next(ctx context.Context, most int) ([]*delivered, error) {
	if s.sub.delivery == Event {
		slow := time.Since(s.called) > 2*amqpBeat // what came in between would not wait for the next check
		if s.called = time.Now(); slow || time.Since(s.checked) > amqpCheckEvery {
			if err := s.check(ctx); err != nil {
				return nil, err
			}
		}
	}
	timer := time.NewTimer(amqpBeat)
	defer timer.Stop()
	var ds []*delivered
	select {
	case d, ok := <-s.deliveries:
		if !ok {
			return nil, s.cause()
		}
		ds = append(ds, s.read(d))
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(ds) < most {
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return ds, nil // the next call tells
			}
			ds = append(ds, s.read(d))
		default:
			return ds, nil
		}
	}
	return ds, nil
}

// cause tells why there are no more deliveries.
func (s *amqpSource) cause() error {
	select {
	case err := <-s.closed:
		if err != nil {
			return err
		}
	default:
	}
	select {
	case _, ok := <-s.cancelled:
		if ok {
			return fmt.Errorf("rabbitmq ended the subscription: queue %s was deleted or has no leader", s.queue)
		}
	default:
	}
	return amqp.ErrClosed
}

func (s *amqpSource) read(d amqp.Delivery) *delivered {
	sent, _ := d.Headers["x-delivery-count"].(int64) // of a quorum queue; 0 the first time
	return &delivered{
		redelivered: int(min(sent, math.MaxInt32)),
		msg:         amqpMessage(d),
		id:          strconv.FormatUint(s.gen, 10) + "/" + strconv.FormatUint(d.DeliveryTag, 10),
		tag:         d.DeliveryTag,
	}
}

// amqpMessage is DefaultMarshaler.Unmarshal for headers of any type: RabbitMQ adds
// numbers and tables of its own, and the stock one refuses them.
func amqpMessage(d amqp.Delivery) *message.Message {
	header, has := d.Headers[wamqp.DefaultMessageUUIDHeaderKey]
	id, isText := header.(string)
	if has && !isText {
		return poisoned(d.MessageId, d.Body, fmt.Errorf("header %s is a %T and not text", wamqp.DefaultMessageUUIDHeaderKey, header))
	}
	if id == "" {
		id = d.MessageId // a program without Watermill sent it
	}
	if id == "" {
		id = watermill.NewUUID()
	}
	msg := message.NewMessage(id, d.Body)
	for key, value := range d.Headers {
		switch v := value.(type) {
		case string:
			msg.Metadata[key] = v
		case []byte:
			msg.Metadata[key] = string(v)
		default:
			msg.Metadata[key] = fmt.Sprint(v)
		}
	}
	delete(msg.Metadata, wamqp.DefaultMessageUUIDHeaderKey)
	delete(msg.Metadata, metaPoison) // not for strangers to set
	return msg
}

func (s *amqpSource) ack(_ context.Context, ds []*delivered) error {
	upTo, single := s.tags.settle(ds)
	if upTo > 0 {
		if err := s.ch.Ack(upTo, true); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := s.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// extend does nothing: a message is ours for as long as the connection lives,
// and half an hour at most.
func (s *amqpSource) extend(context.Context, []*delivered) error { return nil }

func (s *amqpSource) release(_ context.Context, ds []*delivered) error {
	upTo, single := s.tags.settle(ds)
	if upTo > 0 {
		if err := s.ch.Nack(upTo, true, true); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := s.ch.Nack(tag, false, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *amqpSource) close(ctx context.Context, forget bool) error {
	return s.drv.within(ctx, func() error {
		var errs error
		if forget && s.sub.delivery == Event {
			errs = s.remove()
		}
		// A quorum queue takes acks in the background and forgets the last ones when the
		// channel ends: tasks that were done came again. It answers this after them.
		_ = s.ch.Cancel(s.tag, false) // fails on a channel that has ended already
		if err := s.ch.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
			errs = errors.Join(errs, err)
		}
		return errs
	}, nil)
}

// remove deletes the queue of an event subscription. Without a connection it
// leaves that to the server.
func (s *amqpSource) remove() error {
	ch := s.ch
	if ch.IsClosed() {
		conn := s.drv.reading.now()
		if conn == nil {
			return nil
		}
		var err error
		if ch, err = conn.Channel(); err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
	}
	_, err := ch.QueueDelete(s.queue, false, false, false)
	return err
}

// amqpTags remembers which delivery tags of a channel, 1 and up, are settled, so
// that one ack can stand for many.
type amqpTags struct {
	mu   sync.Mutex
	base uint64              // all up to here are
	more map[uint64]struct{} // and these above
}

// settle marks ds and returns what to tell the server: a tag that stands for all
// up to it, if not 0, and single ones. Tags settled before are left out, for the
// server ends the channel at a second ack.
func (t *amqpTags) settle(ds []*delivered) (upTo uint64, single []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more == nil {
		t.more = make(map[uint64]struct{})
	}
	for _, d := range ds {
		tag := d.tag.(uint64)
		if _, twice := t.more[tag]; twice || tag <= t.base {
			continue
		}
		t.more[tag] = struct{}{}
		single = append(single, tag)
	}
	for {
		if _, settled := t.more[t.base+1]; !settled {
			break
		}
		t.base++
		delete(t.more, t.base)
	}
	rest := single[:0]
	for _, tag := range single {
		if tag <= t.base {
			upTo = max(upTo, tag)
		} else {
			rest = append(rest, tag)
		}
	}
	return upTo, rest
}
