package main

import (
	"errors"
	"log/slog"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"burrow/config"
	"burrow/httpapi"
	"burrow/internal/secretfile"
)

// adminToken returns admin.token, or the token kept in data_dir. Without either the admin API and
// /metrics are closed, which is no reason not to chat: a data_dir may be read-only.
func adminToken(cfg *config.Config, rehearsal bool, log *slog.Logger) string {
	if cfg.Admin.Token != "" {
		return cfg.Admin.Token
	}
	f := secretfile.File{Dir: cfg.DataDir, Name: "admin.token", Replaced: "programs with the old one are refused", Log: log, Rehearsal: rehearsal}
	token, err := f.Load()
	if err == nil && !httpapi.ValidToken(string(token)) {
		err = errors.New(f.Path() + " holds spaces, control characters or over 1024 bytes; remove it, and a new token is made")
	}
	if err != nil {
		log.Warn("the admin API and /metrics are closed; set admin.token, or make data_dir writable", "error", err)
		return ""
	}
	if !rehearsal {
		log.Info("admin token", "file", f.Path())
	}
	return string(token)
}

// newOperations opens the address of a node without an edge. Another process of this host may have
// it: before, such nodes had no address, so the node does without.
func (n *node) newOperations(metrics *prometheus.Registry) error {
	if n.cfg.HTTP.Addr == "" {
		return nil
	}
	ops, err := httpapi.NewOperations(httpapi.OperationsConfig{
		HTTP: n.cfg.HTTP, Admin: n.admin(), Letters: n.desk, Checks: n.checks(), Vital: n.router.Fatal,
		Log: n.log, Metrics: metrics, Gatherer: metrics, Installation: installationOf(n.cfg),
	})
	if err != nil {
		return err
	}
	err = ops.Listen()
	if errors.Is(err, syscall.EADDRINUSE) {
		n.log.Warn("http.addr is in use; this worker has no /healthz, /readyz, /metrics and admin API: give it its own http.addr, or none with http.addr = \"\"", "addr", n.cfg.HTTP.Addr)
		return nil
	}
	if err != nil {
		return err
	}
	n.ops = ops
	n.parts.add("address", nil, ops.Shutdown)
	return nil
}

// admin returns the settings of the admin API with the token. A check creates no file.
func (n *node) admin() httpapi.AdminConfig {
	return httpapi.AdminConfig{Token: adminToken(n.cfg, n.opts.check, n.log)}
}

// checks returns the parts that /readyz asks.
func (n *node) checks() map[string]httpapi.Checker {
	return map[string]httpapi.Checker{"broker": n.router.Check, "store": n.store.Ping}
}
