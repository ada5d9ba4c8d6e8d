package httpapi

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/gen/chat"
)

const (
	defaultTalks = 50
	maxTalks     = 100
)

// Talker knows the private talks of the archive.
type Talker interface {
	// Talks returns the latest message of each of up to limit private talks of user, the
	// latest first, and how many messages of the archive, the latest, it did not look at yet.
	// privateFrom is an id: private messages with lesser ones are not theirs; empty: all are.
	Talks(ctx context.Context, user, privateFrom string, limit int) (last []*chat.ChatMessage, behind int, err error)
}

// conversationsPage is the answer of /api/conversations.
type conversationsPage struct {
	Conversations []conversation `json:"conversations"`
	Behind        int            `json:"behind"` // As that of a search.
}

// conversation is a private talk with somebody, and the latest message of it.
type conversation struct {
	With    string     `json:"with"`
	Message *chatFrame `json:"message"`
}

// conversations answers with the private talks of the one who asks.
func (s *Server) conversations(c echo.Context) error {
	params := c.QueryParams()
	me, err := s.reader(c, params)
	if err != nil {
		return err
	}
	if me.Name == "" {
		return errInvalidClientID // Open mode, and the client did not say who it is.
	}
	limit := defaultTalks
	if raw := params.Get("limit"); raw != "" {
		if limit, err = strconv.Atoi(raw); err != nil || limit < 1 || limit > maxTalks {
			return badRequest(fmt.Sprintf("limit must be a number from 1 to %d", maxTalks))
		}
	}
	if wait := s.searchers.take(c.RealIP(), time.Now()); wait > 0 {
		return s.tooMany(c, "searches", wait)
	}
	if s.cfg.Talks == nil {
		return unavailable("there is no archive of private talks here", nil)
	}
	var last []*chat.ChatMessage
	var behind int
	err = s.inTurn(c, func(ctx context.Context) error {
		if last, behind, err = s.cfg.Talks.Talks(ctx, me.Name, privateFrom(me), limit); err != nil {
			return unavailable("the archive does not answer; try again", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	page, now := conversationsPage{Conversations: []conversation{}, Behind: behind}, time.Now()
	for _, msg := range last {
		with := msg.GetSender()
		if with == me.Name {
			with = msg.GetToUser()
		}
		page.Conversations = append(page.Conversations, conversation{with, newChatFrame(msg, now)})
	}
	return writeCounted(c, s.searchers, page)
}
