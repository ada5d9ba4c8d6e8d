package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A guard keeps the tasks of one topic from policies of RabbitMQ, in every process that
// publishes or handles them. A policy cannot be read over AMQP, and most of its keys win
// over the arguments of a queue, so that the guard repairs and reports their effects:
//
//   - message-ttl: expired tasks reach the queue <topic>.unrouted.expired, and the guard
//     publishes them again. Without any process they stay in the dead-letter buffer of
//     their queue, until that queue exists.
//   - expires: a consumer without credit keeps each queue in use (RabbitMQ 3; version 4
//     has no such consumers).
//   - max-length: full queues refuse tasks. With overflow drop-head they drop the oldest:
//     those come back like expired ones, and publishing is refused for amqpFullFor.
//
// Probe queues, named after the real ones, show message-ttl and expires before they reach
// a task. They live as long as the connection.
type amqpGuard struct {
	d     *amqpDriver
	topic string
	alarm *amqpAlarm

	stop   context.Context // ends run
	cancel context.CancelFunc
	done   chan struct{} // closed after run
}

const (
	amqpGuardBatch  = 256              // expired tasks in hand of one guard
	amqpGuardPause  = time.Second      // before tasks that have no room are tried again
	amqpProbeFirst  = time.Second      // between the first two messages to a probe; doubles
	amqpProbeEvery  = time.Minute      // at most
	amqpProbeLength = 1440             // messages in a probe, those of a day
	amqpAlarmEvery  = 10 * time.Minute // between two warnings about the same key and queue
	amqpFullFor     = time.Minute      // publishing is refused after a queue dropped tasks
	amqpProbe       = ".~probe."       // in the name of a probe, between queue and chance
)

func amqpKeptOf(topic string) string    { return amqpUnroutedOf(topic) + ".kept" }
func amqpExpiredOf(topic string) string { return amqpUnroutedOf(topic) + ".expired" }

// amqpAlarm logs the effects of policies, and refuses tasks of topics whose queues drop
// some.
type amqpAlarm struct {
	mu   sync.Mutex
	last map[string]time.Time // by key and queue
	full map[string]time.Time // when a queue of a topic dropped a task
}

func (a *amqpAlarm) raise(d *amqpDriver, key, queue, effect string) {
	a.mu.Lock()
	at, known := a.last[key+" "+queue]
	due := !known || time.Since(at) >= amqpAlarmEvery
	if due {
		a.last[key+" "+queue] = time.Now()
	}
	a.mu.Unlock()
	if due {
		d.log.Warn("rabbitmq policy endangers tasks", "policy_key", key, "queue", queue, "effect", effect,
			"fix", "remove "+key+" from the policy, or exclude the queues of broker.topic_prefix from its pattern (rabbitmqctl list_policies, list_operator_policies)")
	}
}

func (a *amqpAlarm) drops(topic string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full[topic] = time.Now()
}

// refuses returns an error while the queues of topic drop tasks for new ones.
func (a *amqpAlarm) refuses(topic string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, is := a.full[topic]; !is || time.Since(at) >= amqpFullFor {
		return nil
	}
	return fmt.Errorf("%w: overflow of a policy is drop-head: remove it", errAMQPNacked)
}

// died raises the alarm for a task that a queue gave up. It returns false for a message
// of a probe, which is for the alarm only.
func (a *amqpAlarm) died(d *amqpDriver, topic string, headers amqp.Table) bool {
	deaths, _ := headers["x-death"].([]any)
	task := true
	for i := range deaths {
		death, _ := deaths[i].(amqp.Table)
		queue, _ := death["queue"].(string)
		reason, _ := death["reason"].(string)
		queue, _, probe := strings.Cut(queue, amqpProbe)
		task = task && !probe
		switch {
		case reason == "expired":
			a.raise(d, "message-ttl", queue, "tasks that wait longer leave their queue, lose their order and come back; without a running node they wait for up to 3 minutes after the next start")
		case reason == "maxlen" && !probe:
			a.drops(topic)
			a.raise(d, "overflow", queue, "a full queue drops its oldest tasks; publishing is refused")
		}
	}
	return task
}

// guard starts the guard of topic, once.
func (d *amqpDriver) guard(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.guards[topic] != nil {
		return
	}
	g := &amqpGuard{d: d, topic: topic, alarm: &d.alarm, done: make(chan struct{})}
	g.stop, g.cancel = context.WithCancel(d.stop)
	d.guards[topic] = g
	d.wg.Go(g.run)
}

