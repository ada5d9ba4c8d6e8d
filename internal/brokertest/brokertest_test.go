package brokertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestABrokerCanBeKilledAndComesBack says nothing about data, which is the matter
// of the tests that use it.
func TestABrokerCanBeKilledAndComesBack(t *testing.T) {
	for _, kind := range []Kind{NATS, Redis, AMQP} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind)
			for _, again := range []func(){s.Restart, s.RestartEmpty} {
				s.Kill()
				if err := s.answers(); err == nil {
					t.Fatal("it answers after kill -9")
				}
				begun := time.Now()
				again()
				t.Logf("back after %s", time.Since(begun).Round(time.Millisecond))
				if err := s.answers(); err != nil {
					t.Error(err)
				}
			}
			s.Pause()
			if err := s.answers(); err == nil {
				t.Error("it answers while it is paused")
			}
			s.Resume()
			if err := s.answers(); err != nil {
				t.Error(err)
			}
		})
	}
}

// orphan makes the test binary start a broker and wait to be killed.
const orphan = "BROKERTEST_ORPHAN"

func TestABrokerEndsWithAKilledTestBinary(t *testing.T) {
	if os.Getenv(orphan) != "" {
		fmt.Println(orphan, Start(t, Redis).port)
		select {}
	}
	s := Start(t, Redis)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), orphan+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // a second time, unless the test failed
		_ = cmd.Wait()
	})
	s.port = 0
	for lines := bufio.NewScanner(out); s.port == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), orphan+" %d", &s.port)
	}
	if err := s.answers(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); s.answers() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the broker outlives the test binary")
		}
	}
}

func TestALinkCanBeCutAndStalled(t *testing.T) {
	s := Start(t, Redis)
	address, link := s.Proxied(t)
	address = strings.TrimSuffix(strings.TrimPrefix(address, "redis://"), "/0")
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	// ping returns what comes back within wait.
	ping := func(conn net.Conn, wait time.Duration) (string, error) {
		t.Helper()
		if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 16)
		n, err := conn.Read(got)
		return string(got[:n]), err
	}
	works := func() net.Conn {
		t.Helper()
		conn := dial()
		if got, err := ping(conn, patience); got != "+PONG\r\n" {
			t.Fatalf("got %q, %v", got, err)
		}
		return conn
	}

	conn := works()
	link.Cut()
	if got, err := ping(conn, patience); err == nil {
		t.Errorf("a cut connection: got %q, %v", got, err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("a cut link takes connections")
	}
	link.Restore()
	conn = works()
	link.Stall()
	for _, conn := range []net.Conn{conn, dial()} {
		got, err := ping(conn, 200*time.Millisecond)
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			t.Errorf("a stalled connection: got %q, %v; want silence", got, err)
		}
	}
	link.Restore()
	works()
}
