package router

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	amqpBeat = time.Second // how long next waits for a first message
	// amqpBindEvery is how soon lost events are noticed, and how soon a source is heard
	// again whose exchange was deleted.
	amqpBindEvery = 5 * time.Second
	// amqpMarkTimeout is short: the mark may as well be set later.
	amqpMarkTimeout = time.Second
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
	bound      time.Time // when the queue was bound last
	marked     bool      // the mark of the queue has its message
	tags       amqpTags
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
		if mark := amqpMarkOf(s.queue); len(mark) > amqpMaxName {
			return nil, permanentError{fmt.Errorf("%q is longer than the %d bytes that RabbitMQ allows; choose a shorter broker.topic_prefix", mark, amqpMaxName)}
		}
	}
	err = d.within(ctx, func() error { return s.start(ctx, conn, resumed) }, func() { _ = s.ch.Close() })
	if err != nil {
		return nil, err
	}
	if sub.delivery == Event {
		sub.cursor = s.queue
	}
	return s, nil
}

func (s *amqpSource) start(ctx context.Context, conn *amqpConn, resumed bool) (err error) {
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
		if _, err := s.ch.QueueDeclare(s.queue, true, false, false, false, amqpEventArgs(s.sub.topic, s.queue)); err != nil {
			return amqpExplain("queue "+s.queue, err)
		}
		if err := s.ch.QueueBind(s.queue, "", s.sub.topic, false, nil); err != nil {
			return amqpExplain("queue "+s.queue, err)
		}
		if err := s.mark(ctx); err != nil {
			return err
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
	s.bound = time.Now()
	return nil
}

// bind binds the queue once more. Whoever deletes the exchange deletes the binding
// without a word, and a publisher may have made the exchange again.
func (s *amqpSource) bind(ctx context.Context) error {
	// To its end: a stop has other requests for this channel, and the client would take
	// the answer to one for that to another.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	err := s.drv.within(ctx, func() error {
		if err := s.ch.QueueBind(s.queue, "", s.sub.topic, false, nil); err != nil || s.sub.delivery == Task {
			return err
		}
		return s.mark(ctx)
	}, nil)
	if amqpCode(err) == amqp.NotFound && s.sub.delivery == Event {
		s.drv.log.Warn("events may be gone that this node has not seen: their exchange was deleted", "topic", s.sub.topic, "function", s.sub.group)
		s.sub.gap()
	}
	s.bound = time.Now()
	return err
}

// mark notices what RabbitMQ says nothing of. Beside the queue of an event
// subscription is another one, which holds one message, the mark. The queue outlives a
// restart of the server and the events in it do not: the mark is gone then too. And an
// event that the full queue drops goes there, and so does a word of whoever finds the
// exchange of the events deleted (see amqpTell): then it holds more.
func (s *amqpSource) mark(ctx context.Context) error {
	mark := amqpMarkOf(s.queue)
	q, err := s.ch.QueueDeclare(mark, true, false, false, false, amqpMarkArgs) // also renews its time
	if err != nil {
		return amqpExplain("queue "+mark, err)
	}
	exchange := amqpMarkOf(s.sub.topic)
	if err := s.ch.ExchangeDeclare(exchange, amqp.ExchangeDirect, true, true, false, false, nil); err != nil {
		return amqpExplain("exchange "+exchange, err)
	}
	for _, key := range []string{mark, amqpLostKey} {
		if err := s.ch.QueueBind(mark, key, exchange, false, nil); err != nil {
			return amqpExplain("queue "+mark, err)
		}
	}
	if q.Messages == 1 && s.marked {
		return nil
	}
	why := ""
	switch {
	case q.Messages > 0:
		why = "the function is slower than its publishers, or their exchange was deleted"
		if _, err := s.ch.QueuePurge(mark, false); err != nil {
			return amqpExplain("queue "+mark, err)
		}
	case s.marked:
		why = "rabbitmq was started again"
	}
	if why != "" {
		s.drv.log.Warn("events may be gone that this node has not seen: "+why, "topic", s.sub.topic, "function", s.sub.group)
		s.sub.gap()
	}
	ctx, cancel := context.WithTimeout(ctx, amqpMarkTimeout)
	defer cancel()
	s.marked = s.drv.publishMark(ctx, exchange, mark) == nil // else the next time
	return nil
}

// publishMark uses the other connection: one that publishes is stopped when memory
// is short.
func (d *amqpDriver) publishMark(ctx context.Context, exchange, mark string) error {
	conn, err := d.writing.get(ctx)
	if err != nil {
		return err
	}
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	return ch.send(ctx, exchange, mark, true, []amqp.Publishing{{DeliveryMode: amqp.Transient}})
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
	s.marked = true // or has lost its message since
	return err
}

func (s *amqpSource) next(ctx context.Context, most int) ([]*delivered, error) {
	if time.Since(s.bound) >= amqpBindEvery {
		if err := s.bind(ctx); err != nil {
			return nil, err
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
	one := &delivered{
		redelivered: int(min(sent, math.MaxInt32)),
		msg:         amqpMessage(d),
		id:          strconv.FormatUint(s.gen, 10) + "/" + strconv.FormatUint(d.DeliveryTag, 10),
		tag:         amqpTag{n: d.DeliveryTag},
	}
	if one.redelivered >= renewAfter {
		one.tag = amqpTag{n: d.DeliveryTag, whole: &d}
	}
	return one
}

// amqpTag is the driver's own of a message in flight.
type amqpTag struct {
	n     uint64
	whole *amqp.Delivery // of one that is given back as a new one; else nil
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
		// The same at each delivery, lest one message that fails becomes many dead letters.
		id = uuid.NewSHA1(uuid.Nil, append(d.Timestamp.UTC().AppendFormat(nil, time.RFC3339), d.Body...)).String()
	}
	msg := message.NewMessage(id, d.Body)
	for key, value := range d.Headers {
		if amqpOwnHeader(key) {
			continue // it would be an instruction, or an error, when the message is published again
		}
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

// release ends the consumer first, or the server would send it the messages again.
func (s *amqpSource) release(ctx context.Context, ds []*delivered) error {
	return s.drv.within(ctx, func() error {
		if err := s.ch.Cancel(s.tag, false); err != nil {
			return err
		}
		ds := slices.Clone(ds)
		slices.SortFunc(ds, func(a, b *delivered) int { return cmp.Compare(a.tag.(amqpTag).n, b.tag.(amqpTag).n) })
		ds = s.renew(ctx, ds)
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
	}, nil)
}

// renew gives back as new ones those of ds that were sent often, for the server counts
// orderly stops as well. It returns the others, and those with which that failed.
func (s *amqpSource) renew(ctx context.Context, ds []*delivered) []*delivered {
	var often, rest []*delivered
	var pubs []amqp.Publishing
	for _, d := range ds {
		if whole := d.tag.(amqpTag).whole; whole != nil {
			often = append(often, d)
			pubs = append(pubs, amqpForward(*whole))
		} else {
			rest = append(rest, d)
		}
	}
	if len(often) == 0 {
		return ds
	}
	conn, err := s.drv.writing.get(ctx)
	if err != nil {
		return ds
	}
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return ds
	}
	defer func() { _ = ch.Close() }()
	if err := ch.send(ctx, "", s.queue, true, pubs); err != nil {
		return ds // some may be there twice now
	}
	_ = s.ack(ctx, often) // if the channel is gone, all of it comes again
	return rest
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
	if err == nil {
		_, err = ch.QueueDelete(amqpMarkOf(s.queue), false, false, false)
	}
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
		tag := d.tag.(amqpTag).n
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
