package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A topic is a durable fanout exchange of its name.
//
// A task topic passes what no queue takes to the exchange <topic>.unrouted and
// its queue <topic>.unrouted.kept, so that a task published before its function was first
// declared waits there; whoever declares a group moves it on. Each group is a quorum queue
// <topic>.<group>. It has no delivery limit of ours, for RabbitMQ drops what is
// over it; where the server has one (20 from version 4 on), what is over it is
// dead-lettered to <topic>.unrouted and comes back from there to the same queue.
// Policies can take tasks from either: see amqpGuard. Earlier versions had the queue
// <topic>.unrouted with other arguments; it is unbound and emptied where it exists.
//
// An event subscription is a queue <topic>.<group>.<random>. It is neither
// exclusive nor auto-deleted, so that it keeps its events during a cut of the
// connection; the server deletes it when nobody has read it for a minute. Beside it
// is the queue <topic>.<group>.<random>.mark, where it drops what it has no room for,
// through the exchange <topic>.mark: the default exchange would need a permission for
// another name. By that exchange all marks also learn that the one of the topic was
// deleted, and their bindings with it, of which RabbitMQ says nothing: whoever is about
// to make it again tells them first.
const (
	amqpEventExpires = time.Minute
	amqpEventQueue   = 10_000 // events waiting; over it the oldest go
	amqpMoveBatch    = 100
	amqpMoveTimeout  = 3 * time.Second // in declare; sweep moves what is left
	amqpMaxName      = 255             // of exchanges and queues, by the protocol
)

const amqpUnrouted = "unrouted"

// amqpLostKey is the routing key by which a message reaches all marks of a topic.
const amqpLostKey = "lost"

func amqpUnroutedOf(topic string) string     { return topic + "." + amqpUnrouted }
func amqpQueueOf(topic, group string) string { return topic + "." + group }
func amqpMarkOf(queue string) string         { return queue + ".mark" }

var amqpMarkArgs = amqp.Table{
	amqp.QueueTypeArg:   amqp.QueueTypeClassic,
	amqp.QueueTTLArg:    int32(amqpEventExpires / time.Millisecond),
	amqp.QueueMaxLenArg: int32(2), // more than one says all
}

func amqpEventArgs(topic, queue string) amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:           amqp.QueueTypeClassic,
		amqp.QueueTTLArg:            int32(amqpEventExpires / time.Millisecond),
		amqp.QueueMaxLenArg:         int32(amqpEventQueue),
		amqp.QueueOverflowArg:       amqp.QueueOverflowDropHead,
		"x-dead-letter-exchange":    amqpMarkOf(topic),
		"x-dead-letter-routing-key": amqpMarkOf(queue),
	}
}

// amqpTaskArgs are those of a queue with tasks, with the exchange for tasks that it gives up.
func amqpTaskArgs(deadLetters string) amqp.Table {
	return amqp.Table{
		amqp.QueueTypeArg:        amqp.QueueTypeQuorum,
		"x-dead-letter-exchange": deadLetters,
		// Kept here until it is there. Wants an overflow that refuses, which is what
		// we want too should an operator limit the length.
		"x-dead-letter-strategy": "at-least-once",
		amqp.QueueOverflowArg:    amqp.QueueOverflowRejectPublish,
	}
}

// amqpDeclareTopic makes the exchange of topic, and for tasks the place of those
// that no queue takes.
func amqpDeclareTopic(ch *amqp.Channel, topic string, delivery Delivery) error {
	if name := amqpExpiredOf(topic); len(name) > amqpMaxName {
		return permanentError{fmt.Errorf("%q is longer than the %d bytes that RabbitMQ allows; choose a shorter broker.topic_prefix", name, amqpMaxName)}
	}
	var args amqp.Table
	if delivery == Task {
		unrouted, kept, expired := amqpUnroutedOf(topic), amqpKeptOf(topic), amqpExpiredOf(topic)
		for _, name := range []string{unrouted, expired} {
			if err := ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
				return amqpExplain("exchange "+name, err)
			}
		}
		if _, err := ch.QueueDeclare(kept, true, false, false, false, amqpTaskArgs(expired)); err != nil {
			return amqpExplain("queue "+kept, err)
		}
		if err := ch.QueueBind(kept, "", unrouted, false, nil); err != nil {
			return amqpExplain("queue "+kept, err)
		}
		// The queue of earlier versions. Unbinding one that does not exist is no error.
		if err := ch.QueueUnbind(unrouted, "", unrouted, nil); err != nil {
			return amqpExplain("queue "+unrouted, err)
		}
		args = amqp.Table{"alternate-exchange": unrouted}
	}
	if err := ch.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, args); err != nil {
		return amqpExplain("exchange "+topic, err)
	}
	return nil
}

