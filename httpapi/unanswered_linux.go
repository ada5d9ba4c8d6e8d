package httpapi

import (
	"net"
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
