package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"burrow/httpapi"
)

// page is an answer of /api/history.
type page struct {
	Messages []said `json:"messages"`
	HasMore  bool   `json:"has_more"`
}

// contents gets a history page and returns what was said in it.
func contents(t *testing.T, n *node, query string, headers ...string) (said []string, more bool) {
	t.Helper()
	res, body := n.request(t, "GET", "/api/history"+query, "", headers...)
	if res.StatusCode != 200 {
		t.Fatalf("history%s: %d %s", query, res.StatusCode, body)
	}
	var p page
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Messages == nil {
		t.Fatalf("history%s: %s: %v", query, body, err)
	}
	for _, m := range p.Messages {
		said = append(said, m.Content)
	}
	return said, p.HasMore
}

func numbers(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

func TestHistoryPages(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.History.Buffer = 10 })
	for i := range 200 {
		m := message(i, "bot", "", strconv.Itoa(i))
		if i < 150 || i%2 == 0 && i < 195 { // The archive lags behind and has gaps.
			n.archive.add(m)
		}
		if i >= 100 {
			n.Deliver(m)
		}
	}
	// In memory: 190 to 199. In the archive: 0 to 149, and even ones to 194.
	var recent []string
	for i := 150; i < 190; i += 2 {
		recent = append(recent, strconv.Itoa(i))
	}
	recent = append(recent, numbers(190, 199)...)
	for _, tt := range []struct {
		query string
		want  []string
		more  bool
	}{
		{"?limit=100", append(numbers(80, 149), recent...), true},
		{"", append(numbers(130, 149), recent...), true},
		{"?limit=3", numbers(197, 199), true},
		{"?limit=4&before=" + id(192), []string{"186", "188", "190", "191"}, true},
		{"?limit=2&before=" + strings.ToUpper(id(2)), numbers(0, 1), false},
		{"?limit=1&before=" + id(2), numbers(1, 1), true},
		{"?before=" + id(0), nil, false},
		{"?with=global&limit=1", numbers(199, 199), true},
	} {
		if got, more := contents(t, n, tt.query); !slices.Equal(got, tt.want) || more != tt.more {
			t.Errorf("history%s: got %v, more %v; want %v, more %v", tt.query, got, more, tt.want, tt.more)
		}
	}
}

func TestHistoryOfPrivateTalk(t *testing.T) {
	n := start(t, nil)
	n.archive.add(message(1, "alice", "bob", "archived"))
	n.Deliver(message(2, "bob", "alice", "remembered"))
	n.Deliver(message(3, "bob", "carol", "not for alice"))
	n.Deliver(message(4, "alice", "alice", "a note"))
	n.Deliver(message(5, "bob", "", "for all"))
	for query, want := range map[string][]string{
		"?client_id=alice&with=bob":   {"archived", "remembered"},
		"?client_id=bob&with=alice":   {"archived", "remembered"},
		"?client_id=alice&with=alice": {"a note"},
		"?client_id=alice&with=carol": nil,
		"?client_id=alice":            {"for all"},
	} {
		if got, more := contents(t, n, query); !slices.Equal(got, want) || more {
			t.Errorf("history%s: got %v, more %v; want %v", query, got, more, want)
		}
	}

	// Guests prove who they are.
	cookie := n.guest("alice")
	if got, _ := contents(t, n, "?with=bob", cookie); len(got) != 2 {
		t.Errorf("alice sees %v of her talk with bob", got)
	}
	if got, _ := contents(t, n, "?with=carol", cookie); len(got) != 0 {
		t.Errorf("alice sees %v of bob's talk with carol", got)
	}
}

// Over HTTP pages have no session whose frames are counted.
func TestHistoryHasALimit(t *testing.T) {
	n := start(t, nil)
	httpapi.SetHistoryBurst(n.Server, 3)
	for i := range 4 {
		res, body := n.request(t, "GET", "/api/history", "")
		if i < 3 && res.StatusCode != 200 || i == 3 && (errorCode(t, body) != "rate_limited" || res.Header.Get("Retry-After") == "") {
			t.Errorf("page %d: %d %s", i, res.StatusCode, body)
		}
	}
}

