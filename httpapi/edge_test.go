package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"burrow/httpapi"
)

func TestNames(t *testing.T) {
	n := start(t, nil)
	for path, status := range map[string]int{
		"alice":                         426, // Good, but no upgrade.
		"a":                             426,
		"Zo%C3%AB%20M.":                 400, // Ends with a dot.
		"Zo%C3%AB%20M":                  426,
		"a-b_c.d@e":                     426,
		"%61lice":                       426,
		strings.Repeat("x", 64):         426,
		strings.Repeat("%E4%BA%BA", 64): 426,
		strings.Repeat("x", 65):         400,
		"":                              400,
		"%20":                           400,
		"alice%20":                      400,
		"alice/bob":                     400,
		"alice%2Fbob":                   400,
		"al%2565":                       400, // Unescaped once only: "al%65".
		"%00":                           400,
		"a%00b":                         400,
		"%FF":                           400,
		"global":                        400,
		"%3Cb%3E":                       400,
		"..":                            400,
		"%2e%2e":                        400,
		"alice%0Abob":                   400,
		"a%E2%80%AEb":                   400, // A direction override.
	} {
		res, body := n.request(t, "GET", "/ws/"+path, "")
		if res.StatusCode != status {
			t.Errorf("/ws/%s: status %d, want %d", path, res.StatusCode, status)
		}
		want := map[int]string{400: "invalid_client_id", 426: "upgrade_required"}[status]
		if got := errorCode(t, body); got != want {
			t.Errorf("/ws/%s: code %q, want %q", path, got, want)
		}
		if status == 426 && !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") {
			t.Errorf("/ws/%s: no Upgrade header", path)
		}
	}
}

func TestEscapedNamesConnect(t *testing.T) {
	n := start(t, nil)
	c := n.dial(t, "Zoë M")
	c.want(`{"client_id":"Zoë M","online":true}`)
}

var upgrade = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// The checks of /ws are made in one order, so that what is wrong does not depend on who asks.
func TestConnectChecksInOrder(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnections = 1 })
	alice := n.guest("alice", "bob")
	foreign := "Origin: https://evil.example"
	for _, tt := range []struct {
		name    string
		path    string
		headers []string
		status  int
		code    string
	}{
		{"a bad name comes first", "/ws/global", []string{foreign}, 400, "invalid_client_id"},
		{"then the upgrade", "/ws/alice", []string{foreign}, 426, "upgrade_required"},
		{"in its only version", "/ws/alice", []string{"Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: x"}, 426, "upgrade_required"},
		{"with a key", "/ws/alice", upgrade[:3], 400, "bad_request"},
		{"then the origin", "/ws/alice", append(upgrade[:4:4], foreign), 403, "foreign_origin"},
		{"then the cookie", "/ws/alice", upgrade, 401, "no_session"},
		{"which must be good", "/ws/alice", append(upgrade[:4:4], "Cookie: burrow_session=forged"), 401, "no_session"},
		{"and of that name", "/ws/bob", append(upgrade[:4:4], alice), 403, "forbidden"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body := n.request(t, "GET", tt.path, "", tt.headers...)
			if code := errorCode(t, body); res.StatusCode != tt.status || code != tt.code {
				t.Errorf("got %d %s, want %d %s", res.StatusCode, code, tt.status, tt.code)
			}
		})
	}
	n.join(t, "alice", alice)
	res, body := n.request(t, "GET", "/ws/alice", "", append(upgrade[:4:4], alice)...)
	if code := errorCode(t, body); res.StatusCode != 503 || code != "full" {
		t.Errorf("beyond max_connections: %d %s, want 503 full", res.StatusCode, code)
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || s < 1 {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	n.auth.err = errors.New("store is down")
	res, body = n.request(t, "GET", "/ws/alice", "", append(upgrade[:4:4], alice)...)
	if code := errorCode(t, body); res.StatusCode != 503 || code != "unavailable" || strings.Contains(body, "store") {
		t.Errorf("with a broken auth: %d %s", res.StatusCode, body)
	}
}

func TestConnectionsAreCountedDown(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnections = 1 })
	for range 5 {
		var c *client
		eventually(t, "the slot is free", func() (ok bool) {
			var err error
			c, _, err = n.tryDial(t, "alice")
			return err == nil
		})
		c.want(online("alice"))
		_ = c.Close(1000, "")
		eventually(t, "nobody there", n.presence.empty)
		eventually(t, "no session", func() bool { return n.metric(t, "burrow_edge_sessions") == 0 })
	}
}

