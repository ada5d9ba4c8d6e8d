package httpapi

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"

	"burrow/gen/edge"
)

// coverage is what else than its ends is to be known of the memory.
type coverage struct {
	// begun is set by the first Seed: before it nothing is known to be complete.
	begun bool
	// privateFrom is up to which id private messages may have passed this node by for
	// good, because it was not there and no archive has them.
	privateFrom string
}

// now is the time on a clock that never jumps, in Unix nanoseconds when the hub began.
func (h *hub) now() int64 { return h.began.UnixNano() + int64(time.Since(h.began)) }

// seeded says that the memory is complete from now on. at is a moment at which the broadcast
// function was subscribed already.
func (h *hub) seeded(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.cover.begun {
		h.cover.begun = true
		h.lostPrivate(at)
	}
}

// missedEvents says that messages may have passed this node by until now. What is archived is
// merged later, and then sent to all who are here; the rest is lost.
func (h *hub) missedEvents() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lostPrivate(time.Now())
}

func (h *hub) lostPrivate(until time.Time) {
	if !h.keepsPrivate {
		h.cover.privateFrom = max(h.cover.privateFrom, firstID(until))
	}
}

// resume returns the messages that a session begins with: all that it has missed since
// s.since, or else the recent ones; and what it is told about that. The caller holds the
// lock, and does not keep the entries beyond it.
//
// The memory is in the order in which this node got the messages. Other nodes may have got
// them in another one, within the overlap; and a message that was sent again is later than its
// id says. So what is missed is all that came here from a little before since on, or has an
// id from a little before on.
func (h *hub) resume(s *session) ([]*entry, *edge.Welcome) {
	welcome := new(edge.Welcome)
	since, ok := parseID(s.since)
	if u, _ := uuid.Parse(since); ok && u.Version() == 7 {
		from := firstID(timeOf(since).Add(-h.overlap))
		welcome.PrivateGap = from < h.cover.privateFrom || !h.keepsPrivate && from < h.private.from
		if missed, complete := h.missed(s.user, since, from); complete {
			welcome.Recovered = true
			return missed, welcome
		}
	}
	history := h.global.tail(h.historyLimit)
	recent := make([]*entry, len(history))
	for i := range history {
		recent[i] = &history[i]
	}
	return recent, welcome
}

// missed returns the global messages and those of user that came after since, in the order of
// their ids, with some from before; complete is false if there may be others.
func (h *hub) missed(user, since, from string) (missed []*entry, complete bool) {
	last := h.global.find(since)
	if last == nil {
		if last = h.private.find(since); last == nil || last.chat.Sender != user && last.chat.ToUser != user {
			return nil, false // Nobody learns that a message of others is there.
		}
	}
	came := last.came - int64(h.overlap)
	if !h.cover.begun || from < h.global.from || from < h.private.from || came <= h.global.gone || came <= h.private.gone {
		return nil, false
	}
	for i := range h.global.items {
		if e := &h.global.items[i]; e.chat.ID != since && (e.chat.ID > from || e.came >= came) {
			missed = append(missed, e)
		}
	}
	for i := range h.private.items {
		e := &h.private.items[i]
		mine := e.chat.Sender == user || e.chat.ToUser == user
		if mine && e.chat.ID != since && (e.chat.ID > from || e.came >= came) {
			missed = append(missed, e)
		}
	}
	slices.SortStableFunc(missed, func(a, b *entry) int { return cmp.Compare(a.chat.ID, b.chat.ID) })
	return missed, true
}

// find returns the message with this id, or nil.
func (r *recent) find(id string) *entry {
	// What somebody saw last is mostly near the end.
	for i := len(r.items) - 1; i >= 0; i-- {
		if r.items[i].chat.ID == id {
			return &r.items[i]
		}
	}
	return nil
}

// firstID returns what comes before every id of the time at, and after those of earlier times.
func firstID(at time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, at.UnixMilli()))<<16)
	return id.String()
}
