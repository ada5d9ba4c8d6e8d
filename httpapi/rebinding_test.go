package httpapi_test

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"burrow/httpapi"
)

// TestHosts_Rebinding sends the requests of a page whose name points to this server: every route
// but those of health refuses them, whatever else they carry.
func TestHosts_Rebinding(t *testing.T) {
	var said syncBuffer
	n, letters := admin(t, func(c *httpapi.Config) { c.Log = slog.New(slog.NewTextHandler(&said, nil)) })
	const host = "Host: evil.example:8000"
	origin := []string{host, "Origin: http://evil.example:8000"}
	for _, headers := range [][]string{
		{host}, origin, append(origin, "Sec-Fetch-Site: same-origin"), append(origin, "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Host: localhost"), append(origin, bearer),
	} {
		for _, route := range []string{
			"GET /", "GET /ui/app.js", "GET /ws/ada", "GET /events?client_id=ada", "GET /api/session", "POST /api/session", "GET /api/history",
			"GET /api/search?q=x", "GET /api/conversations", "GET /api/users", "POST /api/messages?client_id=ada", "GET /metrics",
			"GET /admin/dead-letters", "DELETE /admin/dead-letters/1", "GET /nothing",
		} {
			method, path, _ := strings.Cut(route, " ")
			res, body := n.request(t, method, path, `{"name":"ada","content":"x"}`, append(append(upgrade[:4:4], "Content-Type: application/json"), headers...)...)
			if res.StatusCode != 421 || errorCode(t, body) != "foreign_host" || !strings.Contains(body, "http.allowed_hosts") {
				t.Errorf("%s with %q: %d %s", route, headers, res.StatusCode, body)
			}
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if res, body := n.request(t, "GET", path, "", headers...); res.StatusCode != 200 {
				t.Errorf("%s with %q: %d %s", path, headers, res.StatusCode, body)
			}
		}
	}
	if call, _ := letters.last(); call != "" || len(n.broker.published()) > 0 {
		t.Errorf("it did %q and published %v", call, n.broker.published())
	}
	if got := strings.Count(said.String(), "http.allowed_hosts"); got != 1 {
		t.Errorf("%d lines:\n%s", got, said.String())
	}
	for i := range 1000 {
		n.request(t, "GET", "/", "", fmt.Sprintf("Host: %d.evil.example", i))
	}
	if got := strings.Count(said.String(), "http.allowed_hosts"); got > 100 {
		t.Errorf("%d lines for 1001 hosts", got)
	}
}

// TestHosts_BehindProxy reaches a server on all addresses by a public name: through a trusted proxy
// it answers, and mentions the setting once; to others of this host it does not.
func TestHosts_BehindProxy(t *testing.T) {
	for _, tt := range []struct {
		proxies, hosts []string
		status, lines  int
	}{
		{[]string{"127.0.0.0/8"}, nil, 200, 1},
		{nil, nil, 421, 1},
		{nil, []string{"chat.example.org"}, 200, 0},
	} {
		var said syncBuffer
		n := start(t, func(c *httpapi.Config) {
			c.HTTP.Addr, c.HTTP.TrustedProxies, c.HTTP.AllowedHosts = "0.0.0.0:0", tt.proxies, tt.hosts
			c.Log = slog.New(slog.NewTextHandler(&said, nil))
		})
		_, port, _ := net.SplitHostPort(n.Addr())
		for range 3 {
			if res, body := ask(t, n, "GET", "/api/session", "Host: chat.example.org", "Connection: close"); res.StatusCode != tt.status {
				t.Errorf("%+v: %d %s", tt, res.StatusCode, body)
			}
			if res, body := ask(t, n, "GET", "/api/session", "Host: localhost:"+port); res.StatusCode != 200 {
				t.Errorf("%+v by a loopback name: %d %s", tt, res.StatusCode, body)
			}
		}
		if got := strings.Count(said.String(), "http.allowed_hosts"); got != tt.lines {
			t.Errorf("%+v: %d lines:\n%s", tt, got, said.String())
		}
	}
}
