package presence

import (
	"math"
	"time"
)

// maxAssembled bounds the users in the parts of one node's state that wait for
// the parts that are missing.
const maxAssembled = 1_000_000

// node is what this node knows of another one.
type node struct {
	incarnation uint64
	// settled is the version of the last state: every change up to it is in users
	// or undone, and nothing older counts. seen is the greatest version heard.
	settled, seen uint64
	users         map[string]record
	until         time.Time // end of the lease, or of the memory if absent
	// absent: it left or was not heard for a lease, and has no users. It is
	// remembered for a while so that events that come late raise no ghosts.
	absent bool
	parts  assembly
}

// record is the last change of one user that was heard. One that went offline is
// kept until the next state, in case the change before comes after.
type record struct {
	version uint64
	now     Standing
}

// assembly collects the parts of one version of a state.
type assembly struct {
	version uint64
	parts   uint32
	users   int
	got     map[uint32]part
}

// part is what one part of a state says.
type part struct{ users, away []string }

// ApplyStatus takes in that a node said that user has, or no longer has, a lease
// there, and whether they are away; see [Status]. With no node, or neither incarnation nor version, it comes
// from a program that does not know these fields, and user is online for one
// Config.Lease. What is stale, doubled or of this node itself has no effect.
func (t *Tracker) ApplyStatus(user string, online, away bool, nodeName string, incarnation, version uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving || t.isOwn(nodeName, incarnation) {
		return
	}
	defer t.settle()
	if nodeName == "" || incarnation == 0 && version == 0 {
		t.visit(user, online)
		return
	}
	n, known := t.hear(nodeName, incarnation)
	now := standingOf(online, away)
	switch {
	case n == nil:
		t.metrics.stale.Inc()
	case !known:
		// Taken in one step, so that a user whose node restarted and who is already
		// back there does not flicker.
		users := map[string]record{user: {version, now}}
		t.replace(n, users)
		n.seen = version
		t.renew(nodeName, n)
	case version <= n.settled || version <= n.users[user].version:
		t.metrics.stale.Inc()
	default:
		was := n.users[user].now
		n.users[user] = record{version, now}
		n.seen = max(n.seen, version)
		t.renew(nodeName, n)
		t.roster.move(user, was, now)
	}
}

// ApplyState takes in what a node said of all its users, and of those of them who are
// away; see [State]. It replaces what was known of that node, except changes that are
// newer than the state; a state in parts does when all its parts are there. What is
// stale, doubled or of this node itself has no effect. The tracker keeps users and away.
func (t *Tracker) ApplyState(nodeName string, incarnation, version uint64, users, away []string, leaving bool, number, parts uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving || nodeName == "" || t.isOwn(nodeName, incarnation) {
		return
	}
	defer t.settle()
	n, known := t.hear(nodeName, incarnation)
	if n == nil || version < n.settled && !leaving {
		t.metrics.stale.Inc()
		return
	}
	if leaving {
		n.seen = math.MaxUint64 // it will not speak again
		t.dismiss(n)
		t.deadline(deadlineKey{leaseEnd, nodeName}, n.until)
		return
	}
	if parts > 1 {
		var complete bool
		if users, away, complete = n.parts.add(version, number, parts, part{users, away}); !complete {
			if !known {
				// The users of its incarnation before went with it.
				t.replace(n, map[string]record{})
			}
			t.renew(nodeName, n)
			return
		}
	}
	next := make(map[string]record, len(users))
	for user, r := range n.users {
		if known && r.version > version {
			next[user] = r
		}
	}
	for _, user := range users {
		if _, newer := next[user]; !newer {
			next[user] = record{version, Online}
		}
	}
	for _, user := range away {
		if r, ok := next[user]; ok && r.version == version && r.now == Online {
			next[user] = record{version, Away}
		}
	}
	t.replace(n, next)
	if n.parts.version <= version {
		n.parts = assembly{}
	}
	n.settled, n.seen = version, max(n.seen, version)
	t.renew(nodeName, n)
}

