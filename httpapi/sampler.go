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
	// Warnings of one kind that one address can cause: at once, and the time between two more.
	sampledBurst = 10
	sampledEvery = 5 * time.Second
	// Lines of a kind below the level of a warning: each sign-in within the default limits has its line.
	infoBurst = 100
	infoEvery = time.Second
	// Lines of one kind for all addresses together: at once, and per second.
	kindBurst = 500
	kindRate  = 10
	// maxLogged bounds the text of a stranger in a log line, in bytes.
	maxLogged = 128
)

// sampler logs events that strangers can cause as often as they like: a few lines of each kind and
// address at once, then one every few seconds, with the number of suppressed ones of the kind. One address
// does not suppress the lines of another. The zero value is good.
type sampler struct {
	mu    sync.Mutex
	kinds map[string]*sampled // The kinds are those of the program: there are few.
}

type sampled struct {
	hosts      *hostLimiter
	all        *rate.Limiter
	suppressed int
}

// log logs one event of a kind that address has caused. Text in the attributes is shortened.
func (s *sampler) log(log *slog.Logger, level slog.Level, kind, address, msg string, attrs ...slog.Attr) {
	if !log.Enabled(context.Background(), level) {
		return
	}
	s.mu.Lock()
	k := s.kinds[kind]
	if k == nil {
		if s.kinds == nil {
			s.kinds = make(map[string]*sampled)
		}
		every, burst := sampledEvery, sampledBurst
		if level < slog.LevelWarn {
			every, burst = infoEvery, infoBurst
		}
		k = &sampled{hosts: newHostLimiter(1/every.Seconds(), burst), all: rate.NewLimiter(kindRate, kindBurst)}
		s.kinds[kind] = k
	}
	if now := time.Now(); k.hosts.take(address, now) > 0 || !k.all.AllowN(now, 1) {
		k.suppressed++
		s.mu.Unlock()
		return
	}
	suppressed := k.suppressed
	k.suppressed = 0
	s.mu.Unlock()
	attrs = append(attrs, slog.String("address", address))
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
	attrs := []slog.Attr{slog.String("of", what)}
	if user != "" {
		attrs = append(attrs, slog.String("user", user))
	}
	if keys := limitKeys[what]; keys != "" {
		attrs = append(attrs, slog.String("settings", keys))
	}
	e.noted.log(e.log, slog.LevelWarn, "limited "+what, address, "address over a limit; if it is your proxy, add it to http.trusted_proxies", attrs...)
}

// limitedUser logs that a user has sent too much.
func (s *Server) limitedUser(user, address, reason string) {
	s.noted.log(s.log, slog.LevelWarn, "limited user", address, "user over a limit", slog.String("user", user),
		slog.String("reason", reason), slog.String("settings", "edge.rate, edge.burst"))
}

// logClosed logs the end of a session, at level debug if it is an ordinary one.
func (s *Server) logClosed(user, address string, code int, reason string) {
	label := closeLabel(code)
	switch code {
	case 0, closeRestart, closeGoingAway, closeNoStatus, 1000:
		s.log.Debug("session closed", "user", user, "address", address, "code", label)
		return
	}
	s.noted.log(s.log, slog.LevelInfo, "closed "+label, address, "session closed", slog.String("user", user),
		slog.String("code", label), slog.String("reason", reason))
}

// logSignIn logs a sign-in.
func (s *Server) logSignIn(user, address string) {
	s.noted.log(s.log, slog.LevelInfo, "signed in", address, "signed in", slog.String("user", user))
}

// userKey is the key of the asserted name in the context of a request.
const userKey = "user"

// loggedRefusals are the codes of the errors that are logged: who may not be here, or not by that name.
// Limits, hosts and the admin token have lines of their own.
var loggedRefusals = map[string]bool{
	"no_session": true, "invalid_token": true, "foreign_origin": true, "forbidden": true, "full": true,
	"invalid_client_id": true, "invalid_name": true, "name_taken": true, "too_many_names": true,
}

// logRefused logs the refusal of a sign-in, a session or a request.
func (e *endpoint) logRefused(c echo.Context, bad *apiError) {
	if loggedRefusals[bad.code] {
		user, _ := c.Get(userKey).(string) // Empty if the request asserts no name.
		e.logRefusal(user, c.RealIP(), c.Request().URL.Path, bad)
	}
}

func (e *endpoint) logRefusal(user, address, path string, bad *apiError) {
	e.noted.log(e.log, slog.LevelWarn, "refused "+bad.code, address, "refused", slog.String("user", user),
		slog.String("path", path), slog.String("code", bad.code), slog.String("reason", bad.message))
}