func TestOrigins(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.HTTP.AllowedOrigins = []string{"https://Chat.Example.org", "http://localhost:3000"}
	})
	all := start(t, func(c *httpapi.Config) { c.HTTP.AllowedOrigins = []string{"*"} })
	for origin, allowed := range map[string]bool{
		"":                               true,
		"http://" + n.Addr():             true,
		"https://" + n.Addr():            true, // A proxy before us speaks TLS.
		"https://chat.example.org":       true,
		"https://CHAT.example.org":       true,
		"http://chat.example.org":        false,
		"https://chat.example.org:8443":  false,
		"https://chat.example.org.evil":  false,
		"http://localhost:3000":          true,
		"http://localhost":               false,
		"null":                           false,
		"file://":                        false,
		"https://evil.example":           false,
		"http://" + n.Addr() + "@evil":   false,
		"http://evil/" + n.Addr():        false,
		"chrome-extension://" + n.Addr(): false,
		"://":                            false,
	} {
		headers := upgrade[:4:4]
		if origin != "" {
			headers = append(headers, "Origin: "+origin)
		}
		if got := opens(t, n, headers); got != allowed {
			t.Errorf("Origin %q: allowed %v, want %v", origin, got, allowed)
		}
		if !opens(t, all, headers) {
			t.Errorf("Origin %q: refused with allowed_origins *", origin)
		}
	}
	if opens(t, n, append(upgrade[:4:4], "Origin: http://"+n.Addr(), "Origin: https://evil.example")) {
		t.Error("two Origin headers were allowed")
	}
}

// opens reports whether a handshake with these headers opens a WebSocket.
func opens(t *testing.T, n *node, headers []string) bool {
	t.Helper()
	conn, err := net.DialTimeout("tcp", n.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /ws/alice HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", n.Addr(), strings.Join(headers, "\r\n"))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols && res.Header.Get("Sec-WebSocket-Protocol") != "" {
		t.Error("a subprotocol was chosen")
	}
	return res.StatusCode == http.StatusSwitchingProtocols
}

func TestUnknownSubprotocolsGetPlain(t *testing.T) {
	n := start(t, nil)
	if !opens(t, n, append(upgrade[:4:4], "Sec-WebSocket-Protocol: burrow.v9.proto, chat")) {
		t.Error("refused")
	}
}

func TestEarlyDataIsRefused(t *testing.T) {
	n := start(t, nil)
	conn, err := net.DialTimeout("tcp", n.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET /ws/alice HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s", strings.Join(upgrade, "\r\n"), rawFrame(0x81, `{"content":"x"}`))
	if data, _ := io.ReadAll(conn); strings.Contains(string(data), "101") {
		t.Errorf("got %q", data)
	}
	eventually(t, "nobody there", n.presence.empty)
}

func TestLargestFrame(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.MaxFrameBytes = 1000 })
	alice := n.join(t, "alice")
	frame := `{"content":"fits"}`
	alice.send(frame + strings.Repeat(" ", 1000-len(frame)))
	alice.hears("alice", "", "fits")
	alice.send(frame + strings.Repeat(" ", 1001-len(frame)))
	alice.closed(1009)
}

