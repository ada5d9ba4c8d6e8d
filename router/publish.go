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

// Errors of Publish, for errors.Is.
var (
	// ErrInvalid: the message breaks a rule of its schema. Nothing was sent.
	ErrInvalid = errors.New("message is not valid")
	// ErrTooLarge: the message is over Config.MaxMessageBytes, or over what the broker
	// takes. Nothing was sent.
	ErrTooLarge = errors.New("message is too large")
	// ErrUnavailable: the broker did not confirm in time. The message may still
	// arrive; publish the same again, with the same id.
	ErrUnavailable = errors.New("the broker did not confirm")
)

// Publish sends each message to the topic of its type and returns nil once the
// broker has stored all of them. It keeps their order, also across topics: a
// message is sent when those of other topics before it are confirmed. All are
// checked before the first is sent. It returns within Config.PublishTimeout and
// does not end with ctx, whose values alone it uses: a message half sent would
// be worse than a late answer.
func (r *Router) Publish(ctx context.Context, msgs ...proto.Message) error {
	type run struct {
		topic    string
		delivery Delivery
		msgs     []*message.Message
	}
	var runs []run
	for _, m := range msgs {
		msg, err := r.encode(m)
		if err != nil {
			return err
		}
		topic := Topic(r.cfg.TopicPrefix, m)
		if n := len(runs); n > 0 && runs[n-1].topic == topic {
			runs[n-1].msgs = append(runs[n-1].msgs, msg)
			continue
		}
		runs = append(runs, run{topic, DeliveryOf(m), []*message.Message{msg}})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.PublishTimeout)
	defer cancel()
	for _, run := range runs {
		if err := r.send(ctx, run.topic, run.delivery, run.msgs); err != nil {
			return err
		}
	}
	return nil
}

func (r *Router) encode(m proto.Message) (*message.Message, error) {
	name := m.ProtoReflect().Descriptor().FullName()
	if err := r.validate.Validate(m); err != nil {
		return nil, fmt.Errorf("router: publish %s: %w: %w", name, ErrInvalid, err)
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("router: publish %s: %w: %w", name, ErrInvalid, err)
	}
	id, key := r.cfg.Route(m)
	if id == "" {
		id = watermill.NewUUID()
	}
	msg := message.NewMessage(id, payload)
	if key != "" {
		msg.Metadata.Set(metaKey, key)
	}
	if err := r.fits(Topic(r.cfg.TopicPrefix, m), msg); err != nil {
		return nil, fmt.Errorf("router: publish %s: %w", name, err)
	}
	return msg, nil
}

// Replay is a message that a function gave up on.
type Replay struct {
	// ID names this replay; sent twice within two minutes it may arrive once.
	ID string
	// Topic, Function, MessageID, Metadata and Payload are those of the DeadLetter.
	Topic, Function, MessageID string
	Metadata                   map[string]string
	Payload                    []byte
}

// Replay sends a message to its function once more, and to no other: those of its
// topic take it for done. It waits and fails like Publish; ErrInvalid also means
// that this program knows no such function on the topic, or that the payload is no
// valid message of it.
func (r *Router) Replay(ctx context.Context, p Replay) error {
	r.mu.Lock()
	typ := r.known[p.Function+" on "+p.Topic]
	r.mu.Unlock()
	if typ == nil {
		return fmt.Errorf("router: replay: %w: there is no function %s on %s", ErrInvalid, p.Function, p.Topic)
	}
	if _, err := r.decode(typ, p.Payload); err != nil {
		return fmt.Errorf("router: replay: %w: %w", ErrInvalid, err)
	}
	msg := message.NewMessage(p.MessageID, p.Payload)
	for key, value := range p.Metadata {
		msg.Metadata.Set(key, value)
	}
	msg.Metadata.Set(metaOnly, p.Function)
	msg.Metadata.Set(metaReplay, p.ID)
	if msg.UUID == "" {
		msg.UUID = watermill.NewUUID()
	}
	if err := r.fits(p.Topic, msg); err != nil {
		return fmt.Errorf("router: replay %s: %w", typ.Descriptor().FullName(), err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.PublishTimeout)
	defer cancel()
	return r.send(ctx, p.Topic, deliveryOf(typ.Descriptor()), []*message.Message{msg})
}

// send waits no longer than ctx.
func (r *Router) send(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	start := time.Now()
	err := r.drv.publish(ctx, topic, delivery, msgs)
	r.metrics.published(topic, len(msgs), time.Since(start), err)
	r.health.published(r.log, topic, delivery, err)
	if err == nil {
		return nil
	}
	return fmt.Errorf("router: publish %s: %w: %w", topic, ErrUnavailable, err)
}

func (r *Router) fits(topic string, msg *message.Message) error {
	if n := len(msg.Payload); n > r.cfg.MaxMessageBytes {
		return fmt.Errorf("%w: %d bytes, broker.max_message_bytes is %d", ErrTooLarge, n, r.cfg.MaxMessageBytes)
	}
	return r.drv.fits(topic, msg)
}
