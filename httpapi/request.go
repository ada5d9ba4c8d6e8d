package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

const (
	// postTimeout bounds one request, from its header on, so that its answer is there before
	// net/http gives up: reading the body, of which ReadTimeout bounds the time, is part of it.
	postTimeout = 25 * time.Second
	// maxPosting is how many requests of one user may be going on; a connection has one.
	maxPosting = 4
)

// posting counts the requests of each user that are going on. The zero value is good.
type posting struct {
	mu    sync.Mutex
	users map[string]int
}

// enter lets one more request of user in, which leaves with leave.
func (p *posting) enter(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[user] >= maxPosting {
		return false
	}
	if p.users == nil {
		p.users = make(map[string]int)
	}
	p.users[user]++
	return true
}

func (p *posting) leave(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[user]--; p.users[user] == 0 {
		delete(p.users, user)
	}
}

// waiter is the sender of what a request says.
type waiter struct {
	server *Server
	done   chan *letter // Holds one.
}

func (w waiter) told(x *letter) {
	w.done <- x
	w.server.publishing.leave()
}

func (waiter) broken() {}

// postMessage says what a request holds, as a send over a connection does, and answers with its ack.
func (s *Server) postMessage(c echo.Context) error {
	m := new(edge.Send)
	return s.request(c, m, func(ctx context.Context, a *share) (proto.Message, *errorBody, bool) {
		in, bad := s.readSend(m)
		if bad == nil {
			bad = a.publish()
		}
		if bad == nil {
			in.toUser, bad = s.reachable(ctx, in.toUser)
		}
		if bad != nil {
			return nil, bad, bad.Code != codeUnavailable
		}
		if !s.publishing.enter(0) {
			return nil, errorStopping, false
		}
		w := waiter{s, make(chan *letter, 1)}
		s.post.add(&letter{from: w, user: a.user, in: in, ref: m.GetRef()}, false)
		select {
		case x := <-w.done:
			return x.ack(), x.bad, false
		case <-ctx.Done():
			return nil, &errorBody{Code: codeUnavailable, Message: "it takes too long; send it again in a moment, with the same ref"}, false
		}
	})
}

// postTyping says that somebody is writing.
func (s *Server) postTyping(c echo.Context) error {
	m := new(edge.Typing)
	return s.request(c, m, func(_ context.Context, a *share) (proto.Message, *errorBody, bool) {
		return new(edge.Ping), s.isTyping(a, m.GetToUser()), true
	})
}

// request handles a request that stands for a frame, which is read into m. Then do returns the answer to
// the user, or what is wrong and whether that is the client's fault.
func (s *Server) request(c echo.Context, m proto.Message, do func(context.Context, *share) (proto.Message, *errorBody, bool)) error {
	by := time.Now().Add(s.postTimeout)
	user, err := s.poster(c)
	if err != nil {
		return err
	}
	// Requests have a share in what the user may send, as one more connection.
	a := s.share(user, c.RealIP())
	defer a.leave()
	if !s.posting.enter(user) {
		s.limitedUser(user, a.from, "too many requests at once")
		return s.answerPost(c, nil, &errorBody{Code: codeRateLimited, Message: "too many requests at once: wait for the answers", RetryAfterMS: 1000})
	}
	defer s.posting.leave(user)
	if wait := a.own.untilHeard(); wait > 0 {
		s.limitedUser(user, a.from, reasonRate)
		return s.answerPost(c, nil, limited(wait, reasonRate))
	}
	if wait := a.address.untilRead(); wait > 0 {
		s.limited("bytes", user, a.from)
		return s.answerPost(c, nil, limited(wait, tooManyBytes))
	}
	n, bad := readPost(c, m, s.cfg.Edge.MaxFrameBytes)
	a.reads(n)
	mine := true
	if full := a.throttle(); full != nil {
		bad = full
	}
	var answer proto.Message
	if bad == nil {
		ctx, cancel := context.WithDeadline(s.ctx, by)
		defer cancel()
		answer, bad, mine = do(ctx, &a)
	}
	if bad != nil && mine {
		a.own.refused() // Over what is allowed, the next one is not read.
	}
	return s.answerPost(c, answer, bad)
}

// poster returns who sends a request.
func (s *Server) poster(c echo.Context) (string, error) {
	r := c.Request()
	if !s.originAllowed(r) {
		return "", errForeignOrigin
	}
	if !isJSON(r) {
		return "", errNotJSON // No form of another site can send that.
	}
	who, err := s.reader(c, c.QueryParams())
	if err != nil {
		return "", err
	}
	user := who.Name
	if user == "" {
		return "", errInvalidClientID // Open mode, and the client did not say who it is.
	}
	select {
	case <-s.seeded:
	default:
		return "", errStarting
	}
	// Where one has any name one likes, the limits of a name are none.
	if s.cfg.Edge.Rate > 0 && !s.senders.knows(user) {
		if wait := s.upgrades.take(c.RealIP(), time.Now()); wait > 0 {
			return "", s.tooMany(c, "connections", wait)
		}
	}
	return user, nil
}

// isJSON reports whether r says that its body is JSON.
func isJSON(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == "application/json"
}

// readBody reads a body of at most max bytes, or returns errTooLarge. The server discards
// the rest of a body up to 256 KiB: http.MaxBytesReader would close the connection, and a
// client that is still writing would get a reset instead of the answer.
func readBody(r *http.Request, max int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(max)+1))
	if err == nil && len(body) > max {
		return body[:max], errTooLarge
	}
	return body, err
}

// readPost reads the body, of n bytes, into m.
func readPost(c echo.Context, m proto.Message, max int) (n int, bad *errorBody) {
	body, err := readBody(c.Request(), max)
	switch {
	case errors.Is(err, errTooLarge):
		return len(body), &errorBody{Code: errTooLarge.code, Message: fmt.Sprintf("the body is too large; at most %d bytes are read", max)}
	case err != nil:
		return len(body), &errorBody{Code: "bad_request", Message: "the body could not be read"}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, m); err != nil {
		return len(body), badFrame(`the body is a JSON object, with the fields of the frame and of the right types`)
	}
	return len(body), nil
}

// answerPost answers with an edge.v1 message, or with bad.
func (s *Server) answerPost(c echo.Context, answer proto.Message, bad *errorBody) error {
	if bad == nil {
		s.metrics.received.WithLabelValues("ok").Inc()
		c.Response().Header().Set("Cache-Control", "no-store")
		return c.Blob(http.StatusOK, "application/json; charset=utf-8", appendJSON(nil, answer.ProtoReflect()))
	}
	s.metrics.received.WithLabelValues(bad.Code).Inc()
	if bad.RetryAfterMS > 0 {
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(float64(bad.RetryAfterMS)/1000))))
	}
	return writeError(c, statuses[bad.Code], *bad)
}
