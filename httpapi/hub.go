package httpapi

import (
	"slices"
	"strings"
	"sync"
)

// hub owns membership: which sessions each user has, what was said lately, and who
// is online. One lock orders everything that sessions get:
//
//   - A newcomer's history and statuses are taken, and the newcomer entered, in one
//     step: a message is in the history or delivered live, never both or neither.
//   - All sessions get the same frames in the same order.
//
// Under the lock frames are only put into queues; nothing is sent to a socket.
type hub struct {
	historyLimit int
	listLimit    int
	perUser      int // 0: no limit.

	mu       sync.Mutex
	closed   bool
	sessions []*session
	users    map[string][]*session
	global   recent
	private  recent
	seen     idSet
	roster   roster
}

func newHub(cfg Config) *hub {
	return &hub{
		historyLimit: cfg.History.Limit,
		listLimit:    cfg.ListLimit,
		perUser:      cfg.Edge.MaxConnectionsPerUser,
		users:        make(map[string][]*session),
		global:       recent{max: cfg.History.Buffer},
		private:      recent{max: cfg.History.Buffer},
		seen:         idSet{max: max(4*cfg.History.Buffer, 8192), ids: make(map[string]struct{})},
	}
}

// entry is one message of the memory, with its frame.
type entry struct {
	chat  *chatFrame
	frame frame
}

// joinResult says what became of a session that wanted to join.
type joinResult int

const (
	joined joinResult = iota
	refusedFull
	refusedClosed
)

// join enters s, with the recent messages and the statuses first in its queue.
func (h *hub) join(s *session) joinResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return refusedClosed
	}
	mine := h.users[s.user]
	if h.perUser > 0 && len(mine) >= h.perUser {
		return refusedFull
	}
	history := h.global.tail(h.historyLimit)
	statuses := h.roster.head(h.listLimit, s.user)
	burst := make([]frame, 0, len(history)+len(statuses)+8)
	for _, e := range history {
		burst = append(burst, e.frame)
	}
	for _, m := range statuses {
		burst = append(burst, m.frame)
	}
	s.start(burst)

	s.index = len(h.sessions)
	h.sessions = append(h.sessions, s)
	h.users[s.user] = append(mine, s)
	return joined
}

// leave takes s out. It gets nothing from then on.
func (h *hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.sessions) - 1
	h.sessions[s.index] = h.sessions[last]
	h.sessions[s.index].index = s.index
	h.sessions[last] = nil
	h.sessions = h.sessions[:last]

	mine := slices.DeleteFunc(h.users[s.user], func(o *session) bool { return o == s })
	if len(mine) == 0 {
		delete(h.users, s.user)
	} else {
		h.users[s.user] = mine
	}
}

// close lets nobody in any more and returns who is there.
func (h *hub) close() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return slices.Clone(h.sessions)
}

// deliver queues c for everyone whom it is for, once for each id, and returns for how
// many sessions; known reports that the id had come before.
func (h *hub) deliver(c *chatFrame) (sessions int, known bool) {
	e := entry{chat: c, frame: textFrame(c)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.seen.add(c.ID) {
		return 0, true
	}
	if c.ToUser != "" {
		h.private.add(e)
	} else {
		h.global.add(e)
	}
	return h.send(e), false
}

// merge puts global messages of the archive where their ids say, and queues those that
// nobody had seen for everyone. It returns how many those were.
func (h *hub) merge(page []*chatFrame) int {
	entries := make([]entry, len(page))
	for i, c := range page {
		entries[i] = entry{chat: c, frame: textFrame(c)}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var added int
	for _, e := range entries {
		// What the memory would forget at once is no news.
		if h.global.forgets(e.chat.ID) || !h.seen.add(e.chat.ID) {
			continue
		}
		h.global.insert(e)
		h.send(e)
		added++
	}
	return added
}

// send queues e for those whom it is for. The caller holds the lock.
func (h *hub) send(e entry) int {
	to, from := e.chat.ToUser, e.chat.Sender
	if to == "" {
		for _, s := range h.sessions {
			s.enqueue(e.frame)
		}
		return len(h.sessions)
	}
	n := len(h.users[to])
	for _, s := range h.users[to] {
		s.enqueue(e.frame)
	}
	if from != to {
		n += len(h.users[from])
		for _, s := range h.users[from] {
			s.enqueue(e.frame)
		}
	}
	return n
}

// status notes whether user is online and tells everyone if that is a change.
func (h *hub) status(user string, online bool) {
	f := textFrame(statusFrame{ClientID: user, Online: online})
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.roster.set(user, online, f) {
		return
	}
	for _, s := range h.sessions {
		s.enqueue(f)
	}
}

// recall returns what the memory holds of the talk of two users, or of the global talk
// when both are empty, with ids less than before unless that is empty.
func (h *hub) recall(before string, users [2]string) []*chatFrame {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := &h.global
	if users != [2]string{} {
		from = &h.private
	}
	var found []*chatFrame
	for _, e := range from.items {
		c := e.chat
		mine := users == [2]string{} || [2]string{c.Sender, c.ToUser} == users || [2]string{c.ToUser, c.Sender} == users
		if mine && (before == "" || c.ID < before) {
			found = append(found, c)
		}
	}
	return found
}

// recent is the memory of the last max messages, in the order in which this node delivered
// them.
type recent struct {
	max   int
	items []entry
}

func (r *recent) add(e entry) {
	r.items = append(r.items, e)
	r.trim()
}

// insert puts e before the messages at the end that have greater ids.
func (r *recent) insert(e entry) {
	at := len(r.items)
	for at > 0 && r.items[at-1].chat.ID > e.chat.ID {
		at--
	}
	r.items = slices.Insert(r.items, at, e)
	r.trim()
}

func (r *recent) trim() {
	for len(r.items) > r.max {
		r.items[0] = entry{} // The array behind lives on for a while; the message need not.
		r.items = r.items[1:]
	}
}

// forgets reports whether a message with this id would be the first to be forgotten.
func (r *recent) forgets(id string) bool {
	return len(r.items) == r.max && id < r.items[0].chat.ID
}

// tail returns the last n entries, which the caller must not keep beyond the lock.
func (r *recent) tail(n int) []entry {
	return r.items[max(0, len(r.items)-n):]
}

// idSet remembers the last max ids.
type idSet struct {
	max  int
	ids  map[string]struct{}
	ring []string
	next int
}

// add remembers id and reports whether it is new.
func (s *idSet) add(id string) bool {
	if _, known := s.ids[id]; known {
		return false
	}
	s.ids[id] = struct{}{}
	if len(s.ring) < s.max {
		s.ring = append(s.ring, id)
		return true
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % s.max
	return true
}

// member is a user who is online, with the frame that says so.
type member struct {
	name  string
	frame frame
}

// roster is who is online, sorted by name.
type roster struct{ members []member }

func (r *roster) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.members, name, func(m member, name string) int { return strings.Compare(m.name, name) })
}

// set notes a status, with its frame, and reports whether it is a change.
func (r *roster) set(name string, online bool, f frame) bool {
	at, found := r.find(name)
	switch {
	case online == found:
		return false
	case online:
		r.members = slices.Insert(r.members, at, member{name, f})
	default:
		r.members = slices.Delete(r.members, at, at+1)
	}
	return true
}

// head returns the first n members; own, when online, is always among them.
func (r *roster) head(n int, own string) []member {
	if len(r.members) <= n {
		return r.members
	}
	if at, found := r.find(own); found && at >= n {
		return append(slices.Clone(r.members[:n-1]), r.members[at])
	}
	return r.members[:n]
}
