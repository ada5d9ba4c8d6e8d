// Package client talks to a Burrow server: it says things once and knows that they were
// taken, and hears everything that is said, over connections that come and go.
//
//	conn, err := client.Dial(ctx, client.Config{URL: "http://localhost:8000", Name: "ada"})
//	if err != nil { … }
//	defer conn.Close()
//	if _, err := conn.Send(ctx, "", "hello"); err != nil { … }
//	for m := range conn.Messages() {
//		fmt.Println(m.Sender, m.Content)
//	}
//
// What a Conn promises, beyond what docs/protocol.md says of the server:
//
//   - Send returns nil only when the broker has the message, which is archived and shown once,
//     however often the connection was lost meanwhile.
//   - Messages gets each message once, also those of the time without a connection. If some
//     cannot be had, there is a Gap.
//   - A lost connection is made again by itself, at the time that the server asks for or after
//     a growing, random delay. Only what trying again cannot mend ends a Conn; Err says what.
//   - Whoever takes messages slowly holds up nobody, and loses nothing: what does not fit into
//     the queue is fetched later.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"burrow/gen/edge"
)

const (
	// connectTimeout bounds one attempt: signing in, the handshake, the first frame.
	connectTimeout = 15 * time.Second
	// writeTimeout bounds the writing of one frame.
	writeTimeout = 10 * time.Second
	// maxEvents is how many events may wait; then the oldest is dropped.
	maxEvents = 64
	// maxPending is how many calls of Send and History may wait for their answers at once; more
	// wait for their turn.
	maxPending = 64
	// maxNames bounds what is kept of who is online.
	maxNames = 100_000
)

// ErrClosed is what calls return after Close.
var ErrClosed = errors.New("client: closed")

// Config says where to connect and as whom. URL is required, and Name unless there is a Token.
type Config struct {
	// URL is that of the server, such as https://chat.example.org. What it has as a path
	// stands before every path of the protocol.
	URL string
	// Name is who one is. In mode guest it is taken when it is free; in mode jwt it is that
	// of the token, and may be left empty.
	Name string
	// Cookie is what proves, in mode guest, that Name was taken before: what Conn.Cookie
	// returned then. Empty: Name is taken anew.
	Cookie string
	// Token returns a token that is good for some time, in mode jwt. It is called before each
	// connection, and before the session ends, which then goes on. It has 30 s; the
	// context ends with the Conn. Nil: names are not proven by tokens.
	Token func(ctx context.Context) (string, error)
	// Since is the id of the last message that the program handled before it was started
	// anew: Messages begins there. Some of the seconds before come again. Empty: Messages
	// begins with some of the latest ones, which are marked Old.
	Since string
	// Queue is how many messages may wait to be taken from Messages. Default 1024.
	Queue int
	// CatchUp is how many messages are fetched from the archive, at most, after a time
	// without a connection that was too long for the server's memory. If there are more, there
	// is a Gap. Default 10000.
	CatchUp int
	// SendTimeout bounds a Send whose context has no deadline. Default 1m.
	SendTimeout time.Duration
	// MinRetry and MaxRetry bound the delay between attempts, which doubles. Default 0.5s
	// and 30s.
	MinRetry, MaxRetry time.Duration
	// JSON speaks burrow.v1.json instead of burrow.v1.proto, for whoever wants to read along.
	JSON bool
	// Transport makes the connections. Default a copy of http.DefaultTransport.
	Transport http.RoundTripper
	// Log is told of connections that are lost and made. Default: nobody is.
	Log *slog.Logger
}

