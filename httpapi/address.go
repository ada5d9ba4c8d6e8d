package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

// ValidProxy reports whether text can be one of http.trusted_proxies: an address or a network.
func ValidProxy(text string) bool {
	_, err := parseNetwork(text)
	return err == nil
}

// parseNetwork returns the network that text names, or the one of a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		network, err := netip.ParsePrefix(text)
		if err == nil && network.Addr().Is4In6() && network.Bits() >= 96 {
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
		}
		return network.Masked(), err
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an address", text)
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// proxies are the networks of http.trusted_proxies.
type proxies []netip.Prefix

// newProxies returns the networks of list, which withDefaults has checked.
func newProxies(list []string) proxies {
	var all proxies
	for _, text := range list {
		if network, err := parseNetwork(text); err == nil {
			all = append(all, network)
		}
	}
	return all
}

// trust reports whether addr is one of the proxies.
func (p proxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(addr.WithZone("")) })
}

// tls reports whether the browser is known to use TLS: with this server, or with a trusted proxy.
func (p proxies) tls(r *http.Request) bool {
	return r.TLS != nil || isHTTPS(r) && p.trust(peerAddress(r))
}

// peerAddress returns the address of the other end of the connection.
func peerAddress(r *http.Request) netip.Addr {
	addr, _ := parseHop(r.RemoteAddr)
	return addr
}

// ownAddress returns the address of this end of the connection.
func ownAddress(r *http.Request) netip.Addr {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := parseHop(at.String())
	return addr.WithZone("")
}

// parseHop returns the address in one entry of X-Forwarded-For: with or without a port, brackets or
// quotes. It fails for "unknown" and other names.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t\"")
	if addr, err := netip.ParseAddrPort(text); err == nil {
		return addr.Addr().Unmap(), true
	}
	if inner, bracket := strings.CutPrefix(text, "["); bracket {
		text, _ = strings.CutSuffix(strings.TrimSuffix(inner, ":"), "]")
	} else if before, colon := strings.CutSuffix(text, ":"); colon && !strings.Contains(before, ":") {
		text = before // An IPv4 address with an empty port.
	}
	addr, err := netip.ParseAddr(text)
	return addr.Unmap(), err == nil
}

// client returns the address of the client behind peer: the last entry of X-Forwarded-For, in lines,
// that is no trusted proxy. It returns peer and the entry if that is no address.
func (p proxies) client(peer netip.Addr, lines []string) (addr netip.Addr, bad string) {
	addr = peer
	if !p.trust(peer) {
		return peer, ""
	}
	for _, line := range slices.Backward(lines) {
		for more := true; more; {
			var hop string
			i := strings.LastIndexByte(line, ',')
			if more = i >= 0; more {
				line, hop = line[:i], line[i+1:]
			} else {
				hop = line
			}
			if strings.Trim(hop, " \t") == "" {
				continue // Of an empty line, or between two commas.
			}
			next, ok := parseHop(hop)
			if !ok {
				return peer, clip(hop)
			}
			if addr = next.WithZone(""); !p.trust(addr) {
				return addr, ""
			}
		}
	}
	return addr, ""
}

// clientAddress returns the function for the address of a request's client: the peer's, or if that is
// one of http.trusted_proxies, the one in its X-Forwarded-For.
func (e *endpoint) clientAddress() echo.IPExtractor {
	trusted := e.proxies
	once := func() *rate.Sometimes { return &rate.Sometimes{First: 1, Interval: time.Hour} }
	untrusted, unreadable, unsupported := once(), once(), once()
	return func(r *http.Request) string {
		lines := r.Header[echo.HeaderXForwardedFor]
		peer := peerAddress(r)
		addr, bad := trusted.client(peer, lines)
		switch {
		case bad != "":
			unreadable.Do(func() {
				e.log.Warn("X-Forwarded-For ignored: an entry is no address, and clients of this proxy share its limits; "+
					"make the proxy send addresses (nginx: proxy_set_header X-Forwarded-For $remote_addr)", "entry", bad, "from", peer)
			})
		case len(lines) > 0 && !trusted.trust(peer) && (peer.IsPrivate() || peer.IsLoopback()):
			// Clients behind an untrusted proxy share its limits. A proxy mostly has a private address; a
			// header from any other peer is not worth a line.
			untrusted.Do(func() {
				e.log.Warn("X-Forwarded-For ignored: if the peer is your proxy, add it to http.trusted_proxies", "from", peer)
			})
		case len(lines) == 0 && r.Header["Forwarded"] != nil && trusted.trust(peer):
			unsupported.Do(func() {
				e.log.Warn("Forwarded ignored: make the proxy send X-Forwarded-For", "from", peer)
			})
		}
		if !addr.IsValid() {
			return r.RemoteAddr // No TCP.
		}
		return addr.String()
	}
}
