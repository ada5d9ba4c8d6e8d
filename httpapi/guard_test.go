package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestWithoutATokenOnlyThisHostMayAsk has requests as browsers, proxies and strangers
// send them, to a server on a loopback address.
func TestWithoutATokenOnlyThisHostMayAsk(t *testing.T) {
	const here = "127.0.0.1:8000"
	for _, tt := range []struct {
		name    string
		host    string   // Default here.
		peer    string   // Default 127.0.0.1:40000.
		local   string   // Default here.
		proto   int      // The minor version; default 1.
		headers []string // Names and values.
		want    bool
	}{
		{name: "a program", want: true},
		{name: "by name", host: "localhost:8000", want: true},
		{name: "by name without a port", host: "LOCALHOST", want: true},
		{name: "IPv6", host: "[::1]:8000", peer: "[::1]:40000", local: "[::1]:8000", want: true},
		{name: "IPv6 without a port", host: "[::1]", peer: "[::1]:40000", local: "[::1]:8000", want: true},
		{name: "IPv4 in IPv6", peer: "[::ffff:127.0.0.1]:40000", want: true},
		{name: "another loopback address", host: "127.9.9.9:8000", peer: "127.9.9.9:40000", want: true},
		{name: "our own page", headers: []string{"Origin", "http://127.0.0.1:8000", "Sec-Fetch-Site", "same-origin"}, want: true},
		{name: "typed into a browser", headers: []string{"Sec-Fetch-Site", "none"}, want: true},

		{name: "another host", peer: "10.0.0.7:40000"},
		{name: "another host, by IPv6", peer: "[fe80::1%eth0]:40000"},
		{name: "no peer", peer: "@"},
		{name: "another address of this host", local: "10.0.0.5:8000"},
		{name: "a name that resolves to this host", host: "evil.example:8000"},
		{name: "a name that looks like this host", host: "localhost.evil.example:8000"},
		{name: "an address that looks like this host", host: "127.0.0.1.evil.example"},
		{name: "all addresses", host: "0.0.0.0:8000"},
		{name: "no name", host: " "},
		{name: "a user in the name", host: "127.0.0.1:8000@evil.example"},
		{name: "a port that is none", host: "localhost:evil"},
		{name: "a proxy", headers: []string{"X-Forwarded-For", "127.0.0.1"}},
		{name: "a proxy that says nothing", headers: []string{"X-Forwarded-For", ""}},
		{name: "a proxy that tells the scheme", headers: []string{"x-forwarded-proto", "https"}},
		{name: "a proxy by the standard", headers: []string{"Forwarded", "for=127.0.0.1"}},
		{name: "a cache", headers: []string{"Via", "1.1 varnish"}},
		{name: "nginx", headers: []string{"X-Real-IP", "127.0.0.1"}},
		{name: "nginx as it comes", proto: -1},
		{name: "another site", headers: []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
		{name: "another site, to read", headers: []string{"Sec-Fetch-Site", "cross-site"}},
		{name: "another server of this host", headers: []string{"Origin", "http://127.0.0.1:3000", "Sec-Fetch-Site", "same-site"}},
		{name: "another server, of an old browser", headers: []string{"Origin", "http://127.0.0.1:3000"}},
		{name: "a page without an origin", headers: []string{"Origin", "null"}},
		{name: "an empty origin", headers: []string{"Origin", ""}},
		{name: "two origins", headers: []string{"Origin", "http://127.0.0.1:8000", "Origin", "https://evil.example"}},
		{name: "ours by TLS, which we do not speak", headers: []string{"Origin", "https://127.0.0.1:8000"}},
		{name: "two sites", headers: []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}},
		{name: "a rebound page", host: "evil.example:8000", headers: []string{"Origin", "http://evil.example:8000", "Sec-Fetch-Site", "same-origin"}},
	} {
		r := httptest.NewRequest(http.MethodPost, "/admin/dead-letters/1/replay", nil)
		r.Host, r.RemoteAddr = or(tt.host, here), or(tt.peer, "127.0.0.1:40000")
		r.ProtoMinor = 1 + tt.proto
		for i := 0; i < len(tt.headers); i += 2 {
			r.Header.Add(tt.headers[i], tt.headers[i+1])
		}
		local, err := net.ResolveTCPAddr("tcp", or(tt.local, here))
		if err != nil {
			t.Fatal(err)
		}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		if got := straightFromHere(r); got != tt.want {
			t.Errorf("%s: let in: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
