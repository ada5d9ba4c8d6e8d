package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"burrow/auth"
	"burrow/gen/edge"
	"burrow/httpapi"
)

// stream is a session over Server-Sent Events, as a browser has one.
type stream struct {
	t      *testing.T
	res    *http.Response
	cancel context.CancelFunc
	lines  *bufio.Scanner
	lastID string
	retry  string
}

// listen opens a stream, with what comes after /events and headers "Name: value".
func (n *node) listen(t *testing.T, query string, headers ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	bound := time.AfterFunc(patience, cancel)
	t.Cleanup(func() { bound.Stop() })
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr()+"/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("GET /events%s: %d %s", query, res.StatusCode, body)
	}
	s := &stream{t: t, res: res, cancel: cancel, lines: bufio.NewScanner(res.Body)}
	s.lines.Buffer(nil, 1<<20)
	return s
}

// event returns the next event: its kind, "" for most, and data. Comments are events of the kind ":".
func (s *stream) event() (kind, data string) {
	s.t.Helper()
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			s.lastID = value
		case "event":
			kind = value
		case "data":
			data = value
		case "retry":
			s.retry = value
		case "":
			if s.lines.Text() == ":" {
				kind = ":"
				continue
			}
			return kind, data
		}
	}
	if err := s.lines.Err(); err != nil {
		s.t.Fatalf("the stream broke: %v", err)
	}
	return "EOF", ""
}

// next returns the next frame.
func (s *stream) next() *edge.ServerFrame {
	s.t.Helper()
	for {
		kind, data := s.event()
		if kind == ":" {
			continue
		}
		b := new(edge.ServerBatch)
		if err := protojson.Unmarshal([]byte(data), b); kind != "" || err != nil || len(b.Frames) != 1 {
			s.t.Fatalf("got the event %q %s, want a batch: %v", kind, data, err)
		}
		return b.Frames[0]
	}
}

// hears reads until a message comes, which must be this one.
func (s *stream) hears(content string) *edge.Chat {
	s.t.Helper()
	for {
		if c := s.next().GetChat(); c != nil {
			if c.GetContent() != content || s.lastID != c.GetId() {
				s.t.Fatalf("heard %v with the event id %s, want %q", c, s.lastID, content)
			}
			return c
		}
	}
}

// closed reads to the end, and returns why it is there.
func (s *stream) closed() (code int, reason string) {
	s.t.Helper()
	for {
		kind, data := s.event()
		if kind == "EOF" {
			s.t.Fatal("the stream ended without saying why")
		}
		if kind != "close" {
			continue
		}
		var end struct {
			Code   int
			Reason string
		}
		if err := json.Unmarshal([]byte(data), &end); err != nil {
			s.t.Fatalf("close with %s: %v", data, err)
		}
		if kind, _ := s.event(); kind != "EOF" {
			s.t.Errorf("%q came after the end", kind)
		}
		return end.Code, end.Reason
	}
}

const jsonBody = "Content-Type: application/json"

// post sends a message by POST and returns its ack.
func (n *node) post(t *testing.T, user, ref, content string) *edge.Ack {
	t.Helper()
	body, err := json.Marshal(map[string]string{"ref": ref, "content": content})
	if err != nil {
		t.Fatal(err)
	}
	res, answer := n.request(t, http.MethodPost, "/api/messages?client_id="+user, string(body), jsonBody)
	ack := new(edge.Ack)
	if err := protojson.Unmarshal([]byte(answer), ack); res.StatusCode != http.StatusOK || err != nil || ack.GetId() == "" {
		t.Fatalf("post %q: %d %s %v", content, res.StatusCode, answer, err)
	}
	return ack
}

func ref(n int) string { return fmt.Sprintf("6f1c1a52-7d0e-4c1e-9c0f-%012d", n) }

