package presence

import (
	"context"
	"slices"
)

const (
	// maxChanges is how many changes wait for a listener before those that cancel
	// each other are left out.
	maxChanges = 1 << 16
	// maxInserts is how many changes the sorted list takes one by one before it is
	// cheaper to sort it again when somebody asks.
	maxInserts = 64
)

// roster is the merged state: the users for whom some node holds a lease.
type roster struct {
	holders map[string]holding // those who are not Offline
	// sorted is what list has shown last, and edits are the changes since.
	sorted []string
	edits  map[string]struct{}

	tell    bool // there is a listener
	changes []change
	limit   int // len(changes) that makes compact worth its while
}

type change struct {
	user     string
	was, now Standing
}

// holding is how many leases there are for a user.
type holding struct {
	leases int
	here   int // those of them that do not say away
}

func (h holding) standing() Standing { return standingOf(h.leases > 0, h.here == 0) }

// add counts by leases of a node that has it that the user is now.
func (h *holding) add(now Standing, by int) {
	if now != Offline {
		h.leases += by
	}
	if now == Online {
		h.here += by
	}
}

func newRoster(tell bool) roster {
	return roster{holders: map[string]holding{}, edits: map[string]struct{}{}, tell: tell, limit: maxChanges}
}

// move takes in that user, of whom a node had it that they are was, is now there.
func (r *roster) move(user string, was, now Standing) {
	if was == now {
		return
	}
	h := r.holders[user]
	before := h.standing()
	h.add(was, -1)
	h.add(now, 1)
	after := h.standing()
	if after == Offline {
		delete(r.holders, user)
	} else {
		r.holders[user] = h
	}
	if before != after {
		r.changedTo(user, before, after)
	}
}

func (r *roster) changedTo(user string, was, now Standing) {
	if r.sorted != nil && (was == Offline || now == Offline) {
		r.edits[user] = struct{}{}
		if len(r.edits) > maxInserts {
			r.sorted = nil
			clear(r.edits)
		}
	}
	if !r.tell {
		return
	}
	r.changes = append(r.changes, change{user, was, now})
	if len(r.changes) >= r.limit {
		r.compact()
		r.limit = max(maxChanges, 2*len(r.changes))
	}
}

// compact leaves one change of each user, the last, which goes from where the first began;
// none, if that is no change.
func (r *roster) compact() {
	first := make(map[string]Standing, len(r.changes))
	left := make(map[string]int, len(r.changes))
	for _, c := range r.changes {
		if left[c.user]++; left[c.user] == 1 {
			first[c.user] = c.was
		}
	}
	kept := r.changes[:0]
	for _, c := range r.changes {
		if left[c.user]--; left[c.user] > 0 || c.now == first[c.user] {
			continue
		}
		c.was = first[c.user]
		kept = append(kept, c)
	}
	clear(r.changes[len(kept):])
	r.changes = kept
}

// list returns at most limit names, sorted, and how many there are.
func (r *roster) list(limit int) ([]string, int) {
	if r.sorted == nil {
		r.sorted = make([]string, 0, len(r.holders))
		for user := range r.holders {
			r.sorted = append(r.sorted, user)
		}
		slices.Sort(r.sorted)
	}
	// Few changes since: the cost of a newcomer must not grow with sorting all.
	for user := range r.edits {
		at, shown := slices.BinarySearch(r.sorted, user)
		switch online := r.holders[user].leases > 0; {
		case online && !shown:
			r.sorted = slices.Insert(r.sorted, at, user)
		case !online && shown:
			r.sorted = slices.Delete(r.sorted, at, at+1)
		}
	}
	clear(r.edits)
	return slices.Clone(r.sorted[:min(limit, len(r.sorted))]), len(r.sorted)
}

// notify is the only goroutine that calls Config.OnChange.
func (t *Tracker) notify(ctx context.Context) {
	if t.cfg.OnChange == nil {
		return
	}
	for {
		t.mu.Lock()
		changes := t.roster.changes
		t.roster.changes = nil
		t.roster.limit = maxChanges
		t.mu.Unlock()
		for _, c := range changes {
			if ctx.Err() != nil {
				return
			}
			t.cfg.OnChange(c.user, c.now)
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		}
	}
}
