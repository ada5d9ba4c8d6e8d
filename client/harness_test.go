package client_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"burrow/auth"
	"burrow/client"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests.
const patience = time.Minute

// world is what the nodes of a test have in common: a broker, an archive, names.
type world struct {
	t testing.TB

	mu       sync.Mutex
	nodes    []*httpapi.Server
	archive  []*chat.ChatMessage
	refs     map[string]string
	owners   map[string]string
	online   map[string]int
	fail     error // What publishing ends with, if it is not nil.
	publish  func(*chat.ChatMessage)
	archived int
}

func newWorld(t testing.TB) *world {
	return &world{t: t, refs: map[string]string{}, owners: map[string]string{}, online: map[string]int{}}
}

// start runs one more node until the test ends or it is stopped, and returns it.
func (w *world) start(mode string, change func(*httpapi.Config)) *httpapi.Server {
	w.t.Helper()
	people, err := auth.New(auth.Config{Mode: mode, SessionTTL: time.Hour, CookieKey: strings.Repeat("k", 32)}, w)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := httpapi.DefaultConfig()
	cfg.HTTP.Addr = "127.0.0.1:0"
	cfg.Publisher, cfg.Archive, cfg.Refs, cfg.Presence, cfg.Auth = w, w, w, w, people
	cfg.FlushInterval = 10 * time.Millisecond
	cfg.Log = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&cfg)
	}
	node, err := httpapi.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := node.Listen(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.nodes = append(w.nodes, node)
	w.mu.Unlock()
	ran := make(chan error, 1)
	go func() { ran <- node.Run(context.Background()) }()
	w.t.Cleanup(func() {
		w.stop(node)
		if err := <-ran; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	if err := node.Seed(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return node
}

// exampleServer runs a node for an example.
func exampleServer() (url string, stop func()) {
	w := newWorld(nil)
	cfg := httpapi.DefaultConfig()
	cfg.HTTP.Addr = "127.0.0.1:0"
	cfg.Publisher, cfg.Archive, cfg.Auth = w, w, openAuth{}
	cfg.Log = slog.New(slog.DiscardHandler)
	node, err := httpapi.New(cfg)
	if err == nil {
		err = errors.Join(node.Listen(), node.Seed(context.Background()))
	}
	if err != nil {
		panic(err)
	}
	w.nodes = append(w.nodes, node)
	ran := make(chan error, 1)
	go func() { ran <- node.Run(context.Background()) }()
	return "http://" + node.Addr(), func() {
		_ = node.Shutdown(context.Background())
		<-ran
	}
}

// openAuth believes everyone.
type openAuth struct{ httpapi.Auth }

func (openAuth) Mode() string { return auth.ModeOpen }

func (w *world) stop(node *httpapi.Server) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := node.Shutdown(ctx); err != nil {
		w.t.Errorf("Shutdown: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = slices.DeleteFunc(w.nodes, func(n *httpapi.Server) bool { return n == node })
}

func (w *world) Publish(_ context.Context, msgs ...proto.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	for _, m := range msgs {
		switch m := m.(type) {
		case *tasks.ArchiveMessage:
			if slices.ContainsFunc(w.archive, func(o *chat.ChatMessage) bool { return o.GetId() == m.GetMessage().GetId() }) {
				break
			}
			w.archive = append(w.archive, m.GetMessage())
			slices.SortFunc(w.archive, func(a, b *chat.ChatMessage) int { return cmp.Compare(a.GetId(), b.GetId()) })
			w.archived++
		case *chat.ChatMessage:
			if w.publish != nil {
				w.publish(m)
			}
			for _, n := range w.nodes {
				n.Deliver(m)
			}
		case *chat.Typing:
			for _, n := range w.nodes {
				n.Typing(m)
			}
		}
	}
	return nil
}

func (w *world) failing(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func (w *world) page(limit int, newest bool, ok func(*chat.ChatMessage) bool) ([]*chat.ChatMessage, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(w.archive), func(m *chat.ChatMessage) bool { return !ok(m) })
	if len(found) <= limit {
		return found, false, nil
	}
	if newest {
		return found[len(found)-limit:], true, nil
	}
	return found[:limit], true, nil
}

func ofTalk(m *chat.ChatMessage, users [2]string) bool {
	if users == [2]string{} {
		return m.GetToUser() == ""
	}
	return users == [2]string{m.GetSender(), m.GetToUser()} || users == [2]string{m.GetToUser(), m.GetSender()}
}

func (w *world) Page(_ context.Context, before string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	return w.page(limit, true, func(m *chat.ChatMessage) bool { return ofTalk(m, users) && (before == "" || m.GetId() < before) })
}

func (w *world) PageAfter(_ context.Context, after string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	return w.page(limit, false, func(m *chat.ChatMessage) bool { return ofTalk(m, users) && m.GetId() > after })
}

func (w *world) PageAll(_ context.Context, before string, limit int) ([]*chat.ChatMessage, bool, error) {
	return w.page(limit, true, func(m *chat.ChatMessage) bool { return before == "" || m.GetId() < before })
}

func (w *world) ClaimRef(_ context.Context, sender, ref, id string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := sender + "\n" + ref
	if known, ok := w.refs[key]; ok {
		return known, nil
	}
	w.refs[key] = id
	return id, nil
}

func (w *world) Claim(_ context.Context, name, owner string, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.owners[name]; o != "" && o != owner {
		return auth.ErrTaken
	}
	w.owners[name] = owner
	return nil
}

func (w *world) Holds(_ context.Context, name, owner string) (string, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owners[name] != owner {
		return "", time.Time{}, nil
	}
	return name, time.Time{}, nil
}

func (w *world) Spelling(_ context.Context, name string) (string, error) { return name, nil }

func (w *world) Join(user string)          { w.count(user, 1) }
func (w *world) Leave(user string, _ bool) { w.count(user, -1) }
func (w *world) Away(string, bool)         {}

func (w *world) count(user string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.online[user] += by
	for _, n := range w.nodes {
		n.Status(user, w.online[user] > 0)
	}
}

// door is an address that leads to a node, until it is shut.
type door struct {
	t        testing.TB
	listener net.Listener
	pumps    sync.WaitGroup

	mu    sync.Mutex
	to    string // Empty: nobody gets through.
	conns map[net.Conn]struct{}
	quiet chan struct{} // While it is open, nothing that the node says gets through.
}

func newDoor(t testing.TB, to string) *door {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, listener: l, to: to, conns: map[net.Conn]struct{}{}, quiet: make(chan struct{})}
	close(d.quiet)
	d.pumps.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			d.pumps.Go(func() { d.pump(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		d.resume()
		d.leadTo("")
		d.pumps.Wait()
	})
	return d
}

func (d *door) url() string { return "http://" + d.listener.Addr().String() }

func (d *door) pump(in net.Conn) {
	defer in.Close()
	d.mu.Lock()
	to := d.to
	d.conns[in] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, in)
	}()
	if to == "" {
		return
	}
	var dialer net.Dialer
	out, err := dialer.DialContext(context.Background(), "tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	d.pumps.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(in, gated{out, d})
}

// leadTo cuts all connections, and lets new ones through to another address; "" to none.
func (d *door) leadTo(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
	for c := range d.conns {
		_ = c.Close()
	}
}

// turnTo lets new connections through to another address, and cuts none.
func (d *door) turnTo(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
}

// stall lets nothing through that the node says, until resume.
func (d *door) stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.quiet = make(chan struct{})
}

func (d *door) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.quiet:
	default:
		close(d.quiet)
	}
}