func TestHistoryRefusals(t *testing.T) {
	n := start(t, nil)
	check := func(query string, status int, code string, headers ...string) {
		t.Helper()
		res, body := n.request(t, "GET", "/api/history"+query, "", headers...)
		if got := errorCode(t, body); res.StatusCode != status || got != code {
			t.Errorf("history%s: %d %s, want %d %s", query, res.StatusCode, got, status, code)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?limit=-1", "?before=x", "?before=" + strings.ReplaceAll(id(1), "-", ""), "?before=urn:uuid:" + id(1)} {
		check(query, 400, "bad_request")
	}
	check("?with=bob", 400, "invalid_client_id")
	check("?with=bob&client_id=%20", 400, "invalid_client_id")
	check("?with=%3Cb%3E&client_id=alice", 400, "invalid_user")
	cookie := n.guest("alice")
	check("", 401, "no_session")
	check("?client_id=alice", 401, "no_session")
	check("?with=bob", 401, "no_session", "Cookie: burrow_session=x")
	check("?with=carol&client_id=bob", 403, "forbidden", cookie)
	n.archive.err = errors.New("disk is full")
	check("", 503, "unavailable", cookie)
}

func TestHistoryShape(t *testing.T) {
	n := start(t, nil)
	n.Deliver(message(1, "alice", "", "<b> & \"q\""))
	_, body := n.request(t, "GET", "/api/history", "")
	want := `{"messages":[{"id":"` + id(1) + `","sender":"alice","content":"<b> & \"q\"","to_user":"","sent_at":"2026-01-31T12:00:00.124Z"}],"has_more":false}`
	if body != want {
		t.Errorf("got %s, want %s", body, want)
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	n := prepare(t, func(c *httpapi.Config) { c.History.Buffer, c.History.Limit = 250, 250 })
	httpapi.SetReseedAfter(n.Server, 4*time.Second)
	for i := range 300 {
		n.archive.add(message(i, "bot", "", strconv.Itoa(i)))
	}
	n.archive.err = errors.New("not yet")
	n.run(t)
	// Subscribed, not seeded: messages come, people do not.
	n.Deliver(message(299, "bot", "", "299"))
	n.Deliver(message(301, "bot", "", "301"))
	if err := n.Seed(t.Context()); err == nil {
		t.Error("Seed succeeded without an archive")
	}
	res, body := n.request(t, "GET", "/ws/alice", "", upgrade...)
	if code := errorCode(t, body); res.StatusCode != 503 || code != "starting" {
		t.Errorf("before Seed: %d %s", res.StatusCode, body)
	}
	if res, body := n.request(t, "GET", "/readyz", ""); res.StatusCode != 503 || !strings.Contains(body, `"history":"loading"`) {
		t.Errorf("readyz before Seed: %d %s", res.StatusCode, body)
	}
	n.archive.mu.Lock()
	n.archive.err = nil
	n.archive.mu.Unlock()
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice := n.dial(t, "alice")
	for i := 51; i < 302; i++ {
		if i != 300 {
			alice.hears("bot", "", strconv.Itoa(i))
		}
	}
	alice.want(online("alice"))

	// What was on its way shows up in the archive later: it is delivered, and has its place.
	n.archive.add(message(300, "bot", "", "300"))
	alice.hears("bot", "", "300")
	bob := n.dial(t, "bob")
	for i := 52; i < 302; i++ {
		bob.hears("bot", "", strconv.Itoa(i))
	}
}

func TestRefillShowsWhatTheNodeMissed(t *testing.T) {
	n := prepare(t, nil)
	httpapi.SetReseedAfter(n.Server, time.Hour)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice := n.join(t, "alice")
	n.Deliver(message(1, "bot", "", "1"))
	alice.hears("bot", "", "1")
	for i := 1; i < 4; i++ {
		n.archive.add(message(i, "bot", "", strconv.Itoa(i)))
	}
	n.Deliver(message(4, "bot", "", "4"))
	alice.hears("bot", "", "4")
	n.archive.mu.Lock()
	n.archive.bad = 2 // a merge that fails is tried again, and uses up no Refill
	n.archive.mu.Unlock()
	for range 10 {
		n.Refill()
	}
	alice.hears("bot", "", "2")
	alice.hears("bot", "", "3")
	n.Deliver(message(3, "bot", "", "3")) // its event after all
	n.Deliver(message(5, "bot", "", "5"))
	alice.hears("bot", "", "5")
}

func TestSignIn(t *testing.T) {
	n := start(t, nil)
	n.auth.mode = "guest"
	post := func(body string, headers ...string) (*http.Response, string) {
		t.Helper()
		return n.request(t, "POST", "/api/session", body, append(headers, "Content-Type: application/json; charset=utf-8")...)
	}
	if _, body := n.request(t, "GET", "/api/session", ""); body != `{"mode":"guest","name":""}` {
		t.Errorf("before: %s", body)
	}
	res, body := post(`{"name":"alice"}`, "X-Forwarded-Proto: https", "Origin: https://"+n.Addr())
	if res.StatusCode != 200 || body != `{"mode":"guest","name":"alice"}` {
		t.Fatalf("sign in: %d %s", res.StatusCode, body)
	}
	cookies := res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	c := cookies[0]
	if c.Name != "__Host-burrow_session_0a1b2c3d" || c.Path != "/" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || time.Until(c.Expires) < 50*time.Minute {
		t.Errorf("cookie %v", c)
	}
	cookie := "Cookie: burrow_session_0a1b2c3d=" + c.Value
	if res, body := n.request(t, "GET", "/api/session", "", cookie); body != `{"mode":"guest","name":"alice"}` || len(res.Cookies()) > 0 {
		t.Errorf("after: %s", body)
	}
	n.join(t, "alice", cookie)
	if res, body := n.request(t, "GET", "/api/session", "", strings.Replace(n.guest("old"), "=", "_0a1b2c3d=", 1)); body != `{"mode":"guest","name":"old"}` || len(res.Cookies()) != 1 || res.Cookies()[0].Value != "new-cookie" {
		t.Errorf("an old cookie: %s, %v", body, res.Cookies())
	}
	if res, _ := post(`{"name":"bob"}`); res.Cookies()[0].Secure {
		t.Error("the cookie is Secure without TLS")
	}

	for _, tt := range []struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		{`{"name":"taken"}`, nil, 409, "name_taken"},
		{`{"name":"greedy"}`, nil, 409, "too_many_names"},
		{`{"name":"global"}`, nil, 400, "invalid_name"},
		{`{"name":7}`, nil, 400, "bad_request"},
		{`{}`, nil, 400, "bad_request"},
		{`{"name":"a"}x`, nil, 400, "bad_request"},
		{`{"name":"` + strings.Repeat("x", 1024) + `"}`, nil, 413, "too_large"},
		{`{"name":"eve"}`, []string{"Origin: https://evil.example"}, 403, "foreign_origin"},
	} {
		res, body := post(tt.body, tt.headers...)
		if code := errorCode(t, body); res.StatusCode != tt.status || code != tt.code || len(res.Cookies()) > 0 {
			t.Errorf("%.30s: %d %s, want %d %s", tt.body, res.StatusCode, code, tt.status, tt.code)
		}
	}
}

func TestSignInTakesOnlyJSON(t *testing.T) {
	n := start(t, nil)
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "text/json", "application/jsonp"} {
		var headers []string
		if kind != "" {
			headers = append(headers, "Content-Type: "+kind)
		}
		res, body := n.request(t, "POST", "/api/session", `{"name":"alice"}`, headers...)
		if code := errorCode(t, body); res.StatusCode != 415 || code != "not_json" {
			t.Errorf("%q: %d %s", kind, res.StatusCode, code)
		}
	}
}

