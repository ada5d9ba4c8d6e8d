package httpapi_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests. A busy machine stays far below it.
const patience = time.Minute

// closeTimeout is how long the server lets a close frame wait for a peer that takes nothing.
const closeTimeout = time.Second

// node is a server under test with its surroundings.
type node struct {
	*httpapi.Server
	broker   *fakeBroker
	archive  *fakeArchive
	presence *fakePresence
	auth     *fakeAuth
	registry *prometheus.Registry
	ran      chan error
}

// start runs a server on a free port until the test ends. Change what it is made of in change.
func start(t *testing.T, change func(*httpapi.Config)) *node {
	t.Helper()
	n := prepare(t, change)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// prepare makes a server that does not run yet.
func prepare(t *testing.T, change func(*httpapi.Config)) *node {
	t.Helper()
	n := &node{
		broker:   &fakeBroker{},
		archive:  &fakeArchive{},
		presence: &fakePresence{users: map[string]int{}, gone: map[string]int{}},
		auth:     &fakeAuth{mode: "open", cookies: map[string]auth.Session{}},
		registry: prometheus.NewRegistry(),
		ran:      make(chan error, 1),
	}
	cfg := httpapi.DefaultConfig()
	cfg.HTTP.Addr = "127.0.0.1:0"
	cfg.Publisher, cfg.Archive, cfg.Presence, cfg.Auth = n.broker, n.archive, n.presence, n.auth
	cfg.Metrics = n.registry
	cfg.Log = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.Server, err = httpapi.New(cfg); err != nil {
		t.Fatal(err)
	}
	switch writers := os.Getenv("BURROW_TEST_WRITERS"); writers {
	case "":
	case "own":
		httpapi.SetOwnWriters(n.Server)
	case "one":
		httpapi.SetWritesOneByOne(n.Server)
	default:
		t.Fatalf("BURROW_TEST_WRITERS is %q, neither own nor one", writers)
	}
	if err := n.Listen(); err != nil {
		t.Fatal(err)
	}
	n.broker.deliver, n.broker.typing = n.Deliver, n.Typing
	n.presence.status, n.presence.away = n.Status, n.Server.Away
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return n
}

func (n *node) run(t *testing.T) {
	go func() { n.ran <- n.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = n.Shutdown(ctx) // The test may have done it; the other cleanup reports its error.
		if err := <-n.ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// metric returns the value of a counter or gauge, of the series with these label values.
func (n *node) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}

// request sends an HTTP request to n, as headers "Name: value".
func (n *node) request(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+n.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}

// errorCode returns the code of an error answer.
func errorCode(t *testing.T, body string) string {
	t.Helper()
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error.Message == "" {
		t.Errorf("answer %q is not an error with a message", body)
	}
	return e.Error.Code
}

// client is a user's WebSocket.
type client struct {
	t *testing.T
	*websocket.Conn
}

// dial connects user, who must be let in.
func (n *node) dial(t *testing.T, user string, headers ...string) *client {
	t.Helper()
	c, res, err := n.tryDial(t, user, headers...)
	if err != nil {
		if res != nil {
			body, _ := io.ReadAll(res.Body)
			t.Fatalf("connect %s: %v: %s", user, err, body)
		}
		t.Fatalf("connect %s: %v", user, err)
	}
	return c
}

func (n *node) tryDial(t *testing.T, user string, headers ...string) (*client, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	conn, res, err := websocket.Dial(ctx, "ws://"+n.Addr()+"/ws/"+url.PathEscape(user),
		&websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, res, err
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &client{t, conn}, res, nil
}

// next returns the next frame.
func (c *client) next() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, data, err := c.Read(ctx)
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	if kind != websocket.MessageText {
		c.t.Fatalf("got a binary frame")
	}
	return string(data)
}

// want reads one frame, which must be this one.
func (c *client) want(frame string) {
	c.t.Helper()
	if got := c.next(); got != frame {
		c.t.Fatalf("got frame %s, want %s", got, frame)
	}
}

// said is a chat frame.
type said struct {
	ID      string `json:"id"`
	Sender  string `json:"sender"`
	Content string `json:"content"`
	ToUser  string `json:"to_user"`
	SentAt  string `json:"sent_at"`
}

// hears reads one frame, which must be this chat message.
func (c *client) hears(sender, toUser, content string) said {
	c.t.Helper()
	frame := c.next()
	var m said
	if err := json.Unmarshal([]byte(frame), &m); err != nil || m.Sender != sender || m.ToUser != toUser || m.Content != content {
		c.t.Fatalf("got frame %s, want %q from %s to %q", frame, content, sender, toUser)
	}
	return m
}

func (c *client) send(frame string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// fails reads one frame, which must be an error with this code.
func (c *client) fails(code string) string {
	c.t.Helper()
	frame := c.next()
	if got := errorCode(c.t, frame); got != code {
		c.t.Fatalf("got frame %s, want error %s", frame, code)
	}
	return frame
}

// closed reads to the end, which must be a close with this code, and returns the frames before it.
func (c *client) closed(code int) (frames []string, reason string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, data, err := c.Read(ctx)
		if err == nil {
			frames = append(frames, string(data))
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || int(ce.Code) != code {
			c.t.Fatalf("got end %v, want close code %d", err, code)
		}
		return frames, ce.Reason
	}
}

// join connects user and reads until their own online status has come.
func (n *node) join(t *testing.T, user string, headers ...string) *client {
	t.Helper()
	c := n.dial(t, user, headers...)
	for c.next() != online(user) {
	}
	return c
}

func online(user string) string  { return fmt.Sprintf(`{"client_id":%q,"online":true}`, user) }
func offline(user string) string { return fmt.Sprintf(`{"client_id":%q,"online":false}`, user) }

// rawConn is a WebSocket client that does just what it is told, breaches included.
type rawConn struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// rawDial connects user; readBuffer, if not 0, is the socket's receive buffer in bytes.
func (n *node) rawDial(t *testing.T, user string, readBuffer int, headers ...string) *rawConn {
	t.Helper()
	c, err := rawOpen(n.Addr(), user, readBuffer, headers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	c.t = t
	return c
}

// rawOpen is rawDial for goroutines that are not the test's: who calls it closes the connection.
func rawOpen(addr, user string, readBuffer int, headers ...string) (_ *rawConn, err error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	if readBuffer > 0 {
		if err := conn.(*net.TCPConn).SetReadBuffer(readBuffer); err != nil {
			return nil, err
		}
	}
	_ = conn.SetDeadline(time.Now().Add(3 * patience))
	fmt.Fprintf(conn, "GET /ws/%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", user, addr,
		strings.Join(append(headers, ""), "\r\n"))
	c := &rawConn{Conn: conn, r: bufio.NewReader(conn)}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("upgrade of %s: %v, %w", user, res, err)
	}
	return c, nil
}

// write sends one masked frame.
func (c *rawConn) write(first byte, payload string) {
	c.t.Helper()
	if _, err := c.Conn.Write(rawFrame(first, payload)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// rawFrame returns a client frame, masked with zeros, with this first byte.
func rawFrame(first byte, payload string) []byte {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

// read returns the next frame of the server.
func (c *rawConn) read() (first byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, "", err
	}
	size := uint64(head[1])
	switch head[1] {
	case 126:
		var ext [2]byte
		if _, err := io.ReadFull(c.r, ext[:]); err != nil {
			return 0, "", err
		}
		size = uint64(binary.BigEndian.Uint16(ext[:]))
	case 127:
		var ext [8]byte
		if _, err := io.ReadFull(c.r, ext[:]); err != nil {
			return 0, "", err
		}
		size = binary.BigEndian.Uint64(ext[:])
	}
	data := make([]byte, size)
	_, err = io.ReadFull(c.r, data)
	return head[0], string(data), err
}

// readClose skips frames up to a close frame and returns its code.
func (c *rawConn) readClose() int {
	c.t.Helper()
	code, err := c.closeCode()
	if err != nil {
		c.t.Fatalf("read: %v; want a close frame", err)
	}
	return code
}

// closeCode is readClose for goroutines that are not the test's.
func (c *rawConn) closeCode() (int, error) {
	for {
		first, payload, err := c.read()
		if err != nil {
			return 0, err
		}
		if first == 0x88 {
			if len(payload) < 2 {
				return 1005, nil
			}
			return int(binary.BigEndian.Uint16([]byte(payload))), nil
		}
	}
}

// guest switches n to guest mode with cookies for these users; the returned header is the first's.
func (n *node) guest(users ...string) string {
	n.auth.mode = "guest"
	for _, u := range users {
		_, _, _ = n.auth.SignIn(context.Background(), "", u)
	}
	return "Cookie: burrow_session=cookie-of-" + users[0]
}

// message returns a message with the id that the nth message of these tests has.
func message(n int, sender, toUser, content string) *chat.ChatMessage {
	at := time.Date(2026, 1, 31, 12, 0, 0, 123_000_000, time.UTC).Add(time.Duration(n) * time.Millisecond)
	return &chat.ChatMessage{Id: id(n), Sender: sender, ToUser: toUser, Content: content, SentAt: timestamppb.New(at)}
}

// id returns the nth of ids that grow: UUIDv7 of a time that has passed.
func id(n int) string {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], uint64(0x019c1000_0000+n)<<16|0x7000)
	u[8] = 0x80
	return u.String()
}
