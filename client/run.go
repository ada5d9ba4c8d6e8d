package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"burrow/gen/edge"
)

// connect signs in, connects, and waits for the first frame.
func (c *Conn) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	if err := c.web.signIn(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	since := c.inbox.since
	c.mu.Unlock()
	l, err := c.open(ctx, since)
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.ours() && refused.Status == http.StatusUnauthorized {
		c.web.denied()
	}
	return l, err
}

// begin waits for the first frame of t, and closes t if it does not come before ctx ends.
func (c *Conn) begin(ctx context.Context, t transport) (*link, error) {
	bound := context.AfterFunc(ctx, t.abort)
	first, err := t.read(func() {})
	if !bound() {
		return nil, fmt.Errorf("the server did not say welcome: %w", context.Cause(ctx))
	}
	if err == nil && (len(first.GetFrames()) == 0 || first.Frames[0].GetWelcome() == nil) {
		err = errors.New("the server did not say welcome first")
	}
	if err != nil {
		t.abort()
		return nil, err
	}
	return newLink(c.ctx, t, first), nil
}

// run keeps the Conn connected, beginning with l, until there is no more use in it.
func (c *Conn) run(l *link) {
	defer close(c.ended)
	defer c.web.close()
	defer close(c.events)
	retry := retries{min: c.cfg.MinRetry, max: c.cfg.MaxRetry}
	var err error
	for {
		if l != nil {
			retry.welcomed()
			c.mu.Lock()
			c.link = l
			c.outbox.reconnected()
			c.mu.Unlock()
			err = c.serve(l)
			c.mu.Lock()
			c.link = nil
			if asked := c.inbox.lost(); asked != nil {
				c.outbox.remove(asked)
			}
			c.mu.Unlock()
			if time.Since(l.began) >= stableAfter {
				retry.stable()
			}
			if isClose(err, closeTooBig) {
				c.tooBig(l.size)
			}
		}
		if l, c.next = c.next, nil; c.ctx.Err() != nil {
			if l != nil {
				l.abandon()
			}
			break
		}
		if l != nil {
			c.blocked = false
			continue
		}
		wait, final := retry.after(err)
		if final {
			break
		}
		c.log.Info("connection lost", "error", err, "retry", wait)
		c.emit(Disconnected{Err: err, Retry: wait})
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
		l, err = c.connect(c.ctx)
	}
	c.end(fmt.Errorf("client: the connection is over: %w", err))
	c.mu.Lock()
	c.inbox.closed = true
	c.inbox.signal()
	c.mu.Unlock()
}

// take handles a batch. Only run calls it.
func (c *Conn) take(l *link, b *edge.ServerBatch) {
	for _, f := range b.GetFrames() {
		switch f := f.GetFrame().(type) {
		case *edge.ServerFrame_Welcome:
			c.welcomed(l, f.Welcome)
		case *edge.ServerFrame_Chat:
			c.heard(f.Chat)
		case *edge.ServerFrame_Presence:
			c.present(f.Presence)
		case *edge.ServerFrame_Status:
			c.status(f.Status)
		case *edge.ServerFrame_Typing:
			c.emit(Typing{User: f.Typing.GetClientId(), To: f.Typing.GetToUser()})
		case *edge.ServerFrame_Ack:
			c.answered(f.Ack.GetRef(), &edge.ServerFrame{Frame: f})
		case *edge.ServerFrame_History:
			c.answered(f.History.GetRef(), &edge.ServerFrame{Frame: f})
		case *edge.ServerFrame_Error:
			c.refused(f.Error)
		case *edge.ServerFrame_Renewed:
			l.renewed(f.Renewed.GetExpiresAt().AsTime())
		}
	}
}

// welcomed begins a connection.
func (c *Conn) welcomed(l *link, w *edge.Welcome) {
	c.emit(Connected{
		Node: w.GetNode(), Again: c.welcome, Fallback: l.fallback(),
		ClockAhead: time.Until(w.GetServerTime().AsTime()).Round(time.Millisecond),
	})
	c.web.named(w.GetClientId())
	if w.GetExpiresAt() != nil {
		l.renewed(w.GetExpiresAt().AsTime())
	}
	c.mu.Lock()
	c.maxSize = int(w.GetMaxContentBytes())
	asked := c.inbox.since != ""
	c.old = !asked
	if asked && !w.GetRecovered() && w.GetHistoryAfter() != "" {
		c.inbox.start(w.GetHistoryAfter(), c.cfg.CatchUp)
		c.fetch()
	}
	c.mu.Unlock()
	c.welcome = true
	if asked && w.GetPrivateGap() {
		c.emit(Gap{Private: true})
	}
	if asked && !w.GetRecovered() && w.GetHistoryAfter() == "" {
		c.emit(Gap{}) // Config.Since was no id.
	}
}

// heard takes a message.
func (c *Conn) heard(chat *edge.Chat) {
	m := newMessage(chat)
	c.mu.Lock()
	defer c.mu.Unlock()
	m.Old = c.old
	if me := c.web.user(); m.To != "" {
		if m.Sender != me {
			c.inbox.met(m.Sender)
		} else if m.To != me {
			c.inbox.met(m.To)
		}
	}
	c.inbox.live(m)
}

// fetch asks for the next page of what was missed, if there is room for it. The caller holds the lock.
func (c *Conn) fetch() {
	n := c.inbox.page()
	if n == 0 {
		return
	}
	catch, ref := c.inbox.catch, uuid.NewString()
	r := &request{ref: ref, frame: historyFrame(ref, HistoryQuery{After: catch.after, With: catch.talks[0], Limit: n})}
	r.answer = func(f *edge.ServerFrame, err error) { c.fetched(catch, f, err) }
	if c.outbox.add(r) {
		catch.asked = r
		c.kick()
	}
}

// fetched takes a page of what was missed.
func (c *Conn) fetched(catch *catchUp, f *edge.ServerFrame, err error) {
	var page []Message
	for _, m := range f.GetHistory().GetMessages() {
		page = append(page, newMessage(m))
	}
	c.mu.Lock()
	if c.inbox.catch != catch {
		c.mu.Unlock()
		return // It is not wanted any more.
	}
	gap := err != nil
	if err != nil {
		c.inbox.release()
	} else {
		gap = c.inbox.caught(page, f.GetHistory().GetHasMore())
		c.fetch()
	}
	ended := c.err != nil
	c.mu.Unlock()
	if gap && !ended {
		c.log.Warn("some messages that were missed are left out", "error", err)
		c.emit(Gap{})
	}
}

// present takes the list of who is online, which ends what a connection begins with.
func (c *Conn) present(p *edge.Presence) {
	now := make(map[string]struct{}, len(p.GetUsers()))
	for _, name := range p.GetUsers() {
		if len(now) < maxNames {
			now[name] = struct{}{}
		}
	}
	c.mu.Lock()
	c.old = false
	change := StatusChange{Total: int(p.GetTotal())}
	for name := range now {
		if _, there := c.online[name]; !there {
			change.Online = append(change.Online, name)
		}
	}
	for name := range c.online {
		if _, there := now[name]; !there {
			change.Offline = append(change.Offline, name)
		}
	}
	c.online, c.total = now, change.Total
	c.mu.Unlock()
	slices.Sort(change.Online)
	slices.Sort(change.Offline)
	if len(change.Online)+len(change.Offline) > 0 {
		c.emit(change)
	}
}

// status takes who came and who left.
func (c *Conn) status(s *edge.Status) {
	c.mu.Lock()
	if len(c.online)+len(s.GetOnline()) <= maxNames {
		for _, name := range s.GetOnline() {
			c.online[name] = struct{}{}
		}
	}
	for _, name := range s.GetOffline() {
		delete(c.online, name)
	}
	c.total = int(s.GetTotal())
	c.mu.Unlock()
	c.emit(StatusChange{Online: s.GetOnline(), Offline: s.GetOffline(), Total: int(s.GetTotal())})
}
