package httpapi

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

// maxRefusedHosts bounds the refused hosts in memory, which are logged once.
const maxRefusedHosts = 64

var errForeignHost = &apiError{code: "foreign_host", message: "this server does not answer to this host name; its operator can add the name to http.allowed_hosts"}

// hosts decides about the Host header of a request. A page of another site that lets its own name
// point to this server (DNS rebinding) would otherwise be one of our own pages for the browser.
// See docs/decisions/hosts.md. It is safe for concurrent use.
type hosts struct {
	any      bool            // "*" is allowed.
	listed   bool            // http.allowed_hosts is not empty.
	names    map[string]bool // Of http.allowed_hosts and http.allowed_origins.
	suffixes []string        // ".example.org" for "*.example.org".
	machine  string          // The name of this machine.
	proxies  proxies

	accepted rate.Sometimes // One line about hosts from proxies.
	mu       sync.Mutex
	refused  map[string]bool // Already logged.
}

func newHosts(cfg HTTPConfig) *hosts {
	h := &hosts{
		listed:  len(cfg.AllowedHosts) > 0,
		names:   map[string]bool{},
		proxies: newProxies(cfg.TrustedProxies),
		refused: map[string]bool{},
	}
	h.accepted.First = 1
	for _, text := range cfg.AllowedHosts {
		if text == "*" {
			h.any = true
		} else if under, wild := strings.CutPrefix(text, "*."); wild {
			name, _, _ := canonicalHost(under, "")
			h.suffixes = append(h.suffixes, "."+name)
		} else if name, ok := parseHost(text); ok {
			h.names[name] = true
		}
	}
	for _, text := range cfg.AllowedOrigins { // Its owner may use this server anyway.
		if o, err := parseOrigin(text); err == nil {
			h.names[o.host] = true
		}
	}
	if name, err := os.Hostname(); err == nil {
		h.machine, _, _ = canonicalHost(name, "")
	}
	return h
}

// CheckHost returns nil if text is valid in http.allowed_hosts, or an error with the fix, which
// continues the sentence that starts with the text.
func CheckHost(text string) error {
	const form = `write a name ("chat.example.org"), all names below one ("*.example.org"), an IP address, or "*" for every host`
	if text == "*" {
		return nil
	}
	under, wild := strings.CutPrefix(text, "*.")
	if wild {
		text = under
	}
	name, ok := parseHost(text)
	if ok && !(wild && isIP(name)) {
		return nil
	}
	if name, port, ok := canonicalHost(text, ""); ok && port != "" {
		return errors.New(`is a host with a port; write "` + name + `"`)
	}
	if o, err := parseOrigin(text); err == nil {
		return errors.New(`is an origin; write "` + o.host + `"`)
	}
	return errors.New("is no host; " + form)
}

// parseHost returns the canonical form of a host without a port.
func parseHost(text string) (string, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return addr.String(), true
	}
	name, port, ok := canonicalHost(text, "")
	return name, ok && port == "" && !strings.HasSuffix(text, ":")
}

// allow reports whether a request with this Host header from peer to the address own is accepted, on a
// listener of a loopback address or another one; byProxy is true if only the trusted proxy in between
// speaks for it.
func (h *hosts) allow(host string, peer, own netip.Addr, loopback bool) (ok, byProxy bool) {
	if host == "" {
		return true, false // A health check over HTTP/1.0. Every browser sends the header.
	}
	name, _, valid := canonicalHost(host, "")
	switch {
	case h.any:
		return true, false
	case !valid:
		return false, false
	case h.names[name], slices.ContainsFunc(h.suffixes, func(s string) bool { return strings.HasSuffix(name, s) }), isLoopbackName(name):
		return true, false
	case loopback:
		return false, false
	case isIP(name), name == h.machine, isPrivateName(name):
		return true, false // No stranger can make such a name point here.
	case h.listed:
		return false, false
	case h.proxies.trust(peer):
		return true, true
	}
	return isPublic(peer) && !sameNetwork(peer, own), false
}

func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// isLoopbackName reports whether name can only be this machine.
func isLoopbackName(name string) bool {
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && addr.Unmap().IsLoopback()
}

// privateDomains are never in the public DNS (RFC 6761, 6762 appendix G, 8375; ICANN for internal).
var privateDomains = []string{".local", ".lan", ".home", ".home.arpa", ".internal", ".intranet", ".private", ".corp", ".localdomain"}

// isPrivateName reports whether name cannot exist in the public DNS.
func isPrivateName(name string) bool {
	return !strings.Contains(name, ".") || slices.ContainsFunc(privateDomains, func(d string) bool { return strings.HasSuffix(name, d) })
}

// carrierNAT is the shared address space of RFC 6598, also of overlay networks.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// isPublic reports whether addr is one of the Internet.
func isPublic(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !carrierNAT.Contains(addr)
}

// sameNetwork reports whether a and b are IPv6 addresses of one network: there the addresses of a LAN are
// public ones.
func sameNetwork(a, b netip.Addr) bool {
	return a.Is6() && b.Is6() && netip.PrefixFrom(a, 64).Contains(b)
}

// check is the middleware for all routes but those of health, which tell nothing.
func (h *hosts) check(e *endpoint) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			ok, byProxy := h.allow(r.Host, peerAddress(r), ownAddress(r), e.loopback)
			switch path := c.Path(); {
			case byProxy:
				h.accepted.Do(func() {
					e.log.Info("host accepted from a trusted proxy; to refuse all other hosts, list yours in http.allowed_hosts", "host", clip(r.Host))
				})
			case !ok && path != "/healthz" && path != "/readyz":
				h.logRefused(e, r)
				return errForeignHost
			}
			return next(c)
		}
	}
}

// logRefused logs each refused host once, as long as there are few.
func (h *hosts) logRefused(e *endpoint, r *http.Request) {
	host := clip(r.Host)
	h.mu.Lock()
	known := h.refused[host]
	if !known && len(h.refused) >= maxRefusedHosts {
		clear(h.refused)
	}
	h.refused[host] = true
	h.mu.Unlock()
	if !known {
		e.noted.log(e.log, slog.LevelWarn, "host", peerAddress(r).String(), "host refused; if users or a proxy reach this server by that name, add it to http.allowed_hosts",
			slog.String("host", host))
	}
}

// isLoopbackListener reports whether only this machine can reach l.
func isLoopbackListener(l net.Listener) bool {
	addr, err := netip.ParseAddrPort(l.Addr().String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}
