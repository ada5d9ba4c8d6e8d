package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	goclient "burrow/client"
)

// needNode skips the test without Node 20, or fails where BURROW_TEST_REQUIRE is set.
func needNode(t *testing.T) string {
	t.Helper()
	why := "there is no node in PATH"
	path, err := exec.LookPath("node")
	if err == nil {
		version, err := exec.CommandContext(t.Context(), path, "--version").Output()
		var major int
		if _, scanned := fmt.Sscanf(string(version), "v%d.", &major); err == nil && scanned == nil && major >= 20 {
			return path
		}
		why = fmt.Sprintf("%s is %q, not 20 or later", path, strings.TrimSpace(string(version)))
	}
	if os.Getenv("BURROW_TEST_REQUIRE") != "" {
		t.Fatal(why + ": install Node 20")
	}
	t.Skip(why + ": install Node 20 to run this")
	return ""
}

// script is a program of docs/examples that runs, with its input and the lines of its output.
type script struct {
	t     *testing.T
	input io.WriteCloser
	lines chan string
	all   []string
}

func runScript(t *testing.T, name string, args ...string) *script {
	t.Helper()
	node := needNode(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, node, append([]string{"--experimental-websocket", "--no-warnings", "../../docs/examples/" + name}, args...)...)
	var complaints output
	cmd.Stderr = &complaints
	s := &script{t: t, lines: make(chan string, 1000)}
	var err error
	if s.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.lines <- lines.Text()
		}
		_ = cmd.Wait() // How it ended says its output.
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			t.Logf("%s wrote\n%s\nand complained\n%s", name, strings.Join(s.all, "\n"), complaints.String())
		}
	})
	return s
}

// says writes a line to the input.
func (s *script) says(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.input, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// writes waits until all these lines have been written, in any order.
func (s *script) writes(lines ...string) {
	s.t.Helper()
	missing := map[string]bool{}
	for _, line := range lines {
		missing[line] = true
	}
	timeout := time.After(patience)
	for len(missing) > 0 {
		select {
		case line, more := <-s.lines:
			if !more {
				s.t.Fatalf("the script ended without %v", missing)
			}
			s.all = append(s.all, line)
			if strings.HasPrefix(line, "* ack ") {
				line = "* ack"
			}
			delete(missing, line)
		case <-timeout:
			s.t.Fatalf("the script did not write %v", missing)
		}
	}
}

// count returns how often a line was written.
func (s *script) count(line string) (n int) {
	for _, l := range s.all {
		if l == line {
			n++
		}
	}
	return n
}

// The script that was written after docs/protocol.md alone talks, and goes on after a restart:
// what was said meanwhile comes, and what it said itself is said once.
func TestExampleTalk(t *testing.T) {
	needNode(t)
	in := install(t, embedded)
	server := in.start(t)
	ada := runScript(t, "talk.mjs", "http://"+server.addr, "ada")
	ada.writes("* connected, recovered false")
	ada.says("hello")
	ada.writes("ada: hello", "* ack")

	server.stop()
	ada.writes("* closed with 1012")
	ada.says("is anybody there?")
	again := in.startWith(t, nil, "BURROW_HTTP_ADDR="+server.addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bob, err := goclient.Dial(ctx, goclient.Config{URL: "http://" + again.addr, Name: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	if _, err := bob.Send(ctx, "", "I am"); err != nil {
		t.Fatal(err)
	}
	ada.writes("* connected, recovered true", "bob: I am", "ada: is anybody there?", "* ack")
	if err := ada.input.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range ada.lines {
		ada.all = append(ada.all, line)
	}
	for _, line := range []string{"ada: hello", "bob: I am", "ada: is anybody there?"} {
		if n := ada.count(line); n != 1 {
			t.Errorf("the script wrote %q %d times", line, n)
		}
	}
	in.archive(t).comesToHold("hello", "is anybody there?", "I am")
}
