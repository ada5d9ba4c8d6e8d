package router

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publish sends one message after the other: were they sent ahead, a later one could
// be stored when the one before it was not, and then stand before it.
func (d *natsDriver) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	if err := d.refusesTasks(); err != nil && delivery == Task {
		return err
	}
	begun := time.Now()
	for _, msg := range msgs {
		err := d.publishOne(ctx, delivery, natsMessage(topic, msg))
		denied := d.rights.err(begun)
		switch {
		case err == nil:
		case denied != nil && ctx.Err() != nil: // a denied message has no answer
			return errors.Join(err, denied)
		case isFull(err):
			return fmt.Errorf("%w: %w", errFull, err)
		case delivery == Task:
			return cmp.Or(d.refusesTasks(), err) // a failed write has no answer
		default:
			return err
		}
	}
	return nil
}

// refusesTasks returns why the embedded server stores no tasks, or nil.
func (d *natsDriver) refusesTasks() error {
	if d.server == nil {
		return nil
	}
	if err := d.server.refuses(); err != nil {
		return reportedError{err}
	}
	return nil
}

// publishOne tries until ctx ends. Trying again is safe: the server knows the ids of
// the last two minutes.
func (d *natsDriver) publishOne(ctx context.Context, delivery Delivery, out *nats.Msg) error {
	for {
		err := d.ensure(ctx, out.Subject, delivery)
		if err == nil {
			err = d.conn().confirms.publish(ctx, out)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
			d.forget(out.Subject)
		case delivery == Task && isFull(err):
			// Handled tasks may be in the way; those that wait never go.
			if trimmed := d.trim(ctx, out.Subject, 1); trimmed != nil {
				return errors.Join(err, trimmed)
			}
		case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrConnectionClosed),
			errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		default:
			return natsExplain(d.cfg, err)
		}
		if !sleep(ctx, jitter(50*time.Millisecond)) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// natsMessage returns msg as it goes over the wire, in the form of NATSMarshaler, with what
// the server knows it by when it comes twice. It looks at the ids of a whole stream, and a
// message may be replayed.
func natsMessage(topic string, msg *message.Message) *nats.Msg {
	id := topic + " " + msg.UUID
	if replay := msg.Metadata[metaReplay]; replay != "" {
		id += " " + replay
	}
	values := make([]string, 0, len(msg.Metadata)+2) // one piece of memory for all
	header := make(nats.Header, len(msg.Metadata)+2)
	set := func(key, value string) {
		values = append(values, value)
		header[key] = values[len(values)-1 : len(values) : len(values)]
	}
	set(wnats.WatermillUUIDHdr, msg.UUID)
	for key, value := range msg.Metadata {
		set(key, value)
	}
	set(jetstream.MsgIDHeader, id)
	return &nats.Msg{Subject: topic, Data: msg.Payload, Header: header}
}

// natsConfirms waits for what the server says to messages. The client's own asynchronous
// publishing makes a timer for each, decodes each answer from JSON, and was a third of
// what a publish cost; here every publisher waits for its own anyway, with a bound.
type natsConfirms struct {
	nc      *nats.Conn
	subject string        // answers come to it with a number behind
	room    chan struct{} // holds a token for each message without an answer

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]natsWaiting
}

// natsWaiting is a message without an answer.
type natsWaiting struct {
	subject string
	answer  chan error // has room for it
}

func newNATSConfirms() *natsConfirms {
	return &natsConfirms{room: make(chan struct{}, natsMaxPending), waiting: make(map[uint64]natsWaiting)}
}

// listen begins to take the answers on nc. Nothing is published before.
func (c *natsConfirms) listen(nc *nats.Conn) error {
	c.nc, c.subject = nc, nc.NewInbox()+"."
	inbox, err := nc.Subscribe(c.subject+"*", c.answer) // ends with nc
	if err != nil {
		return err
	}
	return inbox.SetPendingLimits(-1, -1) // no more than were asked for
}

// publish sends m once and returns what the server says, or an error when ctx ends. Not
// by a request, which would wait for its end on a link that is gone. It does not wait
// long for others to get their answers.
func (c *natsConfirms) publish(ctx context.Context, m *nats.Msg) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.room <- struct{}{}:
	default:
		stall := time.NewTimer(natsStall)
		defer stall.Stop()
		select {
		case c.room <- struct{}{}:
		case <-stall.C:
			return jetstream.ErrTooManyStalledMsgs
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	answer := make(chan error, 1)
	c.mu.Lock()
	c.last++
	number := c.last
	c.waiting[number] = natsWaiting{m.Subject, answer}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, number)
		c.mu.Unlock()
		<-c.room
	}()
	sent := *m // a message may be sent again, with another number
	sent.Reply = c.subject + strconv.FormatUint(number, 10)
	if err := c.nc.PublishMsg(&sent); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is called by the client, for one answer after the other.
func (c *natsConfirms) answer(m *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, c.subject), 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	waiting, ok := c.waiting[number]
	delete(c.waiting, number)
	c.mu.Unlock()
	if ok {
		waiting.answer <- natsAnswer(m)
	}
}

// natsAnswer returns nil if the server has stored the message.
func natsAnswer(m *nats.Msg) error {
	if len(m.Data) == 0 && m.Header.Get(natsStatus) == "503" {
		return jetstream.ErrNoStreamResponse
	}
	// {"stream":"BURROW_…","seq":7}: no name of a stream of ours is "error".
	name, quick := bytes.CutPrefix(m.Data, []byte(`{"stream":"`))
	if quick && !bytes.HasPrefix(name, []byte(`"`)) && !bytes.Contains(name, []byte(`"error"`)) {
		return nil
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return errors.Join(jetstream.ErrInvalidJSAck, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if answer.Stream == "" {
		return jetstream.ErrInvalidJSAck
	}
	return nil
}

// lost answers all: their link is gone, and their answers with it.
func (c *natsConfirms) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, waiting := range c.waiting {
		waiting.answer <- nats.ErrDisconnected
		delete(c.waiting, number)
	}
}

// denied answers the messages to the subject of err, a denial: the server does not.
func (c *natsConfirms) denied(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, waiting := range c.waiting {
		if natsDenies(err, waiting.subject) {
			waiting.answer <- natsDenied(err)
			delete(c.waiting, number)
		}
	}
}
