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
	// begun is when the first Seed was, by hub.now; 0: there was none, and nothing is
	// known to be complete. What came later came live.
	begun int64
	// lost is until when, by hub.now and as an id, private messages may have passed this
	// node by for good, because it was not there and no archive has them.
	lost   int64
	lostID string
	// doubts are the times in which another node may have known less than this one, the latest
	// last.
	doubts []doubt
	// gapLast is the last message that came before this node missed some, and gapUntil until when
	// it may not have found them; 0: it has.
	gapLast  string
	gapUntil int64
	// passed is an id at the end of the latest of these gaps: what was said before and is not here
	// does not come any more.
	passed string
	// holeAfter is the last message that came before the latest of these gaps; empty once it is
	// known whether this node can find all that it missed.
	holeAfter string
}

// now is the time on a clock that never jumps, in Unix nanoseconds when the hub began.
func (h *hub) now() int64 { return h.began.UnixNano() + int64(time.Since(h.began)) }

// seeded says that the memory is complete from now on, but for what the archive has only later. at
// is a moment at which the broadcast function was subscribed already.
func (h *hub) seeded(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cover.begun == 0 {
		h.cover.begun = h.now()
		// Others may have started just before, which nobody has told this one.
		h.doubt(doubt{h.cover.begun - int64(h.late), h.cover.begun + int64(h.late)})
		h.losePrivate(at)
	}
}

// missedEvents says that messages may have passed this node by until now. What is archived is
// merged later, and then sent to all who are here; the rest is lost.
func (h *hub) missedEvents() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losePrivate(time.Now())
}

func (h *hub) losePrivate(until time.Time) {
	if !h.keepsPrivate {
		h.cover.lost, h.cover.lostID = h.now(), max(h.cover.lostID, firstID(until))
	}
}

// resume returns the messages that a session begins with: all that it has missed since
// s.since, or else the recent ones; and what it is told about that. The caller holds the
// lock, and does not keep the entries beyond it.
func (h *hub) resume(s *session) ([]*entry, *edge.Welcome) {
	welcome := new(edge.Welcome)
	if since, ok := parseID(s.since); ok && uuid.MustParse(since).Version() == 7 {
		if h.waits(since, "") {
			h.tell()
		}
		var missed []*entry
		if missed, welcome.Recovered, welcome.PrivateGap = h.missed(s, since); welcome.Recovered {
			return missed, welcome
		}
		welcome.HistoryAfter = h.historyAfter(s, since)
	}
	history := h.global.tail(h.historyLimit)
	recent := make([]*entry, len(history))
	for i := range history {
		recent[i] = &history[i]
	}
	return recent, welcome
}

// missed returns the global messages and those of s that came after since, in the order of
// their ids, with some from before. It reports whether these are all that can be had, and
// whether private ones may be gone for good.
//
// The memory is in the order in which this node got the messages. Other nodes may have got
// them in another one, within the overlap; and a message that was sent again is later than its
// id says. So what is missed is all that came here from a little before since on. Of the time
// before the first Seed there are only ids to go by.
func (h *hub) missed(s *session, since string) (missed []*entry, complete, gap bool) {
	from := h.justBefore(since)
	last := h.find(s, since)
	if last == nil {
		return nil, false, from < h.cover.lostID || !h.keepsPrivate && from < h.private.from
	}
	came := h.earliest(last.came)
	if h.cover.begun == 0 || came <= h.cover.begun {
		from = h.historyAfter(s, since)
	}
	// By their ids too: a message that came late may stand before one that is forgotten.
	gone := came <= h.private.gone || from < h.private.from
	complete = h.cover.begun > 0 && came > h.global.gone && from >= h.global.from && !gone
	// Whoever has seen since at a node that did not know everything was told there what is lost.
	if near := last.came - int64(h.overlap); near > h.cover.begun {
		gap = near <= h.cover.lost
	} else {
		gap = h.justBefore(since) < h.cover.lostID
	}
	if gap = gap || gone && !h.keepsPrivate; !complete {
		return nil, false, gap
	}
	for i := range h.global.items {
		if e := &h.global.items[i]; e.chat.ID != since && (e.chat.ID > from || e.came >= came) {
			missed = append(missed, e)
		}
	}
	for i := range h.private.items {
		e := &h.private.items[i]
		if e.isFor(s) && e.chat.ID != since && (e.chat.ID > from || e.came >= came) {
			missed = append(missed, e)
		}
	}
	slices.SortStableFunc(missed, func(a, b *entry) int { return cmp.Compare(a.chat.ID, b.chat.ID) })
	return missed, true, gap
}

// historyAfter returns an id after which is everything that the user of s may have missed who has seen since
// last, as far as ids can tell: those who saw it at a node that had just started may not have got
// what that had still to find.
func (h *hub) historyAfter(s *session, since string) string {
	at := timeOf(since)
	came := at.UnixNano()
	if last := h.find(s, since); last != nil {
		came = last.came
	}
	after := firstID(at.Add(-h.overlap - h.late))
	if first := h.earliest(came); first < came-int64(h.overlap) {
		after = min(after, firstID(time.Unix(0, first)))
	}
	return after
}

// justBefore returns an id that is the overlap before id.
func (h *hub) justBefore(id string) string { return firstID(timeOf(id).Add(-h.overlap)) }

// find returns the message with this id, or nil. Nobody learns that a message of others is there.
func (h *hub) find(s *session, id string) *entry {
	if e := h.global.find(id); e != nil {
		return e
	}
	if e := h.private.find(id); e != nil && e.isFor(s) {
		return e
	}
	return nil
}

// isFor reports whether the user of s is one of the two of a private message, and not only one
// who had the name before.
func (e *entry) isFor(s *session) bool {
	return (e.chat.Sender == s.user || e.chat.ToUser == s.user) && e.chat.ID >= s.private
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
