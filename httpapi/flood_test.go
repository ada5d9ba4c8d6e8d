package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"burrow/httpapi"
)

// TestFloodOfControlFramesWaits: what counts as no message is not read without end, others do not
// notice, and the node stops at once with somebody who has to wait.
func TestFloodOfControlFramesWaits(t *testing.T) {
	for name, flood := range map[string]struct {
		first, rest string
	}{
		"pings":               {rest: "\x89\x80\x00\x00\x00\x00"},
		"pongs":               {rest: "\x8a\x80\x00\x00\x00\x00"},
		"empty continuations": {first: "\x01\x80\x00\x00\x00\x00", rest: "\x00\x80\x00\x00\x00\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst, c.Edge.MaxFrameBytes = 1, 2, 128 })
			alice := n.join(t, "alice")
			c := n.rawDial(t, "flood", 0)
			alice.want(online("flood"))
			_, _ = c.Write([]byte(flood.first))
			const enough = 32 << 20 // More than the two sockets hold.
			chunk := bytes.Repeat([]byte(flood.rest), 10_000)
			sent, at := 0, 0
			for sent < enough {
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				m, err := c.Write(chunk[at:])
				sent, at = sent+m, (at+m)%len(chunk)
				if errors.Is(err, os.ErrDeadlineExceeded) && m == 0 {
					break // It has to wait.
				}
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("after %d bytes: %v", sent, err)
				}
			}
			if sent >= enough {
				t.Errorf("%d bytes were read and nothing had to wait", sent)
			}
			alice.send(`{"content":"I notice nothing"}`)
			alice.hears("alice", "", "I notice nothing")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := n.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSendersWithinTheLimitsDoNotWait: the largest frames, as many as one may send and have refused,
// are all read and answered at once.
func TestSendersWithinTheLimitsDoNotWait(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.Edge.Rate, c.Edge.Burst, c.Edge.MaxFrameBytes, c.Edge.AddressBytes = 0.001, 10, 256<<10, 0
	})
	c := n.dial(t, "alice")
	large := `{"content":"` + string(bytes.Repeat([]byte("x"), 256<<10-14)) + `"}`
	for range 21 { // 20 may be refused, because they are too long or too many.
		c.send(large)
	}
	c.closed(4429)
}
