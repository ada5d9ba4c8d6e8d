package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// endpoint is the HTTP address of a node, with or without an edge: the listener, and the errors,
// client addresses and allowed hosts of all routes.
type endpoint struct {
	settings  HTTPConfig
	log       *slog.Logger
	proxies   proxies
	limits    *prometheus.CounterVec
	noted     sampler
	challenge bool        // A 401 asks for a token, in mode jwt.
	draining  atomic.Bool // Set by the start of a shutdown.
	server    *http.Server

	mu       sync.Mutex
	door     *door // Nil before Listen.
	loopback bool  // Only this machine can reach door. Set by Listen, before any request.
}

func newEndpoint(settings HTTPConfig, log *slog.Logger, limits *prometheus.CounterVec) *endpoint {
	return &endpoint{
		settings: settings,
		log:      log,
		proxies:  newProxies(settings.TrustedProxies),
		limits:   limits,
		server: &http.Server{
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       15 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    48 << 10, // 10 KB of emoji to search for are 30 KB in an address.
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// routes returns a router without routes, for e.server.Handler.
func (e *endpoint) routes() *echo.Echo {
	r := echo.New()
	r.HTTPErrorHandler = e.handleError
	r.IPExtractor = e.clientAddress()
	r.Use(e.countVisit, secureHeaders, newHosts(e.settings).check(e))
	return r
}

// policyOf returns the Content-Security-Policy of a page with the scripts of this server and those inline
// whose sources ("'sha256-…'") it is given.
func policyOf(inline string) string {
	return "default-src 'none'; script-src 'self'" + inline + "; style-src 'self'; connect-src 'self'; " +
		"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// secureHeaders lets no page do more than ours has to.
func secureHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	policy := policyOf("")
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		return next(c)
	}
}

// Listen takes the address of http.addr, so that Addr is known and an address that is
// taken is found before anything else starts. Run calls it if needed.
func (e *endpoint) Listen() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.door != nil {
		return nil
	}
	lc := net.ListenConfig{Control: boundRequests}
	lc.SetMultipathTCP(false) // Connections inherit the options of a TCP listener only.
	l, err := lc.Listen(context.Background(), "tcp", e.settings.Addr)
	if err != nil {
		return listenError(e.settings.Addr, err)
	}
	e.door, e.loopback = newDoor(l, descriptorLimit(), e.settings.MaxConnectionsPerAddress, e.turnedAway), isLoopbackListener(l)
	e.server.ConnState, e.server.ConnContext = e.door.note, withVisit
	return nil
}

// Addr returns the address that was taken, or "" before Listen.
func (e *endpoint) Addr() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.door == nil {
		return ""
	}
	return e.door.Addr().String()
}

// accept answers requests until shutdown, and then returns http.ErrServerClosed.
func (e *endpoint) accept() error { return e.server.Serve(e.door) }

// shutdown waits for requests in flight, and cuts them off when ctx ends. Without Run it closes the
// listener.
func (e *endpoint) shutdown(ctx context.Context) error {
	// A browser's spare connections, on which nothing was ever asked, look busy for 5 s.
	stop, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var failed error
	if err := e.server.Shutdown(stop); err != nil {
		if ctx.Err() != nil {
			failed = fmt.Errorf("httpapi: requests still in flight: %w", err)
		}
		_ = e.server.Close() // What it says of connections that are gone is no news.
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.door != nil {
		_ = e.door.Close() // Closed already, unless Run never ran.
	}
	return failed
}

// isClosed reports whether err is the result of accept after shutdown.
func isClosed(err error) bool { return errors.Is(err, http.ErrServerClosed) }
