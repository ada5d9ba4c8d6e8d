package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	amqpHeartbeat    = 10 * time.Second // the client gives a connection up after 15 s of silence
	amqpDialTimeout  = 5 * time.Second
	amqpWriteTimeout = opTimeout // a write that takes longer ends the connection
	amqpCloseTimeout = 2 * time.Second
	amqpRedialMin    = 200 * time.Millisecond // grows by half
	amqpRedialMax    = 2 * time.Second
	amqpSayWaiting   = 10 * time.Second // between two log lines about the same wait
	amqpSweepEvery   = 15 * time.Second // looks for tasks that no queue took
)

var errAMQPClosed = errors.New("the connection to rabbitmq was closed by this process")

// amqpDriver speaks to RabbitMQ 3.10 or later. Watermill's own publisher hangs
// after reconnects and loses what was never confirmed, and its subscriber
// refuses the headers of redelivered messages. The bytes on the wire are those of
// Watermill's DefaultMarshaler.
//
// The client library does not bound its calls: all that waits for the broker runs
// through within, and ends at the latest with its connection.
type amqpDriver struct {
	log      *slog.Logger
	writing  *amqpLink // RabbitMQ stops reading from a publisher when its memory is short:
	reading  *amqpLink // acks have a connection of their own
	channels [2]amqpSlot
	turn     atomic.Uint32 // of the channels
	gen      atomic.Uint64 // of the sources

	stop   context.Context
	cancel context.CancelFunc

	health   string      // exchange and queue of the test message
	unprobed atomic.Bool // health checks may not write

	mu     sync.Mutex // guards closed with wg, and groups
	closed bool
	wg     sync.WaitGroup
	groups map[string][]string // the declared groups of each task topic

	guards map[string]*amqpGuard // of task topics; under mu
	alarm  amqpAlarm
}

func newAMQPDriver(ctx context.Context, cfg Config) (driver, error) {
	uri, err := amqp.ParseURI(cfg.AMQP.URL)
	if err != nil {
		// The cause quotes parts of the URL, the password among them.
		return nil, errors.New("router: broker.amqp.url: not a URL like amqp://user:password@host:port/vhost; write reserved characters in user, password or vhost as %XX")
	}
	d := &amqpDriver{
		log: cfg.Log, health: cfg.TopicPrefix + "." + healthTopic, groups: make(map[string][]string), guards: make(map[string]*amqpGuard),
	}
	d.alarm = amqpAlarm{last: make(map[string]time.Time), full: make(map[string]time.Time)}
	d.stop, d.cancel = context.WithCancel(context.Background())
	link := func() *amqpLink {
		return &amqpLink{
			url: cfg.AMQP.URL, uri: uri, address: net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)),
			name: "burrow " + cfg.TopicPrefix, log: cfg.Log, stop: d.stop, up: make(chan struct{}),
		}
	}
	d.writing, d.reading = link(), link()
	for _, l := range []*amqpLink{d.writing, d.reading} {
		conn, err := l.connect(ctx, cfg.ConnectTimeout)
		if err != nil {
			_ = d.close()
			return nil, err
		}
		d.wg.Go(func() { l.run(conn) })
	}
	d.wg.Go(d.sweep)
	return d, nil
}

func (d *amqpDriver) features() Features { return Features{Durable: true, Shared: true} }

func (d *amqpDriver) fits(string, *message.Message) error { return nil }

func (d *amqpDriver) spare() int { return amqpSpare }

func (d *amqpDriver) refuses(err error) bool {
	switch amqpCode(err) {
	case amqp.AccessRefused, amqp.NotAllowed, amqp.PreconditionFailed, amqp.ResourceLocked, amqp.NotImplemented:
		return true
	}
	return errors.Is(err, errAMQPClosed)
}

// ping opens a channel on both connections: a round trip on each.
func (d *amqpDriver) ping(ctx context.Context) error {
	links := []*amqpLink{d.writing, d.reading}
	answers := make(chan error, len(links))
	for _, l := range links {
		go func() { // ends with ctx
			conn, err := l.get(ctx)
			if err == nil {
				err = d.within(ctx, func() error {
					ch, err := conn.Channel()
					if err != nil {
						return err
					}
					return ch.Close()
				}, nil)
			}
			answers <- err
		}()
	}
	return errors.Join(<-answers, <-answers)
}

