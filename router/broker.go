package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
)

// Delivery says who handles a message.
type Delivery int

const (
	// Event is fan-out: every node handles the message, each function once per
	// node. An event is for those who are there; it survives nothing.
	Event Delivery = iota
	// Task is a shared queue: one process among all that run the function handles
	// the message, and again if that fails. A task survives crashes of the
	// publisher (after the confirm), of the worker and of a durable broker.
	Task
)

// String returns "event" or "task".
func (d Delivery) String() string {
	if d == Task {
		return "task"
	}
	return "event"
}

// Metadata keys of Burrow's messages, beside what Watermill puts on the wire.
const (
	// metaKey holds the routing key: messages with the same key are handled one
	// after the other, in the order of their publisher.
	metaKey = "burrow_key"
	// metaOnly names the one function that a message is for; the others take it for done.
	metaOnly = "burrow_function"
	// metaReplay tells a replay from the message as it came first, and from other replays.
	metaReplay = "burrow_replay"
	// metaPoison marks a message that the driver could not read, with the reason.
	// It exists in memory only.
	metaPoison = "burrow_poison"
)

// Features says what a broker promises beyond the contract that all keep.
type Features struct {
	// Durable brokers keep confirmed tasks when every process stops.
	Durable bool
	// Shared brokers connect several processes.
	Shared bool
}

// driver is the little that the router asks of a broker. All methods may be
// called at the same time.
type driver interface {
	// publish returns nil once the broker has stored every message, in order. It
	// waits no longer than ctx.
	publish(ctx context.Context, topic string, d Delivery, msgs []*message.Message) error
	// fits returns ErrTooLarge for a message that publish would refuse for its size,
	// though it is not over Config.MaxMessageBytes.
	fits(topic string, msg *message.Message) error
	// declare makes the topic exist, and for a task the queue of group, so that
	// what is published from now on waits for its worker.
	declare(ctx context.Context, topic string, d Delivery, group string) error
	// open starts one reading of sub and fixes its position before it returns. It
	// goes on at sub.cursor, which only sources write, if that is set.
	open(ctx context.Context, sub *subscription) (source, error)
	// inspect reports whether the broker has what declare of sub makes, and an error if
	// that does not fit, or cannot be used. It creates nothing.
	inspect(ctx context.Context, sub *subscription) (exists bool, err error)
	// remove deletes what declare of sub has made, and the topic with it. For topics of
	// Rehearse only.
	remove(ctx context.Context, sub *subscription) error
	// refuses tells if err, of declare or open, is an answer of the broker that it would
	// give again.
	refuses(err error) bool
	// spare is how many tasks of a subscription may wait here for another attempt, or
	// behind one that does.
	spare() int
	// ping returns nil if the broker answers. It leaves nothing on the broker.
	ping(ctx context.Context) error
	// probe writes a test message to the storage of tasks, bounded in size, and returns nil
	// if it is stored, or if the broker refuses the test itself (rights, quotas).
	probe(ctx context.Context) error
	features() Features
	// close ends connections and background work. Everything else is closed before.
	close() error
}

// subscription is one function reading one topic.
type subscription struct {
	topic    string
	delivery Delivery
	group    string // the function's name
	window   int    // messages in flight at most
	cursor   string // what the next source needs to go on where the last one stood; the driver's own notation
	gap      func() // tells that events may be gone that this subscription has not seen; set, and does not wait
}

// source is one reading of a subscription. It lives until its first error; the
// subscriber then opens another. next is called by one goroutine, ack, extend
// and release by one other.
type source interface {
	// next waits for messages and returns 1 to max of them, or none after a while
	// without any, as a sign of life. An error ends the source.
	next(ctx context.Context, max int) ([]*delivered, error)
	// ack confirms; what it fails to confirm comes again.
	ack(ctx context.Context, ds []*delivered) error
	// extend tells the broker that these are still being worked on. Called every
	// extendEvery.
	extend(ctx context.Context, ds []*delivered) error
	// release gives messages back, for someone else to handle soon and in their order,
	// and reads no more. However often it is repeated, delivered.redelivered stays
	// below maxDeliveries.
	release(ctx context.Context, ds []*delivered) error
	// close ends the reading and gives back what was read ahead. An event source
	// closed with forget set leaves nothing on the broker.
	close(ctx context.Context, forget bool) error
}

// delivered is one message in flight.
type delivered struct {
	msg *message.Message
	id  string // unique among the messages in flight of a subscription
	tag any    // the driver's own
	src source

	redelivered int // how often the broker had sent it before, as far as it counts that

	// Of the stream that it is in flight in; guarded by its lock.
	lane     *lane      // nil once it is handled
	behind   *delivered // the next one in the lane
	parked   bool
	size     int // of its payload, when it was parked
	attempts int // nacks so far, in this process

	// Of the worker that hands it out.
	handed     bool          // msg has been in the hands of a function
	decoded    proto.Message // what it says, for this attempt
	unreadable error         // or why it says nothing
}

// Waits of every subscription; see docs/delivery.md.
const (
	ackWait     = 30 * time.Second // after that long without a sign of life a task goes to another worker
	extendEvery = 10 * time.Second // the sign of life while a handler runs
	opTimeout   = 5 * time.Second  // bound on one ack, extend or release
	reopenMin   = 200 * time.Millisecond
	reopenMax   = 5 * time.Second

	// renewAfter is for brokers that count every time they send a task and let nobody say
	// otherwise: one that was sent so often is given back as a new one.
	renewAfter = maxDeliveries / 2

	taskWindow  = 256      // tasks in flight in one subscription that nothing holds up,
	taskSpare   = 2048     // and those that wait for another attempt, or behind one that does,
	amqpSpare   = 384      // fewer where the broker sends as many unasked, however large,
	spareBytes  = 64 << 20 // and with no more payload than that
	eventWindow = 256      // the same of events
	eventSpare  = 768
)

// errReopen ends a source on purpose: the next one goes on where it stood.
var errReopen = errors.New("connection was replaced")

// poisoned returns a message that stands for bytes that are no message. It keeps
// them for the dead letters, and carries the reason.
func poisoned(id string, raw []byte, reason error) *message.Message {
	if id == "" {
		id = watermill.NewUUID()
	}
	msg := message.NewMessage(id, raw)
	msg.Metadata.Set(metaPoison, reason.Error())
	return msg
}

func openDriver(ctx context.Context, cfg Config) (driver, error) {
	switch cfg.Driver {
	case "gochannel":
		if cfg.Memory == nil {
			cfg.Memory = NewMemory()
		}
		return newMemoryDriver(cfg.Memory, cfg.Log), nil
	case "nats":
		drv, err := newNATSDriver(ctx, cfg)
		if errors.Is(err, errEmbeddedInUse) {
			return inUse{&memoryDriver{bus: NewMemory(), log: cfg.Log}, err.Error()}, nil
		}
		return drv, err
	case "redis":
		return newRedisDriver(ctx, cfg)
	case "amqp":
		return newAMQPDriver(ctx, cfg)
	default:
		return nil, fmt.Errorf("router: broker.driver: %q is not one of gochannel, nats, redis, amqp", cfg.Driver)
	}
}
