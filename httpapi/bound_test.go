package httpapi

import (
	"testing"
	"testing/synctest"
)

// What waits for one session never takes more memory than docs/operations.md says, and nothing once it
// is closed.
func TestWaitingFramesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int{20, 1000, 64 << 10, hardBytes} {
			s := hubOf(t, func(c *Config) { c.Edge.Queue = 256 })
			alice := s.listen(t, "alice", "")
			f := newFrame(opBinary, make([]byte, size))
			most, frames := 0, 0
			for !alice.closing {
				alice.enqueue(f, 1)
				if !alice.closing {
					most, frames = max(most, alice.queue.bytes), max(frames, alice.queue.live)
				}
			}
			if most > hardBytes || frames > hardQueue*256 {
				t.Errorf("%d frames of %d bytes waited, %d bytes in all", frames, size, most)
			}
			if frames < min(hardBytes/len(f), hardQueue*256) {
				t.Errorf("frames of %d bytes: closed with %d of them", size, frames)
			}
			if n := alice.queue.len(); n > 0 {
				t.Errorf("%d frames are kept after the end", n)
			}
		}
	})
}
