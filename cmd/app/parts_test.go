package main

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault makes one part of a node fail. The zero trigger fails at once.
type fault struct {
	part, phase string
	how         func() error
	after       chan struct{} // closed when the part is to fail
}

// Phases of a fault.
const (
	starting = "before it runs"
	running  = "while it runs"
	stopping = "while it stops"
)

// in returns the hook that puts the fault into a node.
func (f *fault) in(p part) part {
	if p.name != f.part {
		return p
	}
	run, stop := p.run, p.stop
	switch {
	case f.phase == stopping:
		p.stop = func(ctx context.Context) error { return errors.Join(stop(ctx), f.how()) }
	case f.phase == starting:
		p.run = func(context.Context) error { return f.how() }
	default:
		p.run = func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			ended := launch(func() error { return run(ctx) })
			select {
			case err := <-ended:
				return err
			case <-f.after:
			}
			cancel()
			<-ended
			return f.how()
		}
	}
	return p
}

var errBroken = errors.New("it broke")

// TestParts_FailInEachPhase makes each part fail before it runs, while it runs and
// while it stops: the program exits with 1, and its last line has the reason.
func TestParts_FailInEachPhase(t *testing.T) {
	edge := map[string][]string{
		"store": {stopping}, "broker": {stopping}, "address": {stopping},
		"functions": {starting, running, stopping}, "replays": {starting, running, stopping},
		"presence": {starting, running, stopping}, "edge": {starting, running, stopping},
	}
	worker := map[string][]string{
		"store": {stopping}, "broker": {stopping}, "address": {stopping}, "operations": {starting, running, stopping},
		"functions": {starting, running, stopping}, "replays": {starting, running, stopping},
	}
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		for mode, phases := range map[string]map[string][]string{"": edge, "-edge=false": worker} {
			if mode != "" && b == embedded {
				continue // refused
			}
			t.Run(strings.TrimSpace(b.String()+" "+mode), func(t *testing.T) {
				t.Parallel() // they wait for the broker
				in := install(t, b)
				for part, phases := range phases {
					for _, phase := range phases {
						t.Run(part+" "+phase, func(t *testing.T) {
							f := &fault{part: part, phase: phase, how: func() error { return errBroken }}
							log := in.breaks(t, f, strings.Fields(mode)...)
							if want := part + " failed"; phase != stopping && !strings.Contains(log, want) {
								t.Errorf("the last line does not say %q: %s", want, log)
							}
							if !strings.Contains(log, errBroken.Error()) {
								t.Errorf("the last line does not hold the reason: %s", log)
							}
						})
					}
				}
			})
		}
	}
}

// TestParts_FailInEachWay makes each part end in every way there is.
func TestParts_FailInEachWay(t *testing.T) {
	for _, way := range []struct {
		name string
		how  func() error
		says string
	}{
		{"nil", func() error { return nil }, "ended before it was asked to"},
		{"canceled", func() error { return context.Canceled }, "context canceled"},
		{"panic", func() error { panic("out of order") }, "panic: out of order"},
		{"Goexit", func() error { runtime.Goexit(); return nil }, "runtime.Goexit"},
	} {
		for _, part := range []string{"functions", "replays", "presence", "edge"} {
			for _, phase := range []string{starting, running} {
				t.Run(way.name+" "+part+" "+phase, func(t *testing.T) {
					t.Parallel()
					log := install(t, memory).breaks(t, &fault{part: part, phase: phase, how: way.how})
					for _, want := range []string{part, way.says} {
						if !strings.Contains(log, want) {
							t.Errorf("the last line does not say %q: %s", want, log)
						}
					}
				})
			}
		}
	}
}

// TestParts_IgnoreTheStop has each part ignore the stop: the program exits all the
// same, and names the part.
func TestParts_IgnoreTheStop(t *testing.T) {
	for _, name := range []string{"store", "broker", "address", "functions", "replays", "presence", "edge"} {
		for _, what := range []string{"stop", "run"} {
			if what == "run" && (name == "store" || name == "broker" || name == "address") {
				continue
			}
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				var stuck sync.WaitGroup
				t.Cleanup(func() { close(release); stuck.Wait() })
				ignore := func(next func(context.Context) error) func(context.Context) error {
					stuck.Add(1)
					return func(ctx context.Context) error {
						defer stuck.Done()
						err := next(ctx)
						<-release
						return err
					}
				}
				p, told := install(t, memory).launchWith(t, nil, func(o *options) {
					o.part = func(p part) part {
						switch {
						case p.name != name:
						case what == "run":
							p.run = ignore(p.run)
						default:
							p.stop = ignore(p.stop)
						}
						return p
					}
				}, "BURROW_SHUTDOWN_TIMEOUT=3s")
				p.isReady(told)
				p.cancel()
				if code := p.wait(); code != exitFailed {
					t.Errorf("exit code: got %d, want %d", code, exitFailed)
				}
				if got, want := p.lastLine(), name+" did not stop within shutdown.timeout"; !strings.Contains(got, want) {
					t.Errorf("the last line does not say %q: %s", want, got)
				}
			})
		}
	}
}

