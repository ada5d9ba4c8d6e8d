package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestPresenceOfManyWhoCome has 2,000 users come within 10 s: nobody gets more than 5 frames a second
// about that, and in the end everybody knows how many there are.
func TestPresenceOfManyWhoCome(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	const (
		crowd     = 2000
		within    = 10 * time.Second
		perSecond = 5
	)
	for _, b := range []*broker{embedded, onRedis} {
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			in := install(t, b, "BURROW_AUTH_MODE=open", "BURROW_PRESENCE_LEASE=30s", "BURROW_PRESENCE_HEARTBEAT=5s")
			nodes := in.startAll(t, b.nodes)
			w := watchPresence(t, nodes[0].addr, "witness")

			counts := make([]atomic.Int64, crowd)
			came := make([]time.Time, crowd)
			var coming, reading sync.WaitGroup
			slots := make(chan struct{}, 50) // Who come at the same time, if the machine lags behind.
			begun := time.Now()
			for i := range crowd {
				if wait := time.Until(begun.Add(within * time.Duration(i) / crowd)); wait > 0 {
					<-time.After(wait)
				}
				slots <- struct{}{}
				coming.Go(func() {
					defer func() { <-slots }()
					came[i] = time.Now()
					c, err := dialLean(nodes[i%len(nodes)].addr, fmt.Sprintf("user %04d", i), "")
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(c.close)
					reading.Go(func() {
						for {
							data, err := c.read()
							if err != nil {
								return
							}
							counts[i].Add(int64(presenceFrames(data)))
						}
					})
				})
			}
			coming.Wait()
			took := time.Since(begun)
			w.until(patience, "all are online", func() bool { return len(w.names()) == crowd+1 })
			known := time.Since(begun)
			var most float64
			for i := range counts {
				n, seconds := counts[i].Load(), time.Since(came[i]).Seconds()
				// The list at first, and one of the second that has begun.
				rate := float64(max(0, n-2)) / max(1, seconds)
				most = max(most, rate)
			}
			t.Logf("%d came in %.1f s and were known after %.1f s; nobody got more than %.1f frames a second about it", crowd, took.Seconds(), known.Seconds(), most)
			if most > perSecond {
				t.Errorf("somebody got %.1f frames a second, want %d at most", most, perSecond)
			}
			w.mu.Lock()
			total := w.total
			w.mu.Unlock()
			if total != crowd+1 {
				t.Errorf("the last frame says that %d are online, want %d", total, crowd+1)
			}
			for _, n := range nodes {
				n.stop()
			}
			reading.Wait()
		})
	}
}

// presenceFrames returns how many frames of a batch are about who is online, without decoding more: its fields
// status and presence.
func presenceFrames(batch []byte) (n int) {
	for len(batch) > 0 {
		_, _, size := protowire.ConsumeTag(batch) // All are of the one field, frames.
		frame, more := protowire.ConsumeBytes(batch[size:])
		batch = batch[size+more:]
		if field, _, _ := protowire.ConsumeTag(frame); field == 3 || field == 4 {
			n++
		}
	}
	return n
}
