package router

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// natsTrimEvery is how often what every function has handled leaves the stream of
// tasks. Its retention is by limits, so nothing else would make room before its age.
const natsTrimEvery = 30 * time.Second

// keepTrimmed trims until ctx ends.
func (d *natsDriver) keepTrimmed(ctx context.Context) {
	for sleep(ctx, jitter(natsTrimEvery)) {
		if err := d.trim(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug("handled tasks could not be removed; trying again later", "error", err)
		}
	}
}

// trim removes the tasks that every function of their topic has acked. A topic
// without a function keeps all of its tasks. Several processes may trim at once:
// what is acked stays so.
func (d *natsDriver) trim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	stream, err := d.pubJS.Stream(ctx, d.streamName(Task))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	handled := map[string]uint64{} // up to where, by topic
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		topic, floor := info.Config.FilterSubject, info.AckFloor.Stream
		if least, known := handled[topic]; !known || floor < least {
			handled[topic] = floor
		}
	}
	if err := consumers.Err(); err != nil {
		return err // with some of them unknown, nothing may go
	}
	for topic, floor := range handled {
		if topic == "" || floor == 0 {
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(topic), jetstream.WithPurgeSequence(floor+1)); err != nil {
			return err
		}
	}
	return nil
}

// isFull tells that the stream has no room.
func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == 10077 // "maximum bytes exceeded", and messages
}
