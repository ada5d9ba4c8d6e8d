package httpapi

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"burrow/gen/chat"
)

const (
	// searchTimeout bounds one search, the wait for its turn included.
	searchTimeout = 5 * time.Second
	// maxSearches is how many are under way at the same time: history reads the same
	// database, and must not wait for them.
	maxSearches = 2
	// A page may search with every letter that is typed, and an office has one address.
	searchRate  = 50.0
	searchBurst = 200
)

// ErrBadSearch is in the error of a Searcher for a text that cannot be looked for.
var ErrBadSearch = errors.New("nothing to search for")

// Searcher looks for words in the archive.
type Searcher interface {
	// Search returns the newest messages that q asks for, the greatest id first. The
	// error is ErrBadSearch if there is no word in the text, or too many.
	Search(ctx context.Context, q SearchQuery) (SearchHits, error)
}

// SearchQuery says what to look for, and where.
type SearchQuery struct {
	Text   string
	Before string // Messages with ids less than this; empty: the newest.
	Limit  int    // At most.
	User   string // Who looks: their private talks are searched too. Empty: none are.
	// PrivateFrom is an id: private messages with lesser ones are not theirs. Empty: all are.
	PrivateFrom string
	With        string // Only in the private talk of the two; empty: everywhere.
	Everyone    bool   // Only in what was said to everyone.
}

// SearchHits is what was found.
type SearchHits struct {
	Messages []*chat.ChatMessage
	Marks    [][][2]int // Of each message: the pieces of its content that were looked for, in bytes.
	HasMore  bool
	Behind   int // How many of the latest messages are not searched yet.
}

// searchPage is the answer of /api/search.
type searchPage struct {
	Messages []searchHit `json:"messages"`
	HasMore  bool        `json:"has_more"`
	// Behind is how many messages of the archive, the latest, are not searched yet.
	Behind int `json:"behind"`
}

// searchHit is a message that was found. Marks are where to highlight its content: pairs of
// where a piece begins and where it ends, in UTF-16 code units, as scripts of a page count.
type searchHit struct {
	*chatFrame
	Marks [][2]int `json:"marks"`
}

// search answers with the messages that have the words of ?q=.
func (s *Server) search(c echo.Context) error {
	params := c.QueryParams()
	me, err := s.reader(c, params)
	if err != nil {
		return err
	}
	page, err := pageOf(params)
	if err != nil {
		return err
	}
	q := SearchQuery{Text: params.Get("q"), Before: page.before, Limit: page.limit, User: me.Name, PrivateFrom: privateFrom(me)}
	if page.around != "" || page.after != "" {
		return badRequest("a search has neither after nor around; page with before")
	}
	if !utf8.ValidString(q.Text) {
		return badRequest("q must be UTF-8")
	}
	if q.With, q.Everyone, err = s.talkWith(c.Request().Context(), params, me.Name); err != nil {
		return err
	}
	if wait := s.searchers.take(c.RealIP(), time.Now()); wait > 0 {
		return s.tooMany(c, "searches", wait)
	}
	if s.cfg.Search == nil {
		return unavailable("there is no archive to search here", nil)
	}
	var hits SearchHits
	err = s.inTurn(c, func(ctx context.Context) error {
		hits, err = s.cfg.Search.Search(ctx, q)
		switch {
		case errors.Is(err, ErrBadSearch):
			return badRequest("q must have something to look for: 1 to 32 words of letters and digits, or symbols, in at most 1024 bytes")
		case err != nil:
			return unavailable("the search took too long, or the archive does not answer; try again with longer words", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeCounted(c, s.searchers, newSearchPage(hits))
}

// inTurn waits for a turn to search and calls search, which is bounded by searchTimeout with the wait. The
// turn ends before the answer is written, for which a client may let the server wait.
func (s *Server) inTurn(c echo.Context, search func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), searchTimeout)
	defer cancel()
	select {
	case s.searching <- struct{}{}:
		defer func() { <-s.searching }()
		return search(ctx)
	case <-ctx.Done():
		return unavailable("too many others search at the moment; try again", ctx.Err())
	}
}

func newSearchPage(hits SearchHits) searchPage {
	page := searchPage{Messages: []searchHit{}, HasMore: hits.HasMore, Behind: hits.Behind}
	now, size := time.Now(), 0
	for i, msg := range hits.Messages {
		hit := searchHit{chatFrame: newChatFrame(msg, now), Marks: [][2]int{}}
		at, units := 0, 0
		count := func(to int) int {
			for _, r := range hit.Content[at:to] {
				units++
				if r > 0xFFFF {
					units++
				}
			}
			at = to
			return units
		}
		for _, m := range hits.Marks[i] {
			hit.Marks = append(hit.Marks, [2]int{count(m[0]), count(m[1])})
		}
		if size += hit.size() + 12*len(hit.Marks); size > maxHistoryBytes && i > 0 {
			page.HasMore = true
			break
		}
		page.Messages = append(page.Messages, hit)
	}
	return page
}
