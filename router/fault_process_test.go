package router

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/internal/brokertest"
)

// faultRole makes the test binary one of the processes below, which tests kill; the
// variable holds a faultProcess.
const faultRole = "BURROW_TEST_FAULT_ROLE"

type faultProcess struct {
	Driver, Prefix, NATS, Redis, AMQP, DataDir string
	Hold                                       int  // be a worker that holds so many tasks without an answer
	Publish                                    bool // or handle tasks, and also publish some
}

// TestFaultProcess is the process, and no test.
func TestFaultProcess(t *testing.T) {
	role := os.Getenv(faultRole)
	if role == "" {
		t.Skip("only runs as a process of other tests")
	}
	var p faultProcess
	if err := json.Unmarshal([]byte(role), &p); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, p.Driver)
	cfg.TopicPrefix, cfg.DataDir = p.Prefix, p.DataDir
	cfg.NATS.URL, cfg.Redis.URL, cfg.AMQP.URL = p.NATS, p.Redis, p.AMQP
	cfg.Route = testRoute
	var out sync.Mutex
	tell := func(what, id string) { // in one write, so that a kill leaves whole lines
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%s %s\n", what, id)
	}
	cfg.Function = map[string]FunctionConfig{"work": {Concurrency: max(p.Hold, 16), Timeout: 10 * time.Minute}}
	in := &installation{t: t, cfg: cfg}
	r := in.node(func(r *Router) error {
		return Handle(r, "work", func(ctx context.Context, m *tasks.ArchiveMessage) error {
			tell("handled", m.GetMessage().GetId())
			if p.Hold > 0 {
				<-ctx.Done()
			}
			return ctx.Err()
		})
	})
	tell("ready", "-")
	if !p.Publish {
		select {} // until it is killed
	}
	var publishing sync.WaitGroup
	for range 4 {
		publishing.Go(func() {
			for {
				m := &chat.ChatMessage{Id: uuid.NewString(), Sender: "a", Content: "1"}
				if err := r.Publish(context.Background(), &tasks.ArchiveMessage{Message: m}); err == nil {
					tell("confirmed", m.GetId())
				}
			}
		})
	}
	publishing.Wait()
}

// faultChild is a running process.
type faultChild struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}
}

// spawnFault starts a process; told gets what it says.
func spawnFault(t *testing.T, p faultProcess, told func(what, id string)) *faultChild {
	t.Helper()
	role, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := &faultChild{t: t, cmd: exec.Command(os.Args[0], "-test.run=^TestFaultProcess$"), exited: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), faultRole+"="+string(role))
	brokertest.EndWithParent(c.cmd)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, ready := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread
		defer runtime.UnlockOSThread()
		defer close(c.exited)
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch what, id, _ := strings.Cut(lines.Text(), " "); what {
			case "ready":
				close(ready)
			case "handled", "confirmed":
				told(what, id)
			}
		}
		_ = c.cmd.Wait() // killed
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	select {
	case <-ready:
	case <-c.exited:
		t.Fatal("the process ended instead of starting")
	case <-time.After(testWait):
		t.Fatal("the process did not start")
	}
	return c
}

// kill is kill -9. What the process has said until then was told when it returns.
func (c *faultChild) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.exited
}

// workerKilled kills a worker that holds 100 tasks: another one gets them.
func workerKilled(t *testing.T, broker string, cfg Config, within time.Duration) faultResult {
	t.Helper()
	const total = 100
	cfg.Route = testRoute
	in := &installation{t: t, cfg: cfg}
	var held, handled tally
	worker := spawnFault(t, faultProcess{
		Driver: cfg.Driver, Prefix: cfg.TopicPrefix, NATS: cfg.NATS.URL, Redis: cfg.Redis.URL, AMQP: cfg.AMQP.URL, DataDir: t.TempDir(), Hold: total,
	}, func(_, id string) { held.add(id) })
	var last time.Time
	other := func(functions ...string) *Router {
		return in.node(func(r *Router) error {
			return Handle(r, "work", func(_ context.Context, m *tasks.ArchiveMessage) error {
				handled.add(m.GetMessage().GetId())
				return nil
			})
		}, functions...)
	}
	writer := other([]string{}...)
	var ids []string
	var slowest time.Duration
	for i := range total {
		m := &chat.ChatMessage{Id: uuid.NewString(), Sender: fmt.Sprintf("s%d", i), Content: "1"}
		begun := time.Now()
		in.publish(writer, &tasks.ArchiveMessage{Message: m})
		slowest = max(slowest, time.Since(begun))
		ids = append(ids, m.GetId())
	}
	waitFor(t, "the worker holds all tasks", func() bool { return held.len() == total })
	other("work")
	if n := handled.len(); n > 0 {
		t.Errorf("%d tasks ran elsewhere while their worker was alive", n)
	}
	worker.kill()
	killed := time.Now()
	for handled.len() < total && time.Since(killed) < within+faultSlack {
		<-time.After(10 * time.Millisecond)
	}
	last = time.Now()
	res := faultResult{broker: broker, fault: "worker killed", tasks: total, slowest: slowest, well: last.Sub(killed)}
	handled.mu.Lock()
	defer handled.mu.Unlock()
	for _, id := range ids {
		if handled.got[id] == 0 {
			res.lostTasks++
		}
		res.twice += max(0, handled.got[id]-1)
	}
	if res.lostTasks > 0 {
		t.Errorf("%d of the %d tasks of the killed worker did not run elsewhere", res.lostTasks, total)
	}
	if res.well > within+faultSlack {
		t.Errorf("the last task of the killed worker ran after %s, want %s", res.well, within)
	}
	return res
}

// embeddedFaults kills a process with its embedded broker, twice.
func embeddedFaults(t *testing.T, results *faultResults) {
	const within = ackWait + 5*time.Second
	t.Run("process killed", func(t *testing.T) {
		var confirmed, handled tally
		told := func(what, id string) {
			if what == "confirmed" {
				confirmed.add(id)
			} else {
				handled.add(id)
			}
		}
		p := faultProcess{Driver: "nats", Prefix: testPrefix(), DataDir: t.TempDir(), Publish: true}
		for round := range 2 {
			child := spawnFault(t, p, told)
			waitFor(t, "the process is in the middle of it", func() bool { return confirmed.len() >= 500*(round+1) })
			child.kill()
		}
		p.Publish = false
		killed := time.Now()
		spawnFault(t, p, told)
		missing := func() (n int) {
			handled.mu.Lock()
			defer handled.mu.Unlock()
			for id := range confirmed.got { // nobody writes to it any more
				if handled.got[id] == 0 {
					n++
				}
			}
			return n
		}
		for missing() > 0 && time.Since(killed) < within+faultSlack {
			<-time.After(10 * time.Millisecond)
		}
		res := faultResult{broker: "nats, embedded", fault: "process killed twice", tasks: confirmed.len(), lostTasks: missing(), well: time.Since(killed)}
		handled.mu.Lock()
		defer handled.mu.Unlock()
		for _, n := range handled.got {
			res.twice += n - 1
		}
		if res.lostTasks > 0 {
			t.Errorf("%d of %d confirmed tasks are lost", res.lostTasks, res.tasks)
		}
		if res.well > within+faultSlack {
			t.Errorf("all tasks are handled after %s, want %s", res.well, within)
		}
		results.add(t, res)
	})
}
