package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"burrow/dlq"
	"burrow/httpapi"
)

const token = "0123456789abcdef0123456789abcdef"

// fakeLetters has the letters 1, which can be replayed once, and 2, which cannot.
type fakeLetters struct {
	mu    sync.Mutex
	calls []string
	down  error
}

func (f *fakeLetters) call(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.down
}

// last returns the latest call, and that it was the nth.
func (f *fakeLetters) last() (call string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n = len(f.calls); n == 0 {
		return "", 0
	}
	return f.calls[n-1], n
}

func (f *fakeLetters) List(_ context.Context, q dlq.Query) (*dlq.Page, error) {
	if q.State == "lost" {
		return nil, dlq.ErrBadQuery
	}
	return &dlq.Page{Letters: []*dlq.Letter{{ID: 1, State: "waiting", Error: "bad \u202e\u009b"}}}, f.call("list %+v", q)
}

func (f *fakeLetters) Show(_ context.Context, id int64) (*dlq.Letter, error) {
	if id > 2 {
		return nil, fmt.Errorf("dead letter %d: %w", id, dlq.ErrNoLetter)
	}
	return &dlq.Letter{ID: id, Payload: json.RawMessage(`{"content":"hello"}`)}, f.call("show %d", id)
}

func (f *fakeLetters) Replay(_ context.Context, id int64, who string) (*dlq.Letter, error) {
	if _, n := f.last(); id == 1 && n > 0 {
		return nil, fmt.Errorf("store: %w", &dlq.NotWaitingError{ID: 1, State: "replaying", Since: time.Now(), By: "ada"})
	}
	if id == 2 {
		return nil, fmt.Errorf("dead letter 2: %w: too short", dlq.ErrRefused)
	}
	return &dlq.Letter{ID: id, State: "replaying"}, f.call("replay %d by %s", id, who)
}

func (f *fakeLetters) Drop(_ context.Context, id int64, who string) (*dlq.Letter, error) {
	if id > 2 {
		return nil, dlq.ErrNoLetter
	}
	return &dlq.Letter{ID: id}, f.call("drop %d by %s", id, who)
}

// bearer is the header with the token.
const bearer = "Authorization: Bearer " + token

// admin starts a server with letters, metrics and the token.
func admin(t *testing.T, change func(*httpapi.Config)) (*node, *fakeLetters) {
	t.Helper()
	letters := &fakeLetters{}
	return start(t, func(c *httpapi.Config) {
		c.Letters, c.Admin.Token = letters, token
		c.Gatherer = c.Metrics.(*prometheus.Registry)
		if change != nil {
			change(c)
		}
	}), letters
}

func TestAdminAnswers(t *testing.T) {
	n, letters := admin(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		says, call   string
	}{
		{"GET", "/admin/dead-letters", 200, `{"letters":[{"id":1,"state":"waiting"`, "list {State: Function: Before:0 Limit:50}"},
		{"GET", "/admin/dead-letters?state=all&function=archive&before=7&limit=200", 200, `"has_more":false}`, "list {State:all Function:archive Before:7 Limit:200}"},
		{"GET", "/admin/dead-letters?state=lost", 400, "replayed or all", ""},
		{"GET", "/admin/dead-letters?limit=201", 400, "1 to 200", ""},
		{"GET", "/admin/dead-letters?before=x", 400, "before must be", ""},
		{"GET", "/admin/dead-letters/1", 200, `"payload":{"content":"hello"}`, "show 1"},
		{"GET", "/admin/dead-letters/3", 404, "no such dead letter", ""},
		{"GET", "/admin/dead-letters/-1", 400, "a number from 1", ""},
		{"GET", "/admin/dead-letters/1e3", 400, "a number from 1", ""},
		{"POST", "/admin/dead-letters/2/replay", 422, "too short", ""},
		{"POST", "/admin/dead-letters/1/replay", 409, "as ada requested", ""},
		{"POST", "/admin/dead-letters/9/replay", 202, `"state":"replaying"`, "replay 9 by token 127.0.0.1"},
		{"DELETE", "/admin/dead-letters/2", 200, `"id":2`, "drop 2 by token 127.0.0.1"},
		{"DELETE", "/admin/dead-letters/3", 404, "no such dead letter", ""},
		{"GET", "/admin/dead-letters/1/replay", 405, "", ""},
		{"DELETE", "/admin/dead-letters", 405, "", ""},
		{"GET", "/admin/secrets", 404, "", ""},
	} {
		_, before := letters.last()
		res, body := n.request(t, tt.method, tt.path, "", bearer)
		if res.StatusCode != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: got %d %s, want %d with %q", tt.method, tt.path, res.StatusCode, body, tt.status, tt.says)
		}
		if res.StatusCode >= 400 {
			errorCode(t, body)
		} else if res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s may be kept by a cache", tt.method, tt.path)
		}
		call, after := letters.last()
		if tt.call == "" && after != before || tt.call != "" && !strings.HasPrefix(call, tt.call) {
			t.Errorf("%s %s: did %q, want %q", tt.method, tt.path, call, tt.call)
		}
		if strings.ContainsAny(body, "\u202e\u009b") {
			t.Errorf("%s %s: a terminal would obey %q", tt.method, tt.path, body)
		}
	}
	letters.down = errors.New("the disk is gone")
	if res, body := n.request(t, "GET", "/admin/dead-letters", "", bearer); res.StatusCode != 503 || strings.Contains(body, "disk") {
		t.Errorf("the store is away: got %d %s", res.StatusCode, body)
	}
}

