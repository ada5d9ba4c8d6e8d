package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"burrow/httpapi"
)

// slowly is a reader of at most 2 MB/s: slower than the flood.
type slowly struct {
	io.Reader
	pace *time.Ticker
}

func (s slowly) Read(p []byte) (int, error) {
	<-s.pace.C
	return s.Reader.Read(p[:min(len(p), 64<<10)])
}

// TestSlowReader_CloseCode floods slow readers: each reads close code 1013, over a WebSocket,
// behind everything sent before, however much the system still holds for it.
func TestSlowReader_CloseCode(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.SlowAfter = 100 * time.Millisecond })
	dialects := map[string][]string{"plain": nil, v1JSON: {"Sec-WebSocket-Protocol: " + v1JSON}, v1Proto: {"Sec-WebSocket-Protocol: " + v1Proto}}
	var reading sync.WaitGroup
	for name, header := range dialects {
		c := n.rawDial(t, "slow", 64<<10, header...)
		_ = c.SetDeadline(time.Now().Add(6 * patience))
		pace := time.NewTicker(32 * time.Millisecond)
		defer pace.Stop()
		c.r = bufio.NewReaderSize(slowly{c.Conn, pace}, 64<<10)
		reading.Go(func() {
			if got, err := c.closeCode(); got != 1013 {
				t.Errorf("%s: closed with %d, %v, want 1013", name, got, err)
			}
		})
	}
	content := strings.Repeat("x", 4000)
	for i := 0; n.metric(t, "burrow_edge_closes_total", "1013") < float64(len(dialects)); i++ {
		if i == 20_000 {
			t.Fatal("the readers are not closed")
		}
		n.Deliver(message(i, "bot", "", content))
	}
	reading.Wait()
	if got := n.metric(t, "burrow_edge_closes_total", "lost"); got != 0 {
		t.Errorf("%v sessions were lost", got)
	}
}

// TestSlowReader_Shutdown stops the server while it closes a reader that takes nothing: the stop does not
// wait for it.
func TestSlowReader_Shutdown(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.SlowAfter = time.Millisecond })
	n.rawDial(t, "slow", 4<<10)
	content := strings.Repeat("x", 4000)
	for i := 0; n.metric(t, "burrow_edge_closes_total", "1013") == 0; i++ {
		if i == 20_000 {
			t.Fatal("the reader is not closed")
		}
		n.Deliver(message(i, "bot", "", content))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestSlowReader_CloseFrameIsNear floods a reader that takes nothing until it is closed: on Linux little is
// before its close frame, so that a slow line reads the code in time.
func TestSlowReader_CloseFrameIsNear(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system decides how much it holds for a reader")
	}
	n := start(t, func(c *httpapi.Config) { c.Edge.SlowAfter = 100 * time.Millisecond })
	c := n.rawDial(t, "slow", 16<<10)
	_ = c.SetDeadline(time.Now().Add(6 * patience))
	content := strings.Repeat("x", 4000)
	for i := 0; n.metric(t, "burrow_edge_closes_total", "1013") == 0; i++ {
		if i == 20_000 {
			t.Fatal("the reader is not closed")
		}
		n.Deliver(message(i, "bot", "", content))
	}
	held := 0
	for {
		first, payload, err := c.read()
		if err != nil {
			t.Fatalf("after %d bytes: %v, want a close frame", held, err)
		}
		if first == 0x88 {
			break
		}
		held += len(payload)
	}
	if held > 512<<10 {
		t.Errorf("%d bytes were before the close frame", held)
	}
}
