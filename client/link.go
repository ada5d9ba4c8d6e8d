package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"burrow/gen/edge"
)

const (
	// maxNotes bounds the frames without an answer that wait for the writer.
	maxNotes = 16
	// quietSlack is how much longer than twice the server's interval a connection may be silent.
	quietSlack = time.Second
)

// transport carries frames, both ways. read is called by one goroutine and write by another one;
// close by any, and it ends both.
type transport interface {
	// read returns the next batch. It calls heard at every sign of life.
	read(heard func()) (*edge.ServerBatch, error)
	// write sends one frame. ctx bounds it, and its end may end the transport.
	write(ctx context.Context, f *edge.ClientFrame) error
	// close says goodbye, and waits some seconds at most for whoever is there to hear it.
	close()
	// abort ends it at once.
	abort()
	// size is what f has on the wire.
	size(f *edge.ClientFrame) int
	// fallback reports whether it is no WebSocket.
	fallback() bool
}

// errUnencodable is that of a frame with text that is not UTF-8.
var errUnencodable = errors.New("client: the text is not UTF-8")

// link is one connection of a Conn, from its first frame to its end.
type link struct {
	transport
	first  *edge.ServerBatch // With the welcome.
	ctx    context.Context   // Ends with the connection; its cause says why.
	cancel context.CancelCauseFunc
	wake   chan struct{} // Holds one.
	began  time.Time
	// expires holds when the session ends, if that is new.
	expires chan time.Time

	mu     sync.Mutex
	notes  []*edge.ClientFrame
	silent *time.Timer
	quiet  time.Duration // After which the peer is dead.
}

func newLink(ctx context.Context, t transport, first *edge.ServerBatch) *link {
	l := &link{transport: t, first: first, wake: make(chan struct{}, 1), began: time.Now(), expires: make(chan time.Time, 1)}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	interval := time.Duration(first.Frames[0].GetWelcome().GetPingIntervalMs()) * time.Millisecond
	l.quiet = 2*min(max(interval, 50*time.Millisecond), 10*time.Minute) + quietSlack
	l.silent = time.AfterFunc(l.quiet, func() {
		l.cancel(fmt.Errorf("nothing came for %s", l.quiet))
	})
	return l
}

// abandon ends a connection that is not served.
func (l *link) abandon() {
	l.cancel(ErrClosed)
	l.silent.Stop()
	l.abort()
}

// heard notes a sign of life.
func (l *link) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() == nil {
		l.silent.Reset(l.quiet)
	}
}

func (l *link) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// note sends a frame that has no answer; it is dropped if too many wait.
func (l *link) note(f *edge.ClientFrame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.notes) < maxNotes {
		l.notes = append(l.notes, f)
	}
	l.kick()
}

func (l *link) nextNote() *edge.ClientFrame {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.notes) == 0 {
		return nil
	}
	f := l.notes[0]
	l.notes = l.notes[1:]
	return f
}

// serve reads and writes until the connection ends, and returns why.
func (c *Conn) serve(l *link) error {
	var parts sync.WaitGroup
	parts.Go(func() { c.write(l) })
	parts.Go(func() {
		<-l.ctx.Done() // The reader is ended by what follows.
		if why := context.Cause(l.ctx); errors.Is(why, ErrClosed) || errors.Is(why, errBehind) {
			l.close()
		} else {
			l.abort()
		}
	})
	parts.Go(func() { c.keepSignedIn(l) })
	parts.Go(func() { c.probe(l) })

	c.take(l, l.first)
	for l.ctx.Err() == nil {
		b, err := l.read(l.heard)
		if err != nil {
			l.cancel(err)
			break
		}
		l.heard()
		c.take(l, b)
	}
	parts.Wait()
	l.silent.Stop()
	return context.Cause(l.ctx)
}

// write is the connection's writer.
func (c *Conn) write(l *link) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		f := l.nextNote()
		var wait time.Duration
		var r *request
		if f == nil {
			c.mu.Lock()
			if r, wait = c.outbox.next(time.Now()); r != nil {
				f = r.frame
			}
			c.mu.Unlock()
		}
		if f != nil {
			ctx, cancel := context.WithTimeout(l.ctx, writeTimeout)
			err := l.transport.write(ctx, f)
			cancel()
			switch {
			case errors.Is(err, errUnencodable):
				if r != nil {
					c.mu.Lock()
					c.outbox.remove(r)
					c.mu.Unlock()
					r.answer(nil, err)
				}
			case err != nil:
				l.cancel(fmt.Errorf("write: %w", err))
				return
			}
			if l.ctx.Err() != nil {
				return
			}
			continue
		}
		var later <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			later = timer.C
		}
		select {
		case <-l.wake:
		case <-later:
		case <-l.ctx.Done():
			return
		}
	}
}
