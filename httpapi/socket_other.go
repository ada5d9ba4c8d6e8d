//go:build !linux

package httpapi

import (
	"net"
	"syscall"
	"time"
)

// boundRequests does nothing: here the system decides how much it takes for a connection.
func boundRequests(string, string, syscall.RawConn) error { return nil }

// boundSession does nothing: here the system decides when a peer is gone.
func boundSession(net.Conn, time.Duration) {}