// unguard ends the guard of topic and waits for it until ctx ends.
func (d *amqpDriver) unguard(ctx context.Context, topic string) {
	d.mu.Lock()
	g := d.guards[topic]
	delete(d.guards, topic)
	d.mu.Unlock()
	if g == nil {
		return
	}
	g.cancel()
	select {
	case <-g.done:
	case <-ctx.Done():
	}
}

// run guards until the driver closes, or unguard ends it.
func (g *amqpGuard) run() {
	defer close(g.done)
	defer g.cancel()
	wait := amqpRedialMin
	for g.stop.Err() == nil {
		begun := time.Now()
		conn, err := g.d.reading.get(g.stop)
		if err == nil {
			err = g.watch(conn)
		}
		if time.Since(begun) > amqpProbeEvery {
			wait = amqpRedialMin
		}
		if g.stop.Err() == nil {
			g.d.log.Debug("guarding the tasks of a topic; trying again", "topic", g.topic, "error", err)
		}
		sleep(g.stop, jitter(wait))
		wait = min(2*wait, reopenMax)
	}
}

// queues returns the queues with tasks that this process knows.
func (g *amqpGuard) queues() []string {
	list := []string{amqpKeptOf(g.topic)}
	for _, group := range g.groups() {
		list = append(list, amqpQueueOf(g.topic, group))
	}
	return list
}

// groups returns the groups that this process has declared, in that order.
func (g *amqpGuard) groups() []string {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	return slices.Clone(g.d.groups[g.topic])
}

// watch guards on one connection until that fails or stop ends.
func (g *amqpGuard) watch(conn *amqpConn) (err error) {
	var ch *amqp.Channel
	err = g.d.within(g.stop, func() (err error) { ch, err = conn.Channel(); return err }, func() { _ = ch.Close() })
	if err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	gone := ch.NotifyCancel(make(chan string, 16))
	defer func() { _ = ch.Close() }()
	var deliveries <-chan amqp.Delivery
	if deliveries, err = g.consume(ch); err != nil {
		return err
	}
	kept := make(map[string]string) // the probe of each queue in use
	wait := amqpProbeFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.stop.Done():
			return nil
		case err := <-closed:
			return errors.Join(amqp.ErrClosed, err)
		case tag := <-gone:
			for queue := range kept {
				if tag == amqpHold+queue {
					g.alarm.raise(g.d, "expires", queue, "the queue was deleted with the tasks in it, by a policy or by a person")
				}
			}
			return fmt.Errorf("the consumer %s was cancelled", tag)
		case first, ok := <-deliveries:
			if !ok {
				return amqp.ErrClosed
			}
			if err := g.rescue(first, deliveries); err != nil {
				return err
			}
		case <-timer.C:
			if err := g.probe(conn, ch, kept); err != nil {
				return err
			}
			timer.Reset(wait)
			wait = min(2*wait, amqpProbeEvery)
		}
	}
}

// amqpHold starts the tags of consumers that keep a queue in use.
const amqpHold = "hold "

// consume opens the queue of expired tasks. It exists while some guard reads it: what
// comes later stays in the queue where it expired.
func (g *amqpGuard) consume(ch *amqp.Channel) (<-chan amqp.Delivery, error) {
	if err := amqpDeclareTopic(ch, g.topic, Task); err != nil {
		return nil, err
	}
	for _, group := range g.groups() {
		if err := amqpDeclareGroup(ch, g.topic, Task, group); err != nil {
			return nil, err
		}
	}
	name := amqpExpiredOf(g.topic)
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish}
	if _, err := ch.QueueDeclare(name, true, true, false, false, args); err != nil {
		return nil, amqpExplain("queue "+name, err)
	}
	if err := ch.QueueBind(name, "", name, false, nil); err != nil {
		return nil, amqpExplain("queue "+name, err)
	}
	if err := ch.Qos(amqpGuardBatch, 0, false); err != nil {
		return nil, err
	}
	return ch.Consume(name, "expired", false, false, false, false, nil)
}