// TestAdmin_WithoutToken sends what programs, proxies, pages and strangers send to a server
// without a token: the admin API and /metrics are closed to all of them.
func TestAdmin_WithoutToken(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		n, letters := admin(t, func(c *httpapi.Config) { c.HTTP.Addr, c.Admin.Token = addr, "" })
		_, port, _ := net.SplitHostPort(n.Addr())
		for _, headers := range outsiders("127.0.0.1:" + port) {
			for path, method := range closed {
				res, body := ask(t, n, method, path, headers...)
				if res.StatusCode != 404 || !strings.Contains(body, "set admin.token") {
					t.Errorf("%s %s with %q: got %d %s", method, path, headers, res.StatusCode, body)
				}
			}
		}
		if call, _ := letters.last(); call != "" {
			t.Errorf("it did %s", call)
		}
	}
}

// TestAdmin_Outsiders sends the same to a server with a token.
func TestAdmin_Outsiders(t *testing.T) {
	n, letters := admin(t, nil)
	for _, headers := range outsiders(n.Addr()) {
		for path, method := range closed {
			res, body := ask(t, n, method, path, headers...)
			if res.StatusCode != 401 || errorCode(t, body) != "no_token" || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s with %q: got %d %s", method, path, headers, res.StatusCode, body)
			}
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if res, body := ask(t, n, "GET", path, headers...); res.StatusCode != 200 {
				t.Errorf("%s with %q: got %d %s", path, headers, res.StatusCode, body)
			}
		}
	}
	if call, _ := letters.last(); call != "" {
		t.Errorf("it did %s", call)
	}
	for _, method := range []string{"GET", "HEAD"} {
		res, body := n.request(t, method, "/metrics", "", bearer)
		if res.StatusCode != 200 || method == "GET" && !strings.Contains(body, "burrow_edge_sessions 0") {
			t.Errorf("%s /metrics with the token: %d %.100s", method, res.StatusCode, body)
		}
	}
}

// closed are the routes that need the token, with a method.
var closed = map[string]string{
	"/metrics": "GET", "/admin/dead-letters": "GET", "/admin/dead-letters/1": "DELETE", "/admin/dead-letters/1/replay": "POST",
}

