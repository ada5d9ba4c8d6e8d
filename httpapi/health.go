package httpapi

import (
	"context"
	"net/http"
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

// healthz says that the process runs and serves.
func (o *operations) healthz(c echo.Context) error {
	if o.cfg.Installation != "" {
		c.Response().Header().Set(InstallationHeader, o.cfg.Installation)
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
				o.log.Warn("not ready", "check", r.name, "error", r.err)
				continue
			}
			parts[r.name] = "ok"
		case <-ctx.Done():
			o.log.Warn("not ready", "error", ctx.Err(), "parts", parts)
			return parts
		}
	}
	return parts
}
