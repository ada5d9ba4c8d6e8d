package router

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

func (d *natsDriver) inspect(ctx context.Context, sub *subscription) (exists bool, err error) {
	err = d.rights.ask(ctx, d.cfg, func(ctx context.Context) (err error) {
		if exists, err = d.existing(ctx, sub); err != nil {
			return err
		}
		consumer := "check"
		if sub.delivery == Task {
			consumer = d.consumerName(sub.topic, sub.group)
		}
		trials := natsReadTrials(d.streamName(sub.topic, sub.delivery), consumer, sub.delivery)
		return d.permits(ctx, append(trials, natsPublishTrial(sub.topic))...)
	})
	return exists, err
}

// existing reports whether the server has the stream and the consumer of sub.
func (d *natsDriver) existing(ctx context.Context, sub *subscription) (bool, error) {
	js := d.conn().pubJS
	name := d.streamName(sub.topic, sub.delivery)
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		other, err := js.StreamNameBySubject(ctx, sub.topic)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("stream of %s: %w", sub.topic, err)
		case sub.delivery == Event && other == strings.TrimSuffix(name, "_"+d.typeName(sub.topic)):
			return false, nil // of an earlier version, and replaced at the next start
		}
		return false, d.overlaps(ctx, sub.topic, errNATSOverlap)
	}
	if err != nil || sub.delivery == Event {
		return err == nil, err
	}
	consumer, err := stream.Consumer(ctx, d.consumerName(sub.topic, sub.group))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("consumer %s: %w", d.consumerName(sub.topic, sub.group), err)
	}
	have, want := consumer.CachedInfo().Config, d.taskConsumerConfig(sub.topic, sub.group)
	if have.AckPolicy != want.AckPolicy || have.DeliverPolicy != want.DeliverPolicy || have.FilterSubject != want.FilterSubject {
		return true, permanentError{fmt.Errorf("consumer %s of stream %s has other settings: delete it (nats consumer rm), or choose another broker.topic_prefix", want.Durable, name)}
	}
	return true, nil
}

// errNATSOverlap is what the server would answer to a stream of a subject that another has.
var errNATSOverlap = permanentError{errors.New("subjects overlap with an existing stream")}

func (d *natsDriver) remove(ctx context.Context, sub *subscription) error {
	d.forget(sub.topic)
	d.mu.Lock()
	delete(d.consumers, sub.topic)
	d.mu.Unlock()
	err := d.conn().pubJS.DeleteStream(ctx, d.streamName(sub.topic, sub.delivery))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}
