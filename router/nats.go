package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The limits of the streams. Each type has one of its own, so that tasks which wait
// for their worker are in nobody else's way, and a hole in the numbers of a stream of
// events shows a reader that some are gone. Tasks are kept by limits and not by
// interest, so that one published before its first worker waits; a full stream refuses
// new tasks and never eats waiting ones, however old. Events only bridge a short cut.
const (
	natsEventAge      = time.Minute
	natsEventBytes    = 64 << 20
	natsTaskDuplicate = 2 * time.Minute
	natsMaxAckPending = 50_000      // of all workers of a function together; each has taskSpare and some
	natsMaxPending    = 4000        // unconfirmed publishes of this process
	natsStall         = time.Second // how long one more waits for room among them
	natsHeaders       = 64 << 10    // bytes, more than those of any message; a server counts them too
	natsInactive      = 5 * time.Minute
)

// natsDriver speaks JetStream by the official client. Watermill's own packages
// name a stream after its topic, and a stream name cannot hold the dots of ours.
// The bytes on the wire are those of Watermill's NATSMarshaler.
type natsDriver struct {
	cfg     Config
	log     *slog.Logger
	server  *embeddedNATS // nil when the server is elsewhere
	address string        // of the server
	opts    []nats.Option // of every connection
	ackWait time.Duration // of consumers of tasks; shorter in tests
	conns   atomic.Pointer[natsConns]
	rights  *natsRights

	unprobed atomic.Bool // health checks may not write
	tooLarge sync.Once   // of the advice about max_payload

	stop    context.Context // ends background work
	cancel  context.CancelFunc
	working sync.WaitGroup

	// ensuring holds a token while streams or consumers change, one at a time:
	// concurrent consumer creations race inside the embedded server (seen in 2.15.2).
	ensuring chan struct{}

	mu          sync.Mutex
	away        error                      // why a connection is lost; nil while both are up
	known       map[string]Delivery        // topics that have their stream
	consumers   map[string]map[string]bool // of tasks that this process has declared, by topic
	link        uint64                     // counts the connections of sub, from 1
	reconnected chan struct{}              // closed and replaced when sub has a new connection
}

func newNATSDriver(ctx context.Context, cfg Config) (driver, error) {
	return openNATS(ctx, cfg, takeBackMost)
}

func openNATS(ctx context.Context, cfg Config, byName uint64) (driver, error) {
	d := &natsDriver{
		cfg: cfg, log: cfg.Log, address: cfg.NATS.URL, rights: newNATSRights(), ensuring: make(chan struct{}, 1), ackWait: ackWait,
		known: make(map[string]Delivery), consumers: make(map[string]map[string]bool),
		link: 1, reconnected: make(chan struct{}),
	}
	d.stop, d.cancel = context.WithCancel(context.Background())
	if d.address == "" {
		server, err := startEmbeddedNATS(ctx, cfg)
		if err != nil {
			return nil, err
		}
		d.server = server
	}
	d.opts = d.options()
	conns, err := d.connect(ctx)
	if err != nil {
		_ = d.close()
		return nil, d.because(err)
	}
	d.conns.Store(conns)
	if d.server != nil {
		if err := d.takeBack(ctx, byName); err != nil {
			_ = d.close()
			return nil, d.because(fmt.Errorf("router: embedded broker: %w", err))
		}
	}
	d.working.Go(d.keepConnected)
	d.working.Go(func() { d.keepTrimmed(d.stop) })
	return d, nil
}

