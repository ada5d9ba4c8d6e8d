package router

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	natsHeartbeat = 5 * time.Second         // of the server, while it has no message
	natsPull      = 3 * natsHeartbeat       // how long the server keeps one request for messages
	natsAck       = "$JS.ACK."              // where the ack of a delivered message goes
	natsAskMore   = 64                      // so many are worth a request while another one lasts
	natsStatus    = "Status"                // header of what the server tells by itself
	natsDetail    = "Description"           // and its words for it
	natsRest      = "Nats-Pending-Messages" // of the request that is over
	natsNext      = "$JS.API.CONSUMER.MSG.NEXT."
	natsOwn       = "Nats-" // how such headers begin
)

// Statuses after which a source goes on. After any other it is opened again.
const (
	natsAlive   = "100" // a heartbeat
	natsNothing = "404" // the request is over
	natsExpired = "408" // the same
)

// natsSource asks for messages by requests of its own: the official client takes an
// empty message with a header "Status" for a word of the server, so that one which a
// stranger published would never come, and end the reading. They differ in that only
// a message says where its ack goes.
type natsSource struct {
	drv    *natsDriver
	sub    *subscription
	stream string
	name   string // of the consumer
	inbox  *nats.Subscription
	msgs   chan *nats.Msg // messages, and words of the server
	gone   chan struct{}  // closed when no more come into msgs
	failed chan error
	stops  sync.Once

	// Of the goroutine that calls next.
	asked       int           // messages that the server may still send
	reconnected chan struct{} // closed when the link is a new one
	lastSeq     uint64        // of the consumer; events only
	lastStream  uint64        // of the stream; events only
	silent      bool          // the server has nothing more; events only

	// A task is acked by its number in the stream. If the stream was made anew, that
	// number is another task's on a server before 2.10, and an ack would lose it. So after
	// anything that may come of it, the stream is looked at before an ack is sent.
	created time.Time     // the stream
	link    atomic.Uint64 // the driver's link on which it was the same; 0 when it may not be
}

func (d *natsDriver) open(ctx context.Context, sub *subscription) (source, error) {
	s := &natsSource{
		drv: d, sub: sub, stream: d.streamName(sub.topic, sub.delivery), gone: make(chan struct{}), failed: make(chan error, 1),
		// All of one request, as much that an old link still brings, and words between.
		msgs: make(chan *nats.Msg, 2*sub.window+32),
	}
	link, reconnected := d.currentLink()
	s.reconnected = reconnected
	var consumer jetstream.Consumer
	err := d.rights.ask(ctx, d.cfg, func(ctx context.Context) (err error) {
		if sub.delivery == Task {
			consumer, err = d.taskConsumer(ctx, sub.topic, sub.group)
		} else {
			var start uint64
			consumer, start, err = d.eventConsumer(ctx, sub)
			s.lastStream = start - 1
		}
		if err != nil {
			return err
		}
		return d.permits(ctx, natsReadTrials(s.stream, consumer.CachedInfo().Name, sub.delivery)...)
	})
	if err != nil {
		return nil, err
	}
	s.name = consumer.CachedInfo().Name
	if sub.delivery == Task {
		// After the consumer: one of an older stream is gone, and its reading fails.
		if s.created, err = d.created(ctx, s.stream); err != nil {
			return nil, err
		}
		s.link.Store(link)
	}
	if s.inbox, err = d.conn().sub.Subscribe(d.conn().sub.NewInbox(), s.receive); err != nil {
		return nil, err
	}
	s.inbox.SetClosedHandler(func(string) { close(s.gone) })
	_ = s.inbox.SetPendingLimits(-1, -1) // a request bounds them; never fails for a new subscription
	return s, nil
}

// created returns when a stream was made.
func (d *natsDriver) created(ctx context.Context, name string) (time.Time, error) {
	stream, err := d.conn().subJS.Stream(ctx, name)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", name, err)
	}
	return stream.CachedInfo().Created, nil
}