// TestStart_SignalAtAnyMoment stops the program at each step of its start, and while a
// refused part is ending.
func TestStart_SignalAtAnyMoment(t *testing.T) {
	for _, name := range []string{"store", "broker", "address", "functions", "replays", "presence", "edge"} {
		t.Run("when there is "+name, func(t *testing.T) {
			t.Parallel()
			ready := make(chan struct{})
			p, _ := install(t, memory).launchWith(t, nil, func(o *options) {
				o.part = func(p part) part {
					if p.name == name {
						close(ready)
					}
					return p
				}
			})
			<-ready
			p.stop()
		})
	}
	t.Run("while a refused part ends", func(t *testing.T) {
		t.Parallel()
		ending, release := make(chan struct{}), make(chan struct{})
		p, _ := install(t, memory).launchWith(t, nil, func(o *options) {
			o.part = func(p part) part {
				switch p.name {
				case "functions":
					p.run = func(context.Context) error { return errBroken }
				case "store":
					stop := p.stop
					p.stop = func(ctx context.Context) error { close(ending); <-release; return stop(ctx) }
				}
				return p
			}
		})
		<-ending
		p.cancel()
		eventually(t, patience, "the signal is in the log", func() bool { return strings.Contains(p.log.String(), "a second signal") })
		close(release)
		if code := p.wait(); code != exitFailed || !strings.Contains(p.lastLine(), errBroken.Error()) {
			t.Errorf("got %d and %q, want %d and the reason", code, p.lastLine(), exitFailed)
		}
	})
}

// TestStart_IgnoresTheSignal stops a program whose start does not look at its context.
func TestStart_IgnoresTheSignal(t *testing.T) {
	stuck, release := make(chan struct{}), make(chan struct{})
	gone := make(chan struct{})
	t.Cleanup(func() { close(release); <-gone })
	p, _ := install(t, memory).launchWith(t, nil, func(o *options) {
		o.part = func(p part) part {
			if p.name == "broker" {
				defer close(gone)
				close(stuck)
				<-release
			}
			return p
		}
	}, "BURROW_SHUTDOWN_TIMEOUT=1s")
	<-stuck
	p.cancel()
	if code := p.wait(); code != exitFailed || !strings.Contains(p.lastLine(), "the start did not stop") {
		t.Errorf("got %d and %q, want %d and the reason", code, p.lastLine(), exitFailed)
	}
}

// breaks runs the program with a fault and returns its last line.
func (in *installation) breaks(t *testing.T, f *fault, args ...string) string {
	t.Helper()
	f.after = make(chan struct{})
	p, told := in.launchWith(t, args, func(o *options) { o.part = f.in })
	if f.phase != starting {
		p.isReady(told)
	}
	switch f.phase {
	case running:
		close(f.after)
	case stopping:
		p.cancel()
	}
	if code := p.wait(); code != exitFailed {
		t.Errorf("exit code: got %d, want %d", code, exitFailed)
	}
	return p.lastLine()
}

// isReady waits until the program has started.
func (p *process) isReady(told <-chan string) {
	p.t.Helper()
	select {
	case p.addr = <-told:
	case <-p.exited:
		p.t.Fatalf("the program ended with %d instead of starting", p.code)
	case <-time.After(patience):
		p.t.Fatal("the program did not start")
	}
}

// lastLine returns the end of the log, which has the level ERROR.
func (p *process) lastLine() string {
	p.t.Helper()
	all := strings.Split(strings.TrimSpace(p.log.String()), "\n")
	last := all[len(all)-1]
	if !strings.Contains(last, "level=ERROR") {
		p.t.Errorf("the last line is no error: %s", last)
	}
	return last
}
