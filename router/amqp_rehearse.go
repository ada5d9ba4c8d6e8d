package router

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// inspect asks for each object by its name first, and declares again only what all is
// there: with equal arguments that changes nothing.
func (d *amqpDriver) inspect(ctx context.Context, sub *subscription) (bool, error) {
	conn, err := d.reading.get(ctx)
	if err != nil {
		return false, err
	}
	exchanges, queues := []string{sub.topic}, []string(nil)
	if sub.delivery == Task {
		exchanges = append(exchanges, amqpUnroutedOf(sub.topic), amqpExpiredOf(sub.topic))
		queues = append(queues, amqpKeptOf(sub.topic), amqpQueueOf(sub.topic, sub.group))
	}
	err = d.within(ctx, func() error {
		for _, name := range exchanges {
			if err := amqpHas(conn, func(ch *amqp.Channel) error {
				return ch.ExchangeDeclarePassive(name, amqp.ExchangeFanout, true, false, false, false, nil)
			}); err != nil {
				return err
			}
		}
		for _, name := range queues {
			if err := amqpHas(conn, func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if amqpCode(err) == amqp.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, d.within(ctx, func() error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		return amqpDeclareGroup(ch, sub.topic, sub.delivery, sub.group)
	}, nil)
}

// amqpHas returns the error of a passive declaration, on a separate channel: a missing
// object ends the channel.
func amqpHas(conn *amqpConn, declare func(*amqp.Channel) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	return declare(ch)
}

// remove deletes the queues and exchanges. Those of an event subscription are gone with
// its source.
func (d *amqpDriver) remove(ctx context.Context, sub *subscription) error {
	d.unguard(ctx, sub.topic)
	d.mu.Lock()
	delete(d.groups, sub.topic)
	d.mu.Unlock()
	if conn := d.writing.now(); conn != nil {
		conn.forget(sub.topic)
	}
	conn, err := d.reading.get(ctx)
	if err != nil {
		return err
	}
	return d.within(ctx, func() error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		if sub.delivery == Task {
			for _, queue := range []string{amqpQueueOf(sub.topic, sub.group), amqpKeptOf(sub.topic), amqpExpiredOf(sub.topic)} {
				if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
					return amqpExplain("queue "+queue, err)
				}
			}
			for _, exchange := range []string{amqpUnroutedOf(sub.topic), amqpExpiredOf(sub.topic)} {
				if err := ch.ExchangeDelete(exchange, false, false); err != nil {
					return amqpExplain("exchange "+exchange, err)
				}
			}
		}
		if err := ch.ExchangeDelete(sub.topic, false, false); err != nil {
			return amqpExplain("exchange "+sub.topic, err)
		}
		return nil
	}, nil)
}
