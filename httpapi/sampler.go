package httpapi

import (
	"context"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

const (
	// Log lines of one kind that strangers can cause: at once, and the time between two more.
	sampledBurst = 10
	sampledEvery = 5 * time.Second
	// maxLogged bounds the text of a stranger in a log line, in bytes.
	maxLogged = 128
)

// sampler logs events that strangers can cause as often as they like: a few lines of each kind at once,
// then one every few seconds, with the number of suppressed ones. The zero value is good.
type sampler struct {
	mu    sync.Mutex
	kinds map[string]*sampled // The kinds are those of the program: there are few.
}

type sampled struct {
	limiter    *rate.Limiter
	suppressed int
}

// log logs one event of a kind. The attributes are as those of slog; text in them is shortened.
func (s *sampler) log(log *slog.Logger, level slog.Level, kind, msg string, attrs ...slog.Attr) {
	if !log.Enabled(context.Background(), level) {
		return
	}
	s.mu.Lock()
	k := s.kinds[kind]
	if k == nil {
		if s.kinds == nil {
			s.kinds = make(map[string]*sampled)
		}
		k = &sampled{limiter: rate.NewLimiter(rate.Every(sampledEvery), sampledBurst)}
		s.kinds[kind] = k
	}
	if !k.limiter.Allow() {
		k.suppressed++
		s.mu.Unlock()
		return
	}
	suppressed := k.suppressed
	k.suppressed = 0
	s.mu.Unlock()
	for i := range attrs {
		if attrs[i].Value.Kind() == slog.KindString {
			attrs[i].Value = slog.StringValue(clip(attrs[i].Value.String()))
		}
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	log.LogAttrs(context.Background(), level, msg, attrs...)
}

// clip shortens text of a stranger for the log. The handlers of slog escape it.
func clip(text string) string {
	if len(text) <= maxLogged {
		return text
	}
	cut := maxLogged
	for cut > maxLogged-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// limitKeys are the settings of the limits of an address, by what it has too many of.
var limitKeys = map[string]string{
	"connections":      "edge.upgrade_rate, edge.upgrade_burst",
	"open connections": "http.max_connections_per_address",
	"messages":         "edge.address_rate, edge.address_burst",
	"bytes":            "edge.address_bytes",
	"sign-ins":         "edge.sign_in_rate, edge.sign_in_burst",
}

// limited counts and logs that an address has had too many of something. If a proxy is not one of
// http.trusted_proxies, its address is that of all its clients: the line says so.
func (e *endpoint) limited(what, user, address string) {
	e.limits.WithLabelValues(what).Inc()
	attrs := []slog.Attr{slog.String("of", what), slog.String("address", address)}
	if user != "" {
		attrs = append(attrs, slog.String("user", user))
	}
	if keys := limitKeys[what]; keys != "" {
		attrs = append(attrs, slog.String("settings", keys))
	}
	e.noted.log(e.log, slog.LevelWarn, "limited "+what, "address over a limit; if it is your proxy, add it to http.trusted_proxies", attrs...)
}

// logClosed logs the end of a session that the server closed for a reason other than its own stop.
func (s *Server) logClosed(user, address string, code int, reason string) {
	switch code {
	case 0, closeRestart, closeGoingAway, closeNoStatus, 1000:
		return
	}
	label := closeLabel(code)
	s.noted.log(s.log, slog.LevelInfo, "closed "+label, "session closed", slog.String("user", user),
		slog.String("address", address), slog.String("code", label), slog.String("reason", reason))
}

// logSignIn logs a sign-in.
func (s *Server) logSignIn(user, address string) {
	s.noted.log(s.log, slog.LevelInfo, "signed in", "signed in", slog.String("user", user), slog.String("address", address))
}

// logRefused logs a refused sign-in or session.
func (s *Server) logRefused(c echo.Context, user string, err error) {
	e := asAPIError(err)
	s.noted.log(s.log, slog.LevelWarn, "refused "+e.code, "refused", slog.String("user", user), slog.String("address", c.RealIP()),
		slog.String("path", c.Request().URL.Path), slog.String("code", e.code), slog.String("reason", e.message))
}
