package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The limits of the streams: one for all events, and one for each type of task, so
// that tasks which wait for their worker are in nobody else's way. Tasks are kept by
// limits and not by interest, so that one published before its first worker waits; a
// full stream refuses new tasks and never eats waiting ones. Events only bridge a
// short cut.
const (
	natsTaskAge       = 7 * 24 * time.Hour
	natsEventAge      = time.Minute
	natsEventBytes    = 64 << 20
	natsTaskDuplicate = 2 * time.Minute
	natsMaxAckPending = 10_000 // of all workers of a function together; each has some hundred
	natsMaxPending    = 4000   // unconfirmed publishes of this process
	natsInactive      = 5 * time.Minute
	natsHeartbeat     = 5 * time.Second
	natsCheckEvery    = time.Second // how soon lost events are noticed
)

// natsDriver speaks JetStream by the official client. Watermill's own packages
// name a stream after its topic, and a stream name cannot hold the dots of ours.
// The bytes on the wire are those of Watermill's NATSMarshaler.
type natsDriver struct {
	cfg      Config
	log      *slog.Logger
	server   *embeddedNATS // nil when the server is elsewhere
	pub, sub *nats.Conn    // readers have their own: a full one does not slow confirms
	pubJS    jetstream.JetStream
	subJS    jetstream.JetStream

	checkEvery time.Duration // natsCheckEvery, but for tests

	stopTrim context.CancelFunc // nil before keepTrimmed runs
	trimming sync.WaitGroup

	// ensuring allows one change of streams and consumers at a time: concurrent
	// consumer creations race inside the embedded server (seen in 2.15.2).
	ensuring    sync.Mutex
	mu          sync.Mutex
	known       map[string]Delivery // topics that have their stream
	reconnected chan struct{}       // closed and replaced when sub has a new connection
}

func newNATSDriver(ctx context.Context, cfg Config) (driver, error) {
	d := &natsDriver{cfg: cfg, log: cfg.Log, known: make(map[string]Delivery), checkEvery: natsCheckEvery, reconnected: make(chan struct{})}
	opts := []nats.Option{
		nats.Name("burrow " + cfg.TopicPrefix),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.Timeout(2 * time.Second),
		nats.FlusherTimeout(time.Second), // a write to a stalled link must not outlast a publish
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
	}
	address := cfg.NATS.URL
	if address == "" {
		server, err := startEmbeddedNATS(cfg)
		if err != nil {
			return nil, err
		}
		d.server = server
		opts = append(opts, nats.InProcessServer(server.srv))
	}
	if err := d.connect(ctx, address, opts); err != nil {
		_ = d.close()
		return nil, err
	}
	trimming, stop := context.WithCancel(context.Background())
	d.stopTrim = stop
	d.trimming.Go(func() { d.keepTrimmed(trimming) })
	return d, nil
}

// connect waits for the server up to ConnectTimeout.
func (d *natsDriver) connect(ctx context.Context, address string, opts []nats.Option) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	for {
		err := d.tryConnect(ctx, address, opts)
		if err == nil {
			return nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, errNATSConfig) {
			return fmt.Errorf("router: nats at %s: %w", hostOf(address), err)
		}
		d.log.Warn("waiting for nats at "+hostOf(address), "error", err)
		if !sleep(ctx, jitter(time.Second)) {
			return fmt.Errorf("router: nats at %s did not answer within broker.connect_timeout (%s): %w; start it or correct broker.nats.url", hostOf(address), d.cfg.ConnectTimeout, err)
		}
	}
}

// errNATSConfig marks what waiting does not mend.
var errNATSConfig = errors.New("server is not set up for Burrow")

