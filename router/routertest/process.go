package routertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"burrow/router"
	"burrow/router/routertest/spec"
)

// childEnv makes the test binary a node, so that there is a process to be killed.
const childEnv = "BURROW_ROUTERTEST_CHILD"

// errand is what such a process is for.
type errand struct {
	Config   string // as TOML
	DataDir  string
	Function map[string]router.FunctionConfig
	Publish  int    // jobs, told as "published" when all are confirmed
	Work     string // a function of jobs, which tells "done <text>" or "held <text>"
	Done     int    // so many jobs are done, by their number; with the others it never ends
	Watch    string // a function of events, which tells "done <text>"
}

// process is a node that may be killed.
type process struct {
	in     *installation
	cmd    *exec.Cmd
	told   tally // the lines it wrote
	exited chan struct{}
}

// spawn starts a process and returns when its functions are subscribed.
func (in *installation) spawn(e errand) *process {
	in.t.Helper()
	config, err := toml.Marshal(in.cfg)
	if err != nil {
		in.t.Fatal(err)
	}
	e.Config, e.DataDir, e.Function = string(config), in.cfg.DataDir, in.cfg.Function
	env, err := json.Marshal(e)
	if err != nil {
		in.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		in.t.Fatal(err)
	}
	p := &process{in: in, cmd: exec.Command(self), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(env))
	p.cmd.Stderr = in.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.told.add(lines.Text())
		}
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	in.t.Cleanup(p.kill)
	p.await("running")
	return p
}

// await returns when the process told line.
func (p *process) await(line string) {
	p.in.t.Helper()
	p.in.await("a process to tell: "+line, func() bool {
		select {
		case <-p.exited:
			if p.told.count(line) == 0 {
				p.in.t.Fatalf("the process ended before it told %q: %s", line, p.cmd.ProcessState)
			}
		default:
		}
		return p.told.count(line) > 0
	})
}

// tellings returns what it told after verb.
func (p *process) tellings(verb string) []string {
	var all []string
	for _, line := range p.told.all() {
		if rest, ok := strings.CutPrefix(line, verb+" "); ok {
			all = append(all, rest)
		}
	}
	return all
}

// kill ends the process without a word, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// childMain is the process. It works until it is killed.
func childMain() int {
	var e errand
	err := json.Unmarshal([]byte(os.Getenv(childEnv)), &e)
	if err == nil {
		err = e.do()
	}
	fmt.Fprintln(os.Stderr, "the process ends:", err)
	return 1
}

func (e errand) do() error {
	cfg := router.DefaultConfig()
	if err := toml.Unmarshal([]byte(e.Config), &cfg); err != nil {
		return err
	}
	cfg.DataDir, cfg.Function, cfg.Route = e.DataDir, e.Function, route
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // should its parent be gone
	defer cancel()
	r, err := router.New(ctx, cfg)
	if err != nil {
		return err
	}
	if e.Work != "" {
		err = router.Handle(r, e.Work, func(_ context.Context, m *spec.Job) error {
			if m.GetNumber() < int64(e.Done) {
				fmt.Println("done", m.GetText())
				return nil
			}
			fmt.Println("held", m.GetText())
			select {}
		})
		if err != nil {
			return err
		}
	}
	if e.Watch != "" {
		err = router.Handle(r, e.Watch, func(_ context.Context, m *spec.Said) error {
			fmt.Println("done", m.GetText())
			return nil
		})
		if err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Running():
	case err := <-done:
		return err
	}
	fmt.Println("running")
	for _, m := range jobsOf(e.Publish) {
		if err := r.Publish(ctx, m); err != nil {
			return err
		}
	}
	fmt.Println("published")
	return <-done
}
