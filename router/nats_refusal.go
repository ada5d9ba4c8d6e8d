package router

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsRights remembers what the server denied. A denied request has no answer: without it
// the caller sees a timeout only.
type natsRights struct {
	mu     sync.Mutex
	last   error
	at     time.Time
	logged map[string]time.Time
	denied chan struct{} // closed and replaced at each denial
}

// natsDeniedFor is how long the health check names a denial.
const natsDeniedFor = time.Minute

func newNATSRights() *natsRights {
	return &natsRights{logged: make(map[string]time.Time), denied: make(chan struct{})}
}

// note records a denial and returns true if it is due for the log.
func (r *natsRights) note(err error) bool {
	text := err.Error()
	if i := strings.LastIndex(text, "_INBOX."); i >= 0 {
		text = text[:i] // the rest is random
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.at = err, time.Now()
	close(r.denied)
	r.denied = make(chan struct{})
	due := time.Since(r.logged[text]) >= natsDeniedFor
	if len(r.logged) > 100 {
		clear(r.logged)
	}
	if due {
		r.logged[text] = time.Now()
	}
	return due
}

// forget drops the last denial, as with new connections: one that lasts is reported again.
func (r *natsRights) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = nil
}

func (r *natsRights) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.denied
}

// err returns a denial after since, or nil.
func (r *natsRights) err(since time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || r.at.Before(since) {
		return nil
	}
	return natsDenied(r.last)
}

func natsDenied(err error) error {
	return advised(err, "the user of broker.nats.url needs to publish to $JS.API.>, $JS.ACK.> and names with broker.topic_prefix, and to subscribe to _INBOX.>")
}

// ask calls do, ends it early when the server denies something meanwhile, and adds cause
// and fix to its error.
func (r *natsRights) ask(ctx context.Context, cfg Config, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun, denied := time.Now(), r.watch()
	go func() { // ends with ctx
		select {
		case <-denied:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := do(ctx)
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		if reason := r.err(begun); reason != nil {
			return reason
		}
	}
	return natsExplain(cfg, err)
}

// natsExplain adds the fix to err, an answer of JetStream.
func natsExplain(cfg Config, err error) error {
	var done refusal
	if errors.As(err, &done) {
		return err
	}
	switch natsCode(err) {
	case 10047, 10002, 10023, 10028, 10122: // storage, resources of the account or server, memory, bytes of a stream
		return advised(err, "each type of task reserves broker.nats.max_task_bytes (%d), each type of event %d: lower that key, or give the account and the server more storage", cfg.NATS.MaxTaskBytes, natsEventBytes)
	case 10027:
		return advised(err, "each type of message needs one stream: raise max_streams of the account")
	case 10026:
		return advised(err, "each function needs one consumer: raise max_consumers of the account")
	case 10121:
		return advised(err, "raise max_ack_pending of the account or the server to %d", natsMaxAckPending)
	case 10039, 10076:
		return advised(err, "enable JetStream for the account of broker.nats.url, and start nats-server with -js")
	case 10052, 10058: // invalid configuration, name in use with another one
		return advised(err, "choose another broker.topic_prefix, or delete the stream (nats stream rm)")
	}
	return err
}

// natsOff tells if the answer says that JetStream is off.
func natsOff(err error) bool {
	code := natsCode(err)
	return code == 10039 || code == 10076 || errors.Is(err, jetstream.ErrJetStreamNotEnabled)
}

// natsLoginFix returns the fix for a refused connection.
func natsLoginFix(err error) string {
	text := strings.ToLower(err.Error())
	switch {
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(text, "auth"):
		return "correct user and password (or token) in broker.nats.url"
	case strings.Contains(text, "maximum"):
		return "raise max_connections of the server or the account: each node needs two"
	case errors.Is(err, nats.ErrSecureConnRequired):
		return "the server requires TLS: write tls:// in broker.nats.url"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server has no TLS: write nats:// in broker.nats.url"
	}
	return dialFix(err, "broker.nats.url")
}

// natsPublishTrial returns a message that the server drops: no stream has that name.
func natsPublishTrial(topic string) *nats.Msg {
	return &nats.Msg{Subject: topic, Header: nats.Header{jetstream.ExpectedStreamHeader: {"no.stream"}}}
}

// natsReadTrials returns the requests of a source in a form that the server drops: invalid,
// or of no delivery.
func natsReadTrials(stream, consumer string, delivery Delivery) []*nats.Msg {
	next := &nats.Msg{Subject: natsNext + stream + "." + consumer, Data: []byte("{")}
	if delivery == Event {
		return []*nats.Msg{next}
	}
	return []*nats.Msg{next, {Subject: natsAck + stream + "." + consumer + ".1.0.0.0.0", Data: []byte(natsInProgress)}}
}

// permits tries rights, at start and in -check: without them functions run and every task is
// redelivered, or a publish waits for its deadline.
func (d *natsDriver) permits(ctx context.Context, trials ...*nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout) // the flush needs a deadline
	defer cancel()
	nc := d.conn().sub
	for _, trial := range trials {
		before := nc.LastError()
		if err := nc.PublishMsg(trial); err != nil {
			return err
		}
		if err := nc.FlushWithContext(ctx); err != nil {
			return err
		}
		if err := nc.LastError(); err != before && natsDenies(err, trial.Subject) {
			return natsDenied(err)
		}
	}
	return nil
}

// natsDenies reports whether err is a denied publish to subject.
func natsDenies(err error, subject string) bool {
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}