// lock waits for its turn to change streams or consumers.
func (d *natsDriver) lock(ctx context.Context) error {
	select {
	case d.ensuring <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *natsDriver) unlock() { <-d.ensuring }

func (d *natsDriver) features() Features {
	return Features{Durable: true, Shared: d.server == nil}
}

func (d *natsDriver) fits(topic string, msg *message.Message) error {
	if len(msg.Payload)+natsHeaders <= int(d.conn().pub.MaxPayload()) {
		size := 0
		for key, value := range msg.Metadata {
			size += len(key) + len(value) + len(": \r\n")
		}
		if size < natsHeaders/2 {
			return nil // for certain
		}
	}
	out := natsMessage(topic, msg)
	size := int64(out.Size() - len(out.Subject))
	if limit := d.conn().pub.MaxPayload(); size > limit {
		d.tooLarge.Do(func() {
			need := d.cfg.MaxMessageBytes + natsHeaders
			d.log.Warn(fmt.Sprintf("message refused for its size with headers: set max_payload of nats to %d, or lower broker.max_message_bytes", need), "bytes", size, "max_payload", limit)
		})
		return fmt.Errorf("%w: %d bytes with its headers, the server's max_payload is %d", ErrTooLarge, size, limit)
	}
	return nil
}

func (d *natsDriver) spare() int { return taskSpare }

func (d *natsDriver) refuses(err error) bool {
	if errors.Is(err, nats.ErrPermissionViolation) || natsCode(err) == jetstream.JSErrCodeJetStreamNotEnabledForAccount {
		return true
	}
	var answer *jetstream.APIError
	if errors.As(err, &answer) { // not found: somebody else deletes; unavailable: no leader yet
		return answer.Code != http.StatusNotFound && answer.Code != http.StatusServiceUnavailable
	}
	return d.stop.Err() != nil && errors.Is(err, nats.ErrConnectionClosed)
}

// fatal returns an error that only a restart of the process ends, or nil.
func (d *natsDriver) fatal() error {
	if d.server == nil {
		return nil
	}
	return d.server.syncer.err()
}

func (d *natsDriver) ping(ctx context.Context) error {
	if d.server != nil {
		if err := d.server.check(); err != nil {
			return err
		}
	}
	if err := d.linkErr(); err != nil {
		return err
	}
	if err := d.rights.err(time.Now().Add(-natsDeniedFor)); err != nil {
		return err
	}
	_, err := d.conn().subJS.AccountInfo(ctx)
	return err
}

func (d *natsDriver) close() error {
	d.cancel()
	d.working.Wait()
	if conns := d.conns.Load(); conns != nil {
		for _, nc := range []*nats.Conn{conns.pub, conns.sub} {
			if nc.IsConnected() {
				_ = nc.FlushTimeout(opTimeout) // the last acks; lost ones only repeat
			}
			nc.Close()
		}
	}
	if d.server != nil {
		return d.server.stop()
	}
	return nil
}

// natsNakDelay has the server take in all that is given back before it sends the first:
// it then sends them in their order, and not to a reader that is just going.
const natsNakDelay = 50 * time.Millisecond

// Answers to a delivered message. They are published to its reply subject rather than
// through the message, whose own connection may have been replaced.
const (
	natsAcked      = "+ACK"
	natsInProgress = "+WPI"
)

func (d *natsDriver) respond(m *nats.Msg, answer string) error {
	return d.conn().sub.Publish(m.Reply, []byte(answer))
}

// nak gives a message back. Servers before 2.10 take a reader for present until
// two seconds after its last request, and would send the message to nobody, so
// that it came again only after ackWait: there it waits those two seconds.
func (d *natsDriver) nak(m *nats.Msg) error {
	var major, minor int
	_, _ = fmt.Sscanf(d.conn().sub.ConnectedServerVersion(), "%d.%d", &major, &minor)
	delay := natsNakDelay
	if major == 2 && minor < 10 {
		delay = 2500 * time.Millisecond
	}
	return d.respond(m, fmt.Sprintf(`-NAK {"delay": %d}`, delay))
}

// streamName derives the stream of a topic. A dot, which a stream name cannot hold,
// becomes "+" in the prefix and "-" in the type: neither can hold that.
func (d *natsDriver) streamName(topic string, delivery Delivery) string {
	return strings.ToUpper(strings.ReplaceAll(d.cfg.TopicPrefix, ".", "+")+"_"+delivery.String()+"s_") + d.typeName(topic)
}

// typeName is the protobuf name of topic as names of streams and consumers can hold it.
func (d *natsDriver) typeName(topic string) string {
	return strings.ReplaceAll(strings.TrimPrefix(topic, d.cfg.TopicPrefix+"."), ".", "-")
}

func (d *natsDriver) streamConfig(topic string, delivery Delivery) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:      d.streamName(topic, delivery),
		Subjects:  []string{topic},
		Retention: jetstream.LimitsPolicy,
		Storage:   jetstream.FileStorage,
	}
	if delivery == Task {
		cfg.MaxBytes, cfg.Discard, cfg.Duplicates = d.cfg.NATS.MaxTaskBytes, jetstream.DiscardNew, natsTaskDuplicate
		// A task is acked by its number. In microseconds since 1970 those of two streams of
		// the same name do not meet, and an ack for the older one is nobody's: nobody stores
		// a million tasks a second for long. Before 2.10 every stream begins with 1.
		cfg.FirstSeq = uint64(time.Now().UnixMicro())
		return cfg
	}
	cfg.MaxAge, cfg.MaxBytes, cfg.Discard, cfg.Duplicates = natsEventAge, natsEventBytes, jetstream.DiscardOld, natsEventAge
	if d.server != nil {
		cfg.Storage = jetstream.MemoryStorage
	}
	return cfg
}

