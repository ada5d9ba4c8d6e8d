package httpapi

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// origin is a web origin in canonical form: lower case, punycode, no final dot, no default port.
// Equal origins are ==.
type origin struct{ scheme, host, port string }

// CheckOrigin returns nil if text is valid in http.allowed_origins, or an error with the
// fix, which continues the sentence that starts with the text.
func CheckOrigin(text string) error {
	if text == "*" {
		return nil
	}
	_, err := parseOrigin(text)
	return err
}

// parseOrigin returns the origin of text: a scheme and a host, a port if any, and nothing else
// except a final slash.
func parseOrigin(text string) (origin, error) {
	const form = `write "https://host", "https://host:port", or "*" for every origin`
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || strings.ContainsAny(text, " \t\r\n"):
		return origin{}, errors.New("is no origin; " + form)
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		return origin{}, errors.New("is no origin of a page: the scheme is neither http nor https; " + form)
	case strings.Contains(u.Host, "*"):
		return origin{}, errors.New(`is no origin: "*" cannot stand for a part of a host; list each origin`)
	}
	scheme := strings.ToLower(u.Scheme)
	host, port, ok := canonicalHost(u.Host, scheme)
	if !ok {
		return origin{}, errors.New("is no origin: the host or port is not valid; " + form)
	}
	o := origin{scheme, host, port}
	if u.User != nil || u.Path != "" && u.Path != "/" || strings.ContainsAny(text, "?#") {
		return origin{}, errors.New("is no origin, which ends after the host and port; write " + strconv.Quote(o.String()))
	}
	return o, nil
}

// String returns o as a browser writes it.
func (o origin) String() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port != "" {
		host += ":" + o.port
	}
	return o.scheme + "://" + host
}

// canonicalHost splits a Host header or the host of a URL. The port is empty if it is the scheme's
// default.
func canonicalHost(text, scheme string) (host, port string, ok bool) {
	host = text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:i], text[i+1:]
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '+' {
			return "", "", false
		}
		port = strconv.FormatUint(n, 10)
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	if inner, bracket := strings.CutPrefix(host, "["); bracket {
		inner, bracket = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !bracket || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", "", false
		}
		return addr.String(), port, true
	}
	host = strings.TrimSuffix(host, ".")
	if strings.ContainsFunc(host, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", "", false
		}
		host = ascii
	}
	host = strings.ToLower(host)
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	if host == "" || len(host) > 253 || strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") || strings.ContainsFunc(host, bad) {
		return "", "", false
	}
	return host, port, true
}

// isHost reports whether host, a Host header, names the host and port of o.
func (o origin) isHost(host string) bool {
	name, port, ok := canonicalHost(host, o.scheme)
	return ok && name == o.host && port == o.port
}

// originAllowed reports whether the page behind r may use this server: a page of this server, or of
// one of http.allowed_origins. Only browsers send Origin: a request without it passes.
func (s *Server) originAllowed(r *http.Request) bool {
	lines := r.Header["Origin"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) == 1 {
		o, err := parseOrigin(lines[0])
		if err == nil && (s.ownOrigin(o, r) || s.listed(o)) || slices.Contains(s.cfg.HTTP.AllowedOrigins, "*") {
			return true
		}
	}
	s.logOrigin.Do(func() {
		s.log.Warn("origin refused: Origin does not match Host; if this is your own page, make the proxy forward Host "+
			"(nginx: proxy_set_header Host $http_host); if it is another site's page, add its origin to http.allowed_origins",
			"origin", clip(strings.Join(lines, ", ")), "host", clip(r.Host), "path", clip(r.URL.Path), "address", s.clientAddress()(r))
	})
	return false
}

// ownOrigin reports whether o is the origin of this server's own page. Behind a proxy without
// X-Forwarded-Proto the page's scheme is unknown: then either passes.
func (s *Server) ownOrigin(o origin, r *http.Request) bool {
	return o.isHost(r.Host) && (o.scheme == "https" || !s.proxies.tls(r))
}

// listed reports whether o is one of http.allowed_origins by name.
func (s *Server) listed(o origin) bool {
	for _, text := range s.cfg.HTTP.AllowedOrigins {
		if allowed, err := parseOrigin(text); err == nil && allowed == o {
			return true
		}
	}
	return false
}
