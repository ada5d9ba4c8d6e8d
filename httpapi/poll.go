package httpapi

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"burrow/auth"
)

// A proxy that buffers a stream of events until its end lets polls through: requests for the events of
// a session since the last poll. The session is one over Server-Sent Events, and writes into a pipe.

const (
	// maxPollWait bounds the time of a poll without events: less than net/http lets an answer take.
	maxPollWait = 20 * time.Second
	// pollFirst is the least wait of the first poll, in which the session begins.
	pollFirst = 5 * time.Second
	// pollGather is how long a poll with events waits for more.
	pollGather = 50 * time.Millisecond
	// pollIdle is how long a session lives without polls: browsers run the timers of hidden tabs once a minute.
	pollIdle = 75 * time.Second
	// maxPolled bounds the bytes that wait for a poll, as the system bounds those of a socket. When they
	// are reached the session waits, as one with a slow reader does.
	maxPolled = 128 << 10
)

// pollKey names a session with polls. The private boundary in it keeps out a later owner of the name.
type pollKey struct{ user, private, stream string }

// polls are the sessions with polls. The zero value is good.
type polls struct {
	mu    sync.Mutex
	all   map[pollKey]*poll
	hosts map[netip.Prefix]int // How many of each address.
}

func (p *polls) find(key pollKey) *poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[key]
}

// add returns the poll of key: fresh, or one that another request has added before; or nil if the
// address has limit polls, or all addresses have total. 0 is no limit.
func (p *polls) add(key pollKey, fresh *poll, limit, total int) *poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.all[key]; old != nil {
		return old
	}
	if limit > 0 && p.hosts[fresh.host] >= limit || total > 0 && len(p.all) >= total {
		return nil
	}
	if p.all == nil {
		p.all, p.hosts = make(map[pollKey]*poll), make(map[netip.Prefix]int)
	}
	p.all[key] = fresh
	p.hosts[fresh.host]++
	return fresh
}

// remove removes old, unless it is removed already.
func (p *polls) remove(key pollKey, old *poll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[key] != old {
		return
	}
	delete(p.all, key)
	if p.hosts[old.host]--; p.hosts[old.host] == 0 {
		delete(p.hosts, old.host)
	}
}

// poll holds the events of one session between requests.
type poll struct {
	session *session
	host    netip.Prefix // The client's address.
	conn    net.Conn     // The reading end of the session's pipe.
	idle    *time.Timer

	mu      sync.Mutex
	events  []byte
	ended   bool          // No more events come.
	turn    int           // Of the latest request, the only one that gets events.
	number  string        // The client's, of the last request with events in its answer.
	changed chan struct{} // Closed at every change, and replaced.
}

// pipeEnd is the session's end of the pipe.
type pipeEnd struct{ net.Conn }

// CloseWrite closes the pipe: the last event needs no acknowledgement.
func (e pipeEnd) CloseWrite() error { return e.Close() }

// answerPoll answers with the events of the session called stream, which it opens at the first poll.
func (s *Server) answerPoll(c echo.Context, user, stream, since string) error {
	ms, err := strconv.ParseUint(c.QueryParam("poll"), 10, 31)
	if err != nil || stream == "" {
		return badRequest("poll is a time in milliseconds, and needs stream, a UUID that you make")
	}
	wait := min(time.Duration(ms)*time.Millisecond, maxPollWait)
	if !s.originAllowed(c.Request()) {
		return errForeignOrigin
	}
	who, err := s.identify(c, user)
	if err != nil {
		return err
	}
	key := pollKey{who.Name, privateFrom(who), stream}
	number := c.QueryParam("number")
	p := s.polls.find(key)
	if p != nil && p.answered(number) {
		// The browser or a proxy sends the request again: its answer was lost. The next session resumes.
		_ = p.conn.Close()
		s.polls.remove(key, p)
		p = nil
	}
	if p == nil {
		if p, err = s.openPoll(c, key, since); err != nil {
			return err
		}
		wait = max(wait, pollFirst)
	}
	p.session.prolong(who.Expires)
	events := p.take(c.Request().Context(), number, wait)
	if len(events) == 0 {
		events = commentEvent
	}
	h := c.Response().Header()
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("Content-Length", strconv.Itoa(len(events)))
	return c.Blob(http.StatusOK, "text/event-stream", events)
}