// gated is what is read from a node behind a door.
type gated struct {
	io.Reader
	door *door
}

func (g gated) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	g.door.mu.Lock()
	quiet := g.door.quiet
	g.door.mu.Unlock()
	<-quiet
	return n, err
}

// dial connects as name, until the test ends.
func dial(t testing.TB, url, name string, change func(*client.Config)) *client.Conn {
	t.Helper()
	cfg := client.Config{URL: url, Name: name, MinRetry: 5 * time.Millisecond, MaxRetry: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func say(t testing.TB, c *client.Conn, to, content string) client.Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent, err := c.Send(ctx, to, content)
	if err != nil {
		t.Fatalf("%s says %q: %v", c.Name(), content, err)
	}
	return sent
}

// next returns the next message.
func next(t testing.TB, c *client.Conn) client.Message {
	t.Helper()
	select {
	case m, ok := <-c.Messages():
		if !ok {
			t.Fatalf("%s: the connection is over: %v", c.Name(), c.Err())
		}
		return m
	case <-time.After(patience):
		t.Fatalf("%s hears nothing", c.Name())
	}
	panic("not reached")
}

// hears takes the next messages, which must be these.
func hears(t testing.TB, c *client.Conn, contents ...string) {
	t.Helper()
	for _, want := range contents {
		if m := next(t, c); m.Content != want {
			t.Fatalf("%s hears %q, want %q", c.Name(), m.Content, want)
		}
	}
}

// event waits for an event of one kind, and leaves out others.
func event[E client.Event](t testing.TB, c *client.Conn, ok func(E) bool) E {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, open := <-c.Events():
			if !open {
				t.Fatalf("%s: the connection is over: %v", c.Name(), c.Err())
			}
			if e, is := e.(E); is && (ok == nil || ok(e)) {
				return e
			}
		case <-timeout:
			t.Fatalf("%s: no such event", c.Name())
		}
	}
}

var errBroker = errors.New("the broker is away")