// ApplyRequest takes in that a node asked for the state of every node.
func (t *Tracker) ApplyRequest(nodeName string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving || nodeName == t.cfg.Node {
		return
	}
	t.hurryState()
	t.speak.signal()
}

// isOwn reports whether an event is of this node, whose own word needs no broker.
func (t *Tracker) isOwn(name string, incarnation uint64) bool {
	if name != t.cfg.Node {
		return false
	}
	if incarnation > t.incarnation && !t.twinSeen {
		t.twinSeen = true // once is enough: it comes with every heartbeat
		t.log.Error("another process uses the name of this node, and the other nodes listen to that one; give each process its own name")
	}
	return true
}

// hear returns the node of that name as its incarnation is known, or nil if what
// was heard is of an older one. If it was not known, the node still has the users
// of its incarnation before, for the caller to replace.
func (t *Tracker) hear(name string, incarnation uint64) (n *node, known bool) {
	n = t.nodes[name]
	if n == nil {
		n = &node{incarnation: incarnation, users: map[string]record{}}
		t.nodes[name] = n
		return n, false
	}
	switch {
	case incarnation < n.incarnation:
		return nil, false
	case incarnation == n.incarnation:
		return n, true
	}
	n.incarnation, n.settled, n.seen, n.parts = incarnation, 0, 0, assembly{}
	return n, false
}

// renew begins a lease of n.
func (t *Tracker) renew(name string, n *node) {
	n.absent = false
	n.until = time.Now().Add(t.cfg.Lease)
	t.deadline(deadlineKey{leaseEnd, name}, n.until)
}

// dismiss takes all leases of n. It is remembered for two leases more, in which
// nothing that it said before counts.
func (t *Tracker) dismiss(n *node) {
	t.replace(n, map[string]record{})
	n.absent = true
	n.settled = n.seen
	n.parts = assembly{}
	n.until = time.Now().Add(2 * t.cfg.Lease)
}

// replace makes users the users of n. It adds before it takes, and touches nobody
// who stays, so that nobody flickers.
func (t *Tracker) replace(n *node, users map[string]record) {
	for user, r := range users {
		if r.now != Offline {
			t.roster.move(user, n.users[user].now, r.now)
		}
	}
	for user, r := range n.users {
		if users[user].now == Offline {
			t.roster.move(user, r.now, Offline)
		}
	}
	n.users = users
}

// visit takes in the word of a program that names no node.
func (t *Tracker) visit(user string, online bool) {
	_, was := t.visitors[user]
	if !online {
		if was {
			t.endVisit(user)
		}
		return
	}
	if !was {
		t.roster.move(user, Offline, Online)
	}
	until := time.Now().Add(t.cfg.Lease)
	t.visitors[user] = until
	t.deadline(deadlineKey{visitorEnd, user}, until)
}

func (t *Tracker) endVisit(user string) {
	delete(t.visitors, user)
	t.roster.move(user, Online, Offline)
}

// add takes one part and returns what all of them say once the last one is there.
// Only the newest version is collected; a newer one makes the parts of the one
// before worthless.
func (a *assembly) add(version uint64, number, parts uint32, p part) (users, away []string, complete bool) {
	if version < a.version || number >= parts {
		return nil, nil, false
	}
	if version > a.version || parts != a.parts {
		*a = assembly{version: version, parts: parts, got: map[uint32]part{}}
	}
	if _, twice := a.got[number]; !twice && a.users+len(p.users)+len(p.away) <= maxAssembled {
		a.got[number] = p
		a.users += len(p.users) + len(p.away)
	}
	if uint32(len(a.got)) < a.parts {
		return nil, nil, false
	}
	users = make([]string, 0, a.users)
	for _, p := range a.got {
		users, away = append(users, p.users...), append(away, p.away...)
	}
	return users, away, true
}
