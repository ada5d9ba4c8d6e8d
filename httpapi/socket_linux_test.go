package httpapi

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSocket_Options reads the options of an accepted connection, for requests and then for a session:
// those of the listener are inherited.
func TestSocket_Options(t *testing.T) {
	cfg := DefaultConfig().HTTP
	cfg.Addr = "127.0.0.1:0"
	e := newEndpoint(cfg, slog.New(slog.DiscardHandler), nil)
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	defer e.door.Close()
	client, err := net.Dial("tcp", e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := e.door.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp := conn.(*visit).Conn.(*net.TCPConn)
	check := func(of string, unsent int, unanswered time.Duration) {
		t.Helper()
		raw, err := tcp.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); got != unsent {
				t.Errorf("%s: TCP_NOTSENT_LOWAT is %d, %v, want %d", of, got, err, unsent)
			}
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != int(unanswered.Milliseconds()) {
				t.Errorf("%s: TCP_USER_TIMEOUT is %d, %v, want %s", of, got, err, unanswered)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("requests", requestUnsentBytes, requestUnanswered)
	boundSession(tcp, 0)
	check("a session", unsentBytes, 0)
}

// TestSocket_UnreadAnswers asks for 10 MB in one piece and reads nothing: the system holds little of it,
// and the connection ends without net/http's WriteTimeout.
func TestSocket_UnreadAnswers(t *testing.T) {
	cfg := DefaultConfig().HTTP
	cfg.Addr = "127.0.0.1:0"
	e := newEndpoint(cfg, slog.New(slog.DiscardHandler), nil)
	e.server.WriteTimeout = 0
	counted, ended := new(countingWriter), make(chan error, 1)
	e.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		counted.Writer = w
		_, err := io.Copy(counted, onlyReader{strings.NewReader(strings.Repeat("x", 10<<20))})
		ended <- err
	})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	l, err := e.door.Listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = setOptions(l, requestUnsentBytes, 300*time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.accept() }()
	defer func() {
		_ = e.shutdown(t.Context())
		<-served
	}()
	client, err := net.Dial("tcp", e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: burrow\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || counted.n > 512<<10 {
			t.Errorf("%d bytes were taken for a client that reads nothing, %v", counted.n, err)
		}
	case <-time.After(time.Minute):
		t.Error("the connection of a client that reads nothing does not end")
	}
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

// countingWriter counts bytes written without an error.
type countingWriter struct {
	io.Writer
	n int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += n
	return n, err
}
