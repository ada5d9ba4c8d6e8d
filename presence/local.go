package presence

import "time"

// localUser is a user of this node. One with neither sessions nor a lease is
// forgotten.
type localUser struct {
	sessions int
	leaveAt  time.Time // when the lease ends; zero while there are sessions
}

// Join says that a session of user began on this node. The user is online at once.
func (t *Tracker) Join(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving {
		return
	}
	u := t.local[user]
	if u == nil {
		u = &localUser{}
		t.local[user] = u
		t.roster.acquire(user)
		t.say(user, true)
	}
	u.sessions++
	u.leaveAt = time.Time{}
	t.settle()
}

// Leave says that a session of user ended on this node: one Leave for each Join.
// After the last one the user stays online here for Config.Grace.
func (t *Tracker) Leave(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.local[user]
	if t.leaving || u == nil || u.sessions == 0 {
		return
	}
	if u.sessions--; u.sessions > 0 {
		return
	}
	if t.cfg.Grace <= 0 {
		t.drop(user)
	} else {
		u.leaveAt = time.Now().Add(t.cfg.Grace)
		t.deadline(deadlineKey{graceEnd, user}, u.leaveAt)
	}
	t.settle()
}

// drop gives up this node's lease for user.
func (t *Tracker) drop(user string) {
	delete(t.local, user)
	t.roster.release(user)
	t.say(user, false)
}

// say counts a change of this node's leases and puts it up for publishing.
func (t *Tracker) say(user string, online bool) {
	t.version++
	t.queue(Status{User: user, Online: online, Node: t.cfg.Node, Incarnation: t.incarnation, Version: t.version})
	t.speak.signal()
}

// settle follows every change of the table: it wakes the listener's goroutine
// and shows the numbers.
func (t *Tracker) settle() {
	if len(t.roster.changes) > 0 {
		t.changed.signal()
	}
	t.metrics.users.Set(float64(len(t.roster.holders)))
	t.metrics.local.Set(float64(len(t.local)))
	t.metrics.nodes.Set(float64(len(t.nodes)))
}
