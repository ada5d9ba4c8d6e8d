package httpapi_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"burrow/httpapi"
	"burrow/ring"
)

func TestWritesTogetherWhereTheSystemCan(t *testing.T) {
	if os.Getenv("BURROW_TEST_WRITERS") != "" {
		t.Skip("told to write otherwise")
	}
	r, err := ring.New()
	if err == nil {
		_ = r.Close()
	}
	for _, on := range []bool{true, false} {
		n := start(t, func(c *httpapi.Config) { c.Edge.IOUring = on })
		if got, want := httpapi.WritesTogether(n.Server), on && err == nil; got != want {
			t.Errorf("with edge.io_uring %v it writes together: %v; the system says %v", on, got, err)
		}
	}
}

// While people come, are cut and come again, and much is said to each of them alone, nobody gets a byte
// that is not for them. That the numbers of sockets are held meanwhile is tested by
// TestSocketsAreHeldWhileSent: without it this would fail too seldom to be noticed.
func TestNobodyGetsAnothersBytes(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.UpgradeRate, c.Edge.PingInterval = 0, 10*time.Minute })
	const people, lives = 64, 15
	over := make(chan struct{})
	var talker, all sync.WaitGroup
	talker.Go(func() {
		tick := time.NewTicker(time.Millisecond) // A room with something to say, not a flood.
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			to := ""
			if i%(people+1) < people {
				to = fmt.Sprintf("user%02d", i%(people+1))
			}
			n.Deliver(message(i, "bot", to, "for "+to))
			if i%(people+1) == people {
				<-tick.C
			}
		}
	})
	for i := range people {
		all.Go(func() {
			for range lives {
				if err := live(n.Addr(), fmt.Sprintf("user%02d", i), 1+rand.IntN(20)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	close(over)
	talker.Wait()
}

// live connects user, reads this many private messages, and is cut.
func live(addr, user string, private int) error {
	c, err := rawOpen(addr, user, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.Conn.(*net.TCPConn).SetLinger(0) // Closing is a reset.
	for private > 0 {
		first, payload, err := c.read()
		if err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
		var m struct {
			Content string
			ToUser  string `json:"to_user"`
		}
		if err := json.Unmarshal([]byte(payload), &m); first != 0x81 || err != nil {
			return fmt.Errorf("%s got a frame %#x of %q: %v", user, first, payload, err)
		}
		if m.ToUser == "" {
			continue
		}
		if private--; m.ToUser != user || m.Content != "for "+user {
			return fmt.Errorf("%s got %s", user, payload)
		}
	}
	return nil
}
