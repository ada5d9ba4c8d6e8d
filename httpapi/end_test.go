package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"burrow/httpapi"
)

func TestCloseCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		act  func(*client)
		code int
	}{
		"binary":    {func(c *client) { _ = c.Write(c.t.Context(), websocket.MessageBinary, []byte(`{"content":"x"}`)) }, 1003},
		"not UTF-8": {func(c *client) { c.send("{\"content\":\"\xff\"}") }, 1007},
		"too big":   {func(c *client) { _ = c.Write(c.t.Context(), websocket.MessageText, make([]byte, 1<<20)) }, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, nil)
			alice, bob := n.join(t, "alice"), n.join(t, "bob")
			alice.want(online("bob"))
			tt.act(alice)
			if frames, _ := alice.closed(tt.code); len(frames) > 0 {
				t.Errorf("got %q before the close", frames)
			}
			bob.want(offline("alice"))
			if got := n.metric(t, "burrow_edge_closes_total", strconv.Itoa(tt.code)); got != 1 {
				t.Errorf("counted %v closes with %d", got, tt.code)
			}
			n.join(t, "alice") // Nothing is left behind.
		})
	}
}

func TestExpiredSessionIsClosed(t *testing.T) {
	n := start(t, nil)
	cookie := n.guest("alice")
	n.auth.mu.Lock()
	s := n.auth.cookies["cookie-of-alice"]
	s.Expires = time.Now().Add(3 * time.Second)
	n.auth.cookies["cookie-of-alice"] = s
	n.auth.mu.Unlock()
	n.dial(t, "alice", cookie).closed(4401) // It may not get as far as being online.
}

// A reader that takes nothing is closed with 1013; what it got is the stream without a hole; the
// others notice nothing.
func TestSlowConsumer(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*httpapi.Config)
		size   int // Of the content of each message.
		pause  time.Duration
	}{
		"for too long":     {func(c *httpapi.Config) { c.Edge.Queue = 64; c.Edge.SlowAfter = 100 * time.Millisecond }, 8000, time.Millisecond},
		"too many at once": {func(c *httpapi.Config) { c.Edge.Queue = 8; c.Edge.SlowAfter = time.Hour }, 8000, 100 * time.Microsecond},
		"too many bytes":   {func(c *httpapi.Config) { c.Edge.Queue = 65536; c.Edge.SlowAfter = time.Hour }, 60000, 100 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, func(c *httpapi.Config) { tt.change(c); c.History.Buffer = 100 })
			slow := n.rawDial(t, "slow", 64<<10)
			quick := n.rawDial(t, "quick", 0)
			filler := strings.Repeat("x", tt.size)

			// The quick one says how far it is; the others wait for it, so that only one is slow.
			heard := make(chan int, 100000)
			var reading sync.WaitGroup
			reading.Go(func() { readNumbers(t, "quick", quick, heard) })
			defer reading.Wait()
			defer quick.Close()

			hears := func(want int) {
				t.Helper()
				select {
				case got := <-heard:
					if got != want {
						t.Fatalf("quick got %d, want %d", got, want)
					}
				case <-time.After(patience):
					t.Fatalf("quick did not get %d", want)
				}
			}

			pace := time.NewTicker(tt.pause)
			defer pace.Stop()
			sent := 0
			timeout := time.After(2 * patience)
			var open time.Time // When slow was not closed yet.
			for n.metric(t, "burrow_edge_closes_total", "1013") == 0 {
				open = time.Now()
				select {
				case <-pace.C:
				case <-timeout:
					t.Fatalf("not closed after %d messages", sent)
				}
				n.Deliver(message(sent, "bot", "", strconv.Itoa(sent)+" "+filler))
				sent++
				hears(sent - 1)
			}
			numbers := make(chan int, 100000)
			late := time.Since(open) > closeTimeout
			if code := readNumbers(t, "slow", slow, numbers); code != 1013 && (code != 0 || !late) {
				t.Errorf("slow was closed with %d, want 1013", code)
			}
			close(numbers)
			want := 0
			for got := range numbers {
				if got != want {
					t.Fatalf("slow got message %d, want %d: a hole", got, want)
				}
				want++
			}
			if want == 0 || want >= sent {
				t.Errorf("slow got %d of %d messages", want, sent)
			}
			for i := range 50 {
				n.Deliver(message(sent+i, "bot", "", strconv.Itoa(sent+i)))
				hears(sent + i)
			}
			if got := n.metric(t, "burrow_edge_closes_total", "1013"); got != 1 {
				t.Errorf("%v sessions were closed with 1013, want 1", got)
			}
		})
	}
}

// readNumbers sends the numbers that messages begin with to out, until the connection ends, and
// returns the close code.
func readNumbers(t *testing.T, who string, c *rawConn, out chan<- int) int {
	for {
		first, payload, err := c.read()
		if err != nil {
			return 0
		}
		if first == 0x88 {
			return int(payload[0])<<8 | int(payload[1])
		}
		if first == 0x89 {
			continue
		}
		var m said
		if err := json.Unmarshal([]byte(payload), &m); err != nil {
			t.Errorf("%s got a broken frame %.40q: %v", who, payload, err)
			return 0
		}
		if m.Content != "" {
			number, _, _ := strings.Cut(m.Content, " ")
			i, _ := strconv.Atoi(number)
			out <- i
		}
	}
}

