package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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

// admin starts a server with letters, on 127.0.0.1 unless change says something else.
func admin(t *testing.T, change func(*httpapi.Config)) (*node, *fakeLetters) {
	t.Helper()
	letters := &fakeLetters{}
	return start(t, func(c *httpapi.Config) {
		c.Letters = letters
		if change != nil {
			change(c)
		}
	}), letters
}

func withToken(c *httpapi.Config) { c.Admin.Token = token }

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
		{"POST", "/admin/dead-letters/9/replay", 202, `"state":"replaying"`, "replay 9 by loopback 127.0.0.1:"},
		{"DELETE", "/admin/dead-letters/2", 200, `"id":2`, "drop 2 by loopback 127.0.0.1:"},
		{"DELETE", "/admin/dead-letters/3", 404, "no such dead letter", ""},
		{"GET", "/admin/dead-letters/1/replay", 405, "", ""},
		{"DELETE", "/admin/dead-letters", 405, "", ""},
		{"GET", "/admin/secrets", 404, "", ""},
	} {
		_, before := letters.last()
		res, body := n.request(t, tt.method, tt.path, "")
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
	if res, body := n.request(t, "GET", "/admin/dead-letters", ""); res.StatusCode != 503 || strings.Contains(body, "disk") {
		t.Errorf("the store is away: got %d %s", res.StatusCode, body)
	}
}

func TestAdminIsOffWithoutATokenOnOtherAddresses(t *testing.T) {
	n, letters := admin(t, func(c *httpapi.Config) { c.HTTP.Addr = "0.0.0.0:0" })
	_, port, _ := strings.Cut(strings.TrimPrefix(n.Addr(), "[::]"), ":")
	for _, path := range []string{"/admin/dead-letters", "/admin/dead-letters/1"} {
		res, body := n.request(t, "GET", path, "", "Host: 127.0.0.1:"+port)
		if res.StatusCode != 404 || !strings.Contains(body, "admin.token") {
			t.Errorf("%s: got %d %s", path, res.StatusCode, body)
		}
	}
	if call, _ := letters.last(); call != "" {
		t.Errorf("it did %s", call)
	}
}

func TestAdminRefusesStrangersOnALoopbackAddress(t *testing.T) {
	n, letters := admin(t, nil)
	for _, header := range []string{
		"X-Forwarded-For: 127.0.0.1", "Via: 1.1 proxy", "Host: evil.example", "Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site",
	} {
		for method, path := range map[string]string{"GET": "/admin/dead-letters", "POST": "/admin/dead-letters/1/replay", "DELETE": "/admin/dead-letters/1"} {
			res, body := n.request(t, method, path, "", header)
			if res.StatusCode != http.StatusForbidden || errorCode(t, body) != "forbidden" {
				t.Errorf("%s %s with %q: got %d %s", method, path, header, res.StatusCode, body)
			}
		}
	}
	if call, _ := letters.last(); call != "" {
		t.Errorf("it did %s", call)
	}
}

func TestAdminTakesTheTokenAndNothingElse(t *testing.T) {
	n, letters := admin(t, withToken)
	for _, headers := range [][]string{
		nil,
		{"Authorization: Bearer " + token[:31]},
		{"Authorization: Bearer " + token + "0"},
		{"Authorization: Bearer  " + token},
		{"Authorization: Basic " + token},
		{"Authorization: " + token},
		{"Authorization: Bearer"},
		{"Authorization: Bearer " + token, "Authorization: Bearer x"},
		{"Cookie: token=" + token},
	} {
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
		withToken(c)
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
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
