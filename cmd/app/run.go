package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"burrow/config"
	"burrow/router"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something did not work
	exitUsage  = 2 // a flag or the configuration is wrong; nothing was started
)

// options are the flags.
type options struct {
	config    string
	functions []string // nil means all
	edge      bool
	check     bool
	version   bool
	// memory is the broker "gochannel" that tests share between nodes.
	memory *router.Memory
	// started, if set, is told the address of the edge ("" without one) once the
	// node is ready.
	started func(addr string)
	// handle, if set, adds functions of a test.
	handle func(*router.Router) error
}

// run is the program: it returns the exit code when ctx ends and everything has
// stopped, or when something fails. environ is as of os.Environ.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "dlq" {
		return runDLQ(ctx, args[1:], environ, stdout, stderr)
	}
	opts, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	return runWith(ctx, opts, environ, stdout, stderr)
}

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
	log := newLogger(cfg.Log, stderr)
	if opts.check {
		return check(ctx, cfg, opts, log, stdout)
	}
	node, err := newNode(ctx, cfg, opts, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped while it was starting") // whatever it was waiting for
		return exitOK
	}
	if err == nil {
		err = node.run(ctx)
	}
	if err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	return exitOK
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var opts options
	var functions string
	flags := flag.NewFlagSet("app", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.config, "config", "", "configuration `file`; none means the defaults and the environment (BURROW_…)")
	flags.StringVar(&functions, "functions", "", "run only these functions, a comma between them: "+strings.Join(functionNames, ", "))
	flags.BoolVar(&opts.edge, "edge", true, "serve HTTP and WebSockets; -edge=false makes a worker")
	flags.BoolVar(&opts.check, "check", false, "check the configuration and that store, broker and address can be used, then exit")
	flags.BoolVar(&opts.version, "version", false, "print the version and exit")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: app [flags]            run Burrow\n       app dlq command …      look after dead letters; app dlq -h says more\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("app: unexpected argument %q", flags.Arg(0))
		fmt.Fprintln(stderr, err)
		return opts, err
	}
	if functions == "" {
		return opts, nil
	}
	for name := range strings.SplitSeq(functions, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(functionNames, name) {
			err := fmt.Errorf("app: -functions: there is no function %q; there are %s", name, strings.Join(functionNames, ", "))
			fmt.Fprintln(stderr, err)
			return opts, err
		}
		opts.functions = append(opts.functions, name)
	}
	return opts, nil
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

func version() string {
	v := "(devel)"
	info, ok := debug.ReadBuildInfo()
	if ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return fmt.Sprintf("burrow %s %s", v, runtime.Version())
}

// check starts nothing that others could see, and says what works.
func check(ctx context.Context, cfg *config.Config, opts options, log *slog.Logger, stdout io.Writer) int {
	node, err := newNode(ctx, cfg, opts, log)
	if err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	err = node.check(ctx)
	err = errors.Join(err, node.stop(ctx))
	if err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	fmt.Fprintf(stdout, "configuration, store, broker (%s) and address are fine\n", cfg.Broker.Driver)
	return exitOK
}
