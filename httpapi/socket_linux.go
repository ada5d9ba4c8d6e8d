package httpapi

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boundUnanswered ends conn when what was sent on it stays without TCP's acknowledgement for so long. An
// error means that it is closed, or no TCP: then nothing is lost but this.
func boundUnanswered(conn net.Conn, d time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// unsentBytes bounds what the system takes from the program for one connection and has not sent yet. What
// is on its way to the client is not bounded by it, so that a fast line stays fast.
const unsentBytes = 128 << 10

// boundUnsent applies unsentBytes to a listener, and so to each of its connections: a client that does
// not read costs the system little memory, and a close frame is not behind megabytes. It is the Control
// of a net.ListenConfig.
func boundUnsent(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// An error means an old kernel: then the bound is net.ipv4.tcp_wmem.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
	})
}
