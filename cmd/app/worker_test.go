package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// child is the program as a process of its own.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	log    output
	exited chan struct{}
}

// spawn starts the program as a process of the installation, and returns when its
// log says ready.
func (in *installation) spawn(t testing.TB, ready string, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	if in.files > 0 {
		cmd = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, in.files), self}, args...)...)
	}
	c := &child{t: t, cmd: cmd, exited: make(chan struct{})}
	c.cmd.Env = append([]string{runMain + "=1"}, in.env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("the log of process %d:\n%s", c.cmd.Process.Pid, c.log.String())
		}
	})
	eventually(t, patience, "the process says: "+ready, func() bool {
		select {
		case <-c.exited:
			t.Fatalf("the process ended instead of starting: %s", c.cmd.ProcessState)
		default:
		}
		return strings.Contains(c.log.String(), ready)
	})
	return c
}

// kill ends the process without asking it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.exited
}

// interrupt asks the process to stop, and returns its exit code.
func (c *child) interrupt() int {
	c.t.Helper()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.t.Fatal("the process did not stop")
	}
	return c.cmd.ProcessState.ExitCode()
}

// TestWorkerKilled kills the worker that archives in the middle of its work: what
// was said is archived all the same, each message once.
func TestWorkerKilled(t *testing.T) {
	for _, b := range []*broker{external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel() // they wait most of the time, for what the dead worker held
			const (
				total  = 1000
				before = 600 // are sent before the worker dies, the rest after
				done   = 100 // are archived when it dies, at least
			)
			in := install(t, b, "BURROW_EDGE_RATE=0")
			archive := in.archive(t)
			start := func() *child {
				return in.spawn(t, "burrow works, without an edge", "-functions", "archive,dead-letters", "-edge=false")
			}
			web := in.start(t, "-functions", "broadcast,presence")
			worker := start()

			alice := signIn(t, web.addr, "alice").dial(web.addr)
			var said []string
			for i := range total {
				said = append(said, fmt.Sprintf("message %d", i))
			}
			send := func(contents []string) <-chan error {
				sent := make(chan error, 1)
				go func() {
					for _, content := range contents {
						if err := alice.write("", content); err != nil {
							sent <- err
							return
						}
					}
					sent <- nil
				}()
				return sent
			}
			first := send(said[:before])
			eventually(t, patience, "the worker is in the middle of it", func() bool { return archive.count() >= done })
			worker.kill()
			t.Logf("killed with %d of %d archived", archive.count(), before)
			if err := <-first; err != nil {
				t.Fatal(err)
			}
			rest := send(said[before:])
			worker = start()
			if err := <-rest; err != nil {
				t.Fatal(err)
			}

			alice.await("its last message", says("alice", said[total-1]))
			if n := len(alice.chats()); n != total {
				t.Errorf("alice got %d messages, want %d; and %d errors", n, total, alice.count(func(f frame) bool { return f.Error != nil }))
			}
			begun := time.Now()
			archive.comesToHold(said...)
			t.Logf("all archived after %s", time.Since(begun).Round(time.Second/10))
			if code := worker.interrupt(); code != exitOK {
				t.Errorf("exit code of the worker: got %d, want %d", code, exitOK)
			}
			web.stop()
		})
	}
}
