package presence

import "time"

// localUser is a user of this node. One with neither sessions nor a lease is
// forgotten.
type localUser struct {
	sessions int
	away     int       // sessions that are away
	standing Standing  // as it was said; never Offline
	leaveAt  time.Time // when the lease ends; zero while there are sessions
}

// Join says that a session of user began on this node, not away. The user is online
// at once.
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
	}
	u.sessions++
	u.leaveAt = time.Time{}
	t.restate(user, u)
	t.settle()
}

// Away says that a session of user on this node is away, or no longer: one call for each
// change.
func (t *Tracker) Away(user string, away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.local[user]
	if t.leaving || u == nil || u.sessions == 0 {
		return
	}
	if away {
		u.away = min(u.away+1, u.sessions)
	} else {
		u.away = max(u.away-1, 0)
	}
	t.restate(user, u)
	t.settle()
}

// Leave says that a session of user ended on this node, which was away or not: one Leave for
// each Join. After the last one the user stays here as they were for Config.Grace.
func (t *Tracker) Leave(user string, away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.local[user]
	if t.leaving || u == nil || u.sessions == 0 {
		return
	}
	u.sessions--
	if away {
		u.away--
	}
	u.away = min(max(u.away, 0), u.sessions)
	switch {
	case u.sessions > 0:
		t.restate(user, u)
	case t.cfg.Grace <= 0:
		t.drop(user)
	default:
		u.leaveAt = time.Now().Add(t.cfg.Grace)
		t.deadline(deadlineKey{graceEnd, user}, u.leaveAt)
	}
	t.settle()
}

// restate says how u is here, if that is a change. There is a session.
func (t *Tracker) restate(user string, u *localUser) {
	now := standingOf(true, u.away == u.sessions)
	if now == u.standing {
		return
	}
	t.roster.move(user, u.standing, now)
	u.standing = now
	t.say(user, now)
}

// drop gives up this node's lease for user.
func (t *Tracker) drop(user string) {
	t.roster.move(user, t.local[user].standing, Offline)
	delete(t.local, user)
	t.say(user, Offline)
}

// say counts a change of this node's leases and puts it up for publishing.
func (t *Tracker) say(user string, now Standing) {
	t.version++
	t.queue(Status{
		User: user, Online: now != Offline, Away: now == Away,
		Node: t.cfg.Node, Incarnation: t.incarnation, Version: t.version,
	})
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
