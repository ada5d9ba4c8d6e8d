package httpapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/httpapi"
)

const (
	loadCrowd     = 1000
	loadObservers = 100                   // Of the crowd; they measure.
	loadEvery     = 50 * time.Millisecond // Between two messages to everyone.
)

// crowd is people who read all the time; some of them measure how long messages take.
type crowd struct {
	n     *node
	conns []*rawConn
	late  chan time.Duration // Of one message to one observer.
	ended atomic.Int64       // Connections that are over.
	said  int
	wait  sync.WaitGroup
}

func gather(t *testing.T, n *node) *crowd {
	t.Helper()
	c := &crowd{n: n, late: make(chan time.Duration, 1<<20)}
	for i := range loadCrowd {
		conn := n.rawDial(t, fmt.Sprintf("user%04d", i), 0)
		_ = conn.SetDeadline(time.Time{})
		c.conns = append(c.conns, conn)
		c.wait.Go(func() {
			defer c.ended.Add(1)
			if i < loadObservers {
				c.observe(conn)
			} else {
				_, _ = io.Copy(io.Discard, conn.Conn) // What is in conn.r already does not matter.
			}
		})
	}
	t.Cleanup(c.leave)
	return c
}

// observe reads until the end.
func (c *crowd) observe(conn *rawConn) {
	mark := []byte(`"content":"at `)
	for {
		_, payload, err := conn.read()
		if err != nil {
			return
		}
		if _, rest, found := bytes.Cut([]byte(payload), mark); found {
			stamp, _, _ := bytes.Cut(rest, []byte(`"`))
			at, _ := strconv.ParseInt(string(stamp), 10, 64)
			c.late <- time.Duration(time.Now().UnixNano() - at)
		}
	}
}

// measure talks to everyone until done says so, at least ten times, and returns the 99th percentile
// of how long it took until an observer had it.
func (c *crowd) measure(t *testing.T, done func() bool) time.Duration {
	t.Helper()
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	timeout := time.After(2 * patience)
	said := 0
	for ; said < 10 || !done(); said++ {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("the phase does not end")
		}
		c.said++
		c.n.Deliver(message(c.said, "clock", "", fmt.Sprint("at ", time.Now().UnixNano())))
	}
	all := make([]time.Duration, 0, said*loadObservers)
	for range said * loadObservers {
		select {
		case d := <-c.late:
			all = append(all, d)
		case <-timeout:
			t.Fatalf("of %d messages %d came", said*loadObservers, len(all))
		}
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.wait.Wait()
}

// compare runs pairs of phases, one as usual and one with a burden, until the medians tell that the
// burden makes the crowd wait less than limit times as long: a machine that is busy with other
// things in between does not decide. A difference of a few milliseconds is none.
//
// With the race detector what the others must do costs ten times as much, and there may be no CPU left
// for it: then only that nothing breaks and nobody waits for very long is tested. make test-load is without it.
func (c *crowd) compare(t *testing.T, limit float64, usual, burdened func() time.Duration) {
	t.Helper()
	const (
		least = 3
		most  = 12
		noise = 5 * time.Millisecond
	)
	if raceDetector {
		limit *= 5
	}
	var without, with []time.Duration
	for pair := 1; ; pair++ {
		without, with = append(without, usual()), append(with, burdened())
		a, b := median(without), median(with)
		fine := b <= max(time.Duration(limit*float64(a)), a+noise)
		if pair < least || !fine && pair < most {
			continue
		}
		t.Logf("p99 of %d observers among %d: %s as usual, %s with it (%.2f times), medians of %d phases each",
			loadObservers, loadCrowd, a.Round(time.Microsecond), b.Round(time.Microsecond), float64(b)/float64(a), pair)
		if !fine {
			t.Errorf("others wait more than %.1f times as long", limit)
		}
		break
	}
	if n := c.ended.Load(); n > 0 {
		t.Errorf("%d others lost their connection", n)
	}
}