// probe puts a message into the probe of each queue, and makes what is missing.
func (g *amqpGuard) probe(reading *amqpConn, ch *amqp.Channel, kept map[string]string) error {
	ctx, cancel := context.WithTimeout(g.stop, opTimeout)
	defer cancel()
	conn, err := g.d.writing.get(ctx)
	if err != nil {
		return err
	}
	pub, err := newAMQPChannel(conn)
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }()
	version, _ := conn.Properties["version"].(string)
	for _, queue := range g.queues() {
		name, known := kept[queue]
		if !known {
			name = queue + amqpProbe + strings.ToLower(rand.Text()[:8])
			if strings.HasPrefix(version, "3.") {
				// It is sent nothing, and RabbitMQ takes the queue for used.
				credit := amqp.Table{"x-credit": amqp.Table{"credit": int64(0), "drain": false}}
				if _, err := ch.Consume(queue, amqpHold+queue, false, false, false, false, credit); err != nil {
					return amqpExplain("queue "+queue, err)
				}
			}
			kept[queue] = name
		}
		if len(name) > amqpMaxName {
			continue
		}
		err := errAMQPUnroutable
		if known {
			err = pub.send(ctx, "", name, true, []amqp.Publishing{{DeliveryMode: amqp.Transient}})
		}
		if !errors.Is(err, errAMQPUnroutable) {
			if err != nil {
				return err
			}
			continue
		}
		if known {
			g.alarm.raise(g.d, "expires", queue, "RabbitMQ deletes the queue with all tasks in it once no node has used it for that time")
		}
		if err := g.declareProbe(reading, name); err != nil { // as when the vhost has a limit of queues
			g.d.log.Debug("the policies of a queue cannot be probed", "queue", queue, "error", err)
			continue
		}
		if err := pub.send(ctx, "", name, true, []amqp.Publishing{{DeliveryMode: amqp.Transient}}); err != nil && !errors.Is(err, errAMQPUnroutable) {
			return err
		}
	}
	return nil
}

// declareProbe has a channel for itself: an error ends it.
func (g *amqpGuard) declareProbe(conn *amqpConn, name string) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	_, err = ch.QueueDeclare(name, false, false, true, false, amqp.Table{
		amqp.QueueTypeArg:        amqp.QueueTypeClassic,
		amqp.QueueMaxLenArg:      int32(amqpProbeLength),
		amqp.QueueOverflowArg:    amqp.QueueOverflowDropHead,
		"x-dead-letter-exchange": amqpExpiredOf(g.topic),
	})
	return err
}

// rescue publishes expired tasks again: first, and what else is there.
func (g *amqpGuard) rescue(first amqp.Delivery, deliveries <-chan amqp.Delivery) error {
	batch := []amqp.Delivery{first}
	for more := true; more && len(batch) < amqpGuardBatch; {
		select {
		case d, ok := <-deliveries:
			if more = ok; ok {
				batch = append(batch, d)
			}
		default:
			more = false
		}
	}
	last := batch[len(batch)-1]
	batch = slices.DeleteFunc(batch, func(d amqp.Delivery) bool { return !g.alarm.died(g.d, g.topic, d.Headers) })
	if len(batch) > 0 {
		if g.alarm.refuses(g.topic) != nil && !sleep(g.stop, amqpGuardPause) { // no circle at full speed
			return g.stop.Err()
		}
		if err := g.republish(batch); err != nil {
			sleep(g.stop, amqpGuardPause)
			return errors.Join(err, last.Nack(true, true))
		}
	}
	return last.Ack(true)
}

// republish returns tasks to the queue where they expired first, or to the group that this
// process knows, or else to those without a queue.
func (g *amqpGuard) republish(batch []amqp.Delivery) error {
	ctx, cancel := context.WithTimeout(g.stop, opTimeout)
	defer cancel()
	conn, err := g.d.writing.get(ctx)
	if err != nil {
		return err
	}
	ch, err := newAMQPChannel(conn)
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	own := ""
	if queues := g.queues(); len(queues) > 1 {
		own = queues[1]
	}
	byQueue := make(map[string][]amqp.Publishing)
	for _, d := range batch {
		queue := amqpOrigin(g.topic, d.Headers)
		if queue == "" {
			queue = own
		}
		byQueue[queue] = append(byQueue[queue], amqpForward(d))
	}
	for queue, pubs := range byQueue {
		err := errAMQPUnroutable
		if queue != "" {
			err = ch.send(ctx, "", queue, true, pubs)
		}
		if errors.Is(err, errAMQPUnroutable) {
			err = ch.send(ctx, amqpUnroutedOf(g.topic), "", true, pubs)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// amqpOrigin returns the queue of a group where a task died first, or "".
func amqpOrigin(topic string, headers amqp.Table) string {
	origin, _ := headers["x-first-death-queue"].(string)
	if !strings.HasPrefix(origin, topic+".") || origin == amqpUnroutedOf(topic) || strings.HasPrefix(origin, amqpUnroutedOf(topic)+".") {
		return ""
	}
	return origin
}
