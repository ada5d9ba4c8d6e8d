package httpapi

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"burrow/gen/edge"
)

// maxStatusBytes bounds the names of one status frame, whoever comes at once.
const maxStatusBytes = 32 << 10

const (
	// flushCost is how much later who comes and goes is told for each session: a write to each
	// takes 5 to 10 µs, and so the news takes a twentieth of a core at most, below 10,000 sessions.
	flushCost = 200 * time.Microsecond
	// maxFlushPause bounds that, whatever the number of sessions.
	maxFlushPause = 2 * time.Second
)

// flushPause is the least time between two tellings of who came and went: the configured one, or
// more from 1,000 sessions on (by default). The caller holds the lock.
func (h *hub) flushPause() time.Duration {
	return max(h.flushInterval, min(time.Duration(len(h.sessions))*flushCost, maxFlushPause))
}

// untilFlush is how long to wait before flush when something has changed.
func (h *hub) untilFlush() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flushPause()
}

// status notes how user is there. Sessions are told of all that has changed when flush is
// called; plain ones at once, if nothing has changed for a while.
func (h *hub) status(user string, now standing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.crowd.note(user, now)
	if h.news.note(&h.roster, user, now != absent) {
		if h.speaking[plain] == 0 || time.Since(h.news.told) >= h.flushPause() {
			h.tellPlain()
		} else {
			first = true
		}
	}
	if first {
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
}

// news is what plain sessions have not been told yet. When thousands come at once, as after a
// restart, each of them telling each of the others by itself would be most of what the node does.
type news struct {
	pending map[string]bool
	told    time.Time
}

// note notes a change against what was told and reports whether there is anything to tell. Who
// went and came back is not mentioned.
func (n *news) note(told *roster, user string, online bool) bool {
	if _, was := told.find(user); was == online {
		delete(n.pending, user)
	} else {
		if n.pending == nil {
			n.pending = make(map[string]bool)
		}
		n.pending[user] = online
	}
	return len(n.pending) > 0
}

// tellPlain tells plain sessions the news, in a few pieces of many frames that are made once for
// all. The caller holds the lock.
func (h *hub) tellPlain() {
	if len(h.news.pending) == 0 {
		return
	}
	var piece frame
	send := func() {
		for _, s := range h.sessions {
			if s.dialect == plain {
				s.enqueue(piece, 1)
			}
		}
		piece = nil
	}
	for _, user := range slices.Sorted(maps.Keys(h.news.pending)) {
		online := h.news.pending[user]
		f := textFrame(statusFrame{ClientID: user, Online: online})
		h.roster.set(user, online, f)
		if len(piece)+len(f) > maxStatusBytes {
			send()
		}
		piece = append(piece, f...)
	}
	send()
	h.news = news{told: time.Now()}
}

// flush tells sessions what has changed since the last time, if anything has.
func (h *hub) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellPlain()
	for _, status := range h.crowd.flush() {
		var frames [dialects]frame
		for d := v1JSON; d < dialects; d++ {
			if h.speaking[d] > 0 {
				frames[d] = d.encode(&edge.ServerFrame{Frame: &edge.ServerFrame_Status{Status: status}})
			}
		}
		for _, s := range h.sessions {
			if s.dialect != plain {
				s.enqueue(frames[s.dialect], 1)
			}
		}
	}
}

// crowd is who is online as all v1 sessions of this node know it, newcomers too: it changes
// when they are told of a change, and so a newcomer's list and what follows fit together.
type crowd struct {
	names   []string            // Sorted.
	away    map[string]bool     // Those of names who are away.
	version uint64              // Counts the changes.
	pending map[string]standing // Who has come, gone, or become something else since.
	hello   [dialects]frame     // The list for those who are on it or are not online; made when needed.
}

// standing is how a user is there.
type standing uint8

const (
	absent standing = iota
	here
	away // All their sessions are, on every node.
)

func (c *crowd) standing(user string) standing {
	if c.away[user] {
		return away
	}
	if _, found := slices.BinarySearch(c.names, user); found {
		return here
	}
	return absent
}

// note notes a change and reports whether it is the first to tell. Who went and came back
// is not mentioned.
func (c *crowd) note(user string, now standing) bool {
	if c.standing(user) == now {
		delete(c.pending, user)
		return false
	}
	if c.pending == nil {
		c.pending = make(map[string]standing)
	}
	c.pending[user] = now
	return len(c.pending) == 1
}

// flush makes what was noted the state, and returns it as frames.
func (c *crowd) flush() []*edge.Status {
	if len(c.pending) == 0 {
		return nil
	}
	var came, left, gone, back []string
	for _, user := range slices.Sorted(maps.Keys(c.pending)) {
		was, now := c.standing(user), c.pending[user]
		switch {
		case now == absent:
			left = append(left, user)
		case was == absent:
			came = append(came, user)
		case now == here:
			back = append(back, user)
		}
		if now == away {
			gone = append(gone, user)
		}
	}
	kept := slices.DeleteFunc(c.names, func(user string) bool {
		now, changed := c.pending[user]
		return changed && now == absent
	})
	c.names = merge(kept, came)
	for user, now := range c.pending {
		if now != away {
			delete(c.away, user)
			continue
		}
		if c.away == nil {
			c.away = make(map[string]bool)
		}
		c.away[user] = true
	}
	c.pending, c.hello = nil, [dialects]frame{}
	c.version++

	statuses := []*edge.Status{{}}
	size := 0
	room := func(name string) *edge.Status {
		if size += len(name) + 3; size > maxStatusBytes {
			statuses, size = append(statuses, &edge.Status{}), len(name)+3
		}
		return statuses[len(statuses)-1]
	}
	for _, name := range came {
		s := room(name)
		s.Online = append(s.Online, name)
	}
	for _, name := range left {
		s := room(name)
		s.Offline = append(s.Offline, name)
	}
	for _, name := range gone {
		s := room(name)
		s.Away = append(s.Away, name)
	}
	for _, name := range back {
		s := room(name)
		s.Back = append(s.Back, name)
	}
	for _, s := range statuses {
		s.Total = uint32(len(c.names))
	}
	return statuses
}

// merge returns what is in one of two sorted lists, which have nothing in common, sorted.
func merge(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	all := make([]string, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if cmp.Less(a[0], b[0]) {
			all, a = append(all, a[0]), a[1:]
		} else {
			all, b = append(all, b[0]), b[1:]
		}
	}
	return append(append(all, a...), b...)
}

// list returns the frame with the first n names and how many there are; own, if they are online,
// is among them.
func (c *crowd) list(d dialect, n int, own string) frame {
	at, found := slices.BinarySearch(c.names, own)
	beyond := found && at >= n
	if c.hello[d] != nil && !beyond {
		return c.hello[d]
	}
	names := c.names[:min(n, len(c.names))]
	if beyond {
		names = append(slices.Clone(names[:n-1]), own)
	}
	p := &edge.Presence{Users: names, Total: uint32(len(c.names))}
	for _, name := range names {
		if c.away[name] {
			p.Away = append(p.Away, name)
		}
	}
	f := d.encode(&edge.ServerFrame{Frame: &edge.ServerFrame_Presence{Presence: p}})
	if !beyond {
		c.hello[d] = f
	}
	return f
}
