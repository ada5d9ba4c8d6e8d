// Command bench loads a Burrow server over real WebSockets and says what a delivery
// costs: deliveries a second, CPU time, memory, latency, and what was lost, doubled or
// out of order. It starts the server itself, unless it is given the address of one.
//
//	go run ./cmd/bench -conns 1000 -pubs 10 -rate 50          # one measurement
//	go run ./cmd/bench -cases                                 # the table of docs/performance.md
//
// Settings of the server come from the environment, as always: BURROW_BROKER_DRIVER=redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	load    load
	addr    string // Of a server that runs already; empty: start one.
	pid     int    // Its process, if it is on this machine.
	binary  string // The server to start; empty: build ./cmd/app.
	rival   string // A Centrifugo to compare with; empty: none.
	pin     bool
	profile string // Where the load's own CPU profile goes; empty: nowhere.
	json    string
	cases   bool
	only    *regexp.Regexp
	docs    string // The directory whose performance.md and .json are brought up to date.
	repeats int
	archive string // The directory that keeps the archive of a million messages; empty: it is made anew.
}

// run is the program: it returns the exit code, 0 if everything arrived as promised, 1
// if not or if something failed, 2 for wrong flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	b, err := newBench(ctx, opts, stderr)
	if err == nil {
		defer b.close()
		measure := b.runOne
		if opts.cases {
			measure = b.runCases
		}
		err = profiled(opts.profile, func() error { return measure(ctx, stdout) })
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// profiled calls measure and writes what it needed CPU for to path, unless that is empty.
func profiled(path string, measure func() error) error {
	if path == "" {
		return measure()
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() // A second time does nothing.
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	err = measure()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var only, target string
	l := &o.load
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.addr, "addr", "", "`host:port` of a server that runs already, with auth.mode open and without limits; none: start one")
	f.IntVar(&o.pid, "pid", 0, "the process of that server, for CPU and memory")
	f.StringVar(&o.binary, "server", "", "the program to start as the server; none: build ./cmd/app")
	f.StringVar(&target, "target", "", "another server that runs already: `centrifugo=ws://host:port/connection/websocket`, with client.insecure")
	f.StringVar(&o.rival, "centrifugo", "", "a Centrifugo `program`, which -cases measures in turns with Burrow")
	f.StringVar(&o.docs, "docs", "", "with -cases: bring performance.md and performance.json in this `directory` up to date")
	f.IntVar(&l.Nodes, "nodes", 0, "servers that share a broker and the connections; 0: one")
	f.StringVar(&l.Broker, "broker", "", "start this broker for the servers: nats, redis or amqp; none: theirs")
	f.IntVar(&l.Newcomers, "newcomers", 0, "connections that come when the others are idle")
	f.StringVar(&l.Protocol, "proto", "plain", "plain, v1.json or v1.proto")
	f.IntVar(&l.Connections, "conns", 1000, "connections")
	f.IntVar(&l.Users, "users", 0, "users who have them; 0: one each")
	f.IntVar(&l.Publishers, "pubs", 10, "connections that say something; 0: none, all are idle")
	f.Float64Var(&l.Rate, "rate", 50, "messages a second, of all publishers together")
	f.IntVar(&l.InFlight, "inflight", 0, "instead of -rate: each publisher has this many messages under way at any time")
	f.IntVar(&l.Size, "size", 128, fmt.Sprintf("bytes of content, at least %d", markerSize))
	f.IntVar(&l.Workers, "workers", 64, "connections that are opened at a time")
	f.DurationVar(&l.Idle, "idle", 0, "wait with all connections open and idle, before memory is measured")
	f.DurationVar(&l.Warmup, "warmup", 2*time.Second, "publish this long before measuring")
	f.DurationVar(&l.Duration, "duration", 10*time.Second, "measure this long")
	f.BoolVar(&l.Archive, "archive", false, "wait until everything is archived, and count the rows in the server's SQLite file")
	f.BoolVar(&o.pin, "pin", false, "the server gets the first half of the CPUs, the load the other (Linux)")
	f.StringVar(&o.profile, "cpuprofile", "", "write a profile of the load itself to this `file`")
	f.StringVar(&o.json, "json", "", "write the results to this `file` as JSON; - is the standard output")
	f.BoolVar(&o.cases, "cases", false, "run the cases of docs/performance.md; -conns and the like do not count then")
	f.StringVar(&only, "only", "", "with -cases: only those whose name matches this `pattern`")
	f.StringVar(&o.archive, "million", "", "with -cases: keep the archive of a million messages in this `directory`, or use the one that is there")
	f.IntVar(&o.repeats, "repeat", 1, "measure this often, each time with a new server; medians are shown")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	if f.NArg() > 0 {
		errs = append(errs, fmt.Errorf("bench: unexpected argument %q", f.Arg(0)))
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		errs = append(errs, fmt.Errorf("bench: -only: %w", err))
	}
	if o.repeats < 1 {
		errs = append(errs, errors.New("bench: -repeat is at least 1"))
	}
	if target != "" {
		addr, err := rivalAddress(target)
		if err != nil {
			errs = append(errs, err)
		} else {
			o.addr, l.Protocol = addr, rivalName
		}
	}
	if l.Protocol == rivalName && o.addr == "" && o.rival == "" {
		errs = append(errs, errors.New("bench: -proto centrifugo needs a -target that runs, or the program for -centrifugo"))
	}
	if o.docs != "" && !o.cases {
		errs = append(errs, errors.New("bench: -docs goes with -cases"))
	}
	if (l.Nodes > 1 || l.Broker != "") && o.addr != "" {
		errs = append(errs, errors.New("bench: -nodes and -broker start servers; leave -addr out"))
	}
	if o.cases && o.addr != "" {
		errs = append(errs, errors.New("bench: -cases starts its own servers; leave -addr out"))
	}
	if l.Archive && o.addr != "" {
		errs = append(errs, errors.New("bench: -archive looks into the file of a server that it starts; leave -addr out"))
	}
	return o, errors.Join(append(errs, l.check())...)
}
