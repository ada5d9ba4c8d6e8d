package router

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"golang.org/x/time/rate"
)

// maxDeliveries bounds how often a broker may send one task without an answer: it
// seems to end the processes that handle it, and goes to the dead letters unrun. An
// orderly stop is none of these times: what it gives back does not come near it.
const maxDeliveries = 20

// DeadLetter is a message that a function gave up on.
type DeadLetter struct {
	MessageID string // the id on the broker
	Topic     string
	Function  string
	Err       error // why; never nil
	Attempts  int
	Payload   []byte            // the bytes as they came
	Metadata  map[string]string // as it came, the routing key among it
	Replay    string            // the ID of the Replay that failed; "" for the message as it came first
	Time      time.Time
}

// MessageID returns the id on the broker of the message that a function is
// handling, or "" outside of one.
func MessageID(ctx context.Context) string {
	if h := handlingOf(ctx); h != nil {
		if d := h.delivered(); d != nil {
			return d.msg.UUID
		}
	}
	return ""
}

// chain returns the links around a function, outermost first. A panic is an error
// to all of them, and the dead letters get only what further attempts could not mend.
// The time for one attempt is in the context that the subscriber gives the message.
func (r *Router) chain(topic, function string, cfg FunctionConfig) []message.HandlerMiddleware {
	return []message.HandlerMiddleware{
		inTurn,
		only(function),
		r.meter(topic, function),
		r.deadLetter(topic, function, cfg.MaxAttempts),
		middleware.Recoverer,
	}
}

// only takes a message that is for another function as done.
func only(function string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if name := msg.Metadata.Get(metaOnly); name != "" && name != function {
				return nil, nil
			}
			return next(msg)
		}
	}
}

func (r *Router) meter(topic, function string) message.HandlerMiddleware {
	inFlight := r.metrics.inFlight.WithLabelValues(function, topic)
	ok := r.metrics.handledSeconds.WithLabelValues(function, topic, result(nil))
	bad := r.metrics.handledSeconds.WithLabelValues(function, topic, result(errors.New("")))
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			start := time.Now()
			inFlight.Inc()
			out, err := next(msg)
			inFlight.Dec()
			if err != nil {
				bad.Observe(time.Since(start).Seconds())
			} else {
				ok.Observe(time.Since(start).Seconds())
			}
			return out, err
		}
	}
}

// deadLetter decides what becomes of a message that failed. An error of it brings
// the message again after a wait that holds up its lane only; the last error, a
// permanent one and a message that was sent too often go to the dead letters, after
// which it is done. If it cannot be kept there, it is redelivered. Unavailable errors are no
// fault of the message: it is retried without a bound.
func (r *Router) deadLetter(topic, function string, maxAttempts int) message.HandlerMiddleware {
	log := r.log.With("function", function, "topic", topic)
	waiting := rate.Sometimes{First: 1, Interval: outageEvery}
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			ctx := msg.Context()
			attempt, sent := 1, 0
			if h := handlingOf(ctx); h != nil {
				d := h.delivered()
				attempt, sent = d.attempts+1, d.redelivered+1
			}
			var err error
			if sent < maxDeliveries {
				var out []*message.Message
				if out, err = next(msg); err == nil {
					return out, nil
				}
				if errors.Is(ctx.Err(), context.Canceled) {
					return nil, err // it failed because the router stops
				}
			} else {
				attempt = sent
				err = permanentError{fmt.Errorf("sent %d times without an answer: it may end the processes that handle it", sent)}
			}
			if isUnavailable(err) {
				waiting.Do(func() {
					log.Warn("function waits for its storage; messages are retried until it works", "message", msg.UUID, "error", err)
				})
				return nil, err
			}
			if attempt < maxAttempts && !isPermanent(err) {
				log.Warn("function failed; trying again", "message", msg.UUID, "attempt", attempt, "error", err)
				return nil, err
			}
			letter := DeadLetter{
				MessageID: msg.UUID, Topic: topic, Function: function,
				Err: err, Attempts: attempt, Payload: msg.Payload, Metadata: maps.Clone(msg.Metadata), Replay: msg.Metadata.Get(metaReplay), Time: time.Now(),
			}
			for _, own := range []string{metaOnly, metaReplay, metaPoison} {
				delete(letter.Metadata, own)
			}
			keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*r.cfg.PublishTimeout)
			defer cancel()
			if kept := r.cfg.DeadLetter(keep, letter); kept != nil {
				waiting.Do(func() {
					log.Error("a dead letter could not be kept; the message is redelivered", "message", msg.UUID, "error", kept, "cause", err)
				})
				return nil, errors.Join(err, kept)
			}
			r.metrics.deadLetters.WithLabelValues(function, topic).Inc()
			return nil, nil
		}
	}
}

// logDeadLetter keeps dead letters in the log, where nothing else is set.
func logDeadLetter(log *slog.Logger) func(context.Context, DeadLetter) error {
	return func(_ context.Context, l DeadLetter) error {
		log.Error("dead letter", "topic", l.Topic, "function", l.Function, "message", l.MessageID,
			"attempts", l.Attempts, "error", l.Err, "payload", base64.StdEncoding.EncodeToString(l.Payload))
		return nil
	}
}
