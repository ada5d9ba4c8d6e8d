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
func parseNetwork(text string) (*net.IPNet, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("%q is not an address", text)
		}
		text = netip.PrefixFrom(addr, addr.BitLen()).String()
	}
	_, network, err := net.ParseCIDR(text)
	return network, err
}

// clientAddress returns what tells the address of who asks: the peer's, or if that is one of
// http.trusted_proxies, whom it asks for.
func (s *Server) clientAddress() echo.IPExtractor {
	var trusted []*net.IPNet
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, raw := range s.cfg.HTTP.TrustedProxies {
		network, _ := parseNetwork(raw) // No error: withDefaults has checked it.
		trusted = append(trusted, network)
		options = append(options, echo.TrustIPRange(network))
	}
	direct, forwarded := echo.ExtractIPDirect(), echo.ExtractIPFromXFFHeader(options...)
	hint := &rate.Sometimes{First: 1, Interval: time.Hour}
	return func(r *http.Request) string {
		if r.Header[echo.HeaderXForwardedFor] == nil {
			return direct(r)
		}
		// A proxy that is not trusted makes all its clients one address, which is hard to find out.
		// One has a private address, mostly; what others write is not worth a line.
		peer := net.ParseIP(direct(r))
		if (peer.IsPrivate() || peer.IsLoopback()) && !slices.ContainsFunc(trusted, func(n *net.IPNet) bool { return n.Contains(peer) }) {
			hint.Do(func() {
				s.log.Warn("X-Forwarded-For is not believed; if this is your proxy, add it to http.trusted_proxies", "from", peer.String())
			})
		}
		return forwarded(r)
	}
}
