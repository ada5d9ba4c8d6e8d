package ring_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"burrow/ring"
)

// newRing returns a ring, or ends the test where the system has none for us: that is a failure where the
// tests must not skip.
func newRing(t testing.TB) *ring.Ring {
	t.Helper()
	r, err := ring.New()
	if err != nil && os.Getenv("BURROW_TEST_REQUIRE") == "" {
		t.Skip("no io_uring for us here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, syscall.EBADF) {
			t.Error(err)
		}
	})
	return r
}

// pair returns both ends of a TCP connection.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close(); _ = accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// hold calls f with the number of conn, which stays open meanwhile.
func hold(t testing.TB, conn *net.TCPConn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		t.Fatal(err)
	}
}

func send(t testing.TB, r *ring.Ring) []ring.Result {
	t.Helper()
	results, err := r.Send()
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestSendsToAllAtOnce(t *testing.T) {
	r := newRing(t)
	const rounds = 1000 // The places of the queues are used in turn: go around many times.
	senders, receivers := make([]*net.TCPConn, ring.Size), make([]*net.TCPConn, ring.Size)
	for i := range senders {
		senders[i], receivers[i] = pair(t)
	}
	for round := range rounds {
		n := 1 + round%ring.Size
		var results []ring.Result
		var add func(i int)
		add = func(i int) {
			if i == n {
				results = send(t, r)
				return
			}
			hold(t, senders[i], func(fd uintptr) {
				r.Add(fd, bytes.Repeat([]byte{byte(round), byte(i)}, 1+i))
				add(i + 1)
			})
		}
		add(0)
		if len(results) != n {
			t.Fatalf("%d results of %d", len(results), n)
		}
		for i, res := range results {
			want := bytes.Repeat([]byte{byte(round), byte(i)}, 1+i)
			if res.Err != nil || res.N != len(want) {
				t.Fatalf("round %d, send %d of %d bytes: %+v", round, i, len(want), res)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(receivers[i], got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d, receiver %d: %v, %v", round, i, got, err)
			}
		}
	}
}

func TestFullAndClosedSockets(t *testing.T) {
	r := newRing(t)
	full, reader := pair(t)
	closed, _ := pair(t)
	fine, other := pair(t)
	if err := closed.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	piece := []byte(strings.Repeat("x", 1<<20))
	var sent int64
	for {
		var res ring.Result
		hold(t, full, func(fd uintptr) { r.Add(fd, piece); res = send(t, r)[0] })
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		if sent += int64(res.N); res.N == 0 {
			break // The kernel keeps no more of it.
		}
	}
	var results []ring.Result
	hold(t, full, func(a uintptr) {
		hold(t, closed, func(b uintptr) {
			hold(t, fine, func(c uintptr) {
				r.Add(a, piece)
				r.Add(b, piece)
				r.Add(c, []byte("hello"))
				results = send(t, r)
			})
		})
	})
	if got := results[0]; got.N != 0 || got.Err != nil {
		t.Errorf("a full socket: %+v, want nothing sent and no error", got)
	}
	if got := results[1]; !errors.Is(got.Err, syscall.EPIPE) {
		t.Errorf("a closed socket: %+v, want EPIPE", got)
	}
	if got := results[2]; got.N != 5 || got.Err != nil {
		t.Errorf("the one after them: %+v", got)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(other, got); err != nil || string(got) != "hello" {
		t.Errorf("received %q, %v", got, err)
	}
	// All that was counted as sent comes, and no more.
	if err := full.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, reader); err != nil || n != sent {
		t.Errorf("received %d bytes of %d: %v", n, sent, err)
	}
}

// A ring that the system has taken away says so, and that nothing was sent.
func TestRingThatIsGone(t *testing.T) {
	r := newRing(t)
	a, _ := pair(t)
	ring.Break(r)
	hold(t, a, func(fd uintptr) {
		r.Add(fd, []byte("x"))
		r.Add(fd, []byte("y"))
	})
	results, err := r.Send()
	if !errors.Is(err, syscall.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
	for _, res := range results {
		if res.N != 0 || res.Err != nil {
			t.Errorf("got %+v, want nothing sent", res)
		}
	}
}

func TestMoreThanSizeIsRefused(t *testing.T) {
	r := newRing(t)
	a, _ := pair(t)
	hold(t, a, func(fd uintptr) {
		for range ring.Size {
			r.Add(fd, []byte("x"))
		}
		defer func() {
			if recover() == nil {
				t.Error("one more was taken")
			}
			if got := send(t, r); len(got) != ring.Size {
				t.Errorf("%d results", len(got))
			}
		}()
		r.Add(fd, []byte("x"))
	})
}
