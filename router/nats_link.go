package router

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsReplaceMax bounds the wait between attempts to replace closed connections.
const natsReplaceMax = 2 * time.Second

// natsConns is the pair of connections of a driver. The client library reconnects by
// itself, but closes a connection for good after some errors: authentication refused
// twice, any error that it does not know. And it keeps a connection without a subscription
// that the server has denied. keepConnected replaces such pairs.
type natsConns struct {
	pub, sub *nats.Conn // readers have their own: a full one does not slow confirms
	confirms *natsConfirms
	pubJS    jetstream.JetStream
	subJS    jetstream.JetStream
	closed   chan struct{} // closed when one of them is of no more use
	closing  sync.Once
	cause    error // why; set before closed is closed
}

func (c *natsConns) end(cause error) {
	c.closing.Do(func() {
		c.cause = cause
		close(c.closed)
	})
}

func (d *natsDriver) conn() *natsConns { return d.conns.Load() }

// options returns the options of every connection.
func (d *natsDriver) options() []nats.Option {
	opts := []nats.Option{
		nats.Name("burrow " + d.cfg.TopicPrefix),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.Timeout(2 * time.Second),
		// A write to a stalled link, and one that waits for it, must not outlast a publish.
		nats.FlusherTimeout(max(d.cfg.PublishTimeout/2, time.Second)),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { d.reported(nc, err) }),
	}
	if d.server != nil {
		opts = append(opts, nats.InProcessServer(d.server))
	}
	return opts
}

// connect waits for the server up to ConnectTimeout.
func (d *natsDriver) connect(ctx context.Context) (*natsConns, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.ConnectTimeout)
	defer cancel()
	var cause error // of the last attempt not cut short by the timeout
	for {
		conns, err := d.tryConnect(ctx)
		if err == nil {
			return conns, nil
		}
		host := hostOf(d.address)
		if errors.Is(err, nats.ErrAuthorization) {
			return nil, fmt.Errorf("router: nats at %s: %w; %s", host, err, natsLoginFix(err))
		}
		if errors.Is(err, errNATSConfig) || errors.Is(err, nats.ErrPermissionViolation) {
			return nil, fmt.Errorf("router: nats at %s: %w", host, err)
		}
		if cause == nil || ctx.Err() == nil {
			cause = err
		}
		d.log.Warn("waiting for nats at "+host, "error", cause, "fix", natsLoginFix(cause))
		if !sleep(ctx, jitter(time.Second)) {
			return nil, fmt.Errorf("router: nats at %s did not answer within broker.connect_timeout (%s): %w; %s", host, d.cfg.ConnectTimeout, cause, natsLoginFix(cause))
		}
	}
}

// errNATSConfig marks what waiting does not mend.
var errNATSConfig = errors.New("server is not set up for Burrow")

func (d *natsDriver) tryConnect(ctx context.Context) (_ *natsConns, err error) {
	c := &natsConns{confirms: newNATSConfirms(), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			for _, nc := range []*nats.Conn{c.pub, c.sub} {
				if nc != nil {
					nc.Close()
				}
			}
		}
	}()
	dial := func(lost func(), opts ...nats.Option) (*nats.Conn, error) {
		opts = append(opts, d.opts...)
		opts = append(opts,
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
				lost()
				d.disconnected(c, err)
			}),
			nats.ClosedHandler(func(*nats.Conn) {
				lost()
				c.end(nats.ErrConnectionClosed)
			}))
		return nats.Connect(d.address, opts...)
	}
	// A publish while the link is down must fail and not be kept by the client.
	c.pub, err = dial(c.confirms.lost, nats.ReconnectBufSize(-1), nats.ReconnectHandler(func(*nats.Conn) { d.restored(c) }))
	if err != nil {
		return nil, err
	}
	c.sub, err = dial(func() {}, nats.ReconnectHandler(func(*nats.Conn) {
		d.renewed()
		d.restored(c)
	}))
	if err != nil {
		return nil, err
	}
	if got := c.pub.MaxPayload(); got < int64(d.cfg.MaxMessageBytes) {
		return nil, fmt.Errorf("%w: its max_payload is %d, broker.max_message_bytes is %d", errNATSConfig, got, d.cfg.MaxMessageBytes)
	}
	if err := c.confirms.listen(c.pub); err != nil {
		return nil, err
	}
	if c.pubJS, err = jetstream.New(c.pub); err != nil {
		return nil, err
	}
	if c.subJS, err = jetstream.New(c.sub); err != nil {
		return nil, err
	}
	probe, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err = d.rights.ask(probe, d.cfg, func(ctx context.Context) error {
		_, err := c.subJS.AccountInfo(ctx)
		return err
	})
	if natsOff(err) {
		return nil, fmt.Errorf("%w: JetStream is off: %w", errNATSConfig, err)
	}
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return c, nil
}

