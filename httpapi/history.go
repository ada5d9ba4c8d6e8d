package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"burrow/auth"
	"burrow/gen/chat"
)

const (
	defaultPage = 50
	maxPage     = 100
	// Everybody in an office looks at the same time when the server comes back.
	historyRate  = 100.0 // Pages a second of one address.
	historyBurst = 1000
	// answerUnit is the size of an ordinary answer: a larger one counts as several for the limit of
	// an address.
	answerUnit = 8 << 10
)

// historyPage is the answer of /api/history, oldest message first.
type historyPage struct {
	Messages []*chatFrame `json:"messages"`
	HasMore  bool         `json:"has_more"`
	// HasNewer is there for ?around= only, where HasMore is about older messages.
	HasNewer *bool `json:"has_newer,omitempty"`
}

// history answers with a page of the global talk, or with ?with= of the private talk of the
// one who asks and another user.
func (s *Server) history(c echo.Context) error {
	q := c.QueryParams()
	me, err := s.reader(c, q)
	if err != nil {
		return err
	}
	query, err := pageOf(q)
	if err != nil {
		return err
	}
	with, _, err := s.talkWith(c.Request().Context(), q, me.Name)
	if err != nil {
		return err
	}
	if with != "" {
		query.users, query.from = [2]string{me.Name, with}, privateFrom(me)
	}
	if wait := s.readers.take(c.RealIP(), time.Now()); wait > 0 {
		return s.tooMany(c, "pages of history", wait)
	}
	var page historyPage
	if query.around != "" {
		page, err = s.pageAround(c.Request().Context(), query)
	} else {
		page, err = s.page(c.Request().Context(), query)
		all := len(page.Messages)
		page.Messages = fit(page.Messages, query.after != "", maxHistoryBytes)
		page.HasMore = page.HasMore || len(page.Messages) < all
	}
	if err != nil {
		return err
	}
	return writeCounted(c, s.readers, page)
}

// writeCounted answers with v, and counts what is over an ordinary answer in l.
func writeCounted(c echo.Context, l *hostLimiter, v any) error {
	body := encodeJSON(v)
	l.charge(c.RealIP(), (len(body)-1)/answerUnit, time.Now())
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.Blob(http.StatusOK, "application/json; charset=utf-8", body)
}

// talkWith returns with whom the private talk is that ?with= names, or whether it names the
// talk of everyone. Neither: it names none.
func (s *Server) talkWith(ctx context.Context, q url.Values, me string) (with string, all bool, err error) {
	raw := q.Get("with")
	if raw == "" || raw == everyone {
		return "", raw == everyone, nil
	}
	if with, err = auth.ValidName(raw); err != nil {
		return "", false, errInvalidUser
	}
	if me == "" {
		return "", false, errInvalidClientID // Open mode, and the client did not say who it is.
	}
	with, err = s.readable(ctx, with)
	return with, false, err
}

// reader returns who asks: the user of the cookie or token, or in open mode whom client_id names,
// if anybody. A page that says client_id is told when the cookie is another one's by now, as when
// somebody has signed in anew in another tab: it must not go on as them, nor show what is theirs.
func (s *Server) reader(c echo.Context, q url.Values) (auth.Session, error) {
	c.Set(userKey, q.Get("client_id"))
	open := s.cfg.Auth.Mode() == auth.ModeOpen
	var me auth.Session
	if !open {
		var err error
		if me, _, err = s.prove(c); err != nil {
			return me, err
		}
	}
	raw := q.Get("client_id")
	if raw == "" {
		return me, nil
	}
	name, err := auth.ValidName(raw)
	switch {
	case err != nil:
		return me, errInvalidClientID
	case open:
		me.Name = name
	case !s.cfg.Auth.Same(name, me.Name):
		return me, errOtherName
	}
	return me, nil
}

// pageQuery says which messages somebody wants to read.
type pageQuery struct {
	before string    // Messages with ids less than this; empty: the newest.
	after  string    // Messages with ids greater than this, the oldest of them; not together with before.
	around string    // The message with this id, if there is one, and those beside it; only for pageAround.
	limit  int       // From 1 to maxPage.
	users  [2]string // Of a private talk, or both empty.
	from   string    // With users: messages with ids less than this are another one's; empty: none are.
}

