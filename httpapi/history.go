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
)

// historyPage is the answer of /api/history, oldest message first.
type historyPage struct {
	Messages []*chatFrame `json:"messages"`
	HasMore  bool         `json:"has_more"`
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
	if raw := q.Get("with"); raw != "" && raw != everyone {
		with, err := auth.ValidName(raw)
		if err != nil {
			return errInvalidUser
		}
		if me == "" {
			return errInvalidClientID // Open mode, and the client did not say who it is.
		}
		query.users = [2]string{me, with}
	}
	page, err := s.page(c.Request().Context(), query)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, page)
}

// reader returns who asks: the user of the cookie or token, or in open mode whom client_id names,
// if anybody.
func (s *Server) reader(c echo.Context, q url.Values) (string, error) {
	if s.cfg.Auth.Mode() != auth.ModeOpen {
		session, err := s.verify(c)
		return session.Name, err
	}
	raw := q.Get("client_id")
	if raw == "" {
		return "", nil
	}
	name, err := auth.ValidName(raw)
	if err != nil {
		return "", errInvalidClientID
	}
	return name, nil
}

// pageQuery says which messages somebody wants to read.
type pageQuery struct {
	before string    // Messages with ids less than this; empty: the newest.
	after  string    // Messages with ids greater than this, the oldest of them; not together with before.
	limit  int       // From 1 to maxPage.
	users  [2]string // Of a private talk, or both empty.
}

// pageOf reads which page is asked for.
func pageOf(q url.Values) (query pageQuery, err error) {
	query.limit = defaultPage
	if raw := q.Get("before"); raw != "" {
		var ok bool
		if query.before, ok = parseID(raw); !ok {
			return pageQuery{}, badRequest("before must be the id of a message")
		}
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

// page returns the messages that q asks for, oldest first, of the archive and of this node's memory
// together: what was just said is there although the archive lags behind, and so is private
// talk that is not archived, as long as the node remembers it.
func (s *Server) page(ctx context.Context, q pageQuery) (historyPage, error) {
	// The memory first: what is archived while the archive is read was in the memory before.
	messages := s.hub.recall(q)
	more := false
	if s.cfg.Archive != nil {
		var stored []*chat.ChatMessage
		var err error
		if q.after != "" {
			stored, more, err = s.cfg.Archive.PageAfter(ctx, q.after, q.limit, q.users)
		} else {
			stored, more, err = s.cfg.Archive.Page(ctx, q.before, q.limit, q.users)
		}
		if err != nil {
			return historyPage{}, unavailable("the archive does not answer; try again in a moment", err)
		}
		for _, msg := range stored {
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
