package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"burrow/gen/edge"
)

// TestJoinWhilePeopleTalk has 500 people join while 200 messages a second are said: what each of
// them gets, first and later, is one piece of what the node showed to those who were there all the
// time, in the same order and without a repetition.
func TestJoinWhilePeopleTalk(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	const (
		joins    = 500
		pace     = 200 // messages a second
		speakers = 20  // so many that a slow answer does not slow the talk
		atOnce   = 40  // join and listen at the same time
		stay     = 60  // live messages that each hears
	)
	for _, b := range []*broker{embedded, onRedis} {
		t.Run(b.String(), func(t *testing.T) {
			in := install(t, b, "BURROW_AUTH_MODE=open", "BURROW_EDGE_RATE=0", "BURROW_PRESENCE_LEASE=30s")
			nodes := in.startAll(t, b.nodes)
			lines := make([]line, len(nodes))
			var talking errgroup.Group
			for i, n := range nodes {
				c, err := dialLean(n.addr, fmt.Sprint("witness ", i), "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.close)
				talking.Go(func() error {
					for {
						frames, err := c.frames()
						if err != nil {
							return nil // The end of the test.
						}
						for _, f := range frames {
							if m := f.GetChat(); m != nil {
								lines[i].add(m.GetId())
							}
						}
					}
				})
			}

			stop := make(chan struct{})
			var said atomic.Int64
			var speaking errgroup.Group
			begun := time.Now()
			for i := range speakers {
				c, err := dialLean(nodes[i%len(nodes)].addr, fmt.Sprint("speaker ", i), "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.close)
				speaking.Go(func() error { return speak(c, time.Second*speakers/pace, stop, &said) })
			}

			var joining errgroup.Group
			joining.SetLimit(atOnce)
			for i := range joins {
				joining.Go(func() error {
					at := i % len(nodes)
					got, err := listen(nodes[at].addr, fmt.Sprint("user ", i), stay)
					if err != nil {
						return fmt.Errorf("user %d: %w", i, err)
					}
					// The witness may get the last of them a little later.
					for until := time.Now().Add(patience); !lines[at].isPart(got); time.Sleep(10 * time.Millisecond) {
						if time.Now().After(until) {
							return fmt.Errorf("the %d messages that user %d got are no piece of what node %d showed", len(got), i, at)
						}
					}
					return nil
				})
			}
			if err := joining.Wait(); err != nil {
				t.Error(err)
			}
			took := time.Since(begun)
			close(stop)
			if err := speaking.Wait(); err != nil {
				t.Error(err)
			}
			t.Logf("%d joined in %.1f s, while %.0f messages a second were said", joins, took.Seconds(), float64(said.Load())/took.Seconds())
			for _, n := range nodes {
				n.stop()
			}
			if err := talking.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// speak says something every so often until stop is closed, one thing after the other.
func speak(c *lean, every time.Duration, stop <-chan struct{}, said *atomic.Int64) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		ref := uuid.NewString()
		if err := c.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: ref, Content: "message " + ref}}}); err != nil {
			return err
		}
		for answered := false; !answered; {
			frames, err := c.frames()
			if err != nil {
				return err
			}
			for _, f := range frames {
				if e := f.GetError(); e != nil {
					return fmt.Errorf("%s: %s", e.GetCode(), e.GetMessage())
				}
				answered = answered || f.GetAck().GetRef() == ref
			}
		}
		said.Add(1)
	}
}

// listen joins as user until stay messages have come live, and returns the ids of all that came.
func listen(addr, user string, stay int) (ids []string, err error) {
	c, err := dialLean(addr, user, "")
	if err != nil {
		return nil, err
	}
	defer c.close()
	timeout := time.AfterFunc(patience, c.close)
	defer timeout.Stop()
	for live, begun := 0, false; live < stay; {
		frames, err := c.frames()
		if err != nil {
			return nil, fmt.Errorf("after %d messages: %w", len(ids), err)
		}
		for _, f := range frames {
			switch {
			case f.GetPresence() != nil:
				begun = true
			case f.GetChat() != nil:
				ids = append(ids, f.GetChat().GetId())
				if begun {
					live++
				}
			}
		}
	}
	return ids, nil
}
