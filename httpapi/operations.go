package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// OperationsConfig is what Operations need.
type OperationsConfig struct {
	HTTP    HTTPConfig
	Admin   AdminConfig
	Letters Letters // Nil: there is no admin API.
	// Checks are the parts that /readyz asks, by name.
	Checks map[string]Checker
	// Vital fails for what only a restart of the process ends; /healthz asks it. Nil: nothing.
	Vital    Checker
	Gatherer prometheus.Gatherer   // What /metrics serves. Nil: there is no such route.
	Metrics  prometheus.Registerer // Default a private registry.
	Log      *slog.Logger          // Default slog.Default().
	// Installation is sent with /healthz, for a check on the same host. Default nothing.
	Installation string
}

// operations are the routes for operators: health, readiness, metrics and dead letters.
type operations struct {
	*endpoint
	cfg       OperationsConfig
	strangers *hostLimiter             // Wrong tokens.
	parts     func() map[string]string // The parts of /readyz without a check.
	probes    map[string]*probe        // The parts of /readyz with a check, by name.
	failures  checkLog
}

func newOperations(e *endpoint, cfg OperationsConfig, parts func() map[string]string) *operations {
	return &operations{endpoint: e, cfg: cfg, strangers: newHostLimiter(strangerRate, strangerBurst), parts: parts, probes: newProbes(cfg.Checks)}
}

// addTo adds the routes. All but the two of health need the admin token.
func (o *operations) addTo(e *echo.Echo) {
	read := []string{http.MethodGet, http.MethodHead}
	e.Match(read, "/healthz", o.healthz)
	e.Match(read, "/readyz", o.readyz)
	if o.cfg.Gatherer != nil {
		e.Match(read, "/metrics", echo.WrapHandler(promhttp.HandlerFor(o.cfg.Gatherer, promhttp.HandlerOpts{})), o.guard)
	}
	if o.cfg.Letters != nil {
		e.GET("/admin/dead-letters", o.listLetters, o.guard)
		e.GET("/admin/dead-letters/:id", o.showLetter, o.guard)
		e.POST("/admin/dead-letters/:id/replay", o.replayLetter, o.guard)
		e.DELETE("/admin/dead-letters/:id", o.dropLetter, o.guard)
	}
}

// Operations serve the routes for operators on the address of a node without an edge. Their life:
// NewOperations, Listen, Run; Shutdown. The methods are safe for concurrent use.
type Operations struct {
	*endpoint
	stopOnce sync.Once
	stopped  chan struct{} // Closed at the end of Shutdown.
}

// NewOperations returns Operations without a listener. It reports everything that is wrong with cfg
// at once.
func NewOperations(cfg OperationsConfig) (*Operations, error) {
	if err := errors.Join(append(cfg.HTTP.problems(), cfg.Admin.problems()...)...); err != nil {
		return nil, err
	}
	if cfg.HTTP.Addr == "" {
		cfg.HTTP.Addr = DefaultHTTPConfig().Addr
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	limited := newLimited()
	if err := cfg.Metrics.Register(limited); err != nil {
		return nil, fmt.Errorf("httpapi: register metrics: %w", err)
	}
	o := &Operations{endpoint: newEndpoint(cfg.HTTP, cfg.Log.With("part", "operations"), limited), stopped: make(chan struct{})}
	routes := o.routes()
	newOperations(o.endpoint, cfg, func() map[string]string { return map[string]string{} }).addTo(routes)
	o.server.Handler = routes
	return o, nil
}

// Run serves until the end of Shutdown, or of ctx, which is a Shutdown with a separate bound, or
// until the listener fails. It returns nil after a Shutdown.
func (o *Operations) Run(ctx context.Context) error {
	if err := o.Listen(); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- o.accept() }()
	select {
	case err := <-served:
		if !isClosed(err) {
			return fmt.Errorf("httpapi: serve %s: %w", o.Addr(), err)
		}
		<-o.stopped
		return nil
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := o.Shutdown(stop)
		<-served
		return err
	}
}

// Shutdown makes the node not ready and waits for requests in flight. When ctx ends first, they
// are cut off, and ctx's error is returned. A second call waits for the first one.
func (o *Operations) Shutdown(ctx context.Context) error {
	var err error
	o.stopOnce.Do(func() {
		o.draining.Store(true)
		err = o.shutdown(ctx)
		close(o.stopped)
	})
	<-o.stopped
	return err
}
