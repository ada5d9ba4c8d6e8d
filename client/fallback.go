package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

const (
	// postTimeout bounds one request of the fallback; the server answers within 25 s.
	postTimeout = 30 * time.Second
	// socketTimeout bounds the attempt at a WebSocket, so that there is time for the fallback.
	socketTimeout = connectTimeout / 2
)

// errSocket ends a fallback when a WebSocket got through.
var errSocket = errors.New("there is a WebSocket again")

// open connects over a WebSocket; or, if something on the way lets none through, over Server-Sent
// Events. What the server itself refuses is refused.
func (c *Conn) open(ctx context.Context, since string) (*link, error) {
	var blocked error
	if !c.blocked {
		short, cancel := context.WithTimeout(ctx, socketTimeout)
		l, err := c.openSocket(short, since)
		cancel()
		if err == nil {
			return l, nil
		}
		if refused := (*Error)(nil); errors.As(err, &refused) && refused.ours() && refused.Code != "upgrade_required" || ctx.Err() != nil {
			return nil, err
		}
		if closed := (*CloseError)(nil); errors.As(err, &closed) {
			return nil, err // The server spoke.
		}
		blocked = err
	}
	s, err := dialStream(ctx, c.web, since)
	var l *link
	if err == nil {
		l, err = c.begin(ctx, s)
	}
	switch {
	case err == nil:
		c.blocked = true
		return l, nil
	case blocked == nil:
		c.blocked = false // Next time it may be the other way round.
		return nil, err
	}
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.ours() {
		return nil, err
	}
	return nil, blocked
}

func (c *Conn) openSocket(ctx context.Context, since string) (*link, error) {
	s, err := dialSocket(ctx, c.web, since, c.cfg.JSON)
	if err != nil {
		return nil, err
	}
	return c.begin(ctx, s)
}

// probe tries for a WebSocket now and then, as long as l is none, and ends l when there is one, which
// run goes on with.
func (c *Conn) probe(l *link) {
	if !l.fallback() {
		return
	}
	for wait := 20 * c.cfg.MinRetry; ; wait = min(2*wait, 10*c.cfg.MaxRetry) {
		select {
		case <-time.After(wait):
		case <-l.ctx.Done():
			return
		}
		c.mu.Lock()
		since := c.inbox.since
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(l.ctx, socketTimeout)
		next, err := c.openSocket(ctx, since)
		cancel()
		if err == nil {
			c.next = next // run reads it when this has ended.
			l.cancel(errSocket)
			return
		}
	}
}

// stream is the fallback: events from the server, and a request for each frame to it.
type stream struct {
	web     *web
	ctx     context.Context
	cancel  context.CancelFunc
	heard   atomic.Pointer[func()]
	in      chan *edge.ServerBatch // From the events.
	answers chan *edge.ServerBatch // To requests.
	ended   chan struct{}          // Closed when no more events come.
	err     error                  // Why; valid once ended is closed.
}