func median(of []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// One of 1,000 stops reading while much is said to them: they are closed with 1013, and the others
// notice nothing.
func TestOneSlowReaderOfAThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	n := start(t, func(c *httpapi.Config) {
		c.Edge.SlowAfter, c.Edge.PingInterval = 300*time.Millisecond, 10*time.Minute // The crowd answers no pings.
	})
	others := gather(t, n)
	filler := strings.Repeat("x", 4000)
	told := 0
	// tell says much to the slow one alone, and measures until over.
	tell := func(over func() bool) time.Duration {
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-quit:
					return
				case <-tick.C:
				}
				told++
				for range 4 {
					m := message(0, "bot", "slow", filler)
					m.Id = uuid.Must(uuid.NewV7()).String()
					n.Deliver(m)
				}
			}
		}()
		p99 := others.measure(t, over)
		close(quit)
		<-done
		return p99
	}
	closed := func() float64 { return n.metric(t, "burrow_edge_closes_total", "1013") }
	var took time.Duration // Of the phase before with the slow one.
	others.compare(t, 1.5, func() time.Duration {
		reader := n.rawDial(t, "slow", 64<<10)
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(io.Discard, reader.Conn) }()
		begun := time.Now()
		p99 := tell(func() bool { return time.Since(begun) > max(took, time.Second) })
		_ = reader.Close()
		<-done
		return p99
	}, func() time.Duration {
		before := closed()
		reader := n.rawDial(t, "slow", 64<<10) // It reads nothing from now on.
		begun := time.Now()
		// From then on it reads, before the others have heard all: a close frame does not wait for long.
		var code int
		var err error
		var read chan struct{}
		p99 := tell(func() bool {
			if read == nil && closed() > before {
				read = make(chan struct{})
				go func() { defer close(read); code, err = reader.closeCode() }()
			}
			return read != nil
		})
		took = time.Since(begun)
		if <-read; code != 1013 {
			t.Errorf("closed with %d, %v", code, err)
		}
		_ = reader.Close()
		return p99
	})
}

// One client sends 10,000 frames a second, and comes back each time that it is closed: the others
// notice nothing, and get no more from it than anybody may say.
func TestFloodOfFrames(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	n := start(t, func(c *httpapi.Config) { c.Edge.PingInterval = 10 * time.Minute }) // The crowd answers no pings.
	others := gather(t, n)
	begun := time.Now()
	phase := func() time.Duration {
		from := time.Now()
		return others.measure(t, func() bool { return time.Since(from) > time.Second })
	}
	var frames, connections int
	others.compare(t, 2, phase, func() time.Duration {
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			f, c := flood(n.Addr(), quit)
			frames, connections = frames+f, connections+c
		}()
		p99 := phase()
		close(quit)
		<-done
		return p99
	})
	said := strings.Count(strings.Join(n.broker.published(), " "), "event") // One call may publish several.
	edge := httpapi.DefaultEdgeConfig()
	most := float64(edge.Burst) + edge.Rate*time.Since(begun).Seconds()
	t.Logf("%d frames over %d connections; %d were said", frames, connections, said)
	if float64(said) > most+1 || said < edge.Burst {
		t.Errorf("%d messages were said, want at most %.0f", said, most)
	}
	if connections < 2 || n.metric(t, "burrow_edge_closes_total", "4429") < 1 {
		t.Error("the flood was not stopped")
	}
}

// flood sends 10,000 frames a second until quit is closed, over one connection after the other. It
// returns how many frames and connections that were.
func flood(addr string, quit <-chan struct{}) (frames, connections int) {
	const each = 20 // Frames, every 2 ms.
	var some []byte
	for range each {
		some = append(some, rawFrame(0x81, `{"content":"flood"}`)...)
	}
	hello := "GET /ws/mallory HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return frames, connections
		}
		connections++
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(io.Discard, conn) }()
		_, err = io.WriteString(conn, hello)
		for over := false; err == nil && !over; {
			select {
			case <-quit:
				over = true
			case <-done: // Closed.
				over = true
			case <-tick.C:
				if _, err = conn.Write(some); err == nil {
					frames += each
				}
			}
		}
		_ = conn.Close()
		<-done
		select {
		case <-quit:
			return frames, connections
		default:
		}
	}
}
