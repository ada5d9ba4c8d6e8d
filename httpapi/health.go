package httpapi

import (
	"context"
	"fmt"
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

// check returns the state of every part. A client that is gone leaves no trace in the log.
func (o *operations) check(ctx context.Context) map[string]string {
	waiting, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	parts := o.parts()
	parts["descriptors"] = "ok"
	if err := checkDescriptors(); err != nil {
		parts["descriptors"] = "failing"
		o.log.Warn("not ready", "check", "descriptors", "error", err)
	}
	ended := make(map[string]<-chan struct{}, len(o.probes))
	for name, p := range o.probes {
		ended[name] = p.start()
	}
	for name, end := range ended {
		parts[name] = "failing"
		if !closes(waiting, end) {
			if ctx.Err() == nil {
				o.failures.failed(o.log, "not ready", name, fmt.Errorf("no answer within %s: %w", checkTimeout, waiting.Err()))
			}
		} else if err := o.probes[name].result(); err != nil {
			o.failures.failed(o.log, "not ready", name, err)
		} else {
			o.failures.passed(o.log, name)
			parts[name] = "ok"
		}
	}
	return parts
}

// closes reports whether end is closed before ctx ends. It is true if both have happened.
func closes(ctx context.Context, end <-chan struct{}) bool {
	select {
	case <-end:
		return true
	case <-ctx.Done():
	}
	select {
	case <-end:
		return true
	default:
		return false
	}
}

// probe runs the check of a part at most once at a time: requests at the same time share it, and one
// without an answer, on a disk that hangs, does not add up.
type probe struct {
	check Checker

	mu      sync.Mutex
	running chan struct{} // Closed at the end of the check. Nil: none runs.
	err     error         // Of the last check.
}

func newProbes(checks map[string]Checker) map[string]*probe {
	probes := make(map[string]*probe, len(checks))
	for name, check := range checks {
		probes[name] = &probe{check: check}
	}
	return probes
}

// start starts the check unless it runs. The channel is closed at its end.
func (p *probe) start() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		end := make(chan struct{})
		p.running = end
		go func() { // Of no request: a client that leaves does not fail the check for the others.
			ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
			defer cancel()
			err := p.check(ctx)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.err, p.running = err, nil
			close(end)
		}()
	}
	return p.running
}

// result returns the error of the last check.
func (p *probe) result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
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