func TestNewestOfTooManyIsClosed(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnectionsPerUser = 2 })
	first := n.join(t, "alice")
	second := n.dial(t, "alice")
	second.want(online("alice"))
	if frames, reason := n.dial(t, "alice").closed(1013); len(frames) > 0 || reason == "" {
		t.Errorf("got %q, reason %q", frames, reason)
	}
	bob := n.join(t, "bob")
	first.want(online("bob"))
	second.want(online("bob"))
	_ = second.Close(1000, "")
	eventually(t, "room for one more", func() bool { return n.metric(t, "burrow_edge_sessions") == 2 })
	n.dial(t, "alice").want(online("alice"))
	bob.send(`{"content":"still here"}`)
	first.hears("bob", "", "still here")
}

func TestServerPings(t *testing.T) {
	t.Parallel()
	n := start(t, func(c *httpapi.Config) { c.Edge.PingInterval = 2 * time.Second })
	began := time.Now()
	lively := n.rawDial(t, "lively", 0)
	mute := n.rawDial(t, "mute", 0)
	for pings := 0; pings < 3; {
		first, _, err := lively.read()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x89 {
			pings++
			lively.write(0x8A, "")
		}
	}
	if d := time.Since(began); d < 3*time.Second {
		t.Errorf("three pings within %v", d)
	}
	for {
		if _, _, err := mute.read(); err != nil {
			break // Closed: it missed two.
		}
	}
	if got := n.metric(t, "burrow_edge_closes_total", "lost"); got != 1 {
		t.Errorf("counted %v lost sessions, want 1", got)
	}
}

func TestServerPongs(t *testing.T) {
	n := start(t, nil)
	c := n.rawDial(t, "alice", 0)
	for range 1000 { // Of many pings at once not each needs an answer, the last one does.
		c.write(0x89, "flood")
	}
	c.write(0x89, "last")
	for {
		first, payload, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x8A && payload == "last" {
			break
		}
	}
}

func TestRawFrames(t *testing.T) {
	hello := `{"content":"hello"}`
	bare := rawFrame(0x81, hello)
	bare[1] &= 0x7f
	for name, tt := range map[string]struct {
		bytes []byte
		code  int
	}{
		"fragments, with a ping between":        {slices.Concat(rawFrame(0x01, hello[:5]), rawFrame(0x89, "x"), rawFrame(0x00, ""), rawFrame(0x80, hello[5:]), rawFrame(0x88, "\x03\xe8")), 1000},
		"fragments that are too big together":   {slices.Concat(rawFrame(0x01, strings.Repeat(" ", 10000)), rawFrame(0x00, strings.Repeat(" ", 10000))), 1009},
		"a length of 2^63":                      {[]byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, 0},
		"a length of 2^62":                      {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009},
		"not masked":                            {bare, 1002},
		"a reserved bit":                        {rawFrame(0xC1, hello), 1002},
		"an unknown opcode":                     {rawFrame(0x83, hello), 1002},
		"a continuation of nothing":             {rawFrame(0x80, hello), 1002},
		"a long ping":                           {rawFrame(0x89, strings.Repeat("x", 126)), 1002},
		"a ping in pieces":                      {rawFrame(0x09, "x"), 1002},
		"a close without a code":                {rawFrame(0x88, ""), 1005},
		"a close with an impossible code":       {rawFrame(0x88, "\x03\xed"), 1002},
		"a close whose reason is not UTF-8":     {rawFrame(0x88, "\x03\xe8\xff"), 1002},
		"a close with an application's code":    {rawFrame(0x88, "\x0f\xa0bye"), 4000},
		"half a frame, then nothing":            {rawFrame(0x81, hello)[:9], 0},
		"a text frame that is not UTF-8 at all": {rawFrame(0x81, "\xc3\x28"), 1007},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, nil)
			bob := n.join(t, "bob")
			c := n.rawDial(t, "alice", 0)
			bob.want(online("alice"))
			if _, err := c.Conn.Write(tt.bytes); err != nil {
				t.Fatal(err)
			}
			if tt.code != 0 {
				if got := c.readClose(); got != tt.code {
					t.Errorf("closed with %d, want %d", got, tt.code)
				}
			} else {
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c.r) // Ends: the server closes.
			}
			if frame := bob.next(); strings.Contains(frame, "hello") {
				bob.want(offline("alice"))
			} else if frame != offline("alice") {
				t.Errorf("bob got %s", frame)
			}
		})
	}
}

