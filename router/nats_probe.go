package router

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The stream of test messages. A test message is larger than what is left of a page on a
// full disk.
const (
	natsHealthMessage = 16 << 10
	natsHealthBytes   = 8 * natsHealthMessage
)

// Codes of JetStream for accounts without room for another stream.
const (
	natsNoResources = 10023
	natsNoStorage   = 10047
)

func (d *natsDriver) healthSubject() string { return d.cfg.TopicPrefix + "." + healthTopic }

func (d *natsDriver) healthStream() string {
	return strings.ToUpper(strings.ReplaceAll(d.cfg.TopicPrefix, ".", "+") + "_" + healthTopic)
}

// probe stores one message in a stream of one message. The embedded server has written a
// file in ping.
func (d *natsDriver) probe(ctx context.Context) error {
	if d.server != nil || d.unprobed.Load() {
		return nil
	}
	err := d.conn().confirms.publish(ctx, &nats.Msg{Subject: d.healthSubject(), Data: make([]byte, natsHealthMessage)})
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		// Missing, or its server is gone: a new one is placed on another server.
		js := d.conn().pubJS
		_ = js.DeleteStream(ctx, d.healthStream())
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: d.healthStream(), Subjects: []string{d.healthSubject()}, Description: "test messages of health checks",
			Storage: jetstream.FileStorage, MaxMsgs: 1, MaxBytes: natsHealthBytes, Discard: jetstream.DiscardOld,
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was first
			err = nil
		}
		if err == nil {
			err = d.conn().confirms.publish(ctx, &nats.Msg{Subject: d.healthSubject(), Data: make([]byte, natsHealthMessage)})
		}
	}
	if d.unprobed.Load() { // the server reported missing rights meanwhile
		return nil
	}
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		if answer.Code < http.StatusInternalServerError || answer.ErrorCode == natsNoResources || answer.ErrorCode == natsNoStorage {
			d.readsOnly(err)
			return nil
		}
	}
	if err != nil && ctx.Err() != nil {
		// A stream stays refused after a failed write: the next probe makes a new one.
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), natsStall)
		defer cancel()
		_ = d.conn().pubJS.DeleteStream(again, d.healthStream())
	}
	return err
}

// readsOnly ends the writes of health checks.
func (d *natsDriver) readsOnly(err error) {
	if !d.unprobed.Swap(true) {
		d.log.Info("health check reads only: allow a stream of 128 KiB to test writes", "stream", d.healthStream(), "subject", d.healthSubject(), "error", err)
	}
}

// probeDenied reports whether err is missing rights of a probe.
func (d *natsDriver) probeDenied(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) &&
		(strings.Contains(err.Error(), `"`+d.healthSubject()+`"`) || strings.Contains(err.Error(), "."+d.healthStream()+`"`))
}
