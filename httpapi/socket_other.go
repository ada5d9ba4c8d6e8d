//go:build !linux

package httpapi

import (
	"net"
	"syscall"
	"time"
)

// boundUnanswered does nothing: here TCP has its own idea of when a peer is gone.
func boundUnanswered(net.Conn, time.Duration) {}

// boundUnsent does nothing: here the system decides how much it takes for a connection.
func boundUnsent(string, string, syscall.RawConn) error { return nil }
