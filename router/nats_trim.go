package router

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What every function has handled leaves the stream of tasks. Its retention is by
// limits, so nothing else would make room before their age.
const (
	natsTrimEvery = 30 * time.Second
	natsTrimLeast = 1000 // handled tasks that may stay, unless they are large
)

// keepTrimmed trims the tasks that this process knows until ctx ends.
func (d *natsDriver) keepTrimmed(ctx context.Context) {
	for sleep(ctx, jitter(natsTrimEvery)) {
		d.mu.Lock()
		var topics []string
		for topic, delivery := range d.known {
			if delivery == Task {
				topics = append(topics, topic)
			}
		}
		d.mu.Unlock()
		for _, topic := range topics {
			if err := d.trim(ctx, topic, natsTrimLeast); err != nil && ctx.Err() == nil {
				d.log.Debug("handled tasks could not be removed; trying again later", "topic", topic, "error", err)
			}
		}
	}
}

// trim removes the tasks of topic up to the first one that some function has not
// acked; without a function, none, and none without one that this process has, as when
// the server has lost the topic and not all functions are back. Several processes may trim
// at once: what is acked stays so.
//
// It leaves the stream alone when there are fewer than least to remove, unless they
// are large: a server of 2.9 forgets at each purge which tasks it was about to send
// again, and begins their wait anew. Never purge by subject: on such a server tasks
// of a dead worker then never come again.
func (d *natsDriver) trim(ctx context.Context, topic string, least uint64) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	stream, err := d.conn().pubJS.Stream(ctx, d.streamName(topic, Task))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if len(natsUnsafe(stream.CachedInfo().Config)) > 0 {
		d.forget(topic)
		if err := d.ensure(ctx, topic, Task); err != nil {
			return err
		}
	}
	state := stream.CachedInfo().State // before the consumers: what comes later is for later
	handled, functions := state.LastSeq, 0
	missing := d.declared(topic)
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		functions++
		delete(missing, info.Name)
		// The server tells a consumer of a new task after it has stored it, so that one
		// may be neither pending nor delivered: what was delivered is the bound.
		handled = min(handled, info.Delivered.Stream)
		if info.NumPending > 0 || info.NumAckPending > 0 {
			handled = min(handled, info.AckFloor.Stream)
		}
	}
	if err := consumers.Err(); err != nil {
		return err // with some of them unknown, nothing may go
	}
	// In a cluster the list leaves out consumers that have no leader for the moment.
	if functions == 0 || functions != state.Consumers || len(missing) > 0 || handled < state.FirstSeq || state.Msgs == 0 {
		return nil
	}
	if large := int64(state.Bytes) >= d.cfg.NATS.MaxTaskBytes/8; !large && handled-state.FirstSeq+1 < least {
		return nil
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(handled+1))
}

// declared returns the consumers of topic that this process has declared.
func (d *natsDriver) declared(topic string) map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.consumers[topic])
}

// Codes of errors of JetStream.
const (
	natsOverlap  = 10065 // another stream has the subject
	natsMaxBytes = 10077 // also for messages
)

func natsCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

// isFull tells that the stream has no room.
func isFull(err error) bool { return natsCode(err) == natsMaxBytes }
