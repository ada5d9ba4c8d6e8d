package httpapi

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// originServer returns as much of a Server as the check of an origin needs, and its log.
func originServer(allowed ...string) (*Server, *bytes.Buffer) {
	cfg := DefaultConfig()
	cfg.HTTP.AllowedOrigins = allowed
	said := new(bytes.Buffer)
	return &Server{
		endpoint: newEndpoint(cfg.HTTP, slog.New(slog.NewTextHandler(said, nil)), nil),
		cfg:      cfg, logOrigin: &rate.Sometimes{First: 1, Interval: time.Minute},
	}, said
}

func TestOrigin_OwnPage(t *testing.T) {
	for _, tt := range []struct {
		origin, host string
		want         bool
	}{
		{"https://chat.example", "chat.example", true},
		{"https://chat.example", "chat.example:443", true},
		{"https://chat.example:443", "chat.example", true},
		{"http://chat.example", "chat.example:80", true},
		{"http://chat.example:80", "chat.example", true},
		{"http://chat.example", "chat.example:443", false},
		{"https://chat.example", "chat.example:80", false},
		{"https://chat.example:8443", "chat.example:8443", true},
		{"https://chat.example:8443", "chat.example", false},
		{"https://chat.example:08443", "chat.example:8443", true},
		{"https://chat.example", "chat.example:", true},
		{"https://CHAT.example", "chat.EXAMPLE", true},
		{"https://chat.example.", "chat.example", true},
		{"https://chat.example", "chat.example.:443", true},
		{"https://chat.example", "chat.example..", false},
		{"http://[::1]:8000", "[::1]:8000", true},
		{"http://[::1]", "[0:0:0:0:0:0:0:1]:80", true},
		{"https://[2001:DB8::1]", "[2001:db8:0::1]:443", true},
		{"http://[::1]", "::1", false},
		{"http://[::1]", "[::2]", false},
		{"http://[fe80::1%25eth0]", "[fe80::1%25eth0]", false},
		{"http://127.0.0.1:8000", "127.0.0.1:8000", true},
		{"http://127.0.0.1:8000", "localhost:8000", false},
		{"https://xn--bcher-kva.example", "bücher.example", true},
		{"https://bücher.example", "xn--bcher-kva.example:443", true},
		{"https://my_app:8443", "my_app:8443", true},
		{"null", "null", false},
		{"", "", false},
		{"https://", "", false},
		{"https://evil.example", "chat.example", false},
		{"https://chat.example@evil.example", "chat.example", false},
		{"https://chat.example.evil.example", "chat.example", false},
		{"https://evil.example/chat.example", "chat.example", false},
		{"https://evil.example?chat.example", "chat.example", false},
		{"https://evil.example\\chat.example", "chat.example", false},
		{"https://chat.example:99999", "chat.example:99999", false},
		{"https://chat.example:+443", "chat.example", false},
		{"file://chat.example", "chat.example", false},
		{"chrome-extension://chat.example", "chat.example", false},
	} {
		s, _ := originServer()
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = tt.host
		r.Header["Origin"] = []string{tt.origin}
		if got := s.originAllowed(r); got != tt.want {
			t.Errorf("Origin %q, Host %q: %v, want %v", tt.origin, tt.host, got, tt.want)
		}
	}
}