// openPoll opens the session of key, unless another request has opened it meanwhile.
func (s *Server) openPoll(c echo.Context, key pollKey, since string) (*poll, error) {
	who, err := s.admit(c, key.user)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	fresh := &poll{host: hostPrefix(c.RealIP()), conn: near, changed: make(chan struct{})}
	fresh.session = s.newSession(pipeEnd{far}, who, c.RealIP(), v1Events)
	fresh.session.name, fresh.session.since = key.stream, since
	fresh.idle = time.AfterFunc(pollIdle, func() { _ = near.Close() }) // The session ends as one without a peer.
	p := s.polls.add(key, fresh, s.cfg.HTTP.MaxConnectionsPerAddress, s.door.max)
	if p != fresh {
		fresh.idle.Stop()
		fresh.session.finish() // It was not opened: nothing to wait for.
		s.connections.leave()
		if p == nil {
			return nil, s.tooMany(c, "connections", pollIdle)
		}
		return p, nil
	}
	go func() {
		defer s.connections.leave()
		defer s.polls.remove(key, fresh)
		defer fresh.idle.Stop()
		var pump sync.WaitGroup
		pump.Go(fresh.pump)
		fresh.session.run(func(conn net.Conn) error { return fresh.session.stream(conn, nil, 0) })
		pump.Wait()
	}()
	return p, nil
}

// pump takes events from the session until its end.
func (p *poll) pump() {
	defer func() { _ = p.conn.Close() }()
	piece := make([]byte, 16<<10)
	for {
		n, err := p.conn.Read(piece)
		p.mu.Lock()
		p.events = append(p.events, piece[:n]...)
		p.ended = err != nil
		p.signal()
		for !p.ended && len(p.events) >= maxPolled && p.whole() > 0 { // One event may be longer.
			changed := p.changed
			p.mu.Unlock()
			select {
			case <-changed:
			case <-p.session.written:
			}
			p.mu.Lock()
			if isOver(p.session.written) {
				break
			}
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func isOver(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// signal wakes all who wait for a change. The caller holds the lock.
func (p *poll) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// whole returns the length of the events that have come whole.
func (p *poll) whole() int {
	if i := bytes.LastIndex(p.events, []byte("\n\n")); i >= 0 {
		return i + 2
	}
	return 0
}

// answered reports whether the request with that number has had its answer.
func (p *poll) answered(number string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return number != "" && number == p.number
}

// take returns whole events, to the request with that number. It waits for the first until wait is over, ctx
// or the session has ended, or another request has come.
func (p *poll) take(ctx context.Context, number string, wait time.Duration) []byte {
	p.idle.Stop()
	defer p.idle.Reset(pollIdle)
	ctx, cancel := context.WithTimeout(ctx, wait+pollGather)
	defer cancel()
	late := time.After(wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	turn := p.turn
	p.signal()
	for waiting := true; waiting && turn == p.turn && !p.ended && p.whole() == 0; {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
		p.mu.Lock()
	}
	if p.whole() > 0 && !p.ended {
		p.mu.Unlock()
		select {
		case <-time.After(pollGather):
		case <-ctx.Done():
		}
		p.mu.Lock()
	}
	if turn != p.turn || context.Cause(ctx) == context.Canceled {
		return nil // The next request gets them.
	}
	n := p.whole()
	if n > 0 {
		p.number = number
	}
	events := p.events[:n:n]
	p.events = bytes.Clone(p.events[n:])
	p.signal()
	return events
}

// identify returns who asks, which has to be user unless that is empty.
func (s *Server) identify(c echo.Context, user string) (auth.Session, error) {
	who := auth.Session{Name: user}
	if s.cfg.Auth.Mode() != auth.ModeOpen {
		var err error
		if who, _, err = s.prove(c); err != nil {
			return who, err
		}
		if user != "" && !s.cfg.Auth.Same(who.Name, user) {
			return who, errOtherName
		}
	}
	if who.Name == "" {
		return who, errInvalidClientID
	}
	return who, nil
}
