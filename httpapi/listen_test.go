package httpapi

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestListenError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, test := range map[string]struct{ addr, want string }{
		"port in use":      {taken.Addr().String(), "stop the program that listens there"},
		"unknown host":     {"no-such-host.invalid:8000", "host no-such-host.invalid"},
		"foreign address":  {"192.0.2.1:8000", "this machine has no address 192.0.2.1"},
		"foreign address6": {"[2001:db8::1]:8000", "this machine has no "},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", test.addr)
			if err == nil {
				_ = l.Close()
				t.Fatalf("listening on %s worked", test.addr)
			}
			got := listenError(test.addr, err).Error()
			if !strings.Contains(got, test.want) || !strings.Contains(got, "http.addr") {
				t.Errorf("got %q, want it to contain %q and the key", got, test.want)
			}
			if name != "port in use" && strings.Contains(got, "in use") {
				t.Errorf("got %q, which assumes another program", got)
			}
		})
	}
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES: "choose a port of 1024 or above",
		syscall.EMFILE: "ulimit -n",
	} {
		err := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)}
		if got := listenError(":80", err).Error(); !strings.Contains(got, want) {
			t.Errorf("%v: got %q, want it to contain %q", errno, got, want)
		}
	}
}
