package httpapi

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// hub owns membership: which sessions each user has, what was said lately, and who
// is online. One lock orders everything that sessions get:
//
//   - A newcomer's history and statuses are taken, and the newcomer entered, in one
//     step: a message is in the history or delivered live, never both or neither.
//   - All sessions get the same frames in the same order.
//
// What comes while the sessions are being written to waits, and is told together: see tell.
//
// Under the lock frames are only put into queues; nothing is sent to a socket.
type hub struct {
	historyLimit  int
	overlap       time.Duration
	late          time.Duration // lateStart; 0 without an archive, in which nothing is found.
	keepsPrivate  bool          // The archive does, too.
	listLimit     int
	flushInterval time.Duration
	perUser       int // 0: no limit.
	began         time.Time
	changed       chan struct{} // Holds one: there is something for flush to do.
	maxPending    int
	writers       []*shard

	mu       sync.Mutex
	closed   bool
	sessions []*session
	speaking [dialects]int // How many sessions speak each dialect.
	pending  []entry       // Messages that wait to be told; they are in no memory yet.
	batches  int           // How often tell has told.
	last     int           // How many messages the last time.
	writing  int           // How many writers are about what was told last.
	users    map[string][]*session
	typed    map[string]time.Time // When users of this node were last said to be writing.
	global   recent
	private  recent
	seen     idSet
	heard    idSet            // Of seen, what came from the broker and not from the archive.
	held     map[string]entry // By id: of the archive, and perhaps on its way. What a few merges find at most.
	cover    coverage
	roster   roster // As plain sessions know it.
	news     news
	crowd    crowd
}

func newHub(cfg Config) *hub {
	h := &hub{
		historyLimit:  cfg.History.Limit,
		overlap:       cfg.History.ResumeOverlap,
		keepsPrivate:  cfg.ArchivePrivate,
		began:         time.Now(),
		listLimit:     cfg.ListLimit,
		flushInterval: cfg.FlushInterval,
		perUser:       cfg.Edge.MaxConnectionsPerUser,
		maxPending:    cfg.Edge.Queue,
		changed:       make(chan struct{}, 1),
		users:         make(map[string][]*session),
		typed:         make(map[string]time.Time),
		global:        recent{max: cfg.History.Buffer},
		private:       recent{max: cfg.History.Buffer},
		seen:          idSet{max: max(4*cfg.History.Buffer, 8192), ids: make(map[string]struct{})},
		heard:         idSet{max: max(4*cfg.History.Buffer, 8192), ids: make(map[string]struct{})},
		held:          make(map[string]entry),
	}
	if cfg.Archive != nil {
		h.late = lateStart
	}
	return h
}

// entry is one message of the memory, with its frames in those dialects in which somebody
// has got it.
type entry struct {
	chat   *chatFrame
	came   int64 // When this node got it, by hub.now; of what the first Seed found, when it was sent.
	frames [dialects]frame
}

// in returns the frame with the message. The caller holds the lock, or is the only one to know e.
func (e *entry) in(d dialect) frame {
	if e.frames[d] == nil {
		e.frames[d] = encodeChat(d, e.chat)
	}
	return e.frames[d]
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
	if s.dialect == plain {
		s.start(h.helloPlain(s))
	} else {
		s.start(h.helloV1(s))
	}

	s.index = len(h.sessions)
	h.sessions = append(h.sessions, s)
	h.speaking[s.dialect]++
	h.users[s.user] = append(mine, s)
	return joined
}

// helloPlain returns what a plain session gets first. The caller holds the lock.
func (h *hub) helloPlain(s *session) []frame {
	history := h.global.tail(h.historyLimit)
	burst := make([]frame, 0, len(history)+1)
	for i := range history {
		burst = append(burst, history[i].in(plain))
	}
	if statuses := h.roster.list(h.listLimit, s.user); statuses != nil {
		burst = append(burst, statuses)
	}
	return burst
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
	h.speaking[s.dialect]--

	mine := slices.DeleteFunc(h.users[s.user], func(o *session) bool { return o == s })
	if len(mine) == 0 {
		delete(h.users, s.user)
		delete(h.typed, s.user)
	} else {
		h.users[s.user] = mine
	}
}

// close lets nobody in any more and returns who is there.
func (h *hub) close() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell()
	h.closed = true
	return slices.Clone(h.sessions)
}

// deliver tells everyone whom c is for, once for each id, and returns how many sessions those are;
// known reports that the id had come before.
func (h *hub) deliver(c *chatFrame) (sessions int, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard.add(c.ID)
	delete(h.held, c.ID)
	if !h.seen.add(c.ID) {
		return 0, true
	}
	h.pending = append(h.pending, entry{chat: c, came: h.now()})
	sessions = h.reach(c)
	if h.writing == 0 || len(h.pending) >= h.maxPending {
		h.tell()
	}
	return sessions, false
}

