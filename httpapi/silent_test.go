package httpapi_test

import (
	"testing"
	"time"

	"burrow/httpapi"
)

// A peer of whom nothing comes any more is gone two pings later, whatever it was doing, and not before
// one: presence shows it.
func TestSilentPeers(t *testing.T) {
	const interval = 400 * time.Millisecond
	for name, act := range map[string]func(c *rawConn){
		"from the start":         func(*rawConn) {},
		"after talking":          func(c *rawConn) { c.write(0x81, `{"content":"hello"}`) },
		"after a pong":           func(c *rawConn) { c.write(0x8a, "") },
		"after half a frame":     func(c *rawConn) { _, _ = c.Write([]byte{0x81}) },
		"after half a message":   func(c *rawConn) { c.write(0x01, `{"content":`) },
		"after a refused frame":  func(c *rawConn) { c.write(0x81, `?`) },
		"in the middle of pings": func(c *rawConn) { c.write(0x89, "x"); c.write(0x89, "y") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, func(c *httpapi.Config) { c.Edge.PingInterval = interval })
			begun := time.Now()
			c := n.rawDial(t, "mute", 0)
			eventually(t, "it has joined", func() bool {
				return !n.presence.empty() || n.metric(t, "burrow_edge_closes_total", "lost") > 0
			})
			act(c)
			eventually(t, "it is gone", n.presence.empty)
			if took := time.Since(begun); took < interval {
				t.Errorf("gone after %s, before a ping of %s", took, interval)
			}
			eventually(t, "its socket is closed", func() bool {
				_, _, err := c.read()
				return err != nil
			})
		})
	}
}

// Bytes that never become a message are no sign of life.
func TestDrippingPeer(t *testing.T) {
	const interval = 200 * time.Millisecond
	n := start(t, func(c *httpapi.Config) { c.Edge.PingInterval = interval })
	c := n.rawDial(t, "drip", 0)
	_, _ = c.Write(rawFrame(0x81, string(make([]byte, 10_000)))[:20])
	eventually(t, "the server closes", func() bool {
		_, err := c.Write([]byte{' '})
		return err != nil
	})
	eventually(t, "it is gone", n.presence.empty)
}