func isDelivered(m *nats.Msg) bool { return strings.HasPrefix(m.Reply, natsAck) }

// receive is called by the client, for one message after the other.
func (s *natsSource) receive(m *nats.Msg) {
	if !isDelivered(m) {
		switch m.Header.Get(natsStatus) {
		case natsAlive, natsNothing, natsExpired:
		default:
			s.link.Store(0)
		}
	}
	select {
	case s.msgs <- m:
	default: // there is room for all that was asked for; else the message comes again
	}
}

// askFor requests what the caller has room for and the server was not asked for yet: of
// tasks no more, for nobody tells the server that those which wait here are being worked
// on, and it would give them to another worker as well. Events have no such bound. It
// asks for many at a time.
func (s *natsSource) askFor(room int) error {
	if s.sub.delivery == Event {
		room = s.sub.window
	}
	if n := room - s.asked; s.asked == 0 && n > 0 || s.sub.delivery == Task && n >= natsAskMore {
		return s.ask(n)
	}
	return nil
}

// ask requests n more messages.
func (s *natsSource) ask(n int) error {
	request, err := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{n, natsPull, natsHeartbeat})
	if err != nil {
		return err
	}
	s.asked += n
	return s.drv.conn().sub.PublishRequest(natsNext+s.stream+"."+s.name, s.inbox.Subject, request)
}

func (s *natsSource) next(ctx context.Context, most int) ([]*delivered, error) {
	ds, err := s.take(ctx, most)
	if s.silent && err == nil {
		s.missed(ctx)
	}
	if s.silent = false; s.sub.delivery == Event && len(ds) > 0 {
		s.save()
	}
	return ds, err
}

func (s *natsSource) save() {
	_, created, _ := strings.Cut(s.sub.cursor, " ")
	s.sub.cursor = strconv.FormatUint(s.lastStream+1, 10) + " " + created
}

// missed tells of events that were dropped before they were sent, and that no later one
// shows, for there is none.
func (s *natsSource) missed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	stream, err := s.drv.conn().subJS.Stream(ctx, s.stream)
	if err != nil {
		return // it is looked at again in a moment
	}
	if first := stream.CachedInfo().State.FirstSeq; first > s.lastStream+1 {
		s.dropped()
		s.lastStream = first - 1
		s.save()
	}
}

func (s *natsSource) dropped() {
	s.drv.log.Warn("events were dropped: the function is slower than its publishers", "topic", s.sub.topic, "function", s.sub.group)
	s.sub.gap()
}