// ensure makes the stream of topic exist, with the limits that are set now.
func (d *natsDriver) ensure(ctx context.Context, topic string, delivery Delivery) error {
	d.mu.Lock()
	_, known := d.known[topic]
	d.mu.Unlock()
	if known {
		return nil
	}
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	want := d.streamConfig(topic, delivery)
	stream, err := d.conn().pubJS.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = d.conn().pubJS.CreateStream(ctx, want)
		if natsCode(err) == natsOverlap && delivery == Event {
			// All events had one stream once. It holds those of a minute.
			if d.conn().pubJS.DeleteStream(ctx, strings.TrimSuffix(want.Name, "_"+d.typeName(topic))) == nil {
				_, err = d.conn().pubJS.CreateStream(ctx, want)
			}
		}
		switch {
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
			err = nil // another node was first
		case natsCode(err) == natsOverlap:
			return d.overlaps(ctx, topic, err)
		}
	case err == nil:
		have := stream.CachedInfo().Config
		bytes := have.MaxBytes // or, not above 0, no bound
		// Never lowered: a server of 2.9 throws away the tasks that are over its bound.
		if bytes > 0 {
			bytes = max(bytes, want.MaxBytes)
		}
		changed := have.MaxBytes != bytes || have.MaxAge != want.MaxAge || !slices.Equal(have.Subjects, want.Subjects)
		if unsafe := natsUnsafe(have); delivery == Task && len(unsafe) > 0 {
			d.log.Warn("nats stream is not safe for tasks; its configuration is corrected", "stream", have.Name, "unsafe", unsafe)
			have.Discard, have.DiscardNewPerSubject, have.MaxMsgsPerSubject = jetstream.DiscardNew, false, -1
			changed = true
		}
		if changed {
			have.MaxBytes, have.MaxAge, have.Subjects = bytes, want.MaxAge, want.Subjects
			_, err = d.conn().pubJS.UpdateStream(ctx, have)
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", want.Name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[topic] = delivery
	return nil
}

// natsUnsafe returns the settings of a stream of tasks, changed by an operator, that remove
// tasks in wait. A bound of their number alone refuses new ones.
func natsUnsafe(cfg jetstream.StreamConfig) []string {
	var unsafe []string
	for _, setting := range []struct {
		name   string
		unsafe bool
	}{
		{"max_age", cfg.MaxAge > 0},
		{"discard", cfg.Discard != jetstream.DiscardNew},
		{"max_msgs_per_subject", cfg.MaxMsgsPerSubject > 0},
	} {
		if setting.unsafe {
			unsafe = append(unsafe, setting.name)
		}
	}
	return unsafe
}

// overlaps tells which stream takes topic already.
func (d *natsDriver) overlaps(ctx context.Context, topic string, err error) error {
	name, unknown := d.conn().pubJS.StreamNameBySubject(ctx, topic)
	if unknown != nil {
		name = "of the server"
	}
	return fmt.Errorf("another stream, %s, takes %s: delete that one (nats stream rm), or choose another broker.topic_prefix: %w", name, topic, err)
}

// forget makes the next use of topic look at its stream again.
func (d *natsDriver) forget(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, topic)
}

