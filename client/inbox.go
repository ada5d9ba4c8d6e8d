package client

import (
	"cmp"
	"slices"

	"github.com/google/uuid"
)

const (
	// remembered is how many ids are known, so that none is shown twice. A server begins
	// 2 s before what one has seen.
	remembered = 16_384
	// maxHeld is how many live messages wait while the archive is read.
	maxHeld = 4096
	// maxTalks is of how many private talks the archive is asked for.
	maxTalks = 32
)

// inbox is what was said and waits to be taken, in order. The Conn's lock guards it.
type inbox struct {
	max   int
	queue []Message
	since string // The last message that came live: where to go on.
	seen  idSet
	talks []string // With whom there was private talk, the latest last.
	// behind means that something did not fit: nothing is taken any more until the queue is
	// empty, and then all after since comes again.
	behind bool
	catch  *catchUp // Nil: nothing is fetched from the archive.
	closed bool
	wake   chan struct{} // Holds one: feed has something to do.
}

// catchUp is the reading of the archive from after on, of one talk after the other, while what is live
// is held. Everyone's talk is the last: when that is there, so is what was said in private before.
type catchUp struct {
	from  string // Where each talk begins.
	after string // In this talk.
	talks []string
	asked *request // What has no answer yet; nil: nothing is asked.
	last  string   // The last one of everyone's talk that was queued.
	left  int      // How many more may be fetched.
	held  []Message
}

func newInbox(cfg Config) inbox {
	b := inbox{max: cfg.Queue, since: cfg.Since, seen: newIDSet(remembered), wake: make(chan struct{}, 1)}
	if id, err := uuid.Parse(cfg.Since); err == nil {
		b.seen.add(id) // handled already; a server may deliver it again
	}
	return b
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// live takes a message that came live, or in what a connection begins with.
func (b *inbox) live(m Message) {
	switch {
	case b.closed || b.behind:
		return
	case len(m.ID) != 36 || uuid.Validate(m.ID) != nil:
		return // No message of Burrow; it could not be told from another one, nor gone on from.
	case b.catch != nil:
		if len(b.catch.held) < maxHeld {
			b.catch.held = append(b.catch.held, m)
			return
		}
		// Too much to hold: begin anew from what is there.
		if b.catch.last != "" {
			b.since = b.catch.last
		}
		b.catch, b.behind = nil, true
		b.signal()
		return
	}
	if b.put(m) {
		b.since = m.ID
	}
}

// put queues m unless it is known, and reports false if there was no room.
func (b *inbox) put(m Message) bool {
	key, err := uuid.Parse(m.ID)
	if err != nil {
		return true // As above.
	}
	if b.seen.has(key) {
		return true
	}
	if len(b.queue) >= b.max {
		b.behind = true
		return false
	}
	b.seen.add(key)
	b.queue = append(b.queue, m)
	b.signal()
	return true
}

// met notes a private talk.
func (b *inbox) met(other string) {
	b.talks = slices.DeleteFunc(b.talks, func(o string) bool { return o == other })
	if b.talks = append(b.talks, other); len(b.talks) > maxTalks {
		b.talks = b.talks[1:]
	}
}

// start begins to catch up after the id from.
func (b *inbox) start(from string, limit int) {
	b.catch = &catchUp{from: from, after: from, talks: append(slices.Clone(b.talks), ""), left: limit}
}

// page is how many messages the next question of catching up may be answered with: 0 if there is none to
// be asked, or no room for the answer.
func (b *inbox) page() int {
	if b.catch == nil || b.catch.asked != nil {
		return 0
	}
	n := min(100, b.max, b.catch.left)
	if b.max-len(b.queue) < n {
		return 0
	}
	return n
}

// caught takes a page, and reports whether some are left out for good.
func (b *inbox) caught(page []Message, more bool) (gap bool) {
	c := b.catch
	c.asked = nil
	for _, m := range page {
		b.put(m)
		c.after = max(c.after, m.ID)
		if m.To == "" {
			c.last = m.ID
		}
		c.left--
	}
	if more && len(page) > 0 && c.left > 0 {
		return false
	}
	gap = more
	if c.talks, c.after = c.talks[1:], c.from; len(c.talks) > 0 && c.left > 0 {
		return gap
	}
	b.release()
	return gap || len(c.talks) > 0
}

// release ends catching up: what was held is queued.
func (b *inbox) release() {
	held := b.catch.held
	if b.catch.last != "" {
		b.since = b.catch.last
	}
	b.catch = nil
	slices.SortStableFunc(held, func(a, b Message) int { return cmp.Compare(a.ID, b.ID) })
	for _, m := range held {
		b.live(m)
	}
}

// lost says that the connection is gone: what was held comes again. It returns what nobody waits for
// any more, if there is such a request.
func (b *inbox) lost() (asked *request) {
	if b.catch != nil {
		asked = b.catch.asked
	}
	b.catch, b.behind = nil, false
	return asked
}

// feed hands the queue to Messages, until the Conn has ended and the queue is empty.
func (c *Conn) feed() {
	defer close(c.done)
	defer close(c.out)
	defer func() { <-c.ended }()
	for {
		c.mu.Lock()
		b := &c.inbox
		var m Message
		some := len(b.queue) > 0
		if some {
			m = b.queue[0]
		} else if b.behind && c.link != nil {
			c.link.cancel(errBehind)
		}
		closed := b.closed
		c.mu.Unlock()
		if some {
			select {
			case c.out <- m:
			case <-c.ctx.Done():
				return
			}
			c.mu.Lock()
			b.queue[0] = Message{}
			if b.queue = b.queue[1:]; len(b.queue) == 0 {
				b.queue = nil
			}
			c.fetch()
			c.mu.Unlock()
			continue
		}
		if closed {
			return
		}
		select {
		case <-b.wake:
		case <-c.ctx.Done():
			return
		}
	}
}

// idSet remembers the last max ids.
type idSet struct {
	max  int
	ids  map[uuid.UUID]struct{}
	ring []uuid.UUID
	next int
}

func newIDSet(max int) idSet { return idSet{max: max, ids: make(map[uuid.UUID]struct{})} }

func (s *idSet) has(id uuid.UUID) bool {
	_, ok := s.ids[id]
	return ok
}

func (s *idSet) add(id uuid.UUID) {
	s.ids[id] = struct{}{}
	if len(s.ring) < s.max {
		s.ring = append(s.ring, id)
		return
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % s.max
}
