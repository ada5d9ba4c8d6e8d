package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"

	"burrow/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something did not work
	exitUsage  = 2 // a flag or the configuration is wrong; nothing was started
)

// runWith checks or runs a node until ctx ends. It returns the exit code.
func runWith(ctx context.Context, opts options, environ []string, stdout, stderr io.Writer) int {
	if opts.version {
		fmt.Fprintln(stdout, version())
		return exitOK
	}
	cfg, err := config.Load(opts.config, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if err := canWork(cfg, opts); err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	log := newLogger(cfg.Log, stderr)
	for _, warning := range cfg.Warnings {
		log.Warn(warning.Error())
	}
	if opts.check {
		return check(ctx, cfg, opts, log, stdout)
	}
	if err := newNode(cfg, opts, log).serve(ctx); err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	log.Info("stopped")
	return exitOK
}

func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // config has checked it
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// release is the version in binaries of "make release".
var release string

func version() string {
	v := cmp.Or(release, "(devel)")
	info, ok := debug.ReadBuildInfo()
	if ok && release == "" && info.Main.Version != "" {
		v = info.Main.Version
	}
	return fmt.Sprintf("burrow %s %s", v, runtime.Version())
}
