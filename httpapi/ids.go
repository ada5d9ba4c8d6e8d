package httpapi

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/google/uuid"
)

// maxDrift is how far the ids of other nodes may pull ours into the future: a
// node whose clock is off by more does not take the others with it.
const maxDrift = time.Minute

// idClock makes UUIDv7 ids that only ever grow: a hybrid logical clock of 48
// bits of milliseconds and 12 bits of counter, which carry into the
// milliseconds. Ids seen from other nodes move it on, so that an answer has a
// greater id than what it answers. It is safe for concurrent use.
type idClock struct {
	now func() time.Time

	mu   sync.Mutex
	last uint64 // milliseconds << 12 | counter
}

func newIDClock(now func() time.Time) *idClock { return &idClock{now: now} }

// next returns a new id and the wall clock's time for the message that gets it.
func (c *idClock) next() (string, time.Time) {
	now := c.now()
	var id uuid.UUID
	// crypto/rand.Read never fails: it ends the program instead.
	_, _ = rand.Read(id[8:])

	c.mu.Lock()
	c.last = max(c.last+1, uint64(now.UnixMilli())<<12)
	t := c.last
	c.mu.Unlock()

	binary.BigEndian.PutUint64(id[:8], t>>12<<16|0x7000|t&0xfff)
	id[8] = id[8]&0x3f | 0x80
	return id.String(), now
}

// timeOf returns the time in an id that next has made, in milliseconds.
func timeOf(id string) time.Time {
	u, err := uuid.Parse(id)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(u[:8]) >> 16))
}

// observe moves the clock past id, if it is a UUIDv7 not too far in the future.
func (c *idClock) observe(id string) {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return
	}
	raw := binary.BigEndian.Uint64(u[:8])
	t := raw>>16<<12 | raw&0xfff
	if t>>12 > uint64(c.now().Add(maxDrift).UnixMilli()) {
		return
	}
	c.mu.Lock()
	c.last = max(c.last, t)
	c.mu.Unlock()
}