func TestSignInIsLimitedByAddress(t *testing.T) {
	const burst = 100
	n := start(t, nil)
	post := func(headers ...string) *http.Response {
		res, _ := n.request(t, "POST", "/api/session", `{"name":"alice"}`, append(headers, "Content-Type: application/json")...)
		return res
	}
	// What is spent comes back meanwhile, so a few more than the burst may pass.
	res, passed := post(), 0
	for ; res.StatusCode == 200 && passed < 2*burst; passed++ {
		res = post()
	}
	if passed < burst {
		t.Errorf("%d passed, the burst is %d", passed, burst)
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode != 429 || err != nil || s < 1 || s > 6 {
		t.Errorf("got %d, Retry-After %q; want 429", res.StatusCode, res.Header.Get("Retry-After"))
	}
	// Our proxy says for whom it asks.
	if res := post("X-Forwarded-For: 203.0.113.9"); res.StatusCode != 200 {
		t.Errorf("another address got %d", res.StatusCode)
	}
}

func TestOpenModeEchoesTheName(t *testing.T) {
	n := start(t, nil)
	res, body := n.request(t, "POST", "/api/session", `{"name":"alice"}`, "Content-Type: application/json")
	if res.StatusCode != 200 || body != `{"mode":"open","name":"alice"}` || len(res.Cookies()) > 0 {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if _, body := n.request(t, "POST", "/api/session", `{"name":"-"}`, "Content-Type: application/json"); errorCode(t, body) != "invalid_name" {
		t.Errorf("got %s", body)
	}
}

func TestReady(t *testing.T) {
	var broken error
	n := start(t, func(c *httpapi.Config) {
		c.Checks = map[string]httpapi.Checker{
			"broker": func(context.Context) error { return nil },
			"store":  func(context.Context) error { return broken },
		}
	})
	if res, body := n.request(t, "GET", "/readyz", ""); res.StatusCode != 200 || body != `{"ready":true,"draining":false,"parts":{"broker":"ok","descriptors":"ok","history":"ok","store":"ok"}}` {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	broken = errors.New("secret of the inside")
	if res, body := n.request(t, "GET", "/readyz", ""); res.StatusCode != 503 || body != `{"ready":false,"draining":false,"parts":{"broker":"ok","descriptors":"ok","history":"ok","store":"failing"}}` {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := n.request(t, "GET", "/healthz", ""); res.StatusCode != 200 || body != `{"status":"ok"}` {
		t.Errorf("healthz: %d %s", res.StatusCode, body)
	}
	if res, _ := n.request(t, "HEAD", "/readyz", ""); res.StatusCode != 503 {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
}

func TestPageAndFiles(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.UI = fstest.MapFS{
			"index.html":     {Data: []byte("<p>hello")},
			"app.js":         {Data: []byte("let x")},
			"vendor/lib.mjs": {Data: []byte("export {}")},
		}
	})
	for path, kind := range map[string]string{
		"/":                  "text/html; charset=utf-8",
		"/ui/app.js":         "text/javascript; charset=utf-8",
		"/ui/vendor/lib.mjs": "text/javascript; charset=utf-8",
	} {
		res, body := n.request(t, "GET", path, "")
		etag := res.Header.Get("ETag")
		if res.StatusCode != 200 || body == "" || res.Header.Get("Content-Type") != kind || etag == "" || res.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %q %v", path, res.StatusCode, body, res.Header)
		}
		policy := "default-src 'none'"
		if path == "/" {
			policy += "; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy,
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if res, body := n.request(t, "GET", path, "", "If-None-Match: "+etag); res.StatusCode != 304 || body != "" {
			t.Errorf("%s again: %d", path, res.StatusCode)
		}
		if res, _ := n.request(t, "HEAD", path, ""); res.StatusCode != 200 {
			t.Errorf("HEAD %s: %d", path, res.StatusCode)
		}
	}
	for _, path := range []string{"/ui/", "/ui/vendor", "/ui/../go.mod", "/ui/%2e%2e/go.mod", "/ui/none.js", "/other", "/metrics"} {
		res, body := n.request(t, "GET", path, "")
		if res.StatusCode != 404 || errorCode(t, body) != "not_found" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, body := n.request(t, "DELETE", "/api/session", ""); res.StatusCode != 405 || errorCode(t, body) != "method_not_allowed" {
		t.Errorf("DELETE: %d %s", res.StatusCode, body)
	}
}

func TestPageWithoutIndex(t *testing.T) {
	cfg := httpapi.DefaultConfig()
	cfg.Publisher, cfg.Auth = &fakeBroker{}, &fakeAuth{}
	cfg.UI = fstest.MapFS{"app.js": {Data: []byte("x")}}
	if _, err := httpapi.New(cfg); err == nil {
		t.Error("no error")
	}
}

func TestMetrics(t *testing.T) {
	n, _ := admin(t, nil)
	alice := n.join(t, "alice")
	alice.send(`{"content":"x"}`)
	alice.hears("alice", "", "x")
	alice.send(`x`)
	alice.fails("bad_frame")
	eventually(t, "the frame is counted", func() bool { return n.metric(t, "burrow_edge_frames_received_total", "ok") == 1 })
	_, body := n.request(t, "GET", "/metrics", "", bearer)
	for _, want := range []string{
		`burrow_edge_sessions 1`, `burrow_edge_messages_total 1`, `burrow_edge_deliveries_total 1`,
		`burrow_edge_frames_received_total{result="bad_frame"} 1`, `burrow_edge_publish_seconds_count 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in %s", want, body)
		}
	}
}