// probe keeps one message in a queue below the prefix, and waits for its confirm.
func (d *amqpDriver) probe(ctx context.Context) error {
	if d.unprobed.Load() {
		return nil
	}
	conn, err := d.writing.get(ctx)
	if err != nil {
		return err
	}
	d.writing.mu.Lock()
	held := d.writing.held
	d.writing.mu.Unlock()
	if held != "" {
		return fmt.Errorf("rabbitmq accepts no messages: %s", held)
	}
	err = d.within(ctx, func() error {
		ch, err := newAMQPChannel(conn)
		if err != nil {
			return err
		}
		defer func() { _ = ch.Close() }()
		if err := conn.ensureHealth(ch.Channel, d.health); err != nil {
			return err
		}
		err = ch.send(ctx, d.health, "", true, []amqp.Publishing{{Body: []byte("probe"), DeliveryMode: amqp.Persistent}})
		if errors.Is(err, errAMQPUnroutable) || amqpCode(err) == amqp.NotFound {
			conn.forget(d.health) // deleted; declared again by the next probe
			return nil
		}
		return err
	}, nil)
	switch amqpCode(err) {
	case amqp.AccessRefused, amqp.NotAllowed, amqp.PreconditionFailed, amqp.ResourceLocked:
		if !d.unprobed.Swap(true) {
			d.log.Info("health check reads only: allow an exchange and a queue of this name to test writes", "name", d.health, "error", err)
		}
		return nil
	}
	return err
}

func (d *amqpDriver) close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(2*amqpCloseTimeout + amqpDialTimeout):
		return errors.New("router: rabbitmq: background work did not end")
	}
}