// take is next without the cursor.
func (s *natsSource) take(ctx context.Context, most int) ([]*delivered, error) {
	ds, err := s.readAhead(nil, most)
	if err == nil {
		err = s.askFor(most - len(ds))
	}
	if len(ds) > 0 || err != nil {
		return ds, err
	}
	silence := time.NewTimer(2 * natsHeartbeat)
	defer silence.Stop()
	select {
	case m := <-s.msgs:
		d, err := s.read(m)
		if d == nil || err != nil {
			return nil, err
		}
		return s.readAhead([]*delivered{d}, most)
	case <-s.reconnected:
		// The requests went with the old link, and events that were on their way. Or the
		// server still has a request: its answers must not add to those of the next one.
		return nil, errReopen
	case err := <-s.failed:
		return nil, err
	case <-silence.C:
		s.link.Store(0) // a stream that ends does not always say so
		return nil, fmt.Errorf("the server was silent for %s", 2*natsHeartbeat)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readAhead adds what has come already.
func (s *natsSource) readAhead(ds []*delivered, most int) ([]*delivered, error) {
	for len(ds) < most {
		select {
		case m := <-s.msgs:
			d, err := s.read(m)
			if err != nil {
				return ds, err
			}
			if d != nil {
				ds = append(ds, d)
			}
		default:
			return ds, nil
		}
	}
	return ds, nil
}

// errReplaced says that what a source has read is not on the broker any more.
var errReplaced = errors.New("the stream was made anew")

// check returns errReplaced if the stream is not the one that this source reads.
func (s *natsSource) check(ctx context.Context) error {
	link, _ := s.drv.currentLink()
	created, err := s.drv.created(ctx, s.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !created.Equal(s.created) {
		return errReplaced
	}
	if err == nil {
		s.link.Store(link)
	}
	return err
}

// read returns the message, or nil for a word of the server after which all goes on.
func (s *natsSource) read(m *nats.Msg) (*delivered, error) {
	if !isDelivered(m) {
		s.silent = s.sub.delivery == Event
		switch status := m.Header.Get(natsStatus); status {
		case natsAlive:
			return nil, nil
		case natsNothing, natsExpired: // of one request; without a number of the only one
			rest, err := strconv.Atoi(m.Header.Get(natsRest))
			if err != nil || rest < 0 {
				rest = s.asked
			}
			s.asked = max(s.asked-rest, 0)
			return nil, nil
		default:
			return nil, fmt.Errorf("the server ended the reading: %s %s", status, m.Header.Get(natsDetail))
		}
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("message without JetStream metadata: %w", err)
	}
	s.asked = max(s.asked-1, 0)
	if s.sub.delivery == Event {
		// Without acks a message that a link lost is not sent again: a gap in the
		// consumer's own numbers shows it.
		if meta.Sequence.Consumer != s.lastSeq+1 {
			return nil, errReopen
		}
		s.lastSeq = meta.Sequence.Consumer
		if meta.Sequence.Stream > s.lastStream+1 {
			s.dropped()
		}
		s.lastStream = meta.Sequence.Stream
	}
	msg := natsDecode(m)
	if msg.UUID == "" {
		// A program without Watermill sent it. Its place in the stream is an id too.
		msg.UUID = meta.Stream + "-" + strconv.FormatUint(meta.Sequence.Stream, 10)
	}
	sent := int(min(meta.NumDelivered, math.MaxInt32)) - 1
	if s.sub.delivery == Event {
		sent = 0
	}
	// With the time at which it was stored, for a stream that is made anew may count from 1.
	id := strconv.AppendUint(make([]byte, 0, 48), meta.Sequence.Stream, 10)
	id = strconv.AppendInt(append(id, ' '), meta.Timestamp.UnixNano(), 10)
	return &delivered{msg: msg, id: string(id), tag: m, redelivered: sent}, nil
}

// natsOwns tells if a header means something to the server.
func natsOwns(key string) bool {
	return len(key) >= len(natsOwn) && strings.EqualFold(key[:len(natsOwn)], natsOwn)
}

// natsDecode is NATSMarshaler.Unmarshal for whatever a stranger sends: it never fails,
// and leaves out what the server would take for an instruction when the message is
// published again.
func natsDecode(m *nats.Msg) *message.Message {
	msg := message.NewMessage(m.Header.Get(wnats.WatermillUUIDHdr), m.Data)
	for key, values := range m.Header {
		switch {
		case key == wnats.WatermillUUIDHdr, key == metaPoison, natsOwns(key):
		case len(values) != 1:
			return poisoned(msg.UUID, m.Data, fmt.Errorf("header %q has %d values", key, len(values)))
		default:
			msg.Metadata[key] = values[0]
		}
	}
	return msg
}

func (s *natsSource) ack(ctx context.Context, ds []*delivered) error {
	link, _ := s.drv.currentLink()
	return s.answer(ctx, messagesOf(ds), s.link.Load() == link, func(m *nats.Msg) error { return s.drv.respond(m, natsAcked) })
}

// extend also notices a stream that was made anew while nothing was read.
func (s *natsSource) extend(ctx context.Context, ds []*delivered) error {
	return s.answer(ctx, messagesOf(ds), false, func(m *nats.Msg) error { return s.drv.respond(m, natsInProgress) })
}

// release stops reading first, or the server would send the messages back here, and
// gives them back in order, for so they are sent to the next reader.
func (s *natsSource) release(ctx context.Context, ds []*delivered) error {
	msgs := append(messagesOf(ds), s.stop(ctx)...)
	slices.SortFunc(msgs, func(a, b *nats.Msg) int { return cmp.Compare(sequenceOf(a), sequenceOf(b)) })
	return s.giveBack(ctx, msgs)
}

func (s *natsSource) giveBack(ctx context.Context, msgs []*nats.Msg) error {
	return s.answer(ctx, msgs, false, func(m *nats.Msg) error {
		if meta, err := m.Metadata(); err == nil && meta.NumDelivered > renewAfter && s.renew(ctx, m, meta) == nil {
			return s.drv.respond(m, natsAcked)
		}
		return s.drv.nak(m)
	})
}

// renew publishes a task once more, for this function alone: the server counts how often
// it sent one, orderly stops among them, and nobody can say otherwise.
func (s *natsSource) renew(ctx context.Context, m *nats.Msg, meta *nats.MsgMetadata) error {
	number := strconv.FormatUint(meta.Sequence.Stream, 10)
	out := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: make(nats.Header)}
	for key, values := range m.Header {
		if !natsOwns(key) {
			out.Header[key] = values
		}
	}
	if m.Header.Get(wnats.WatermillUUIDHdr) == "" {
		out.Header.Set(wnats.WatermillUUIDHdr, meta.Stream+"-"+number)
	}
	out.Header.Set(metaOnly, s.sub.group)
	out.Header.Set(jetstream.MsgIDHeader, m.Subject+" "+s.sub.group+" "+number)
	return s.drv.conn().confirms.publish(ctx, out)
}

// answer does the same with each task. Unless it is sure that the stream is the same
// it looks first: tasks of one that is gone need no answer.
func (s *natsSource) answer(ctx context.Context, msgs []*nats.Msg, sure bool, do func(*nats.Msg) error) error {
	if s.sub.delivery == Event || len(msgs) == 0 {
		return nil
	}
	if !sure {
		err := s.check(ctx)
		if errors.Is(err, errReplaced) {
			select {
			case s.failed <- err:
			default: // it knows already
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	var first error // of many, all have the same reason
	for _, m := range msgs {
		if err := do(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func messagesOf(ds []*delivered) []*nats.Msg {
	msgs := make([]*nats.Msg, len(ds))
	for i, d := range ds {
		msgs[i] = d.tag.(*nats.Msg)
	}
	return msgs
}

func sequenceOf(m *nats.Msg) uint64 {
	meta, err := m.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

// stop ends the reading and returns the tasks that were read ahead, in order.
func (s *natsSource) stop(ctx context.Context) (ahead []*nats.Msg) {
	s.stops.Do(func() {
		if s.sub.delivery == Event || !s.drv.conn().sub.IsConnected() || s.inbox.Drain() != nil {
			_ = s.inbox.Unsubscribe() // fails when it has ended already
			return
		}
		select {
		case <-s.gone:
		case <-ctx.Done():
			_ = s.inbox.Unsubscribe()
		}
		for {
			select {
			case m := <-s.msgs:
				if isDelivered(m) {
					ahead = append(ahead, m)
				}
			default:
				return
			}
		}
	})
	return ahead
}

func (s *natsSource) close(ctx context.Context, forget bool) error {
	if s.sub.delivery == Task {
		return s.giveBack(ctx, s.stop(ctx)) // else they come again only after ackWait
	}
	s.stop(ctx)
	if !forget && !s.drv.conn().sub.IsConnected() {
		return nil // gone by itself after natsInactive
	}
	if err := s.drv.lock(ctx); err != nil {
		return err
	}
	defer s.drv.unlock()
	err := s.drv.rights.ask(ctx, s.drv.cfg, func(ctx context.Context) error {
		return s.drv.conn().subJS.DeleteConsumer(ctx, s.stream, s.name)
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}
