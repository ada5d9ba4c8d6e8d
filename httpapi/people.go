package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

const (
	defaultPeople = 20
	maxPeople     = 100
	// maxPeopleText bounds what somebody looks for in names, in bytes: more than a name has.
	maxPeopleText = 512
)

// receiveActivity notes whether somebody is in front of the screen.
func (s *session) receiveActivity(a *edge.Activity) {
	s.took()
	s.setAway(a.GetAway())
}

// setAway notes whether somebody is there, unless s has not joined yet or has ended: then it
// reports false.
func (s *session) setAway(away bool) bool {
	s.activity.Lock()
	defer s.activity.Unlock()
	if !s.present {
		return false
	}
	if away != s.away {
		s.away = away
		if p := s.server.cfg.Presence; p != nil {
			p.Away(s.user, away)
		}
	}
	return true
}

// join tells the presence that s is there.
func (s *session) join() {
	s.activity.Lock()
	defer s.activity.Unlock()
	s.present = true
	if p := s.server.cfg.Presence; p != nil {
		p.Join(s.user)
	}
}

// leave tells the presence that s has gone.
func (s *session) leave() {
	s.activity.Lock()
	defer s.activity.Unlock()
	s.present = false
	if p := s.server.cfg.Presence; p != nil {
		p.Leave(s.user, s.away)
	}
}

// postActivity does what the frame does, for a stream that has a name. One that another node has
// is not found: the next request may get there.
func (s *Server) postActivity(c echo.Context) error {
	m := new(edge.Activity)
	return s.request(c, m, func(_ context.Context, a *share) (proto.Message, *errorBody, bool) {
		name, ok := parseID(c.QueryParam("stream"))
		if !ok {
			return nil, badFrame(`"stream" must be the UUID that GET /events was given`), true
		}
		sess := s.hub.stream(a.user, name)
		if sess != nil && c.QueryParams().Has("leave") {
			sess.close(closeGoingAway, "")
			return new(edge.Ping), nil, true
		}
		if sess == nil || !sess.setAway(m.GetAway()) {
			return nil, &errorBody{Code: codeUnavailable, Message: "this node has no such stream; try again in a moment"}, false
		}
		return new(edge.Ping), nil, true
	})
}

// stream returns the session of user that its client calls name, or nil.
func (h *hub) stream(user, name string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.users[user]
	if i := slices.IndexFunc(all, func(s *session) bool { return s.name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// peoplePage is the answer of /api/users.
type peoplePage struct {
	Users []onlineUser `json:"users"`
	// Found is how many there are, on the page or not.
	Found int `json:"found"`
	// Total is how many are online.
	Total int `json:"total"`
}

type onlineUser struct {
	Name string `json:"name"`
	Away bool   `json:"away"`
}

// users answers with those online whose names have ?q= in them.
func (s *Server) users(c echo.Context) error {
	params := c.QueryParams()
	if _, err := s.reader(c, params); err != nil {
		return err
	}
	text, limit := params.Get("q"), defaultPeople
	if len(text) > maxPeopleText || !utf8.ValidString(text) {
		return badRequest(fmt.Sprintf("q must be UTF-8 and at most %d bytes", maxPeopleText))
	}
	if raw := params.Get("limit"); raw != "" {
		var err error
		if limit, err = strconv.Atoi(raw); err != nil || limit < 1 || limit > maxPeople {
			return badRequest(fmt.Sprintf("limit must be a number from 1 to %d", maxPeople))
		}
	}
	if wait := s.searchers.take(c.RealIP(), time.Now()); wait > 0 {
		return s.tooMany(c, "searches", wait)
	}
	return writeCounted(c, s.searchers, s.people.find(s.hub, foldName(text), limit))
}

var nameFolder = cases.Fold() // Keeps no state.

// foldName returns the form in which names are compared.
func foldName(name string) string { return nameFolder.String(norm.NFKC.String(name)) }

// people is who is online, as v1 sessions know it, in a form that can be looked through without
// the hub's lock. It is made when somebody asks, at most once for each change.
type people struct {
	mu      sync.Mutex
	version uint64
	known   []knownUser // Sorted by name.
}

type knownUser struct {
	onlineUser
	folded string
}

// find returns up to limit users with text in their names: those that begin with it first, then
// those of whom a word does, then the rest, each by name.
func (p *people) find(h *hub, text string, limit int) peoplePage {
	all := p.refresh(h)
	page := peoplePage{Users: []onlineUser{}, Total: len(all)}
	type match struct{ rank, at int }
	var matches []match
	for i := range all {
		if r := rank(all[i].folded, text); r >= 0 {
			matches = append(matches, match{r, i})
		}
	}
	slices.SortFunc(matches, func(a, b match) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at)) })
	page.Found = len(matches)
	for _, m := range matches[:min(limit, len(matches))] {
		page.Users = append(page.Users, all[m.at].onlineUser)
	}
	return page
}

// rank says how well text fits a name, 0 best; less than 0: not at all.
func rank(name, text string) int {
	at := strings.Index(name, text)
	if at <= 0 {
		return at
	}
	for ; at > 0; at = nextIndex(name, text, at) {
		if strings.IndexByte(" _-.@", name[at-1]) >= 0 {
			return 1
		}
	}
	return 2
}

// nextIndex returns where text is in name after at, or -1.
func nextIndex(name, text string, at int) int {
	next := strings.Index(name[at+1:], text)
	if next < 0 {
		return -1
	}
	return at + 1 + next
}

// refresh returns who is online now. Nobody changes what it returns.
func (p *people) refresh(h *hub) []knownUser {
	p.mu.Lock()
	defer p.mu.Unlock()
	users, version, changed := h.people(p.version)
	if !changed {
		return p.known
	}
	folded := make(map[string]string, len(p.known)) // Most were there before.
	for i := range p.known {
		folded[p.known[i].Name] = p.known[i].folded
	}
	known := make([]knownUser, len(users))
	for i, u := range users {
		f, ok := folded[u.Name]
		if !ok {
			f = foldName(u.Name)
		}
		known[i] = knownUser{u, f}
	}
	p.known, p.version = known, version
	return known
}

// people returns who is online, sorted, if that has changed since version.
func (h *hub) people(version uint64) (users []onlineUser, now uint64, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &h.crowd
	if c.version == version {
		return nil, version, false
	}
	users = make([]onlineUser, len(c.names))
	for i, name := range c.names {
		users[i] = onlineUser{name, c.away[name]}
	}
	return users, c.version, true
}
