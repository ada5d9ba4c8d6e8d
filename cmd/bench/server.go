package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// settings are those of a server under load, unless the environment has others: everybody is who
// they say, and nothing is limited that the load would run into.
var settings = []string{
	"BURROW_HTTP_ADDR=127.0.0.1:0",
	"BURROW_AUTH_MODE=open",
	"BURROW_EDGE_RATE=0",
	"BURROW_EDGE_UPGRADE_RATE=0",
	"BURROW_HTTP_MAX_CONNECTIONS_PER_ADDRESS=0",
	"BURROW_EDGE_MAX_CONNECTIONS_PER_USER=0",
}

// server is one of our own.
type server struct {
	addr string
	dir  string // Its data.
	cmd  *exec.Cmd
	done chan struct{} // Closed when the process has ended.
	err  error         // What it ended with.
}

// serverConfig says how a server is started.
type serverConfig struct {
	binary string
	pin    bool     // To the servers' half of the CPUs.
	dir    string   // Its data; empty: a directory of its own.
	env    []string // Stands after our environment, and so wins.
}

// startServer starts a Burrow and waits until it is open. What it warns of goes to log.
func startServer(ctx context.Context, cfg serverConfig, log io.Writer) (_ *server, err error) {
	s := &server{done: make(chan struct{}), dir: cfg.dir}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "burrow-bench-"); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				os.RemoveAll(s.dir)
			}
		}()
	}
	s.cmd = exec.Command(cfg.binary)
	// What stands later in the environment wins: the last ones cannot be chosen.
	s.cmd.Env = append(append(append([]string{}, settings...), os.Environ()...), cfg.env...)
	s.cmd.Env = append(s.cmd.Env, "BURROW_DATA_DIR="+s.dir, "BURROW_STORE_DSN=", "BURROW_LOG_FORMAT=json", "BURROW_LOG_LEVEL=info")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.start(cfg.pin); err != nil {
		return nil, err
	}
	open := make(chan string, 1)
	go func() {
		s.watch(stderr, open, log)
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case s.addr = <-open:
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("the server ended: %w", s.err)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("the server did not open: %w", context.Cause(ctx)), s.stop())
	}
}

// start starts the process.
func (s *server) start(pin bool) error {
	start := s.cmd.Start
	if pin {
		start = func() error { return pinStart(s.cmd.Start) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	return nil
}

// watch reads the server's log: it finds the address, and passes on what went wrong.
func (s *server) watch(r io.Reader, open chan<- string, log io.Writer) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Level, Msg, Addr string }
		switch err := json.Unmarshal(lines.Bytes(), &line); {
		case err != nil || line.Level == "ERROR",
			line.Level == "WARN" && !strings.HasPrefix(line.Msg, "auth.mode is open"):
			fmt.Fprintf(log, "server: %s\n", lines.Bytes())
		case line.Msg == "burrow is open":
			open <- line.Addr
		}
	}
	_, _ = io.Copy(io.Discard, r) // A line that is too long must not block the server.
}

// stop ends the server in order; after a while it is killed.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // An error is that it has ended.
	select {
	case <-s.done:
		if s.err != nil {
			return fmt.Errorf("the server ended: %w", s.err)
		}
		return nil
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("the server did not stop within %s and was killed", stopTimeout)
	}
}

// remove deletes the data of a server that has stopped.
func (s *server) remove() error { return os.RemoveAll(s.dir) }

// archive is the path of its SQLite file.
func (s *server) archive() string { return filepath.Join(s.dir, "burrow.db") }

// buildServer builds the server of the module that the working directory is in.
func buildServer(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "burrow")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "burrow/cmd/app")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
}
