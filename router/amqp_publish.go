package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	amqpPublishBatch = 256 // unconfirmed messages of one call
	amqpPublishMin   = 20 * time.Millisecond
	amqpPublishMax   = time.Second
)

var (
	// errAMQPUnroutable: RabbitMQ gave the message back, no queue is there for it.
	errAMQPUnroutable = errors.New("rabbitmq has no queue for the message")
	// errAMQPNacked: RabbitMQ could not store the message.
	errAMQPNacked = errors.New("rabbitmq refused the message: a queue of its topic is full (max-length or max-length-bytes of a policy; raise or remove it, or start the functions), or too few replicas of it are online")
)

// amqpLost says that a channel or its connection went. Whether the message was
// stored is open; to send it again is sound, for ids make repeats harmless.
type amqpLost struct{ error }

func (e amqpLost) Unwrap() error { return e.error }

// publish sends msgs on one channel and waits for all confirms. It tries again
// while ctx lasts when the connection fails. Events nobody subscribed to are gone;
// a task without any queue is an error.
func (d *amqpDriver) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	// An event lives as long as its readers: it is not written to disk.
	marshaler := wamqp.DefaultMarshaler{NotPersistentDeliveryMode: delivery == Event}
	pubs := make([]amqp.Publishing, len(msgs))
	for i, msg := range msgs {
		var err error
		if pubs[i], err = marshaler.Marshal(msg); err != nil {
			return err
		}
	}
	var last error
	refused, wait := 0, amqpPublishMin
	for {
		err := d.publishOnce(ctx, topic, delivery, pubs)
		var lost amqpLost
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			if last == nil || errors.Is(err, last) {
				return err
			}
			return fmt.Errorf("%w; before: %w", err, last)
		case errors.Is(err, errAMQPUnroutable):
			if refused++; refused > 1 { // declared anew and still without a queue
				return err
			}
		case !errors.As(err, &lost):
			return err
		default:
			// The server ends a channel with these for what one message does, maybe one
			// of another call.
			switch amqpCode(err) {
			case amqp.AccessRefused:
				if refused++; refused > 1 {
					return amqpExplain("exchange "+topic, err)
				}
			case amqp.PreconditionFailed, amqp.ContentTooLarge:
				if refused++; refused > 1 {
					return fmt.Errorf("rabbitmq refuses the message: %w", err)
				}
			}
		}
		last = err
		if !sleep(ctx, jitter(wait)) {
			return fmt.Errorf("%w; before: %w", ctx.Err(), last)
		}
		wait = min(wait*3/2, amqpPublishMax)
	}
}

func (d *amqpDriver) publishOnce(ctx context.Context, topic string, delivery Delivery, pubs []amqp.Publishing) error {
	conn, err := d.writing.get(ctx)
	if err != nil {
		return err
	}
	if delivery == Task {
		if err := d.alarm.refuses(topic); err != nil {
			return err
		}
	}
	slot := &d.channels[int(d.turn.Add(1))%len(d.channels)]
	return d.within(ctx, func() error {
		if err := conn.ensure(ctx, topic, delivery); err != nil {
			return amqpMaybeLost(conn, err)
		}
		if delivery == Task {
			d.guard(topic) // not before: RabbitMQ fails on a queue that another declare is still making
		}
		ch, err := slot.channel(conn)
		if err != nil {
			return amqpLost{err}
		}
		err = ch.send(ctx, topic, "", delivery == Task, pubs)
		if errors.Is(err, errAMQPUnroutable) || amqpCode(err) == amqp.NotFound {
			conn.forget(topic) // somebody deleted the exchange or a queue
		}
		return err
	}, nil)
}

// amqpMaybeLost marks err when it came because conn went.
func amqpMaybeLost(conn *amqpConn, err error) error {
	if conn.IsClosed() || errors.Is(err, amqp.ErrClosed) {
		return amqpLost{err}
	}
	return err
}

// amqpSlot holds one channel for publishers, replaced when it fails. They share
// it: waiting for the confirm of one call does not keep the next from sending.
type amqpSlot struct {
	mu sync.Mutex
	on *amqpConn
	ch *amqpChannel
}

