package httpapi

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyTrustedProxiesAreBelieved(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trusted string // Default that of the configuration.
		peer    string
		headers []string // X-Forwarded-For.
		want    string
		hint    bool
	}{
		{name: "no proxy", peer: "203.0.113.1:4", want: "203.0.113.1"},
		{name: "a proxy on this host", peer: "127.0.0.1:4", headers: []string{"203.0.113.1"}, want: "203.0.113.1"},
		{name: "by IPv6", peer: "[::1]:4", headers: []string{"2001:db8::1"}, want: "2001:db8::1"},
		{name: "by IPv4 in IPv6", peer: "[::ffff:127.0.0.1]:4", headers: []string{"203.0.113.1"}, want: "203.0.113.1"},
		{name: "a stranger who forges", peer: "203.0.113.1:4", headers: []string{"198.51.100.7"}, want: "203.0.113.1"},
		{name: "a stranger who forges our proxy", peer: "203.0.113.1:4", headers: []string{"198.51.100.7, 127.0.0.1"}, want: "203.0.113.1"},
		{name: "a stranger before our proxy who forges", peer: "127.0.0.1:4", headers: []string{"198.51.100.7, 203.0.113.1"}, want: "203.0.113.1"},
		{name: "in a line of their own", peer: "127.0.0.1:4", headers: []string{"198.51.100.7", "203.0.113.1"}, want: "203.0.113.1"},
		{name: "who forges this host", peer: "127.0.0.1:4", headers: []string{"127.0.0.1, 203.0.113.1"}, want: "203.0.113.1"},
		{name: "who writes nonsense", peer: "127.0.0.1:4", headers: []string{"nonsense, 203.0.113.1"}, want: "203.0.113.1"},
		{name: "a proxy that writes nonsense", peer: "127.0.0.1:4", headers: []string{"203.0.113.1, nonsense"}, want: "127.0.0.1"},
		{name: "a proxy that writes nothing", peer: "127.0.0.1:4", headers: []string{""}, want: "127.0.0.1"},
		{name: "a neighbour is not believed any more", peer: "10.0.0.7:4", headers: []string{"203.0.113.1"}, want: "10.0.0.7", hint: true},
		{name: "nor one by IPv6", peer: "[fd00::7]:4", headers: []string{"203.0.113.1"}, want: "fd00::7", hint: true},
		{name: "nor a link-local one", peer: "[fe80::7%eth0]:4", headers: []string{"203.0.113.1"}, want: "fe80::7%eth0"},
		{name: "unless the network is named", trusted: "10.0.0.0/8", peer: "10.0.0.7:4", headers: []string{"203.0.113.1"}, want: "203.0.113.1"},
		{name: "or the address", trusted: "10.0.0.7", peer: "10.0.0.7:4", headers: []string{"203.0.113.1"}, want: "203.0.113.1"},
		{name: "and no other", trusted: "10.0.0.7", peer: "10.0.0.8:4", headers: []string{"203.0.113.1"}, want: "10.0.0.8", hint: true},
		{name: "of IPv6", trusted: "fd00::/8", peer: "[fd00::7]:4", headers: []string{"2001:db8::1"}, want: "2001:db8::1"},
		{name: "two proxies", trusted: "10.0.0.0/8,127.0.0.1", peer: "127.0.0.1:4", headers: []string{"198.51.100.7, 203.0.113.1, 10.0.0.7"}, want: "203.0.113.1"},
		{name: "entry with a port", peer: "127.0.0.1:4", headers: []string{"203.0.113.1:54121"}, want: "203.0.113.1"},
		{name: "entry with an empty port", peer: "127.0.0.1:4", headers: []string{"203.0.113.1:"}, want: "203.0.113.1"},
		{name: "IPv6 entry in brackets", peer: "127.0.0.1:4", headers: []string{"[2001:db8::1]"}, want: "2001:db8::1"},
		{name: "IPv6 entry with a port", peer: "127.0.0.1:4", headers: []string{"[2001:DB8:0::1]:54121"}, want: "2001:db8::1"},
		{name: "IPv4 in IPv6 entry with a port", peer: "127.0.0.1:4", headers: []string{"[::ffff:203.0.113.1]:54121"}, want: "203.0.113.1"},
		{name: "spaces and tabs", peer: "127.0.0.1:4", headers: []string{" 198.51.100.7 ,\t 203.0.113.1:1 "}, want: "203.0.113.1"},
		{name: "quotes", peer: "127.0.0.1:4", headers: []string{`"[2001:db8::1]:54121"`}, want: "2001:db8::1"},
		{name: "empty entries", peer: "127.0.0.1:4", headers: []string{"203.0.113.1,, ", ""}, want: "203.0.113.1"},
		{name: "two proxies with ports", trusted: "10.0.0.0/8,127.0.0.1", peer: "127.0.0.1:4", headers: []string{"203.0.113.1:9, [::ffff:10.0.0.7]:80"}, want: "203.0.113.1"},
		{name: "proxies only", trusted: "10.0.0.0/8,127.0.0.1", peer: "127.0.0.1:4", headers: []string{"10.0.0.9, 10.0.0.7"}, want: "10.0.0.9"},
		{name: "IPv4 proxy named as IPv6", trusted: "::ffff:10.0.0.0/104", peer: "10.0.0.7:4", headers: []string{"203.0.113.1"}, want: "203.0.113.1"},
		{name: "unknown", peer: "127.0.0.1:4", headers: []string{"unknown"}, want: "127.0.0.1"},
		{name: "obfuscated", peer: "127.0.0.1:4", headers: []string{"203.0.113.1, _hidden"}, want: "127.0.0.1"},
		{name: "unknown before the client", peer: "127.0.0.1:4", headers: []string{"unknown, 203.0.113.1"}, want: "203.0.113.1"},
		{name: "port only", peer: "127.0.0.1:4", headers: []string{":54121"}, want: "127.0.0.1"},
		{name: "nobody", trusted: "-", peer: "127.0.0.1:4", headers: []string{"203.0.113.1"}, want: "127.0.0.1", hint: true},
	} {
		var said bytes.Buffer
		settings := DefaultHTTPConfig()
		switch tt.trusted {
		case "":
		case "-":
			settings.TrustedProxies = nil
		default:
			settings.TrustedProxies = strings.Split(tt.trusted, ",")
		}
		address := newEndpoint(settings, slog.New(slog.NewTextHandler(&said, nil)), nil).clientAddress()
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.peer
		r.Header.Set("X-Real-IP", "192.0.2.99") // Never.
		for _, h := range tt.headers {
			r.Header.Add("X-Forwarded-For", h)
		}
		for range 3 {
			if got := address(r); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
		}
		if got := strings.Count(said.String(), "http.trusted_proxies"); got > 1 || (got == 1) != tt.hint {
			t.Errorf("%s: said %q", tt.name, said.String())
		}
	}
}