func (d *natsDriver) tryConnect(ctx context.Context, address string, opts []nats.Option) (err error) {
	var pub, sub *nats.Conn
	defer func() {
		if err != nil {
			for _, nc := range []*nats.Conn{pub, sub} {
				if nc != nil {
					nc.Close()
				}
			}
		}
	}()
	// A publish while the link is down must fail and not be kept by the client.
	if pub, err = nats.Connect(address, append(opts, nats.ReconnectBufSize(-1))...); err != nil {
		return err
	}
	sub, err = nats.Connect(address, append(opts, nats.ReconnectHandler(func(*nats.Conn) { d.renewed() }))...)
	if err != nil {
		return err
	}
	if got := pub.MaxPayload(); got < int64(d.cfg.MaxMessageBytes) {
		return fmt.Errorf("%w: its max_payload is %d, broker.max_message_bytes is %d", errNATSConfig, got, d.cfg.MaxMessageBytes)
	}
	pubJS, err := jetstream.New(pub, jetstream.WithPublishAsyncMaxPending(natsMaxPending), jetstream.WithPublishAsyncTimeout(d.cfg.PublishTimeout))
	if err != nil {
		return err
	}
	subJS, err := jetstream.New(sub)
	if err != nil {
		return err
	}
	probe, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = subJS.AccountInfo(probe)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		return fmt.Errorf("%w: JetStream is off (start nats-server with -js)", errNATSConfig)
	}
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	d.pub, d.sub, d.pubJS, d.subJS = pub, sub, pubJS, subJS
	return nil
}

// renewed ends every event source: what was on its way on the old link is gone,
// and each goes on behind what it has.
func (d *natsDriver) renewed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.reconnected)
	d.reconnected = make(chan struct{})
}

func (d *natsDriver) features() Features {
	return Features{Durable: true, Shared: d.server == nil}
}

func (d *natsDriver) ping(ctx context.Context) error {
	_, err := d.subJS.AccountInfo(ctx)
	return err
}

func (d *natsDriver) close() error {
	if d.stopTrim != nil {
		d.stopTrim()
		d.trimming.Wait()
	}
	for _, nc := range []*nats.Conn{d.pub, d.sub} {
		if nc == nil {
			continue
		}
		if nc.IsConnected() {
			_ = nc.FlushTimeout(opTimeout) // the last acks; lost ones only repeat
		}
		nc.Close()
	}
	if d.server != nil {
		return d.server.stop()
	}
	return nil
}

// nak gives a message back. Servers before 2.10 take a reader for present until
// two seconds after its last request, and would send the message to nobody, so
// that it came again only after ackWait: there it waits those two seconds.
func (d *natsDriver) nak(m jetstream.Msg) error {
	var major, minor int
	_, _ = fmt.Sscanf(d.sub.ConnectedServerVersion(), "%d.%d", &major, &minor)
	if major == 2 && minor < 10 {
		return m.NakWithDelay(2500 * time.Millisecond)
	}
	return m.Nak()
}

// streamName derives the stream of a topic. A dot, which a stream name cannot hold,
// becomes "+" in the prefix and "-" in the type: neither can hold that.
func (d *natsDriver) streamName(topic string, delivery Delivery) string {
	name := strings.ToUpper(strings.ReplaceAll(d.cfg.TopicPrefix, ".", "+"))
	if delivery == Task {
		return name + "_TASKS_" + d.typeName(topic)
	}
	return name + "_EVENTS"
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
		cfg.MaxAge, cfg.MaxBytes, cfg.Discard, cfg.Duplicates = natsTaskAge, d.cfg.NATS.MaxTaskBytes, jetstream.DiscardNew, natsTaskDuplicate
		return cfg
	}
	cfg.MaxAge, cfg.MaxBytes, cfg.Discard, cfg.Duplicates = natsEventAge, natsEventBytes, jetstream.DiscardOld, natsEventAge
	if d.server != nil {
		cfg.Storage = jetstream.MemoryStorage
	}
	return cfg
}

