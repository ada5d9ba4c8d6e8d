package httpapi

import (
	"net/netip"
	"strings"
	"testing"
)

const (
	local  = "127.0.0.1"
	lan    = "192.168.1.7"
	public = "203.0.113.9"
)

func TestHosts_Allow(t *testing.T) {
	for _, tt := range []struct {
		name     string
		host     string
		peer     string
		own      string // Default no address.
		loopback bool
		hosts    string // http.allowed_hosts.
		proxies  string // http.trusted_proxies; default that of the configuration.
		want     bool
		byProxy  bool
	}{
		{name: "a program", host: "127.0.0.1:8000", peer: local, loopback: true, want: true},
		{name: "another loopback address", host: "127.9.9.9", peer: local, loopback: true, want: true},
		{name: "IPv6", host: "[::1]:8000", peer: "::1", loopback: true, want: true},
		{name: "IPv4 in IPv6", host: "[::ffff:127.0.0.1]:8000", peer: local, loopback: true, want: true},
		{name: "localhost", host: "LocalHost.:8000", peer: local, loopback: true, want: true},
		{name: "below localhost", host: "chat.localhost", peer: local, loopback: true, want: true},
		{name: "no Host", peer: local, loopback: true, want: true},
		{name: "rebinding", host: "evil.example:8000", peer: local, loopback: true},
		{name: "a name with a loopback address in it", host: "127.0.0.1.evil.example", peer: local, loopback: true},
		{name: "a name with localhost in it", host: "localhost.evil.example:8000", peer: local, loopback: true},
		{name: "a name that ends like localhost", host: "evillocalhost", peer: local, loopback: true},
		{name: "one label", host: "evil", peer: local, loopback: true},
		{name: "a short address", host: "127.1", peer: local, loopback: true},
		{name: "an address as a number", host: "2130706433", peer: local, loopback: true},
		{name: "all addresses", host: "0.0.0.0:8000", peer: local, loopback: true},
		{name: "another address", host: "192.168.1.5", peer: local, loopback: true},
		{name: "a user", host: "127.0.0.1:8000@evil.example", peer: local, loopback: true},
		{name: "a port that is none", host: "localhost:evil", peer: local, loopback: true},
		{name: "two names", host: "localhost, evil.example", peer: local, loopback: true},
		{name: "a zone", host: "[::1%eth0]:8000", peer: local, loopback: true},
		{name: "a long name", host: strings.Repeat("a.", 5000) + "localhost", peer: local, loopback: true},
		{name: "a listed name", host: "Chat.Example.org.:8443", peer: local, loopback: true, hosts: "chat.example.org", want: true},
		{name: "below a listed name", host: "a.chat.example.org", peer: local, loopback: true, hosts: "chat.example.org"},
		{name: "a wildcard", host: "a.b.example.org", peer: local, loopback: true, hosts: "*.example.org", want: true},
		{name: "the wildcard's own name", host: "example.org", peer: local, loopback: true, hosts: "*.example.org"},
		{name: "a name that ends like the wildcard", host: "evilexample.org", peer: local, loopback: true, hosts: "*.example.org"},
		{name: "a listed name in Unicode", host: "xn--bcher-kva.example", peer: local, loopback: true, hosts: "bücher.example", want: true},
		{name: "a listed address", host: "192.0.2.7:80", peer: local, loopback: true, hosts: "192.0.2.7", want: true},
		{name: "a listed IPv6 address", host: "[2001:DB8:0::7]:80", peer: local, loopback: true, hosts: "2001:db8::7", want: true},
		{name: "all", host: "evil.example", peer: local, loopback: true, hosts: "*", want: true},
		{name: "all, not valid", host: "a b", peer: local, loopback: true, hosts: "*", want: true},
		{name: "loopback beside a list", host: "localhost", peer: local, loopback: true, hosts: "chat.example.org", want: true},

		{name: "LAN by address", host: "192.168.1.5:8000", peer: lan, want: true},
		{name: "LAN by IPv6", host: "[fd00::5]:8000", peer: "fd00::7", want: true},
		{name: "LAN by one label", host: "chat:8000", peer: lan, want: true},
		{name: "LAN by mDNS", host: "chat.local", peer: lan, want: true},
		{name: "Kubernetes", host: "burrow.default.svc.cluster.local:8000", peer: "10.0.0.7", want: true},
		{name: "rebinding on a LAN", host: "evil.example:8000", peer: lan},
		{name: "rebinding on a LAN, IPv6", host: "evil.example", peer: "fd00::7"},
		{name: "rebinding, link-local", host: "evil.example", peer: "fe80::7%eth0"},
		{name: "rebinding in an overlay network", host: "evil.example", peer: "100.64.0.7"},
		{name: "rebinding with a short address", host: "127.1", peer: lan},
		{name: "a listed name on a LAN", host: "chat.example.org", peer: lan, hosts: "chat.example.org", want: true},
		{name: "an address beside a list", host: "192.168.1.5", peer: lan, hosts: "chat.example.org", want: true},
		{name: "a visitor", host: "chat.example.org", peer: public, want: true},
		{name: "a visitor by IPv6", host: "chat.example.org", peer: "2001:db8::9", want: true},
		{name: "a visitor to an IPv6 address", host: "chat.example.org", peer: "2001:db8:0:9::9", own: "2001:db8::5", want: true},
		{name: "rebinding on a LAN, public IPv6", host: "evil.example", peer: "2001:db8::9", own: "2001:db8::5"},
		{name: "rebinding on this machine, public IPv6", host: "evil.example", peer: "2001:db8::5", own: "2001:db8::5"},
		{name: "a listed name on a LAN, public IPv6", host: "chat.example.org", peer: "2001:db8::9", own: "2001:db8::5", hosts: "chat.example.org", want: true},
		{name: "a proxy on a LAN, public IPv6", host: "chat.example.org", peer: "2001:db8::9", own: "2001:db8::5", proxies: "2001:db8::9", want: true, byProxy: true},
		{name: "a visitor with another name than listed", host: "evil.example", peer: public, hosts: "chat.example.org"},
		{name: "a proxy on this host", host: "chat.example.org", peer: local, want: true, byProxy: true},
		{name: "a proxy with another name than listed", host: "evil.example", peer: local, hosts: "chat.example.org"},
		{name: "a trusted proxy", host: "chat.example.org", peer: "10.0.0.7", proxies: "10.0.0.0/8", want: true, byProxy: true},
		{name: "an unknown proxy", host: "chat.example.org", peer: "10.0.0.7"},
		{name: "no trusted proxies", host: "evil.example", peer: local, proxies: "-"},
		{name: "no peer", host: "evil.example", peer: ""},
	} {
		cfg := DefaultHTTPConfig()
		if tt.hosts != "" {
			cfg.AllowedHosts = strings.Split(tt.hosts, ",")
		}
		switch tt.proxies {
		case "":
		case "-":
			cfg.TrustedProxies = nil
		default:
			cfg.TrustedProxies = strings.Split(tt.proxies, ",")
		}
		h := newHosts(cfg)
		h.machine = "machine.example"
		peer, _ := netip.ParseAddr(tt.peer)
		own, _ := netip.ParseAddr(tt.own)
		if ok, byProxy := h.allow(tt.host, peer, own, tt.loopback); ok != tt.want || byProxy != tt.byProxy {
			t.Errorf("%s: %v %v, want %v %v", tt.name, ok, byProxy, tt.want, tt.byProxy)
		}
	}
	h := newHosts(HTTPConfig{AllowedOrigins: []string{"https://app.example", "*"}})
	h.machine = "machine.example"
	for host, want := range map[string]bool{"app.example": true, "machine.example:8000": true, "evil.example": false} {
		if ok, _ := h.allow(host, netip.MustParseAddr(lan), netip.Addr{}, false); ok != want {
			t.Errorf("%s with an allowed origin: %v, want %v", host, ok, want)
		}
	}
}