// knows reports whether the message with this id has come from the broker.
func (h *hub) knows(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard.has(id)
}

// merge puts messages of the archive that nobody has seen where their ids say. The page has every
// message of the archive with a greater id than globalFrom or privateFrom. It returns how many it put
// there.
//
// After the first Seed it holds them back, until release: they may be on their way here, and then
// behind others of the same sender, which the archive need not have yet. Not what was said before a gap
// ended: who was shown something later first, and is cut, would resume after that.
func (h *hub) merge(page []*chatFrame, globalFrom, privateFrom string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell()
	var added int
	now := h.now()
	for _, c := range page {
		memory := h.memoryOf(c)
		// What the memory would forget at once is no news.
		if memory.forgets(c.ID) {
			memory.from = max(memory.from, c.ID)
			continue
		}
		came := now
		switch {
		case h.cover.begun == 0:
			came = min(now, timeOf(c.ID).UnixNano())
		case c.ID >= h.cover.passed:
			if !h.seen.has(c.ID) && h.held[c.ID].chat == nil {
				h.held[c.ID] = entry{chat: c, came: now}
			}
			continue
		}
		delete(h.held, c.ID)
		if h.seen.add(c.ID) {
			h.show(entry{chat: c, came: came})
			added++
		}
	}
	h.global.from = max(h.global.from, globalFrom)
	h.private.from = max(h.private.from, privateFrom)
	return added
}

// release shows what merge has held for underway and what has not come meanwhile, and returns how many
// messages that were and how many are still held.
func (h *hub) release() (shown, held int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.held) == 0 {
		return 0, 0
	}
	h.tell()
	now := h.now()
	for _, id := range slices.Sorted(maps.Keys(h.held)) {
		e := h.held[id]
		if now-e.came < int64(underway) {
			continue
		}
		delete(h.held, id)
		if h.seen.add(id) {
			e.came = now
			h.show(e)
			shown++
		}
	}
	return shown, len(h.held)
}

// show queues e, which comes from the archive, for those whom it is for, and puts it where its id
// says. The caller holds the lock.
func (h *hub) show(e entry) {
	h.send(&e)
	h.memoryOf(e.chat).insert(e)
}

// memoryOf returns the memory in which c has its place. The caller holds the lock.
func (h *hub) memoryOf(c *chatFrame) *recent {
	if c.ToUser != "" {
		return &h.private
	}
	return &h.global
}

// recall returns what the memory holds of the talk of two users, or of the global talk
// when both are empty, of the ids that q asks for.
func (h *hub) recall(q pageQuery) []*chatFrame {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell()
	from, users := &h.global, q.users
	if users != [2]string{} {
		from = &h.private
	}
	var found []*chatFrame
	for _, e := range from.items {
		c := e.chat
		mine := users == [2]string{} || [2]string{c.Sender, c.ToUser} == users || [2]string{c.ToUser, c.Sender} == users
		if mine && (q.before == "" || c.ID < q.before) && c.ID > q.after && c.ID >= q.from {
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
	from  string // Of the messages with greater ids none was forgotten.
	gone  int64  // When the last one that was forgotten had come.
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
		r.from, r.gone = max(r.from, r.items[0].chat.ID), max(r.gone, r.items[0].came)
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

func (s *idSet) has(id string) bool {
	_, known := s.ids[id]
	return known
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
type roster struct {
	members []member
	hello   frame // The list for those who are on it or are not online; made when needed.
}

func (r *roster) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.members, name, func(m member, name string) int { return strings.Compare(m.name, name) })
}

// set notes a status, with its frame, and reports whether it is a change.
func (r *roster) set(name string, online bool, f frame) bool {
	at, found := r.find(name)
	switch {
	case online == found:
		return false
	}
	r.hello = nil
	switch {
	case online:
		r.members = slices.Insert(r.members, at, member{name, f})
	default:
		r.members = slices.Delete(r.members, at, at+1)
	}
	return true
}

// list returns the statuses of the first n members in one piece; own, when online, is always among
// them.
func (r *roster) list(n int, own string) frame {
	at, found := r.find(own)
	beyond := found && at >= n
	if r.hello != nil && !beyond {
		return r.hello
	}
	var list frame
	for _, m := range r.members[:min(n, len(r.members))] {
		list = append(list, m.frame...)
	}
	if !beyond {
		r.hello = list
		return list
	}
	last := r.members[n-1].frame
	return append(list[:len(list)-len(last)], r.members[at].frame...)
}