// within runs fn, which nothing but its connection bounds, and stops waiting for
// it when ctx ends. If fn succeeds after that, undo runs, if there is one.
func (d *amqpDriver) within(ctx context.Context, fn func() error, undo func()) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errAMQPClosed
	}
	d.wg.Add(1)
	d.mu.Unlock()
	done := make(chan error)
	go func() {
		defer d.wg.Done()
		err := fn()
		select {
		case done <- err:
		case <-ctx.Done():
			if err == nil && undo != nil {
				undo()
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// amqpLink keeps one connection to RabbitMQ and dials again when it is lost.
type amqpLink struct {
	url     string
	uri     amqp.URI
	address string
	name    string
	log     *slog.Logger
	stop    context.Context // ends run

	mu    sync.Mutex
	conn  *amqpConn     // nil while away
	up    chan struct{} // closed while conn is set
	cause error         // why it is away
	held  string        // why RabbitMQ stores nothing for now; empty when it does
}

// amqpConn is one connection.
type amqpConn struct {
	*amqp.Connection
	socket net.Conn
	lost   chan *amqp.Error
	held   chan amqp.Blocking

	mu     sync.Mutex
	topics map[string]struct{} // declared on this connection
}

// connect waits for RabbitMQ for at most timeout. What waiting does not mend ends
// it at once.
func (l *amqpLink) connect(ctx context.Context, timeout time.Duration) (*amqpConn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	wait, refused := amqpRedialMin, 0
	var said time.Time
	for {
		conn, err := l.dial(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() == nil {
			l.cause = err
		}
		if code := amqpCode(err); code == amqp.AccessRefused || code == amqp.NotAllowed {
			// RabbitMQ cuts the connection without a word when it does not know the
			// user, and so does one that is just going down: ask twice.
			if refused++; refused == 2 {
				return nil, fmt.Errorf("router: rabbitmq at %s refuses user %q in vhost %q: %w; %s", l.address, l.uri.Username, l.uri.Vhost, err, amqpLoginFix(err, l.uri))
			}
		} else {
			refused = 0
			if time.Since(said) >= amqpSayWaiting {
				said = time.Now()
				l.log.Warn("waiting for rabbitmq at "+l.address, "error", err, "fix", dialFix(err, "broker.amqp.url"))
			}
		}
		if !sleep(ctx, jitter(wait)) {
			if l.cause != nil {
				err = l.cause
			}
			return nil, fmt.Errorf("router: rabbitmq at %s did not answer within broker.connect_timeout (%s): %w; %s", l.address, timeout, err, dialFix(err, "broker.amqp.url"))
		}
		wait = min(wait*3/2, amqpRedialMax)
	}
}

func (l *amqpLink) dial(ctx context.Context) (*amqpConn, error) {
	ctx, cancel := context.WithTimeout(ctx, amqpDialTimeout)
	defer cancel()
	var socket net.Conn
	abort := func() bool { return true }
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(l.name)
	conn, err := amqp.DialConfig(l.url, amqp.Config{
		Heartbeat:  amqpHeartbeat,
		Properties: properties,
		Dial: func(network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			socket = amqpSocket{c}
			abort = context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the handshake
			return socket, nil
		},
	})
	if !abort() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, err
	}
	return &amqpConn{
		Connection: conn, socket: socket, topics: make(map[string]struct{}),
		lost: conn.NotifyClose(make(chan *amqp.Error, 1)),
		held: conn.NotifyBlocked(make(chan amqp.Blocking, 1)),
	}, nil
}

// amqpSocket bounds writes: the library holds a lock while it writes, so one that
// hangs would hang all.
type amqpSocket struct{ net.Conn }

func (s amqpSocket) Write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(amqpWriteTimeout)); err != nil {
		return 0, err
	}
	return s.Conn.Write(p)
}

// run keeps a connection until stop ends, beginning with conn.
func (l *amqpLink) run(conn *amqpConn) {
	wait := amqpRedialMin
	var said time.Time
	for conn != nil {
		begun := time.Now()
		l.mu.Lock()
		l.conn, l.cause, l.held = conn, nil, ""
		close(l.up)
		l.mu.Unlock()

		err := l.watch(conn)

		l.mu.Lock()
		l.conn, l.cause = nil, err
		l.up = make(chan struct{})
		l.mu.Unlock()
		conn.end()
		if l.stop.Err() != nil {
			return
		}
		if time.Since(begun) >= amqpSayWaiting {
			wait = amqpRedialMin
		}
		// RabbitMQ may end each connection soon after it accepts it, as over a limit of channels.
		say := time.Since(said) >= amqpSayWaiting
		if say {
			said = time.Now()
			l.warn("connection to rabbitmq lost; dialling again", err)
		}
		if conn, wait = l.redial(wait); conn != nil && say {
			l.log.Info("connection to rabbitmq is back", "address", l.address)
		}
	}
}

// warn logs err, and its fix if there is one.
func (l *amqpLink) warn(event string, err error) {
	attrs := []any{"address", l.address, "error", err}
	if code := amqpCode(err); code == amqp.AccessRefused || code == amqp.NotAllowed {
		attrs = append(attrs, "fix", amqpLoginFix(err, l.uri))
	}
	l.log.Warn(event, attrs...)
}

// watch returns when conn is lost, with the reason, or when stop ends.
func (l *amqpLink) watch(conn *amqpConn) error {
	held := conn.held
	for {
		select {
		case err, ok := <-conn.lost:
			if !ok || err == nil {
				return amqp.ErrClosed
			}
			return err
		case b, ok := <-held:
			if !ok {
				held = nil
				continue
			}
			l.mu.Lock()
			if l.held = ""; b.Active {
				l.held = cmp.Or(b.Reason, "blocked")
			}
			l.mu.Unlock()
			if b.Active {
				l.log.Warn("rabbitmq takes no messages for now", "reason", b.Reason)
			} else {
				l.log.Info("rabbitmq takes messages again")
			}
		case <-l.stop.Done():
			return errAMQPClosed
		}
	}
}

// redial returns a new connection, or nil when stop ends. It waits before each attempt,
// and returns the wait before the next one.
func (l *amqpLink) redial(wait time.Duration) (*amqpConn, time.Duration) {
	said := time.Now()
	for {
		if !sleep(l.stop, jitter(wait)) {
			return nil, wait
		}
		wait = min(wait*3/2, amqpRedialMax)
		conn, err := l.dial(l.stop)
		if err == nil {
			return conn, wait
		}
		l.mu.Lock()
		l.cause = err
		l.mu.Unlock()
		if time.Since(said) >= amqpSayWaiting {
			said = time.Now()
			l.warn("waiting for rabbitmq at "+l.address, err)
		}
	}
}

// get waits for the connection until ctx ends.
func (l *amqpLink) get(ctx context.Context) (*amqpConn, error) {
	for {
		l.mu.Lock()
		conn, up := l.conn, l.up
		l.mu.Unlock()
		if conn != nil && !conn.IsClosed() {
			return conn, nil
		}
		if conn != nil { // run is about to notice
			if !sleep(ctx, time.Millisecond) {
				return nil, ctx.Err()
			}
			continue
		}
		select {
		case <-up:
		case <-l.stop.Done():
			return nil, errAMQPClosed
		case <-ctx.Done():
			l.mu.Lock()
			cause := l.cause
			l.mu.Unlock()
			if cause == nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("no connection to rabbitmq at %s: %w (%w)", l.address, ctx.Err(), cause)
		}
	}
}

// now returns the connection, or nil while it is away.
func (l *amqpLink) now() *amqpConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.IsClosed() {
		return nil
	}
	return l.conn
}

// end closes the connection and waits for a last word only so long.
func (c *amqpConn) end() {
	timer := time.AfterFunc(amqpCloseTimeout, func() { _ = c.socket.Close() })
	defer timer.Stop()
	_ = c.Close() // an error means that it was closed already
	_ = c.socket.Close()
}

// amqpCode returns RabbitMQ's code for err, or 0.
func amqpCode(err error) int {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
