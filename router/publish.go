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
	// ErrTooLarge: the message is over Config.MaxMessageBytes. Nothing was sent.
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
		start := time.Now()
		err := r.drv.publish(ctx, run.topic, run.delivery, run.msgs)
		r.metrics.published(run.topic, len(run.msgs), time.Since(start), err)
		if err != nil {
			return fmt.Errorf("router: publish %s: %w: %w", run.topic, ErrUnavailable, err)
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
	if len(payload) > r.cfg.MaxMessageBytes {
		return nil, fmt.Errorf("router: publish %s: %w: %d bytes, broker.max_message_bytes is %d", name, ErrTooLarge, len(payload), r.cfg.MaxMessageBytes)
	}
	id, key := r.cfg.Route(m)
	if id == "" {
		id = watermill.NewUUID()
	}
	msg := message.NewMessage(id, payload)
	if key != "" {
		msg.Metadata.Set(metaKey, key)
	}
	return msg, nil
}