// outsiders returns the headers of requests without a token: of a program of this host, and as
// proxies and browsers of this host pass on or send them.
func outsiders(addr string) [][]string {
	_, port, _ := net.SplitHostPort(addr)
	return [][]string{
		nil, // A program; HAProxy and nginx as they come, to an upstream with this name.
		{"Host: localhost"},
		{"Host: localhost:" + port},
		{"Host: 127.0.0.1"},
		{"Host: localhost", "Connection: close"}, // nginx with proxy_http_version 1.1, asked for localhost.
		{"Host: localhost", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Real-IP: 203.0.113.9"},
		{"Host: localhost", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "Via: 1.1 varnish"},
		{"Host: localhost:" + port, "Origin: http://localhost:" + port, "Sec-Fetch-Site: same-origin"},
		{"Host: localhost", "Authorization: "},
		{"Host: localhost", "Cookie: token=" + token},
	}
}

// ask is request for headers that a client of Go sets by itself.
func ask(t *testing.T, n *node, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(n.Addr())
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Host: ") }) {
		headers = append([]string{"Host: 127.0.0.1:" + port}, headers...)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\n%s\r\n\r\n", method, path, strings.Join(headers, "\r\n")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestAdminTakesTheTokenAndNothingElse(t *testing.T) {
	n, letters := admin(t, nil)
	for i, headers := range [][]string{
		{"Authorization: Bearer " + token[:31]},
		{"Authorization: Bearer " + token + "0"},
		{"Authorization: Bearer  " + token},
		{"Authorization: Basic " + token},
		{"Authorization: " + token},
		{"Authorization: Bearer"},
		{"Authorization: Bearer " + token, "Authorization: Bearer x"},
		{"Authorization: Bearer " + strings.Repeat("x", 40<<10)},
		{"Authorization: Bearer x", "Authorization: Bearer " + token},
		{"Proxy-Authorization: Bearer " + token},
		{"Authorization: Bearer " + token + ", Bearer " + token},
	} {
		headers = append(headers, fmt.Sprint("X-Forwarded-For: 203.0.113.", i+1)) // Each has its own tries.
		res, body := n.request(t, "POST", "/admin/dead-letters/1/replay?token="+token, "", headers...)
		if res.StatusCode != 401 || errorCode(t, body) != "no_token" || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%q: got %d %s", headers, res.StatusCode, body)
		}
	}
	if call, _ := letters.last(); call != "" {
		t.Errorf("it did %s", call)
	}
	res, body := n.request(t, "POST", "/admin/dead-letters/1/replay", "", "Authorization: bearer "+token, "X-Forwarded-For: 203.0.113.9")
	if call, _ := letters.last(); res.StatusCode != 202 || call != "replay 1 by token 203.0.113.9" {
		t.Errorf("got %d %s, did %q", res.StatusCode, body, call)
	}
}

func TestWrongTokensAreSlowedDown(t *testing.T) {
	var log strings.Builder
	n, _ := admin(t, func(c *httpapi.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 30 { // No token is no guess.
		if res, _ := n.request(t, "GET", "/metrics", "", "X-Forwarded-For: 203.0.113.9"); res.StatusCode != 401 {
			t.Fatalf("without a token: %d", res.StatusCode)
		}
	}
	ask := func(from, token string) int {
		res, _ := n.request(t, "GET", "/admin/dead-letters", "", "Authorization: Bearer "+token, "X-Forwarded-For: "+from)
		if wait := res.Header.Get("Retry-After"); (res.StatusCode == 429) != (wait != "") {
			t.Errorf("%d with Retry-After %q", res.StatusCode, wait)
		}
		return res.StatusCode
	}
	wrong := 0
	for wrong < 20 && ask("203.0.113.9", "guess") == 401 {
		wrong++
	}
	if wrong < 10 || wrong > 12 {
		t.Errorf("%d guesses were looked at, want 10", wrong)
	}
	if status := ask("203.0.113.9", token); status != 429 {
		t.Errorf("the right token after too many guesses: got %d, want 429", status)
	}
	for range 20 { // The right token costs nothing.
		if status := ask("203.0.113.10", token); status != 200 {
			t.Fatalf("another address: got %d, want 200", status)
		}
	}
	if strings.Contains(log.String(), token) || strings.Contains(log.String(), "guess") {
		t.Errorf("a token is in the log: %s", log.String())
	}
}

func TestWeakTokenIsRefused(t *testing.T) {
	cfg := httpapi.DefaultConfig()
	cfg.Publisher, cfg.Auth = &fakeBroker{}, &fakeAuth{}
	cfg.Admin.Token = token[:31]
	if _, err := httpapi.New(cfg); err == nil || !strings.Contains(err.Error(), "admin.token") || strings.Contains(err.Error(), token[:31]) {
		t.Errorf("got %v", err)
	}
}