func (s *amqpSlot) channel(conn *amqpConn) (*amqpChannel, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil && s.on == conn && !s.ch.IsClosed() {
		return s.ch, nil
	}
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return nil, err
	}
	s.on, s.ch = conn, ch
	return ch, nil
}

// amqpChannel is a channel in confirm mode that also knows what came back.
type amqpChannel struct {
	*amqp.Channel
	sync chan chan struct{} // asks watch to take in all returns
	done chan struct{}      // closed after watch
	why  error              // why the channel ended; set before done is closed

	mu       sync.Mutex
	sending  int
	returned map[any]struct{} // message ids; emptied when nothing is being sent
}

func newAMQPChannel(conn *amqpConn) (*amqpChannel, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	c := &amqpChannel{Channel: ch, sync: make(chan chan struct{}), done: make(chan struct{}), returned: make(map[any]struct{})}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	returns := ch.NotifyReturn(make(chan amqp.Return, amqpPublishBatch))
	go c.watch(returns, closed) // ends with the channel
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close()
		return nil, err
	}
	return c, nil
}

// watch takes in what the server gives back, so that the library never waits.
func (c *amqpChannel) watch(returns <-chan amqp.Return, closed <-chan *amqp.Error) {
	defer close(c.done)
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				c.why = amqp.ErrClosed
				if err := <-closed; err != nil {
					c.why = err
				}
				return
			}
			c.note(r)
		case ask := <-c.sync:
			for more := true; more; {
				select {
				case r, ok := <-returns:
					if more = ok; ok {
						c.note(r)
					}
				default:
					more = false
				}
			}
			close(ask)
		}
	}
}

func (c *amqpChannel) note(r amqp.Return) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.returned[amqpID(r.Headers)] = struct{}{}
}

// amqpID returns what is in the place of the message id, in a form that can be
// compared.
func amqpID(headers amqp.Table) any {
	if id, ok := headers[wamqp.DefaultMessageUUIDHeaderKey].(string); ok {
		return id
	}
	return nil
}

// send publishes pubs in order and waits for all confirms, or until ctx ends.
func (c *amqpChannel) send(ctx context.Context, exchange, key string, mandatory bool, pubs []amqp.Publishing) error {
	c.mu.Lock()
	c.sending++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.sending--; c.sending == 0 {
			clear(c.returned)
		}
	}()
	confirms := make([]*amqp.DeferredConfirmation, 0, min(len(pubs), amqpPublishBatch))
	for batch := range slices.Chunk(pubs, amqpPublishBatch) {
		confirms = confirms[:0]
		for _, pub := range batch {
			confirm, err := c.PublishWithDeferredConfirmWithContext(ctx, exchange, key, mandatory, false, pub)
			if err != nil {
				return c.failed(ctx, err)
			}
			confirms = append(confirms, confirm)
		}
		for _, confirm := range confirms {
			acked, err := confirm.WaitContext(ctx)
			if err != nil {
				return err
			}
			if !acked {
				if c.IsClosed() {
					return c.failed(ctx, amqp.ErrClosed)
				}
				return errAMQPNacked
			}
		}
		if mandatory && c.gaveBack(batch) {
			return errAMQPUnroutable
		}
	}
	return nil
}

// failed returns why the channel is of no use any more.
func (c *amqpChannel) failed(ctx context.Context, err error) error {
	select {
	case <-c.done:
		return amqpLost{c.why}
	case <-ctx.Done(): // the library still tidies up
		return amqpLost{err}
	}
}

// gaveBack tells if any of pubs was returned. The server returns a message before
// it confirms it.
func (c *amqpChannel) gaveBack(pubs []amqp.Publishing) bool {
	ask := make(chan struct{})
	select {
	case c.sync <- ask:
		<-ask
	case <-c.done:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pub := range pubs {
		if _, back := c.returned[amqpID(pub.Headers)]; back {
			return true
		}
	}
	return false
}