func (d *natsDriver) declare(ctx context.Context, topic string, delivery Delivery, group string) error {
	d.forget(topic)
	return d.because(d.rights.ask(ctx, d.cfg, func(ctx context.Context) error {
		if err := d.ensure(ctx, topic, delivery); err != nil {
			return err
		}
		if err := d.permits(ctx, natsPublishTrial(topic)); err != nil || delivery == Event {
			return err
		}
		d.mu.Lock()
		if d.consumers[topic] == nil {
			d.consumers[topic] = make(map[string]bool)
		}
		d.consumers[topic][d.consumerName(topic, group)] = true
		d.mu.Unlock()
		_, err := d.taskConsumer(ctx, topic, group)
		return err
	}))
}

// because adds the cause of the embedded server to err.
func (d *natsDriver) because(err error) error {
	if d.server == nil {
		return err
	}
	return d.server.because(err)
}

// consumerName is what the function group is called at the server. A function name has no
// "--", and a protobuf name no "-": no two collide.
func (d *natsDriver) consumerName(topic, group string) string {
	return group + "--" + d.typeName(topic)
}

func (d *natsDriver) taskConsumerConfig(topic, group string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       d.consumerName(topic, group),
		FilterSubject: topic,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       d.ackWait,
		MaxAckPending: natsMaxAckPending,
		MaxDeliver:    -1,
	}
}

func (d *natsDriver) taskConsumer(ctx context.Context, topic, group string) (jetstream.Consumer, error) {
	name := d.consumerName(topic, group)
	if err := d.lock(ctx); err != nil {
		return nil, err
	}
	defer d.unlock()
	consumer, err := d.conn().subJS.CreateOrUpdateConsumer(ctx, d.streamName(topic, Task), d.taskConsumerConfig(topic, group))
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", name, err)
	}
	return consumer, nil
}

// eventConsumer starts where sub stands, or behind the newest message, and returns
// the number of the first message to come. The cursor is that number and the time at
// which its stream was made.
func (d *natsDriver) eventConsumer(ctx context.Context, sub *subscription) (jetstream.Consumer, uint64, error) {
	if err := d.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer d.unlock()
	stream, err := d.conn().subJS.Stream(ctx, d.streamName(sub.topic, Event))
	if err != nil {
		return nil, 0, err
	}
	state := stream.CachedInfo().State
	start := state.LastSeq + 1
	created := strconv.FormatInt(stream.CachedInfo().Created.UnixNano(), 10)
	if cursor, of, _ := strings.Cut(sub.cursor, " "); cursor != "" {
		at, _ := strconv.ParseUint(cursor, 10, 64) // we wrote it
		switch {
		case of != created || at > state.LastSeq+1: // another stream by now: all of it is new
			d.log.Warn("nats lost the events of a topic; reading it from its new beginning", "topic", sub.topic, "function", sub.group)
			start = max(state.FirstSeq, 1)
			sub.gap()
		case at < state.FirstSeq:
			d.log.Warn("events are gone that this node has not seen", "topic", sub.topic, "function", sub.group, "before", state.FirstSeq)
			start = state.FirstSeq
			sub.gap()
		default:
			start = at
		}
	}
	sub.cursor = strconv.FormatUint(start, 10) + " " + created
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject:     sub.topic,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       start,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: natsInactive,
	})
	return consumer, start, err
}