func TestEventsCarryTheTalk(t *testing.T) {
	n := start(t, nil)
	alice := n.listen(t, "?client_id=alice")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := alice.res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if w := alice.next().GetWelcome(); w.GetClientId() != "alice" || w.GetRecovered() || w.GetPingIntervalMs() == 0 {
		t.Errorf("welcome is %v", w)
	}
	if p := alice.next().GetPresence(); p == nil {
		t.Error("the list of who is online did not come second")
	}
	if s := alice.next().GetStatus(); len(s.GetOnline()) != 1 || s.GetOnline()[0] != "alice" {
		t.Errorf("alice is not online: %v", s)
	}

	// The same ref over POST and over a WebSocket is the same message.
	ack := n.post(t, "alice", ref(1), "hello")
	if c := alice.hears("hello"); c.GetId() != ack.GetId() || c.GetSender() != "alice" || c.GetRef() != ref(1) {
		t.Errorf("heard %v, the ack was %v", c, ack)
	}
	if again := n.post(t, "alice", ref(1), "hello"); again.GetId() != ack.GetId() {
		t.Errorf("posted again it has the id %s, want %s", again.GetId(), ack.GetId())
	}
	ws := n.joinV1(t, "burrow.v1.proto", "alice")
	ws.sendFrame(sendOf(ref(1), "hello", ""))
	if again, _ := ws.acked(ref(1)); again.GetId() != ack.GetId() {
		t.Errorf("over a WebSocket it has the id %s, want %s", again.GetId(), ack.GetId())
	}
	ws.sendFrame(sendOf(ref(2), "the other way round", ""))
	ack, _ = ws.acked(ref(2))
	if again := n.post(t, "alice", ref(2), "the other way round"); again.GetId() != ack.GetId() {
		t.Errorf("posted it has the id %s, want %s", again.GetId(), ack.GetId())
	}
	n.post(t, "bob", ref(1), "the end")
	alice.hears("the other way round")
	alice.hears("the end")
}

// What a browser does when the connection is cut: it comes back with the id of the last event.
func TestEventsResume(t *testing.T) {
	n := start(t, nil)
	alice := n.listen(t, "?client_id=alice")
	n.post(t, "bob", ref(1), "one")
	first := alice.hears("one")
	alice.cancel()
	for i, content := range []string{"two", "three"} {
		n.post(t, "bob", ref(2+i), content)
	}
	for _, how := range []struct {
		query   string
		headers []string
	}{
		{"&since=" + first.GetId(), nil},
		{"", []string{"Last-Event-ID: " + first.GetId()}},
		{"&since=nonsense", []string{"Last-Event-ID: " + first.GetId()}}, // What the browser knows is later.
	} {
		again := n.listen(t, "?client_id=alice"+how.query, how.headers...)
		if w := again.next().GetWelcome(); !w.GetRecovered() {
			t.Errorf("%v: welcome is %v", how, w)
		}
		again.hears("two")
		again.hears("three")
	}
	foreign := n.listen(t, "?client_id=alice", "Last-Event-ID: \xff\"<"+strings.Repeat("x", 1000))
	if w := foreign.next().GetWelcome(); w.GetRecovered() {
		t.Errorf("welcome to nonsense is %v", w)
	}
}