func TestOrigin_SchemeBehindTLS(t *testing.T) {
	for _, tt := range []struct {
		name, origin, proto, peer string
		tls, want                 bool
	}{
		{name: "page over TLS", origin: "https://chat.example", tls: true, want: true},
		{name: "plain page, server with TLS", origin: "http://chat.example", tls: true, want: false},
		{name: "page over TLS behind a proxy", origin: "https://chat.example", proto: "https", peer: "127.0.0.1:9", want: true},
		{name: "plain page behind a TLS proxy", origin: "http://chat.example", proto: "https", peer: "127.0.0.1:9", want: false},
		{name: "untrusted peer", origin: "http://chat.example", proto: "https", peer: "203.0.113.7:9", want: true},
		{name: "proxy without the header", origin: "https://chat.example", peer: "127.0.0.1:9", want: true},
		{name: "two proxies, TLS at the first", origin: "https://chat.example", proto: "http", peer: "127.0.0.1:9", want: true},
	} {
		s, _ := originServer()
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.RemoteAddr = "chat.example", "203.0.113.7:9"
		if tt.peer != "" {
			r.RemoteAddr = tt.peer
		}
		if tt.tls {
			r.TLS = new(tls.ConnectionState)
		}
		r.Header.Set("Origin", tt.origin)
		if tt.proto != "" {
			r.Header.Set("X-Forwarded-Proto", tt.proto)
		}
		if got := s.originAllowed(r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestOrigin_AllowedOrigins(t *testing.T) {
	for _, tt := range []struct {
		allowed, origin string
		want            bool
	}{
		{"https://App.Example", "https://app.example", true},
		{"https://app.example/", "https://app.example", true},
		{"https://app.example:443", "https://app.example", true},
		{"HTTP://app.example:80/", "http://app.example", true},
		{"https://app.example.", "https://app.example", true},
		{"https://bücher.example", "https://xn--bcher-kva.example", true},
		{"http://[::1]:3000", "http://[0:0::1]:3000", true},
		{"https://app.example", "http://app.example", false},
		{"https://app.example", "https://app.example:8443", false},
		{"https://app.example", "null", false},
		{"*", "null", true},
		{"*", "https://any.example", true},
	} {
		s, _ := originServer(tt.allowed)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Origin", tt.origin)
		if got := s.originAllowed(r); got != tt.want {
			t.Errorf("allowed %q, Origin %q: %v, want %v", tt.allowed, tt.origin, got, tt.want)
		}
	}
}

func TestOrigin_Refusal(t *testing.T) {
	s, said := originServer()
	for range 50 {
		r := httptest.NewRequest("POST", "/api/session", nil)
		r.Host = "127.0.0.1:8000"
		r.Header.Set("Origin", "https://chat.example")
		if s.originAllowed(r) {
			t.Fatal("a page of another host passed")
		}
	}
	line := said.String()
	for _, want := range []string{"https://chat.example", "127.0.0.1:8000", "forward Host", "does not match Host"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %q: %s", want, line)
		}
	}
	if n := strings.Count(line, "\n"); n != 1 {
		t.Errorf("%d lines for one kind of refusal", n)
	}
	if strings.Contains(errForeignOrigin.message, "allowed_origins") || !strings.Contains(errForeignOrigin.message, "ask the operator") {
		t.Errorf("a person reads %q", errForeignOrigin.message)
	}
}

func TestCheckOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"*": "", "https://chat.example": "", "https://chat.example/": "", "https://Chat.Example:443": "",
		"http://[::1]:3000": "", "https://bücher.example": "",
		"":                                "write",
		"chat.example":                    "write",
		"chat.example:443":                "write",
		"null":                            "write",
		"ftp://chat.example":              "neither http nor https",
		"https://*.example":               "list each origin",
		"https://chat.example:port":       "write",
		"https://chat.example:0":          "not valid",
		"https://chat.example:70000":      "not valid",
		"https://chat..example..":         "not valid",
		"https:// chat.example":           "write",
		"https://Chat.example/app":        `write "https://chat.example"`,
		"https://chat.example:443/app/":   `write "https://chat.example"`,
		"https://chat.example:8443?x=1":   `write "https://chat.example:8443"`,
		"https://user@chat.example":       `write "https://chat.example"`,
		"https://[2001:DB8:0::1]:81/#top": `write "https://[2001:db8::1]:81"`,
	} {
		err := CheckOrigin(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, text := range []string{"https://chat.example:443", "http://[::1%25x]:80", "https://bücher.example./", "null", "http://a:b@c?d#e", "http://xn--a"} {
		f.Add(text, "chat.example:443")
	}
	f.Fuzz(func(t *testing.T, text, host string) {
		o, err := parseOrigin(text)
		if err != nil {
			return
		}
		again, err := parseOrigin(o.String())
		if err != nil || again != o {
			t.Errorf("%q is %v, and that is %v (%v)", text, o, again, err)
		}
		_, after, _ := strings.Cut(o.String(), "://")
		if !o.isHost(after) {
			t.Errorf("%v is not at its own host %q", o, after)
		}
		if o.isHost(host) {
			if name, _, _ := canonicalHost(host, o.scheme); name != o.host {
				t.Errorf("%v is at %q", o, host)
			}
		}
	})
}