// dialStream connects as the user of w, as somebody who has seen the message since.
func dialStream(ctx context.Context, w *web, since string) (*stream, error) {
	s := &stream{web: w, in: make(chan *edge.ServerBatch), answers: make(chan *edge.ServerBatch), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	bound := context.AfterFunc(ctx, s.cancel)
	query := w.query()
	if since != "" {
		query.Set("since", since)
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, w.url("/events", query), nil)
	if err != nil {
		s.cancel()
		return nil, err
	}
	req.Header = w.header()
	req.Header.Set("Accept", "text/event-stream")
	res, err := w.client.Do(req)
	if err == nil {
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		switch {
		case res.StatusCode != http.StatusOK:
			err = refusal(res)
		case kind != "text/event-stream":
			err = fmt.Errorf("GET /events: this is no stream of events but %q", kind)
		}
		if err != nil {
			_ = res.Body.Close()
		}
	}
	if !bound() && err == nil {
		_ = res.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		s.cancel()
		return nil, err
	}
	go func() {
		defer close(s.ended)
		defer res.Body.Close()
		s.err = s.pump(bufio.NewScanner(res.Body))
	}()
	return s, nil
}

// pump reads events until there are no more, and returns why.
func (s *stream) pump(lines *bufio.Scanner) error {
	lines.Buffer(make([]byte, 0, 4096), maxBatch)
	var kind string
	var data []byte
	for lines.Scan() {
		if heard := s.heard.Load(); heard != nil {
			(*heard)()
		}
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			kind = value
		case name == "data" && len(data)+len(value) <= maxBatch:
			data = append(data, value...) // The server writes one line.
		case lines.Text() == "" && len(data) > 0:
			if kind == "close" {
				end := new(CloseError)
				if err := json.Unmarshal(data, end); err != nil {
					return fmt.Errorf("the end of the events: %w", err)
				}
				return end
			}
			b := new(edge.ServerBatch)
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, b); err != nil {
				return fmt.Errorf("the server does not speak v1: %w", err)
			}
			kind, data = "", data[:0]
			select {
			case s.in <- b:
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the events ended")
}

func (s *stream) read(heard func()) (*edge.ServerBatch, error) {
	s.heard.Store(&heard)
	select {
	case b := <-s.in:
		return b, nil
	case b := <-s.answers:
		return b, nil
	case <-s.ended:
		return nil, s.err
	}
}

// write makes a request of f and waits for its answer, which read returns. What is said keeps its order
// so.
func (s *stream) write(_ context.Context, f *edge.ClientFrame) error {
	if _, err := proto.Marshal(f); err != nil {
		return errUnencodable
	}
	ctx, cancel := context.WithTimeout(s.ctx, postTimeout)
	defer cancel()
	var answer *edge.ServerFrame
	var ref string
	var err error
	switch f := f.GetFrame().(type) {
	case *edge.ClientFrame_Send:
		ref = f.Send.GetRef()
		body := map[string]string{"ref": ref, "content": f.Send.GetContent(), "to_user": f.Send.GetToUser()}
		ack := new(edge.Ack)
		err = s.web.ask(ctx, http.MethodPost, "/api/messages", s.web.query(), body, &message{ack, "ref"})
		answer = &edge.ServerFrame{Frame: &edge.ServerFrame_Ack{Ack: ack}}
	case *edge.ClientFrame_History:
		ref = f.History.GetRef()
		page := new(edge.History)
		err = s.web.ask(ctx, http.MethodGet, "/api/history", s.historyQuery(f.History), nil, &message{page, "messages"})
		answer = &edge.ServerFrame{Frame: &edge.ServerFrame_History{History: page}}
		page.Ref = ref
	case *edge.ClientFrame_Typing:
		var nothing struct{}
		err = s.web.ask(ctx, http.MethodPost, "/api/typing", s.web.query(), map[string]string{"to_user": f.Typing.GetToUser()}, &nothing)
	default:
		return nil // A renewal: one comes back with what is fresh.
	}
	if err != nil {
		refused := new(Error)
		if !errors.As(err, &refused) || !refused.ours() || refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden {
			return err
		}
		answer = &edge.ServerFrame{Frame: &edge.ServerFrame_Error{Error: &edge.Error{
			Code: refused.Code, Message: refused.Message, Ref: ref, RetryAfterMs: uint32(refused.RetryAfter.Milliseconds()),
		}}}
	}
	if answer == nil {
		return nil
	}
	select {
	case s.answers <- &edge.ServerBatch{Frames: []*edge.ServerFrame{answer}}:
	case <-s.ctx.Done():
	}
	return nil
}

func (s *stream) historyQuery(r *edge.HistoryRequest) url.Values {
	q := s.web.query()
	for name, value := range map[string]string{"before": r.GetBefore(), "after": r.GetAfter(), "with": r.GetWithUser()} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if r.GetLimit() > 0 {
		q.Set("limit", strconv.Itoa(int(r.GetLimit())))
	}
	return q
}

// message reads an edge.v1 message from JSON. It needs the named field, which each answer of a server has: an
// answer 200 of a proxy says nothing.
type message struct {
	proto.Message
	needs string
}

func (m message) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	if fields[m.needs] == nil {
		return fmt.Errorf("it has no %q", m.needs)
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m.Message)
}

func (s *stream) close() { s.abort() }

func (s *stream) abort() {
	s.cancel()
	<-s.ended
}

func (s *stream) size(f *edge.ClientFrame) int { return proto.Size(f) }

func (s *stream) fallback() bool { return true }