func TestEventsEnd(t *testing.T) {
	t.Run("stop", func(t *testing.T) {
		n := start(t, nil)
		alice := n.listen(t, "?client_id=alice")
		alice.next()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped := make(chan error, 1)
		go func() { stopped <- n.Shutdown(ctx) }()
		code, reason := alice.closed()
		if code != 1012 || reason != "retry-ms="+alice.retry || alice.retry == "" {
			t.Errorf("closed with %d %s, retry %q", code, reason, alice.retry)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	t.Run("full", func(t *testing.T) {
		n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnectionsPerUser = 1 })
		n.join(t, "alice") // The limits of both together.
		if code, reason := n.listen(t, "?client_id=alice").closed(); code != 1013 || !strings.Contains(reason, "too many connections") {
			t.Errorf("closed with %d %s", code, reason)
		}
	})
	t.Run("expired", func(t *testing.T) {
		n := prepare(t, nil)
		cookie := n.guest("alice")
		n.run(t)
		if err := n.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.auth.mu.Lock()
		n.auth.cookies["cookie-of-alice"] = auth.Session{Name: "alice", Expires: time.Now().Add(3 * time.Second)}
		n.auth.mu.Unlock()
		if code, _ := n.listen(t, "", cookie).closed(); code != 4401 {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("left", func(t *testing.T) {
		n := start(t, nil)
		alice := n.listen(t, "?client_id=alice")
		alice.next()
		alice.cancel()
		eventually(t, "the session is over", func() bool {
			return n.metric(t, "burrow_edge_sessions") == 0 && n.presence.empty()
		})
	})
}

func TestEventsSayThatTheyLive(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.PingInterval = 20 * time.Millisecond })
	alice := n.listen(t, "?client_id=alice")
	for range 3 {
		for kind := ""; kind != ":"; {
			if kind, _ = alice.event(); kind == "EOF" {
				t.Fatal("the stream ended")
			}
		}
	}
}

// Who does not read is closed, as over a WebSocket, and who sends what nobody reads too.
func TestEventsOfBadClients(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Queue, c.Edge.SlowAfter = 10, 50*time.Millisecond })
	open := func(user string) net.Conn {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.(*net.TCPConn).SetReadBuffer(1024)
		fmt.Fprintf(conn, "GET /events?client_id=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", user)
		return conn
	}
	open("slow")
	eventually(t, "the session has joined", func() bool { return n.metric(t, "burrow_edge_sessions") == 1 })
	for i := range 3000 {
		n.Deliver(message(i, "bot", "", strings.Repeat("x", 4000)))
	}
	eventually(t, "the slow one is closed", func() bool { return n.metric(t, "burrow_edge_closes_total", "1013") == 1 })

	chatty := open("chatty")
	_ = chatty.SetDeadline(time.Now().Add(patience))
	go func() {
		_, _ = io.Copy(chatty, io.LimitReader(strings.NewReader(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 10_000)), 100_000)) // Until it is closed.
	}()
	answer, err := io.ReadAll(chatty)
	if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if strings.Count(string(answer), "HTTP/1.1 ") != 1 {
		t.Errorf("several answers in one: %.300q", answer)
	}
	eventually(t, "the chatty one is closed", func() bool { return n.metric(t, "burrow_edge_closes_total", "1003") == 1 })
}

func TestWhoMayListen(t *testing.T) {
	n := prepare(t, func(c *httpapi.Config) {
		c.HTTP.AllowedOrigins = []string{"https://friend.example"}
		c.Edge.MaxConnections = 1
	})
	cookie := n.guest("alice", "bob")
	n.run(t)
	refused := func(status int, code, query string, headers ...string) {
		t.Helper()
		res, body := n.request(t, http.MethodGet, "/events"+query, "", headers...)
		if res.StatusCode != status || errorCode(t, body) != code {
			t.Errorf("GET /events%s %q: got %d %s, want %d %s", query, headers, res.StatusCode, body, status, code)
		}
	}
	refused(503, "starting", "", cookie)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(401, "no_session", "")
	refused(401, "no_session", "", "Cookie: burrow_session=made-up")
	refused(401, "no_session", "?client_id=alice")
	refused(403, "forbidden", "?client_id=bob", cookie)
	refused(400, "invalid_client_id", "?client_id=-", cookie)
	refused(403, "foreign_origin", "", cookie, "Origin: https://evil.example")
	refused(403, "foreign_origin", "", cookie, "Origin: null")
	refused(403, "foreign_origin", "", cookie, "Sec-Fetch-Site: cross-site")
	refused(403, "foreign_origin", "", cookie, "Sec-Fetch-Site: same-site")
	res, body := n.request(t, http.MethodPost, "/events", "", cookie)
	if res.StatusCode != 405 {
		t.Errorf("POST /events: %d %s", res.StatusCode, body)
	}
	n.listen(t, "", cookie, "Origin: https://friend.example").next()
	refused(503, "full", "", cookie, "Sec-Fetch-Site: same-origin")

	open := start(t, nil)
	if res, body := open.request(t, http.MethodGet, "/events", ""); res.StatusCode != 400 || errorCode(t, body) != "invalid_client_id" {
		t.Errorf("nobody in open mode: %d %s", res.StatusCode, body)
	}
	tight := start(t, func(c *httpapi.Config) { c.Edge.UpgradeRate, c.Edge.UpgradeBurst = 0.001, 1 })
	tight.listen(t, "?client_id=alice").next()
	if res, body := tight.request(t, http.MethodGet, "/events?client_id=alice", ""); res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s", res.StatusCode, body)
	}
}
