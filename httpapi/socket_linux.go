package httpapi

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// unsentBytes bounds what the system takes from the program for one session and has not sent yet. What
	// is on its way to the client is not bounded by it, so that a fast line stays fast.
	unsentBytes = 128 << 10
	// requestUnsentBytes is unsentBytes of a connection for requests, of which one address has thousands.
	requestUnsentBytes = 16 << 10
	// requestUnanswered ends a connection for requests whose client reads nothing for so long.
	requestUnanswered = 15 * time.Second
)

// boundRequests is the Control of the listener, whose options each connection inherits: a client that does
// not read its answers costs the system little memory, and not for long.
func boundRequests(_, _ string, c syscall.RawConn) error {
	return setOptions(c, requestUnsentBytes, requestUnanswered)
}

// boundSession replaces the bounds of requests by those of a session: a close frame is not behind
// megabytes. Sent bytes without TCP's acknowledgement end the connection after unanswered; 0: as the system
// does.
func boundSession(conn net.Conn, unanswered time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = setOptions(raw, unsentBytes, unanswered) // Closed: the next read returns the error.
	}
}

func setOptions(c syscall.RawConn, unsent int, unanswered time.Duration) error {
	return c.Control(func(fd uintptr) {
		// An error means an old kernel: then the bounds are net.ipv4.tcp_wmem and tcp_retries2.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
	})
}