// pageOf reads which page is asked for.
func pageOf(q url.Values) (query pageQuery, err error) {
	query.limit = defaultPage
	bounds := 0
	for name, id := range map[string]*string{"before": &query.before, "after": &query.after, "around": &query.around} {
		if raw := q.Get(name); raw != "" {
			var ok bool
			if *id, ok = parseID(raw); !ok {
				return pageQuery{}, badRequest(name + " must be the id of a message")
			}
			bounds++
		}
	}
	if bounds > 1 {
		return pageQuery{}, badRequest("a page is before a message, after one or around one; ask for one of the three")
	}
	if raw := q.Get("limit"); raw != "" {
		if query.limit, err = strconv.Atoi(raw); err != nil || query.limit < 1 || query.limit > maxPage {
			return pageQuery{}, badRequest(fmt.Sprintf("limit must be a number from 1 to %d", maxPage))
		}
	}
	return query, nil
}

// parseID returns a UUID in its canonical form.
func parseID(raw string) (string, bool) {
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != 36 {
		return "", false
	}
	return id.String(), true
}

// pageAround returns the message q.around and those before and after it, half a page of each, or
// more of one where there are few of the other.
func (s *Server) pageAround(ctx context.Context, q pageQuery) (historyPage, error) {
	q.before, q.around = q.around, ""
	older, err := s.page(ctx, q)
	if err != nil {
		return historyPage{}, err
	}
	q.before, q.after = "", idBefore(q.before)
	newer, err := s.page(ctx, q)
	if err != nil {
		return historyPage{}, err
	}
	oldest, newest := len(older.Messages), len(newer.Messages)
	older.Messages = fit(older.Messages, false, maxHistoryBytes/2)
	newer.Messages = fit(newer.Messages, true, maxHistoryBytes/2)
	older.HasMore = older.HasMore || len(older.Messages) < oldest
	newer.HasMore = newer.HasMore || len(newer.Messages) < newest
	// Of each half what the other leaves room for, and never less than its own.
	half := q.limit / 2
	n := min(len(older.Messages), max(half, q.limit-len(newer.Messages)))
	m := min(len(newer.Messages), q.limit-n)
	more := newer.HasMore || m < len(newer.Messages)
	return historyPage{
		Messages: append(older.Messages[len(older.Messages)-n:], newer.Messages[:m]...), // Never nil.
		HasMore:  older.HasMore || n < len(older.Messages),
		HasNewer: &more,
	}, nil
}

// idBefore returns what is just less than id, so that after it comes id itself.
func idBefore(id string) string {
	u := uuid.MustParse(id) // parseID has made it.
	for i := len(u) - 1; i >= 0; i-- {
		u[i]--
		if u[i] != 0xff {
			return u.String()
		}
	}
	return id // The least of all, which no message has.
}

// page returns the messages that q asks for, oldest first, of the archive and of this node's memory
// together: what was just said is there although the archive lags behind, and so is private
// talk that is not archived, as long as the node remembers it.
func (s *Server) page(ctx context.Context, q pageQuery) (historyPage, error) {
	if q.after != "" {
		q.after = max(q.after, q.from) // No message has the id from itself: see firstID.
	}
	// The memory first: what is archived while the archive is read was in the memory before.
	messages := s.hub.recall(q)
	more := false
	if s.cfg.Archive != nil {
		var stored []*chat.ChatMessage
		var err error
		if q.after != "" {
			stored, more, err = s.cfg.Archive.PageAfter(ctx, q.after, q.limit, q.users)
		} else {
			limit := q.limit
			if q.from != "" {
				limit++ // Whether there are more of theirs is seen below.
			}
			stored, more, err = s.cfg.Archive.Page(ctx, q.before, limit, q.users)
			more = more && q.from == ""
		}
		if err != nil {
			return historyPage{}, unavailable("the archive does not answer; try again in a moment", err)
		}
		for _, msg := range stored {
			if msg.GetId() < q.from {
				continue
			}
			messages = append(messages, newChatFrame(msg, time.Now()))
		}
	}
	// Stable, and the memory first: it knows refs.
	slices.SortStableFunc(messages, func(a, b *chatFrame) int { return cmp.Compare(a.ID, b.ID) })
	messages = slices.CompactFunc(messages, func(a, b *chatFrame) bool { return a.ID == b.ID })
	if extra := len(messages) - q.limit; extra > 0 {
		more = true
		if q.after != "" {
			messages = messages[:q.limit]
		} else {
			messages = messages[extra:]
		}
	}
	if messages == nil {
		messages = []*chatFrame{}
	}
	return historyPage{Messages: messages, HasMore: more}, nil
}
