package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// checkTimeout bounds one check of /readyz.
const checkTimeout = 2 * time.Second

// InstallationHeader is in the answer of /healthz: Config.Installation.
const InstallationHeader = "Burrow-Installation"

// readiness is the answer of /readyz.
type readiness struct {
	Ready    bool              `json:"ready"`
	Draining bool              `json:"draining"`
	Parts    map[string]string `json:"parts"` // By name: "ok", or what is the matter.
}

// healthz reports whether the process serves and can go on: 503 asks for a restart.
func (o *operations) healthz(c echo.Context) error {
	if o.cfg.Installation != "" {
		c.Response().Header().Set(InstallationHeader, o.cfg.Installation)
	}
	if o.cfg.Vital != nil {
		if err := o.cfg.Vital(c.Request().Context()); err != nil {
			o.failures.failed(o.log, "restart needed", "process", err)
			return writeJSON(c, http.StatusServiceUnavailable, map[string]string{"status": "restart needed"})
		}
	}
	return writeJSON(c, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether this node should get traffic: it is seeded, does not drain, and each of its
// parts works. What exactly is wrong is for the log, not for strangers.
func (o *operations) readyz(c echo.Context) error {
	answer := readiness{Draining: o.draining.Load(), Parts: o.check(c.Request().Context())}
	answer.Ready = !answer.Draining
	for _, state := range answer.Parts {
		answer.Ready = answer.Ready && state == "ok"
	}
	return writeReadiness(c, answer)
}

// check asks every part at the same time.
func (o *operations) check(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	parts := o.parts()
	parts["descriptors"] = "ok"
	if err := checkDescriptors(); err != nil {
		parts["descriptors"] = "failing"
		o.log.Warn("not ready", "check", "descriptors", "error", err)
	}
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(o.cfg.Checks)) // Room for all: a late answer waits for nobody.
	for name, check := range o.cfg.Checks {
		parts[name] = "failing"
		go func() { results <- result{name, check(ctx)} }()
	}
	for range o.cfg.Checks {
		select {
		case r := <-results:
			if r.err != nil {
				o.failures.failed(o.log, "not ready", r.name, r.err)
				continue
			}
			o.failures.passed(o.log, r.name)
			parts[r.name] = "ok"
		case <-ctx.Done():
			for name, state := range parts {
				if state == "failing" {
					o.failures.failed(o.log, "not ready", name, ctx.Err())
				}
			}
			return parts
		}
	}
	return parts
}

// notReadyEvery is the time between two log lines about the same failed check.
const notReadyEvery = time.Minute

// checkLog logs the begin and the end of failed checks, and once a minute that one goes on.
type checkLog struct {
	mu     sync.Mutex
	logged map[string]time.Time // By name of a check that fails.
}

func (l *checkLog) failed(log *slog.Logger, what, name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.logged[name]) < notReadyEvery {
		return
	}
	if l.logged == nil {
		l.logged = make(map[string]time.Time)
	}
	l.logged[name] = time.Now()
	log.Warn(what, "check", name, "error", err)
}

func (l *checkLog) passed(log *slog.Logger, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, failed := l.logged[name]; failed {
		delete(l.logged, name)
		log.Info("ready again", "check", name)
	}
}