// keepConnected replaces connections of no more use, until the driver stops.
func (d *natsDriver) keepConnected() {
	for {
		old := d.conn()
		select {
		case <-old.closed:
		case <-d.stop.Done():
			return
		}
		d.disconnected(old, old.cause)
		old.pub.Close()
		old.sub.Close()
		next := d.replace()
		if next == nil {
			return
		}
		d.conns.Store(next)
		d.rights.forget()
		d.renewed()
		d.restored(next)
	}
}

// replace connects until it succeeds, or returns nil when the driver stops.
func (d *natsDriver) replace() *natsConns {
	for wait := reopenMin; ; wait = min(2*wait, natsReplaceMax) {
		if !sleep(d.stop, jitter(wait)) {
			return nil
		}
		conns, err := d.tryConnect(d.stop)
		if err == nil {
			return conns
		}
		d.mu.Lock()
		d.away = err
		d.mu.Unlock()
	}
}

// disconnected records a lost connection and logs the first of an outage.
func (d *natsDriver) disconnected(c *natsConns, err error) {
	if d.conn() != c || d.stop.Err() != nil { // not in use yet, or not any more
		return
	}
	if err == nil {
		err = nats.ErrDisconnected
	}
	d.mu.Lock()
	first := d.away == nil
	d.away = err
	d.mu.Unlock()
	if first {
		d.log.Warn("connection to nats lost; reconnecting", "address", hostOf(d.address), "error", err)
	}
}

// restored ends the outage once both connections are up.
func (d *natsDriver) restored(c *natsConns) {
	if d.conn() != c || !c.pub.IsConnected() || !c.sub.IsConnected() {
		return
	}
	d.mu.Lock()
	away := d.away
	d.away = nil
	d.mu.Unlock()
	if away != nil {
		d.log.Info("connection to nats restored", "address", hostOf(d.address))
	}
}

// reported takes an error that the client library has no caller for.
func (d *natsDriver) reported(nc *nats.Conn, err error) {
	conns := d.conn()
	if conns != nil && nc == conns.pub {
		defer conns.confirms.denied(err)
	}
	if conns != nil && (nc == conns.pub || nc == conns.sub) && natsUnsubscribed(err) {
		defer conns.end(err)
	}
	if d.probeDenied(err) {
		d.readsOnly(err)
		return
	}
	if errors.Is(err, nats.ErrPermissionViolation) && !d.rights.note(err) {
		return
	}
	d.mu.Lock()
	away := d.away != nil
	if away {
		d.away = err // the reason for refused reconnects
	}
	d.mu.Unlock()
	if !away {
		d.log.Warn("nats client error", "error", err)
	}
}

// natsUnsubscribed tells if the server has ended or refused a subscription. It comes back
// with a new connection only, also after the server allows it again.
func natsUnsubscribed(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), "for subscription") ||
		errors.Is(err, nats.ErrMaxSubscriptionsExceeded)
}

// linkErr returns why a connection is lost, or nil.
func (d *natsDriver) linkErr() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away == nil {
		return nil
	}
	return fmt.Errorf("no connection to nats at %s, reconnecting: %w", hostOf(d.address), d.away)
}

// renewed tells every source of the new link.
func (d *natsDriver) renewed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link++
	close(d.reconnected)
	d.reconnected = make(chan struct{})
}

// currentLink returns the number of the link for readers, and what is closed when the
// next one takes its place.
func (d *natsDriver) currentLink() (uint64, chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link, d.reconnected
}

// hostOf returns the host of an address without what is secret in it.
func hostOf(address string) string {
	if address == "" {
		return "embedded server"
	}
	var hosts []string
	for _, one := range strings.Split(address, ",") {
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ",")
}
