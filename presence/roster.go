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
	holders map[string]int // user -> how many hold a lease; never 0
	// sorted is what list has shown last, and edits are the changes since.
	sorted []string
	edits  map[string]struct{}

	tell    bool // there is a listener
	changes []change
	limit   int // len(changes) that makes compact worth its while
}

type change struct {
	user   string
	online bool
}

func newRoster(tell bool) roster {
	return roster{holders: map[string]int{}, edits: map[string]struct{}{}, tell: tell, limit: maxChanges}
}

// acquire adds a lease for user.
func (r *roster) acquire(user string) {
	r.holders[user]++
	if r.holders[user] == 1 {
		r.changedTo(user, true)
	}
}

// release takes back what acquire added.
func (r *roster) release(user string) {
	if r.holders[user]--; r.holders[user] > 0 {
		return
	}
	delete(r.holders, user)
	r.changedTo(user, false)
}

func (r *roster) changedTo(user string, online bool) {
	if r.sorted != nil {
		r.edits[user] = struct{}{}
		if len(r.edits) > maxInserts {
			r.sorted = nil
			clear(r.edits)
		}
	}
	if !r.tell {
		return
	}
	r.changes = append(r.changes, change{user, online})
	if len(r.changes) >= r.limit {
		r.compact()
		r.limit = max(maxChanges, 2*len(r.changes))
	}
}

// compact leaves out the changes that cancel each other. Those of one user
// alternate, so that an odd number amounts to the last and an even one to none.
func (r *roster) compact() {
	count := make(map[string]int, len(r.changes))
	for _, c := range r.changes {
		count[c.user]++
	}
	seen := make(map[string]int, len(count))
	r.changes = slices.DeleteFunc(r.changes, func(c change) bool {
		seen[c.user]++
		return seen[c.user] < count[c.user] || count[c.user]%2 == 0
	})
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
		switch online := r.holders[user] > 0; {
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
			t.cfg.OnChange(c.user, c.online)
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
