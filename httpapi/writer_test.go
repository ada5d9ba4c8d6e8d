package httpapi_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"burrow/httpapi"
)

// TestAReaderThatStopsForAWhileMissesNothing has a client stop reading until its socket takes
// nothing any more, and go on, again and again: what waits then, and what comes at that moment,
// arrives whole and in order.
func TestAReaderThatStopsForAWhileMissesNothing(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.Edge.Queue, c.Edge.SlowAfter = 2000, time.Hour
		c.History.Buffer = 100
	})
	c := n.rawDial(t, "reader", 256<<10)
	eventually(t, "the session has joined", func() bool { return n.metric(t, "burrow_edge_sessions") == 1 })
	const each, size = 900, 8000
	filler := strings.Repeat("x", size)
	sent, read := 0, 0
	say := func(count int) {
		for range count {
			n.Deliver(message(sent, "bot", "", strconv.Itoa(sent)+" "+filler))
			sent++
		}
	}
	take := func(count int) {
		t.Helper()
		for until := read + count; read < until; {
			first, payload, err := c.read()
			if err != nil {
				t.Fatalf("after %d of %d messages: %v", read, sent, err)
			}
			if first != 0x81 || strings.Contains(payload[:20], "client_id") {
				continue // A status or a ping.
			}
			if want := `"content":"` + strconv.Itoa(read) + " "; !strings.Contains(payload[:200], want) || len(payload) < size {
				t.Fatalf("got a frame of %d bytes, %.200q, want %s", len(payload), payload, want)
			}
			read++
		}
	}
	for round := range 3 {
		say(each)
		if written := n.metric(t, "burrow_edge_written_bytes_total"); written >= float64(sent*size) {
			t.Fatalf("round %d: everything is written (%.0f bytes) although nobody reads", round, written)
		}
		take(each / 2)
		say(10) // While the writer is catching up.
		take(each - each/2 + 10)
		say(1) // Alone, when it has caught up.
		take(1)
	}
	c.write(0x89, "still there?")
	for {
		first, payload, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x8A {
			if payload != "still there?" {
				t.Errorf("the pong says %q", payload)
			}
			return
		}
	}
}

// TestAnIdleSessionIsOneGoroutine: the one that reads. Each costs thousands of sessions thousands
// of stacks.
func TestAnIdleSessionIsOneGoroutine(t *testing.T) {
	n := start(t, nil)
	n.join(t, "first") // What is started once is there now.
	before := runtime.NumGoroutine()
	const sessions = 50
	for i := range sessions {
		n.rawDial(t, "user"+strconv.Itoa(i), 0)
	}
	eventually(t, "one goroutine for each session", func() bool {
		return n.metric(t, "burrow_edge_sessions") == sessions+1 && runtime.NumGoroutine() <= before+sessions+5
	})
}
