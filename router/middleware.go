package router

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// How a function is tried. The waits hold one lane only.
const (
	maxAttempts    = 5
	retryMin       = 100 * time.Millisecond // doubles with each attempt
	retryMax       = 2 * time.Second
	attemptTimeout = 30 * time.Second
)

// DeadLetter is a message that a function gave up on.
type DeadLetter struct {
	MessageID string // the id on the broker
	Topic     string
	Function  string
	Err       error // why; never nil
	Attempts  int
	Payload   []byte // the bytes as they came
	Time      time.Time
}

type messageIDKey struct{}

// MessageID returns the id on the broker of the message that a function is
// handling, or "" outside of one.
func MessageID(ctx context.Context) string {
	id, _ := ctx.Value(messageIDKey{}).(string)
	return id
}

// errInterrupted ends the attempts of a message because the router stops, not
// because they failed: the message goes back to the broker.
var errInterrupted = errors.New("the router stops")

// failure is the last error of a function with the number of its attempts.
type failure struct {
	err      error
	attempts int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// chain returns the links around a function, outermost first. A panic is an error
// to all of them, each attempt has its own time, and the dead letters get only
// what retries could not mend.
func (r *Router) chain(topic, function string) []message.HandlerMiddleware {
	return []message.HandlerMiddleware{
		r.meter(topic, function),
		r.deadLetter(topic, function),
		r.retry(topic, function),
		middleware.Timeout(attemptTimeout),
		middleware.Recoverer,
	}
}

func (r *Router) meter(topic, function string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			start := time.Now()
			r.metrics.inFlight.WithLabelValues(function, topic).Inc()
			out, err := next(msg)
			r.metrics.inFlight.WithLabelValues(function, topic).Dec()
			r.metrics.handled(function, topic, time.Since(start), err)
			return out, err
		}
	}
}

// deadLetter keeps what failed for good and counts it as done. If it cannot be
// kept, the message comes again.
func (r *Router) deadLetter(topic, function string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := next(msg)
			if err == nil || errors.Is(err, errInterrupted) {
				return out, err
			}
			letter := DeadLetter{
				MessageID: msg.UUID, Topic: topic, Function: function,
				Err: err, Attempts: 1, Payload: msg.Payload, Time: time.Now(),
			}
			var f *failure
			if errors.As(err, &f) {
				letter.Err, letter.Attempts = f.err, f.attempts
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(msg.Context()), 2*r.cfg.PublishTimeout)
			defer cancel()
			if kept := r.cfg.DeadLetter(ctx, letter); kept != nil {
				r.log.Error("a dead letter could not be kept; the message comes again",
					"topic", topic, "function", function, "message", msg.UUID, "error", kept, "cause", letter.Err)
				return nil, errors.Join(err, kept)
			}
			r.metrics.deadLetters.WithLabelValues(function, topic).Inc()
			return nil, nil
		}
	}
}

// retry tries again after a growing wait, up to maxAttempts. It ends at once for
// a permanent error, and when the router stops.
func (r *Router) retry(topic, function string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			base := context.WithValue(msg.Context(), messageIDKey{}, msg.UUID)
			wait := retryMin
			for attempt := 1; ; attempt++ {
				msg.SetContext(base) // the last attempt's has ended
				out, err := next(msg)
				if err == nil {
					return out, nil
				}
				if base.Err() != nil {
					return nil, fmt.Errorf("%w: %w", errInterrupted, err)
				}
				if attempt == maxAttempts || isPermanent(err) {
					return nil, &failure{err, attempt}
				}
				r.log.Warn("function failed; trying again", "function", function, "topic", topic,
					"message", msg.UUID, "attempt", attempt, "error", err)
				timer := time.NewTimer(jitter(wait))
				select {
				case <-timer.C:
				case <-r.draining:
					timer.Stop()
					return nil, fmt.Errorf("%w: %w", errInterrupted, err)
				case <-base.Done():
					timer.Stop()
					return nil, fmt.Errorf("%w: %w", errInterrupted, err)
				}
				wait = min(2*wait, retryMax)
			}
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
