package main

import (
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestStart_ListenerFails ends the listening socket underneath a node and a worker: each exits
// with 1 and the reason.
func TestStart_ListenerFails(t *testing.T) {
	for _, b := range []*broker{memory, embedded} {
		for _, args := range []string{"", "-edge=false"} {
			if args != "" && b == embedded {
				continue // refused
			}
			t.Run(strings.TrimSpace(b.String()+" "+args), func(t *testing.T) {
				p, told := install(t, b).launch(t, strings.Fields(args))
				p.isReady(told)
				endListener(t, p.addr)
				if code := p.wait(); code != exitFailed || !strings.Contains(p.lastLine(), "serve "+p.addr) {
					t.Errorf("got %d and %s", code, p.lastLine())
				}
			})
		}
	}
}

// endListener makes every accept on addr fail, in this process.
func endListener(t *testing.T, addr string) {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 4096 {
		name, err := syscall.Getsockname(fd)
		if err != nil {
			continue // no socket
		}
		of, ok := name.(*syscall.SockaddrInet4)
		listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if !ok || of.Port != port || err != nil || listens == 0 {
			continue
		}
		if err := syscall.Shutdown(fd, syscall.SHUT_RDWR); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("nothing listens on %s", addr)
}
