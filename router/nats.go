package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	cfg      Config
	log      *slog.Logger
	server   *embeddedNATS // nil when the server is elsewhere
	pub, sub *nats.Conn    // readers have their own: a full one does not slow confirms
	confirms *natsConfirms // of pub
	pubJS    jetstream.JetStream
	subJS    jetstream.JetStream

	stopTrim context.CancelFunc // nil before keepTrimmed runs
	trimming sync.WaitGroup

	// ensuring holds a token while streams or consumers change, one at a time:
	// concurrent consumer creations race inside the embedded server (seen in 2.15.2).
	ensuring chan struct{}

	mu          sync.Mutex
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
		cfg: cfg, log: cfg.Log, ensuring: make(chan struct{}, 1),
		known: make(map[string]Delivery), consumers: make(map[string]map[string]bool),
		link: 1, reconnected: make(chan struct{}),
	}
	opts := []nats.Option{
		nats.Name("burrow " + cfg.TopicPrefix),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.Timeout(2 * time.Second),
		// A write to a stalled link, and one that waits for it, must not outlast a publish.
		nats.FlusherTimeout(max(cfg.PublishTimeout/2, time.Second)),
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
	if d.server != nil {
		if err := d.takeBack(ctx, byName); err != nil {
			_ = d.close()
			return nil, fmt.Errorf("router: embedded broker: %w", err)
		}
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
	confirms := newNATSConfirms()
	lost := nats.DisconnectErrHandler(func(*nats.Conn, error) { confirms.lost() })
	if pub, err = nats.Connect(address, append(opts, nats.ReconnectBufSize(-1), lost)...); err != nil {
		return err
	}
	sub, err = nats.Connect(address, append(opts, nats.ReconnectHandler(func(*nats.Conn) { d.renewed() }))...)
	if err != nil {
		return err
	}
	if got := pub.MaxPayload(); got < int64(d.cfg.MaxMessageBytes) {
		return fmt.Errorf("%w: its max_payload is %d, broker.max_message_bytes is %d", errNATSConfig, got, d.cfg.MaxMessageBytes)
	}
	if got, need := pub.MaxPayload(), int64(d.cfg.MaxMessageBytes+natsHeaders); got < need {
		d.log.Warn(fmt.Sprintf("nats counts the headers of a message too, so that the largest are refused: set max_payload of the server to %d, or lower broker.max_message_bytes", need), "max_payload", got, "broker.max_message_bytes", d.cfg.MaxMessageBytes)
	}
	if err := confirms.listen(pub); err != nil {
		return err
	}
	pubJS, err := jetstream.New(pub)
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
	d.pub, d.sub, d.pubJS, d.subJS, d.confirms = pub, sub, pubJS, subJS, confirms
	return nil
}

// renewed tells every source of the new link.
func (d *natsDriver) renewed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link++
	close(d.reconnected)
	d.reconnected = make(chan struct{})
}

// currentLink returns the number of the link for readers, and what is closed when the
// next one takes its place.
func (d *natsDriver) currentLink() (uint64, chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link, d.reconnected
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
	if len(msg.Payload)+natsHeaders <= int(d.pub.MaxPayload()) {
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
	if limit := d.pub.MaxPayload(); size > limit {
		return fmt.Errorf("%w: %d bytes with its headers, the server's max_payload is %d", ErrTooLarge, size, limit)
	}
	return nil
}

func (d *natsDriver) spare() int { return taskSpare }

func (d *natsDriver) refuses(err error) bool {
	var answer *jetstream.APIError
	if errors.As(err, &answer) { // not found: somebody else deletes; unavailable: no leader yet
		return answer.Code != http.StatusNotFound && answer.Code != http.StatusServiceUnavailable
	}
	return errors.Is(err, nats.ErrConnectionClosed)
}

// diskErr returns why the embedded server may take nothing more.
func (d *natsDriver) diskErr() error {
	if d.server == nil {
		return nil
	}
	return d.server.syncer.err()
}

func (d *natsDriver) ping(ctx context.Context) error {
	if err := d.diskErr(); err != nil {
		return err
	}
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

// natsNakDelay has the server take in all that is given back before it sends the first:
// it then sends them in their order, and not to a reader that is just going.
const natsNakDelay = 50 * time.Millisecond

// nak gives a message back. Servers before 2.10 take a reader for present until
// two seconds after its last request, and would send the message to nobody, so
// that it came again only after ackWait: there it waits those two seconds.
func (d *natsDriver) nak(m *nats.Msg) error {
	var major, minor int
	_, _ = fmt.Sscanf(d.sub.ConnectedServerVersion(), "%d.%d", &major, &minor)
	if major == 2 && minor < 10 {
		return m.NakWithDelay(2500 * time.Millisecond)
	}
	return m.NakWithDelay(natsNakDelay)
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
	stream, err := d.pubJS.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = d.pubJS.CreateStream(ctx, want)
		if natsCode(err) == natsOverlap && delivery == Event {
			// All events had one stream once. It holds those of a minute.
			if d.pubJS.DeleteStream(ctx, strings.TrimSuffix(want.Name, "_"+d.typeName(topic))) == nil {
				_, err = d.pubJS.CreateStream(ctx, want)
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
		if have.MaxBytes != bytes || have.MaxAge != want.MaxAge || !slices.Equal(have.Subjects, want.Subjects) {
			have.MaxBytes, have.MaxAge, have.Subjects = bytes, want.MaxAge, want.Subjects
			_, err = d.pubJS.UpdateStream(ctx, have)
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

// overlaps tells which stream takes topic already.
func (d *natsDriver) overlaps(ctx context.Context, topic string, err error) error {
	name, unknown := d.pubJS.StreamNameBySubject(ctx, topic)
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
	if err := d.ensure(ctx, topic, delivery); err != nil {
		return err
	}
	if delivery == Event {
		return nil
	}
	d.mu.Lock()
	if d.consumers[topic] == nil {
		d.consumers[topic] = make(map[string]bool)
	}
	d.consumers[topic][d.consumerName(topic, group)] = true
	d.mu.Unlock()
	_, err := d.taskConsumer(ctx, topic, group)
	return err
}

// consumerName is what the function group is called at the server. A function name has no
// "--", and a protobuf name no "-": no two collide.
func (d *natsDriver) consumerName(topic, group string) string {
	return group + "--" + d.typeName(topic)
}

func (d *natsDriver) taskConsumer(ctx context.Context, topic, group string) (jetstream.Consumer, error) {
	name := d.consumerName(topic, group)
	if err := d.lock(ctx); err != nil {
		return nil, err
	}
	defer d.unlock()
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

// eventConsumer starts where sub stands, or behind the newest message, and returns
// the number of the first message to come. The cursor is that number and the time at
// which its stream was made.
func (d *natsDriver) eventConsumer(ctx context.Context, sub *subscription) (jetstream.Consumer, uint64, error) {
	if err := d.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer d.unlock()
	stream, err := d.subJS.Stream(ctx, d.streamName(sub.topic, Event))
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