// ensure makes topic a subject of its stream. Nodes know different message types,
// so each only ever adds, and looks again, for another may have written meanwhile.
func (d *natsDriver) ensure(ctx context.Context, topic string, delivery Delivery) error {
	d.mu.Lock()
	_, known := d.known[topic]
	d.mu.Unlock()
	if known {
		return nil
	}
	d.ensuring.Lock()
	defer d.ensuring.Unlock()
	want := d.streamConfig(topic, delivery)
	for {
		stream, err := d.pubJS.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			if _, err = d.pubJS.CreateStream(ctx, want); natsCode(err) == natsOverlap {
				return fmt.Errorf("another stream of the server takes %s: delete that one, or choose another broker.topic_prefix: %w", topic, err)
			}
		case err == nil:
			have := stream.CachedInfo().Config
			if slices.Contains(have.Subjects, topic) {
				d.mu.Lock()
				d.known[topic] = delivery
				d.mu.Unlock()
				return nil
			}
			have.Subjects = append(have.Subjects, topic)
			slices.Sort(have.Subjects)
			_, err = d.pubJS.UpdateStream(ctx, have)
		}
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		if !sleep(ctx, jitter(5*time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// forget makes the next use of topic look at its stream again.
func (d *natsDriver) forget(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, topic)
}

func (d *natsDriver) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	left := msgs
	for {
		err := d.ensure(ctx, topic, delivery)
		if err == nil {
			left, err = d.publishOnce(ctx, topic, left)
			if err == nil {
				return nil
			}
		}
		// Trying again is safe: the server knows the ids of the last two minutes.
		switch {
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
			d.forget(topic)
		case delivery == Task && isFull(err):
			// Handled tasks may be in the way; those that wait never go.
			if trimmed := d.trim(ctx, topic, 1); trimmed != nil {
				return errors.Join(err, trimmed)
			}
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting),
			errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		default:
			return err
		}
		if !sleep(ctx, jitter(50*time.Millisecond)) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// natsMsgID is what the server knows a message by when it comes twice. It looks at
// the ids of a whole stream, and one message may go to several topics, and be replayed.
func natsMsgID(topic string, msg *message.Message) string {
	id := topic + " " + msg.UUID
	if replay := msg.Metadata.Get(metaReplay); replay != "" {
		id += " " + replay
	}
	return id
}

// publishOnce sends msgs and returns those that were not confirmed.
func (d *natsDriver) publishOnce(ctx context.Context, topic string, msgs []*message.Message) ([]*message.Message, error) {
	var marshaler wnats.NATSMarshaler
	futures := make([]jetstream.PubAckFuture, 0, len(msgs))
	var errs error
	for _, msg := range msgs {
		out, err := marshaler.Marshal(topic, msg)
		if err != nil {
			return nil, err
		}
		future, err := d.pubJS.PublishMsgAsync(out, jetstream.WithMsgID(natsMsgID(topic, msg)), jetstream.WithStallWait(time.Second))
		if errors.Is(err, nats.ErrMaxPayload) {
			err = fmt.Errorf("router: publish %s: %w: %d bytes with its headers, the server's max_payload is %d", topic, ErrTooLarge, out.Size(), d.pub.MaxPayload())
		}
		if err != nil {
			errs = err
			break
		}
		futures = append(futures, future)
	}
	var left []*message.Message
	for i, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			errs = err
			left = append(left, msgs[i])
		case <-ctx.Done():
			return msgs[i:], ctx.Err()
		}
	}
	return append(left, msgs[len(futures):]...), errs
}

func (d *natsDriver) declare(ctx context.Context, topic string, delivery Delivery, group string) error {
	d.forget(topic)
	if err := d.ensure(ctx, topic, delivery); err != nil {
		return err
	}
	if delivery == Event {
		return nil
	}
	_, err := d.taskConsumer(ctx, topic, group)
	return err
}

func (d *natsDriver) taskConsumer(ctx context.Context, topic, group string) (jetstream.Consumer, error) {
	// A function name has no "--", and a protobuf name no "-": no two collide.
	name := group + "--" + d.typeName(topic)
	d.ensuring.Lock()
	defer d.ensuring.Unlock()
	consumer, err := d.subJS.CreateOrUpdateConsumer(ctx, d.streamName(topic, Task), jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: topic,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: natsMaxAckPending,
		MaxDeliver:    -1,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", name, err)
	}
	return consumer, nil
}