func TestCheckHost(t *testing.T) {
	for text, fix := range map[string]string{
		"chat.example.org": "", "*.example.org": "", "*": "", "192.0.2.7": "", "::1": "", "[::1]": "", "localhost": "", "bücher.example": "",
		"chat.example.org:8443": `write "chat.example.org"`, "[::1]:80": `write "::1"`, "https://chat.example.org": `write "chat.example.org"`,
		"": "is no host", "a b": "is no host", "*.": "is no host", "a.*.org": "is no host", "*.192.0.2.7": "is no host", "chat/x": "is no host",
	} {
		if err := CheckHost(text); (err == nil) != (fix == "") || err != nil && !strings.Contains(err.Error(), fix) {
			t.Errorf("%q: %v, want %q", text, err, fix)
		}
	}
	cfg := DefaultConfig()
	cfg.HTTP.AllowedHosts = []string{"http://x"}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), `http.allowed_hosts: "http://x"`) {
		t.Errorf("New: %v", err)
	}
}

// FuzzHost sends any Host to a loopback address: only loopback names pass.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"localhost:8000", "127.0.0.1", "[::1]:1", "evil.example", "localhost.evil.example:8000", "127.1", "a.localhost."} {
		f.Add(host)
	}
	h := newHosts(DefaultHTTPConfig())
	f.Fuzz(func(t *testing.T, host string) {
		ok, _ := h.allow(host, netip.MustParseAddr(local), netip.Addr{}, true)
		if !ok || host == "" {
			return
		}
		name := strings.ToLower(host)
		if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") {
			name = name[:i]
		}
		name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
		addr, err := netip.ParseAddr(name)
		if name != "localhost" && !strings.HasSuffix(name, ".localhost") && (err != nil || !addr.Unmap().IsLoopback()) && isASCII(host) {
			t.Fatalf("%q passes", host)
		}
	})
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }
