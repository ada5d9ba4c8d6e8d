package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"burrow/gen/edge"
)

// Send says content, to everyone if to is empty, and returns when the server has taken it. It
// sends again, as the same message, for as long as that is not known: through lost
// connections, restarts of the server, and its limits.
//
// An *Error means that it was refused, and not sent. After any other error, such as the end of
// ctx, it may have been sent; SendRef with a ref of one's own can find out later.
func (c *Conn) Send(ctx context.Context, to, content string) (Sent, error) {
	return c.SendRef(ctx, uuid.NewString(), to, content)
}

// SendRef is Send with a ref, which is a UUID. A message that is sent again, with the same ref, to
// and content, by the same user, within seven days, is the same one: it is shown once, and has
// the id of the first time. A program that keeps its refs can so go on after a crash.
func (c *Conn) SendRef(ctx context.Context, ref, to, content string) (Sent, error) {
	if id, err := uuid.Parse(ref); err != nil || id.String() != ref {
		return Sent{}, fmt.Errorf("client: the ref %q is no UUID in small letters", ref)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.SendTimeout)
		defer cancel()
	}
	c.mu.Lock()
	limit := c.maxSize
	c.mu.Unlock()
	if limit > 0 && len(content) > 2*limit {
		// The server counts without spaces around it; but what is far too long would end the connection.
		return Sent{}, &Error{Code: "content_too_long", Message: fmt.Sprintf("the message has %d bytes, at most %d are allowed", len(content), limit)}
	}
	f := &edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: ref, Content: content, ToUser: to}}}
	answer, err := c.call(ctx, ref, f)
	if err != nil {
		return Sent{}, err
	}
	ack := answer.GetAck()
	return Sent{Ref: ref, ID: ack.GetId(), At: ack.GetSentAt().AsTime()}, nil
}

// HistoryQuery says which messages one wants to read.
type HistoryQuery struct {
	// Before asks for the newest ones before that id, After for the oldest ones after it; not
	// both. With neither it is the newest ones.
	Before, After string
	// With is the other user of a private talk; empty: what was said to everyone.
	With string
	// Limit is how many at most, 1 to 100. Default 50.
	Limit int
}

// Page is some of the history, oldest first.
type Page struct {
	Messages []Message
	// More means that there are more in the direction that was asked for.
	More bool
}

// History reads older messages. Like Send it waits through lost connections.
func (c *Conn) History(ctx context.Context, q HistoryQuery) (Page, error) {
	if q.Limit < 0 || q.Limit > 100 {
		return Page{}, fmt.Errorf("client: HistoryQuery.Limit is %d; it is 1 to 100, or 0 for 50", q.Limit)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.SendTimeout)
		defer cancel()
	}
	ref := uuid.NewString()
	answer, err := c.call(ctx, ref, historyFrame(ref, q))
	if err != nil {
		return Page{}, err
	}
	p := Page{More: answer.GetHistory().GetHasMore()}
	for _, m := range answer.GetHistory().GetMessages() {
		p.Messages = append(p.Messages, newMessage(m))
	}
	return p, nil
}

func historyFrame(ref string, q HistoryQuery) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_History{History: &edge.HistoryRequest{
		Before: q.Before, After: q.After, WithUser: q.With, Limit: uint32(q.Limit), Ref: ref,
	}}}
}

// call sends a request and waits for its answer.
func (c *Conn) call(ctx context.Context, ref string, f *edge.ClientFrame) (*edge.ServerFrame, error) {
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("client: not sent: %w", context.Cause(ctx))
	case <-c.ctx.Done():
		return nil, c.whyEnded()
	}
	type result struct {
		frame *edge.ServerFrame
		err   error
	}
	answered := make(chan result, 1)
	r := &request{ref: ref, frame: f, answer: func(f *edge.ServerFrame, err error) { answered <- result{f, err} }}
	c.mu.Lock()
	if c.outbox.find(ref) != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("client: the ref %s is being sent already", ref)
	}
	taken := c.outbox.add(r)
	c.kick()
	c.mu.Unlock()
	if !taken {
		return nil, c.whyEnded()
	}
	select {
	case got := <-answered:
		return got.frame, got.err
	case <-ctx.Done():
		c.mu.Lock()
		c.outbox.remove(r)
		c.kick()
		c.mu.Unlock()
		select {
		case got := <-answered: // It was just in time.
			return got.frame, got.err
		default:
		}
		return nil, fmt.Errorf("client: not confirmed, ref %s: %w", ref, context.Cause(ctx))
	}
}

func (c *Conn) whyEnded() error {
	if err := c.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// kick wakes the writer of the connection, if there is one. The caller holds the lock.
func (c *Conn) kick() {
	if c.link != nil {
		c.link.kick()
	}
}

// answered takes an answer to the request with this ref.
func (c *Conn) answered(ref string, f *edge.ServerFrame) {
	c.mu.Lock()
	r := c.outbox.find(ref)
	if r != nil {
		c.outbox.remove(r)
		c.kick()
	}
	c.mu.Unlock()
	if r != nil {
		r.answer(f, nil)
	}
}

// refused takes an error frame: what waiting can mend is sent again.
func (c *Conn) refused(e *edge.Error) {
	err := &Error{Code: e.GetCode(), Message: e.GetMessage(), RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond}
	c.mu.Lock()
	r := c.outbox.find(e.GetRef())
	if r == nil || e.GetRef() == "" {
		c.mu.Unlock()
		c.log.Warn("the server refused a frame", "error", err)
		return
	}
	switch err.Code {
	case "rate_limited":
		c.outbox.again(r, err.RetryAfter, true, time.Now())
	case "unavailable":
		wait := min(250*time.Millisecond<<min(r.tries, 6), 10*time.Second)
		r.tries++
		c.outbox.again(r, max(err.RetryAfter, wait/2+rand.N(wait)), false, time.Now())
	default:
		c.outbox.remove(r)
		c.kick()
		c.mu.Unlock()
		r.answer(nil, err)
		return
	}
	c.kick()
	c.mu.Unlock()
}

// tooBig fails the largest request that is on its way, after the server has closed the connection
// for one: sent again, it would do that for ever.
func (c *Conn) tooBig(size func(*edge.ClientFrame) int) {
	var largest *request
	c.mu.Lock()
	for _, r := range c.outbox.requests {
		if r.sent && (largest == nil || size(r.frame) > size(largest.frame)) {
			largest = r
		}
	}
	if largest != nil {
		c.outbox.remove(largest)
	}
	c.mu.Unlock()
	if largest != nil {
		largest.answer(nil, &Error{Code: "content_too_long", Message: "the server takes no frame of this size"})
	}
}

// isClose returns whether err is a close of the server with this code.
func isClose(err error, code int) bool {
	var closed *CloseError
	return errors.As(err, &closed) && closed.Code == code
}