func TestValidProxy(t *testing.T) {
	for text, want := range map[string]bool{
		"10.0.0.7": true, "10.0.0.0/8": true, "::1": true, "fd00::/8": true, "0.0.0.0/0": true,
		"": false, "localhost": false, "10.0.0.0/33": false, "10.0.0": false, "*": false, "fe80::1%eth0": false, "10.0.0.7:80": false, "/8": false,
	} {
		if got := ValidProxy(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	cfg := DefaultConfig()
	cfg.HTTP.TrustedProxies = []string{"proxy"}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), `http.trusted_proxies: "proxy"`) {
		t.Errorf("New: %v", err)
	}
}

func TestAddress_LogsUnreadableEntriesOnce(t *testing.T) {
	for _, tt := range []struct {
		name, header, value, peer, want string
	}{
		{"no address", "X-Forwarded-For", "unknown", "127.0.0.1:4", "entry=unknown"},
		{"a stranger's header", "X-Forwarded-For", "unknown", "203.0.113.1:4", ""},
		{"an address with a port", "X-Forwarded-For", "203.0.113.1:54121", "127.0.0.1:4", ""},
		{"the standard header alone", "Forwarded", "for=203.0.113.1", "127.0.0.1:4", "X-Forwarded-For"},
		{"the standard header of a stranger", "Forwarded", "for=203.0.113.1", "203.0.113.7:4", ""},
	} {
		var said bytes.Buffer
		e := newEndpoint(DefaultHTTPConfig(), slog.New(slog.NewTextHandler(&said, nil)), nil)
		address := e.clientAddress()
		for range 100 {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			r.Header.Set(tt.header, tt.value)
			address(r)
		}
		lines := strings.Count(said.String(), "\n")
		if (tt.want == "") != (lines == 0) || lines > 1 || !strings.Contains(said.String(), tt.want) {
			t.Errorf("%s: %d lines: %s", tt.name, lines, said.String())
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, line := range []string{"203.0.113.1:54121", "[2001:db8::1]:1, 127.0.0.1", "unknown", `"_x"`, ",,,", "fe80::1%eth0", "1.2.3.4:"} {
		f.Add(line, line)
	}
	peer, trusted := netip.MustParseAddr("127.0.0.1"), newProxies([]string{"127.0.0.0/8", "::1"})
	f.Fuzz(func(t *testing.T, first, second string) {
		addr, bad := trusted.client(peer, []string{first, second})
		if !addr.IsValid() || addr.Is4In6() || bad != "" && addr != peer {
			t.Errorf("%q, %q: %v, %q", first, second, addr, bad)
		}
		for _, client := range []string{"203.0.113.1", "203.0.113.1:54121", "2001:db8::1", "[2001:db8::1]:54121"} {
			want, _ := parseHop(client)
			if got, bad := trusted.client(peer, []string{first, second, client}); got != want || bad != "" {
				t.Errorf("%q, %q, %q: %v, %q", first, second, client, got, bad)
			}
		}
	})
}