// eventConsumer starts where sub stands, or behind the newest message.
func (d *natsDriver) eventConsumer(ctx context.Context, sub *subscription) (jetstream.Consumer, error) {
	d.ensuring.Lock()
	defer d.ensuring.Unlock()
	stream, err := d.subJS.Stream(ctx, d.streamName(sub.topic, Event))
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	start := state.LastSeq + 1
	if at, err := strconv.ParseUint(sub.cursor, 10, 64); err == nil {
		switch {
		case at > state.LastSeq+1: // another stream by now: all of it is new
			start = max(state.FirstSeq, 1)
			sub.gap()
		case at < state.FirstSeq && state.FirstSeq > 1:
			d.log.Warn("events are gone that this node has not seen", "topic", sub.topic, "function", sub.group, "before", state.FirstSeq)
			start = state.FirstSeq
			sub.gap()
		default:
			start = at
		}
	}
	sub.cursor = strconv.FormatUint(start, 10)
	return stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject:     sub.topic,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       start,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: natsInactive,
	})
}

func (d *natsDriver) open(ctx context.Context, sub *subscription) (source, error) {
	d.mu.Lock()
	reconnected := d.reconnected
	d.mu.Unlock()
	var consumer jetstream.Consumer
	var err error
	if sub.delivery == Task {
		consumer, err = d.taskConsumer(ctx, sub.topic, sub.group)
		reconnected = nil // the server keeps a task until it is acked
	} else {
		consumer, err = d.eventConsumer(ctx, sub)
	}
	if err != nil {
		return nil, err
	}
	s := &natsSource{
		drv: d, sub: sub, name: consumer.CachedInfo().Name, reconnected: reconnected,
		msgs: make(chan jetstream.Msg, sub.window), failed: make(chan error, 1), closing: make(chan struct{}),
	}
	if start, err := strconv.ParseUint(sub.cursor, 10, 64); err == nil && sub.delivery == Event {
		s.lastStream = start - 1
	}
	s.consuming, err = consumer.Consume(s.receive,
		jetstream.PullMaxMessages(sub.window),
		jetstream.PullExpiry(3*natsHeartbeat),
		jetstream.PullHeartbeat(natsHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { s.fail(err) }))
	if err != nil {
		return nil, err
	}
	return s, nil
}

type natsSource struct {
	drv         *natsDriver
	sub         *subscription
	name        string // of the consumer
	consuming   jetstream.ConsumeContext
	msgs        chan jetstream.Msg
	failed      chan error
	reconnected chan struct{}
	closing     chan struct{}
	stopOnce    sync.Once
	// Events only.
	lastSeq    uint64 // of the consumer
	lastStream uint64 // of the stream
	suspect    uint64 // where this reader stood when something was left out, or 0
	checked    time.Time
}

func (s *natsSource) receive(m jetstream.Msg) {
	select {
	case s.msgs <- m:
	case <-s.closing:
		if s.sub.delivery == Task {
			_ = s.drv.nak(m) // else it comes again after ackWait
		}
	}
}

func (s *natsSource) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first one tells enough
	}
}

