package httpapi

import (
	"slices"
	"time"
)

// doubt is a time, by hub.now. Who has seen a message of it last may have got it at another node,
// which did not know all that was said since from.
type doubt struct{ from, until int64 }

const (
	// lateStart is how long before the start of a node may have been said what it finds in the
	// archive only when it looks again.
	lateStart = reseedAfter + 2*time.Second
	// maxBehind is how long a node may have been deaf of which another one takes its word.
	maxBehind = 24 * time.Hour
	// maxDoubts bounds how many there are; more become one.
	maxDoubts = 16
)

// gap says that messages have passed this node by, and that it has not found them yet.
func (h *hub) gap() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	last, came := "", int64(0)
	for _, r := range []*recent{&h.global, &h.private} {
		if n := len(r.items); n > 0 && r.items[n-1].came >= came {
			last, came = r.items[n-1].chat.ID, r.items[n-1].came
		}
	}
	if h.cover.gapUntil < now {
		h.cover.gapLast = last
	}
	h.cover.holeAfter = last
	h.cover.passed = max(h.cover.passed, firstID(time.Now().Add(-h.overlap)))
	h.cover.gapUntil = now + int64(refillLast+underway)
}

// hole returns the v1 sessions that have to resume, because this node has missed more than it could
// find: of the messages in the archive it has those after from only. They are told then to ask for the
// history.
func (h *hub) hole(from string) (sessions []*session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	last := h.cover.holeAfter
	h.cover.holeAfter = ""
	if last == "" || from <= last {
		return nil
	}
	// What was still on its way to the archive comes by the merge after this one.
	d := doubt{from: timeOf(last).UnixNano(), until: now + int64(h.late)}
	if e := h.global.find(last); e != nil {
		d.from = e.came
	}
	h.doubt(d)
	h.global.gone = max(h.global.gone, d.from)
	for _, s := range h.sessions {
		if s.dialect != plain {
			sessions = append(sessions, s)
		}
	}
	return sessions
}

// behind returns the last message before those that this node may not know yet, or "".
func (h *hub) behind() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now() > h.cover.gapUntil {
		return ""
	}
	return h.cover.gapLast
}

// otherBehind notes that another node may not know yet what was said after the message last, or
// if that is empty, what was said before it started just now.
func (h *hub) otherBehind(last string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	d := doubt{now - int64(lateStart), now + int64(refillLast) + int64(lateStart)}
	if last != "" {
		// If it is not here any more, there is its id to go by, as far as it can be believed. It may
		// also have come here long after it came there.
		said := max(timeOf(last).UnixNano(), now-int64(maxBehind))
		d.from = min(said, d.from) - int64(h.overlap)
		for _, r := range []*recent{&h.global, &h.private} {
			if e := r.find(last); e != nil {
				d.from = min(said, e.came) - int64(h.overlap)
			}
		}
	}
	h.doubt(d)
}

// doubt notes d. The caller holds the lock.
func (h *hub) doubt(d doubt) {
	all := append(h.cover.doubts, d)
	if len(all) > maxDoubts {
		all[1] = doubt{min(all[0].from, all[1].from), max(all[0].until, all[1].until)}
		all = slices.Delete(all, 0, 1)
	}
	h.cover.doubts = all
}

// earliest returns from when on somebody may miss messages who has seen one last that came at the
// time came.
func (h *hub) earliest(came int64) int64 {
	first := came
	for _, d := range slices.Backward(h.cover.doubts) {
		if d.from <= first && first <= d.until {
			first = d.from
		}
	}
	return min(first, came-int64(h.overlap))
}