// A newcomer's history and statuses are not counted as waiting.
func TestBurstIsNotSlow(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.Edge.Queue, c.Edge.SlowAfter = 1, time.Millisecond
		c.History.Limit, c.History.Buffer = 1000, 1000
	})
	filler := strings.Repeat("x", 8000)
	for i := range 1000 {
		n.Deliver(message(i, "bot", "", strconv.Itoa(i)+" "+filler))
	}
	for i := range 200 {
		n.Status(fmt.Sprintf("user%03d", i), true)
	}
	c := n.join(t, "zoe")
	n.Deliver(message(1000, "bot", "", "live"))
	c.hears("bot", "", "live")
}

func TestDrain(t *testing.T) {
	n := start(t, nil)
	const people = 20
	var clients []*client
	for i := range people {
		clients = append(clients, n.join(t, "user"+strconv.Itoa(i)))
	}
	n.broker.mu.Lock()
	n.broker.hold, n.broker.held = make(chan struct{}), make(chan struct{}, 2)
	n.broker.mu.Unlock()
	clients[0].send(`{"content":"in flight"}`)
	<-n.broker.held

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(ctx) }()
	var body string
	eventually(t, "not ready", func() bool {
		var res *http.Response
		res, body = n.request(t, "GET", "/readyz", "")
		return res.StatusCode == 503
	})
	if !strings.Contains(body, `"draining":true`) {
		t.Errorf("readyz says %s", body)
	}
	eventually(t, "nobody is let in", func() bool { return !opens(t, n, upgrade) })
	res, body := n.request(t, "GET", "/ws/late", "", upgrade...)
	if code := errorCode(t, body); res.StatusCode != 503 || code != "draining" || res.Header.Get("Retry-After") == "" {
		t.Errorf("a new session: %d %s", res.StatusCode, body)
	}
	for frame := ""; !strings.Contains(frame, `"error"`); {
		clients[1].send(`{"content":"too late"}`)
		frame = clients[1].next()
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown ended with a publish in flight: %v", err)
	default:
	}
	close(n.broker.hold)

	delays := map[string]bool{}
	for i, c := range clients {
		frames, reason := c.closed(1012)
		found := regexp.MustCompile(`^retry-ms=(\d+)$`).FindStringSubmatch(reason)
		if found == nil {
			t.Fatalf("reason %q", reason)
		}
		if ms, _ := strconv.Atoi(found[1]); ms < 500 || ms > 5000 {
			t.Errorf("%s is not within 500 and 5000", reason)
		}
		delays[reason] = true
		if !slices.ContainsFunc(frames, func(f string) bool { return strings.Contains(f, "in flight") }) {
			t.Errorf("client %d did not get what was in flight: %q", i, frames)
		}
	}
	if len(delays) < people/2 {
		t.Errorf("%d delays for %d clients", len(delays), people)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if !n.presence.empty() {
		t.Errorf("still present: %v", n.presence.users)
	}
	if _, err := net.Dial("tcp", n.Addr()); err == nil {
		t.Error("still listening")
	}
}

// Shutdown is bounded by its context, whatever peers and broker do.
func TestShutdownIsBounded(t *testing.T) {
	n := prepare(t, nil)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.broker.hold, n.broker.held = make(chan struct{}), make(chan struct{}, 1)
	c := n.rawDial(t, "alice", 0)
	c.write(0x81, `{"content":"x"}`)
	<-n.broker.held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v, want the deadline", err)
	}
	eventually(t, "nobody there", n.presence.empty)
}

// Peers that do not answer a close frame are not waited for.
func TestDrainOfMutePeers(t *testing.T) {
	n := start(t, nil)
	for range 5 {
		n.rawDial(t, "mute", 0)
	}
	eventually(t, "all there", func() bool { return n.metric(t, "burrow_edge_sessions") == 5 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil { // The context ends a wait for a mute peer.
		t.Error(err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	n := prepare(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { n.ran <- n.Run(ctx) }()
	if err := n.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	alice := n.join(t, "alice")
	cancel()
	alice.closed(1012)
	if err := <-n.ran; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A session that panics ends; the server goes on.
func TestPanicEndsOneSession(t *testing.T) {
	n := start(t, nil)
	alice, bob := n.join(t, "alice"), n.join(t, "bob")
	n.broker.mu.Lock()
	deliver := n.broker.deliver
	n.broker.deliver = nil
	n.broker.mu.Unlock()
	alice.send(`{"content":"boom"}`)
	alice.closed(1011)
	n.broker.mu.Lock()
	n.broker.deliver = deliver
	n.broker.mu.Unlock()
	bob.want(offline("alice"))
	bob.send(`{"content":"well"}`)
	bob.hears("bob", "", "well")
}