func (cfg Config) withDefaults() (Config, *url.URL, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return cfg, nil, fmt.Errorf("client: Config.URL: %w", err)
	}
	switch base.Scheme {
	case "ws":
		base.Scheme = "http"
	case "wss":
		base.Scheme = "https"
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.User != nil {
		return cfg, nil, fmt.Errorf("client: Config.URL: %q is not the address of a server; write http://host:port", cfg.URL)
	}
	base.Path, base.RawPath = strings.TrimSuffix(base.Path, "/"), ""
	if cfg.Name == "" && cfg.Token == nil {
		return cfg, nil, errors.New("client: Config.Name is empty, and there is no Token to have it from")
	}
	cfg.Queue = positive(cfg.Queue, 1024)
	cfg.CatchUp = positive(cfg.CatchUp, 10_000)
	cfg.SendTimeout = positive(cfg.SendTimeout, time.Minute)
	cfg.MinRetry = positive(cfg.MinRetry, 500*time.Millisecond)
	cfg.MaxRetry = max(cfg.MinRetry, positive(cfg.MaxRetry, 30*time.Second))
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, base, nil
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Conn is somebody's presence in the chat, over one connection after the other. Its methods are
// safe for concurrent use.
type Conn struct {
	cfg     Config
	web     *web
	log     *slog.Logger
	ctx     context.Context // Ends with the Conn.
	cancel  context.CancelCauseFunc
	turns   chan struct{} // Holds one for each call that waits for an answer.
	ended   chan struct{} // Closed when run has ended: there will be no more connections.
	done    chan struct{} // Closed when everything has ended.
	out     chan Message
	events  chan Event
	welcome bool  // There was one: the next connection is another one. Of run alone.
	blocked bool  // No WebSocket gets through. Of run alone.
	next    *link // The WebSocket that takes the place of a fallback. Of probe, and of run when that has ended.

	mu      sync.Mutex
	err     error // Why it ended.
	link    *link // The connection; nil: there is none now.
	inbox   inbox
	outbox  outbox
	online  map[string]struct{}
	total   int
	maxSize int  // Of a message's content, as the server says; 0: not known yet.
	old     bool // What comes now is what every newcomer gets.
}

// Dial signs in and connects. It returns when the server has answered, and then the Conn stays
// until Close. ctx bounds Dial alone. The error is an *Error if the server does not want it.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	cfg, base, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Conn{
		cfg:    cfg,
		web:    newWeb(cfg, base),
		log:    cfg.Log,
		turns:  make(chan struct{}, maxPending),
		ended:  make(chan struct{}),
		done:   make(chan struct{}),
		out:    make(chan Message),
		events: make(chan Event, maxEvents),
		inbox:  newInbox(cfg),
		online: make(map[string]struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	l, err := c.connect(ctx)
	if err != nil {
		c.cancel(ErrClosed)
		c.web.close()
		return nil, fmt.Errorf("client: connect to %s: %w", cfg.URL, err)
	}
	go c.run(l)
	go c.feed()
	return c, nil
}

// Name returns who one is, as the server writes it.
func (c *Conn) Name() string { return c.web.user() }

// Cookie returns what proves the name in mode guest; a program that keeps it has the name again
// at its next start. It changes now and then. It is a secret.
func (c *Conn) Cookie() string { return c.web.cookieValue() }

// Messages returns what is said, to everyone and in private, one's own words too: each message
// once, those of one talk in order. The channel is closed when the Conn has ended. Whoever
// takes slowly gets everything, if late.
func (c *Conn) Messages() <-chan Message { return c.out }

// Events returns what else happens: Connected, Disconnected, Gap, StatusChange, Typing. If nobody
// takes them the oldest are dropped. The channel is closed when the Conn has ended.
func (c *Conn) Events() <-chan Event { return c.events }

// Err returns why the Conn has ended by itself, ErrClosed after Close, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close leaves. Calls that wait return ErrClosed; messages that were not taken are dropped. It takes
// a few seconds at most.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	c.cancel(ErrClosed)
	<-c.done
	return nil
}

// end notes why the Conn ends, and fails the calls that wait. Only the first reason counts.
func (c *Conn) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	failed := c.outbox.drop()
	err = c.err
	c.mu.Unlock()
	for _, r := range failed {
		r.answer(nil, err)
	}
}

// Presence returns who is online. It is up to date while there is a connection.
func (c *Conn) Presence() Presence {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Presence{Users: make([]string, 0, len(c.online)), Total: c.total}
	for name := range c.online {
		p.Users = append(p.Users, name)
	}
	return p.sorted()
}

// Typing lets others know that one is writing to somebody, or to everyone if to is empty. Call it
// while that goes on, once in 2 seconds; it does not wait, and without a connection does nothing.
func (c *Conn) Typing(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		c.link.note(&edge.ClientFrame{Frame: &edge.ClientFrame_Typing{Typing: &edge.Typing{ToUser: to}}})
	}
}

// emit adds an event, and drops the oldest one if there is no room. Only run calls it.
func (c *Conn) emit(e Event) {
	for {
		select {
		case c.events <- e:
			return
		default:
		}
		select {
		case <-c.events:
		default:
		}
	}
}