func TestTakenAddress(t *testing.T) {
	n := start(t, nil)
	cfg := httpapi.DefaultConfig()
	cfg.HTTP.Addr = n.Addr()
	cfg.Publisher, cfg.Auth = n.broker, n.auth
	other, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "http.addr") {
		t.Errorf("Run: %v, want an error that names http.addr", err)
	}
	if err := other.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := other.Run(t.Context()); err != nil {
		t.Errorf("Run after Shutdown: %v", err)
	}
}

func TestNewReportsEverything(t *testing.T) {
	_, err := httpapi.New(httpapi.Config{HTTP: httpapi.HTTPConfig{AllowedOrigins: []string{"example.org", "ftp://x", "https://x/path", "*"}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Publisher", "Auth", `"example.org"`, `"ftp://x"`, `"https://x/path"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), `"*" is not`) {
		t.Errorf("error %q complains about *", err)
	}
}

func TestUpgradesAreLimitedByAddress(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.UpgradeRate, c.Edge.UpgradeBurst = 0.01, 3 })
	alice := n.guest("alice")
	ask := func(headers ...string) *http.Response {
		t.Helper()
		res, body := n.request(t, "GET", "/ws/alice", "", append(headers, upgrade...)...)
		if code := errorCode(t, body); res.StatusCode == 429 && code != "rate_limited" {
			t.Errorf("429 %s", code)
		}
		return res
	}
	n.join(t, "alice", alice)
	for i := range 2 {
		if res := ask(); res.StatusCode != 401 {
			t.Errorf("request %d: %d", i, res.StatusCode)
		}
	}
	res := ask(alice)
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode != 429 || err != nil || s < 90 || s > 110 {
		t.Errorf("got %d, Retry-After %q; want 429 and when there is room again", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if got := n.metric(t, "burrow_edge_limited_total", "connections"); got != 1 {
		t.Errorf("%v are counted", got)
	}
	// What costs nothing is answered all the same, and so is everything but WebSockets.
	if res, _ := n.request(t, "GET", "/ws/alice", ""); res.StatusCode != 426 {
		t.Errorf("no upgrade: %d", res.StatusCode)
	}
	if res, _ := n.request(t, "GET", "/api/history", "", alice); res.StatusCode != 200 {
		t.Errorf("history: %d", res.StatusCode)
	}
	// Our proxy on this host says for whom it asks; IPv6 addresses of one /64 are one.
	for i, tt := range []struct {
		from   string
		status int
	}{
		{"203.0.113.9", 401}, {"2001:db8::1", 401}, {"2001:db8::2", 401}, {"2001:db8::ffff:3", 401}, {"2001:db8::4", 429}, {"2001:db8:0:1::1", 401},
		{"198.51.100.1, 2001:db8::5", 429}, // Forged, before our proxy.
	} {
		if res := ask("X-Forwarded-For: " + tt.from); res.StatusCode != tt.status {
			t.Errorf("%d: for %s: %d, want %d", i, tt.from, res.StatusCode, tt.status)
		}
	}
}

func TestNoUpgradeLimit(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.UpgradeRate, c.Edge.UpgradeBurst = 0, 1 })
	n.guest("alice")
	for i := range 10 {
		if res, body := n.request(t, "GET", "/ws/alice", "", upgrade...); res.StatusCode != 401 {
			t.Fatalf("connection %d: %d %s", i, res.StatusCode, body)
		}
	}
}