// amqpDeclareGroup makes the topic and, for tasks, the queue of group.
func amqpDeclareGroup(ch *amqp.Channel, topic string, delivery Delivery, group string) error {
	if err := amqpDeclareTopic(ch, topic, delivery); err != nil || delivery == Event {
		return err
	}
	queue := amqpQueueOf(topic, group)
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqpTaskArgs(amqpUnroutedOf(topic))); err != nil {
		return amqpExplain("queue "+queue, err)
	}
	if err := ch.QueueBind(queue, "", topic, false, nil); err != nil {
		return amqpExplain("queue "+queue, err)
	}
	return nil
}

// amqpMissing tells if there is no such exchange.
func amqpMissing(conn *amqpConn, exchange string) (bool, error) {
	ch, err := conn.Channel()
	if err != nil {
		return false, err
	}
	err = ch.ExchangeDeclarePassive(exchange, amqp.ExchangeFanout, true, false, false, false, nil)
	if amqpCode(err) == amqp.NotFound { // which ends the channel
		return true, nil
	}
	return false, errors.Join(err, ch.Close())
}

// amqpTell tells the marks of topic that its exchange is missing: the subscriptions lost
// their bindings with it. At the first start of all there are no marks. On a connection
// that publishes, for RabbitMQ stops to read from it when memory is short.
func amqpTell(ctx context.Context, conn *amqpConn, topic string) error {
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	ctx, cancel := context.WithTimeout(ctx, amqpMarkTimeout)
	defer cancel()
	err = ch.send(ctx, amqpMarkOf(topic), amqpLostKey, false, []amqp.Publishing{{DeliveryMode: amqp.Transient}})
	if amqpCode(err) == amqp.NotFound {
		return nil
	}
	return err
}

func (d *amqpDriver) tell(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, amqpMarkTimeout)
	defer cancel()
	conn, err := d.writing.get(ctx)
	if err != nil {
		return err
	}
	return amqpTell(ctx, conn, topic)
}

// ensure declares topic once per connection.
func (c *amqpConn) ensure(ctx context.Context, topic string, delivery Delivery) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.topics[topic]; known {
		return nil
	}
	if delivery == Event {
		missing, err := amqpMissing(c, topic)
		if missing {
			err = amqpTell(ctx, c, topic)
		}
		if err != nil {
			return err
		}
	}
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := amqpDeclareTopic(ch, topic, delivery); err != nil {
		_ = ch.Close()
		return err
	}
	c.topics[topic] = struct{}{}
	return ch.Close()
}

// ensureHealth declares the exchange and the queue of test messages once per connection.
func (c *amqpConn) ensureHealth(ch *amqp.Channel, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.topics[name]; known {
		return nil
	}
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: int32(1), amqp.QueueOverflowArg: amqp.QueueOverflowDropHead}
	if err := ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		return err
	}
	if err := ch.QueueBind(name, "", name, false, nil); err != nil {
		return err
	}
	c.topics[name] = struct{}{}
	return nil
}

// forget makes the next publish declare topic again.
func (c *amqpConn) forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}

func (d *amqpDriver) declare(ctx context.Context, topic string, delivery Delivery, group string) error {
	if group == amqpUnrouted {
		return fmt.Errorf("a function cannot be called %q on RabbitMQ: a queue of that name keeps tasks without a function", group)
	}
	queue := amqpQueueOf(topic, group)
	if len(queue) > amqpMaxName {
		return permanentError{fmt.Errorf("%q is longer than the %d bytes that RabbitMQ allows; choose a shorter broker.topic_prefix", queue, amqpMaxName)}
	}
	conn, err := d.reading.get(ctx)
	if err != nil {
		return err
	}
	err = d.within(ctx, func() error {
		if delivery == Event {
			missing, err := amqpMissing(conn, topic)
			if err != nil {
				return err
			}
			if missing {
				// This cannot be waited for: the other connection may be away for long.
				if err := d.tell(ctx, topic); err != nil {
					d.log.Warn("an exchange was deleted, and other nodes could not be told", "topic", topic, "error", err)
				}
			}
		}
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		return amqpDeclareGroup(ch, topic, delivery, group)
	}, nil)
	if err != nil || delivery == Event {
		return err
	}
	d.mu.Lock()
	if !slices.Contains(d.groups[topic], group) {
		d.groups[topic] = append(d.groups[topic], group)
	}
	d.mu.Unlock()
	d.guard(topic)
	bound, cancel := context.WithTimeout(ctx, amqpMoveTimeout)
	defer cancel()
	if err := d.collect(bound, topic, group); err != nil && bound.Err() == nil {
		// RabbitMQ may end the connection when it is asked about a queue that it is
		// still making. The queue of the group is there, and sweep moves the rest.
		d.log.Warn("looking for tasks without a queue; trying again", "topic", topic, "function", group, "error", err)
	}
	return ctx.Err()
}