func (s *natsSource) next(ctx context.Context, most int) ([]*delivered, error) {
	if s.suspect > 0 && time.Since(s.checked) > s.drv.checkEvery {
		s.check(ctx)
	}
	var ds []*delivered
	select {
	case m := <-s.msgs:
		d, err := s.read(m)
		if err != nil {
			return nil, err
		}
		ds = append(ds, d)
	case err := <-s.failed:
		return nil, err
	case <-s.reconnected:
		return nil, errReopen
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(ds) < most {
		select {
		case m := <-s.msgs:
			d, err := s.read(m)
			if err != nil {
				return ds, err
			}
			ds = append(ds, d)
		default:
			return ds, nil
		}
	}
	return ds, nil
}

func (s *natsSource) read(m jetstream.Msg) (*delivered, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("message without JetStream metadata: %w", err)
	}
	if s.sub.delivery == Event {
		// Without acks a message that a link lost is not sent again: a gap in the
		// consumer's own numbers shows it.
		if meta.Sequence.Consumer != s.lastSeq+1 {
			return nil, errReopen
		}
		s.lastSeq = meta.Sequence.Consumer
		if meta.Sequence.Stream > s.lastStream+1 && s.suspect == 0 {
			s.suspect = max(s.lastStream, 1)
		}
		s.lastStream = meta.Sequence.Stream
		s.sub.cursor = strconv.FormatUint(meta.Sequence.Stream+1, 10)
	}
	id := strconv.FormatUint(meta.Sequence.Stream, 10)
	var marshaler wnats.NATSMarshaler
	msg, err := marshaler.Unmarshal(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
	if err != nil {
		msg = poisoned(m.Headers().Get(wnats.WatermillUUIDHdr), m.Data(), err)
	}
	if msg.UUID == "" {
		// A program without Watermill sent it. Its place in the stream is an id too.
		msg.UUID = meta.Stream + "-" + id
	}
	sent := int(min(meta.NumDelivered, math.MaxInt32)) - 1
	if s.sub.delivery == Event {
		sent = 0
	}
	return &delivered{msg: msg, id: id, tag: m, redelivered: sent}, nil
}

// check tells of a gap if the stream begins behind the place where this reader was
// a moment ago. What is gone may have been of other topics: better once too often.
func (s *natsSource) check(ctx context.Context) {
	s.checked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	stream, err := s.drv.subJS.Stream(ctx, s.drv.streamName(s.sub.topic, Event))
	if err != nil {
		return // asked again
	}
	if first := stream.CachedInfo().State.FirstSeq; first > s.suspect+1 {
		s.drv.log.Warn("events were dropped: the function is slower than its publishers", "topic", s.sub.topic, "function", s.sub.group)
		s.sub.gap()
	}
	s.suspect = 0
}

func (s *natsSource) ack(_ context.Context, ds []*delivered) error {
	return s.each(ds, jetstream.Msg.Ack)
}

func (s *natsSource) extend(_ context.Context, ds []*delivered) error {
	return s.each(ds, jetstream.Msg.InProgress)
}

// release stops reading first, or the server would send the messages back here.
func (s *natsSource) release(ctx context.Context, ds []*delivered) error {
	s.stop(ctx)
	return s.each(ds, s.drv.nak)
}

func (s *natsSource) each(ds []*delivered, do func(jetstream.Msg) error) error {
	if s.sub.delivery == Event {
		return nil
	}
	var errs []error
	for _, d := range ds {
		if err := do(d.tag.(jetstream.Msg)); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errs[0] // all for the same reason
	}
	return nil
}

// stop ends the reading and gives back what was read ahead, else it would come
// again only after ackWait.
func (s *natsSource) stop(ctx context.Context) {
	s.stopOnce.Do(func() {
		close(s.closing)
		s.consuming.Drain()
		select {
		case <-s.consuming.Closed():
		case <-ctx.Done():
			s.consuming.Stop()
		}
		for {
			select {
			case m := <-s.msgs:
				if s.sub.delivery == Task {
					_ = s.drv.nak(m) // comes again after ackWait then
				}
			default:
				return
			}
		}
	})
}

func (s *natsSource) close(ctx context.Context, forget bool) error {
	s.stop(ctx)
	if s.sub.delivery == Task {
		return nil
	}
	if !forget && !s.drv.sub.IsConnected() {
		return nil // gone by itself after natsInactive
	}
	s.drv.ensuring.Lock()
	defer s.drv.ensuring.Unlock()
	err := s.drv.subJS.DeleteConsumer(ctx, s.drv.streamName(s.sub.topic, Event), s.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// hostOf returns the host of an address without what is secret in it.
func hostOf(address string) string {
	if address == "" {
		return "embedded server"
	}
	var hosts []string
	for _, one := range strings.Split(address, ",") {
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ",")
}
