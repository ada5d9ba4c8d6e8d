//go:build !linux

package httpapi

import (
	"net"
	"time"
)

// boundUnanswered does nothing: here TCP has its own idea of when a peer is gone.
func boundUnanswered(net.Conn, time.Duration) {}