// sweep repeats what declare did: a task may reach the queue of the unrouted just
// after a group has emptied it, or return there.
func (d *amqpDriver) sweep() {
	ticker := time.NewTicker(amqpSweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-d.stop.Done():
			return
		case <-ticker.C:
		}
		d.mu.Lock()
		groups := make(map[string]string, len(d.groups))
		for topic, known := range d.groups {
			groups[topic] = known[0]
		}
		d.mu.Unlock()
		for topic, group := range groups {
			ctx, cancel := context.WithTimeout(d.stop, amqpSweepEvery)
			if err := d.collect(ctx, topic, group); err != nil && d.stop.Err() == nil {
				d.log.Debug("looking for tasks without a queue", "topic", topic, "error", err)
			}
			cancel()
		}
	}
}

// collect moves the tasks of topic that no queue took to the queue of group, or
// back to the queue that dead-lettered them. A task is acked here once it is
// confirmed there; several processes may do so at once, each gets other tasks.
func (d *amqpDriver) collect(ctx context.Context, topic, group string) error {
	conn, err := d.reading.get(ctx)
	if err != nil {
		return err
	}
	return d.within(ctx, func() error {
		moved := 0
		for _, from := range []string{amqpKeptOf(topic), amqpUnroutedOf(topic)} {
			if err := d.collectFrom(ctx, conn, topic, group, from, &moved); err != nil {
				return err
			}
		}
		return ctx.Err()
	}, nil)
}

// collectFrom moves the tasks in the queue from, if it exists.
func (d *amqpDriver) collectFrom(ctx context.Context, conn *amqpConn, topic, group, from string, moved *int) error {
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }() // requeues the rest
	for ctx.Err() == nil {
		n, err := ch.collect(ctx, d, topic, group, from)
		if amqpCode(err) == amqp.NotFound && from == amqpUnroutedOf(topic) {
			return nil
		}
		if err != nil || n == 0 {
			return err
		}
		if *moved += n; *moved == n {
			d.log.Info("moving tasks that no queue took", "topic", topic, "function", group)
		}
	}
	return nil
}

// collect moves one batch and returns its size.
func (c *amqpChannel) collect(ctx context.Context, d *amqpDriver, topic, group, from string) (int, error) {
	byQueue := make(map[string][]amqp.Publishing)
	var last amqp.Delivery
	n := 0
	for ; n < amqpMoveBatch; n++ {
		task, ok, err := c.Get(from, false)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		d.alarm.died(d, topic, task.Headers)
		queue := amqpOrigin(topic, task.Headers)
		if queue == "" {
			queue = amqpQueueOf(topic, group)
		}
		byQueue[queue] = append(byQueue[queue], amqpForward(task))
		last = task
	}
	if n == 0 {
		return 0, nil
	}
	for queue, pubs := range byQueue {
		err := c.send(ctx, "", queue, true, pubs)
		if own := amqpQueueOf(topic, group); errors.Is(err, errAMQPUnroutable) && queue != own {
			err = c.send(ctx, "", own, true, pubs) // that function was removed from the broker
		}
		if err != nil {
			return 0, err
		}
	}
	return n, last.Ack(true)
}

// amqpOwnHeader tells if RabbitMQ takes a header for an instruction, or adds it itself.
func amqpOwnHeader(key string) bool {
	switch key {
	case "CC", "BCC", "x-delivery-count", "x-death":
		return true
	}
	return strings.HasPrefix(key, "x-first-death-") || strings.HasPrefix(key, "x-last-death-")
}

// amqpForward returns d to be published again, without what the broker would take
// for instructions or has added itself.
func amqpForward(d amqp.Delivery) amqp.Publishing {
	headers := make(amqp.Table, len(d.Headers))
	for key, value := range d.Headers {
		if amqpOwnHeader(key) {
			continue
		}
		if (amqp.Table{key: value}).Validate() != nil {
			value = fmt.Sprint(value)
		}
		headers[key] = value
	}
	return amqp.Publishing{
		Headers: headers, Body: d.Body, DeliveryMode: amqp.Persistent,
		ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration,
		MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, AppId: d.AppId,
	}
}
