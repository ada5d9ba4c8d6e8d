package httpapi

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/gen/tasks"
)

const (
	// maxSends is how many messages of one session may be on their way to the broker. Its
	// socket is the queue for more.
	maxSends = 16
	// crowdedSends is how many may be of all sessions; above it a session has one at a time.
	crowdedSends = 4096
	// maxTogether bounds how many messages go to the broker in one call.
	maxTogether = 128
	// postLanes is how many calls to the broker there may be at a time.
	postLanes = 8
	// publishTimeout bounds one publish, beyond what the publisher itself promises.
	publishTimeout = 30 * time.Second
	// claimTimeout bounds the wait for the store that remembers refs.
	claimTimeout = 10 * time.Second
)

// ErrRefused is in the error of a Publisher that sent nothing because of what one of the messages
// is, so that the others can do without it.
var ErrRefused = errors.New("a message was refused")

// post brings what sessions say to the broker. What is said while a call to the broker is on its
// way leaves together with the next one: nothing waits for more when there is little, and there are few
// calls when there is much. All that one user says goes one way, and so keeps its order.
type post struct {
	server *Server
	seed   maphash.Seed
	lanes  [postLanes]lane
}

// lane has two stages, and a message leaves the first one only behind those before it.
type lane struct{ claims, publishes batcher[*letter] }

// sender waits for what becomes of what it says: a session, or a request.
type sender interface {
	// told hears the end of x, once, and that the gate of publishes is to be left.
	told(x *letter)
	// broken hears of a bug, which only the sender is to feel.
	broken()
}

// letter is one message on its way.
type letter struct {
	from  sender
	user  string
	in    incoming
	ref   string // Of v1; plain messages have none.
	began time.Time

	// What the first stage finds out. (Plain messages have no need of it.)
	id   string
	at   time.Time
	bad  *errorBody // Why it is not sent.
	sent bool       // It is with the broker already.
	done bool       // Its sender knows.
}

func newPost(s *Server) *post {
	p := &post{server: s, seed: maphash.MakeSeed()}
	for i := range p.lanes {
		l := &p.lanes[i]
		l.claims = batcher[*letter]{max: maxTogether, do: func(batch []*letter) { p.claim(batch, l) }}
		l.publishes = batcher[*letter]{max: maxTogether, do: p.publish}
	}
	return p
}

// say sends in, which its sender calls ref if they speak v1. It waits while too much of this
// session is on its way, and not for the broker; the sender is told what becomes of it.
func (s *session) say(in incoming, ref string) {
	s.server.post.room(s)
	if !s.server.publishing.enter(0) {
		s.awaitSends(0)
		s.answer(errorStopping, ref)
		return
	}
	s.mu.Lock()
	s.sends++
	s.mu.Unlock()
	s.server.post.add(&letter{from: s, user: s.user, in: in, ref: ref}, s.dialect == plain)
}

// errorStopping answers what came too late.
var errorStopping = &errorBody{Code: codeUnavailable, Message: "the server is restarting; this message was not sent: send it again after you have reconnected"}

// add takes x, for which the gate of publishes was entered. Without a ref every message is another one.
func (p *post) add(x *letter, noRef bool) {
	x.began = time.Now()
	l := &p.lanes[maphash.String(p.seed, x.user)%postLanes]
	if noRef {
		x.id, x.at = p.server.ids.next()
		l.publishes.add(x)
	} else {
		l.claims.add(x)
	}
}

// room waits until s may send one more message.
func (p *post) room(s *session) {
	most := maxSends
	if p.server.publishing.count() >= crowdedSends {
		most = 1
	}
	s.awaitSends(most - 1)
}

// awaitSends waits until at most n messages of s are on their way. Only the session's reader calls
// it: before it answers a frame of another kind, so that answers have the order of the frames.
func (s *session) awaitSends(n int) {
	s.mu.Lock()
	if s.sends <= n {
		s.mu.Unlock()
		return
	}
	fewer := make(chan struct{})
	s.fewer, s.fewerThan = fewer, n+1
	s.mu.Unlock()
	<-fewer // Bounded: claims and publishes are.
}

// tell says to the sender what became of x.
func (p *post) tell(x *letter) {
	x.done = true
	p.server.metrics.published.Observe(time.Since(x.began).Seconds())
	x.from.told(x)
}

// told answers the client.
func (s *session) told(x *letter) {
	defer s.sent()
	defer s.server.post.recover(x)
	if x.bad != nil {
		s.answer(x.bad, x.ref)
		return
	}
	s.took()
	if s.dialect != plain {
		s.tell(&edge.ServerFrame{Frame: &edge.ServerFrame_Ack{Ack: x.ack()}})
	}
}

// broken ends the session.
func (s *session) broken() { s.close(closeInternal, "internal error") }

// ack confirms x.
func (x *letter) ack() *edge.Ack {
	return &edge.Ack{Ref: x.ref, Id: x.id, SentAt: timestamppb.New(timeOf(x.id))}
}

// sent notes that one message less is on its way.
func (s *session) sent() {
	s.mu.Lock()
	s.sends--
	if s.fewer != nil && s.sends < s.fewerThan {
		close(s.fewer)
		s.fewer = nil
	}
	s.mu.Unlock()
	s.server.publishing.leave()
}

// claim is the first stage of messages with refs: it gives each the id that it has from its first
// time on. Everybody knows a message by its id, and so does not mind it coming again; only what this
// node has got back from the broker certainly needs no other try.
func (p *post) claim(batch []*letter, l *lane) {
	ctx, cancel := context.WithTimeout(p.server.ctx, claimTimeout)
	defer cancel()
	var claims sync.WaitGroup
	for _, x := range batch {
		x.id, _ = p.server.ids.next()
	}
	for _, x := range batch {
		// Together: the store writes what comes at the same time in one go.
		claims.Go(func() {
			defer p.recover(x)
			fresh := x.id
			key, _ := parseID(x.ref)
			id, err := p.server.cfg.Refs.ClaimRef(ctx, x.user, x.in.key(key), fresh)
			if err != nil {
				p.server.unsent("claim the ref of a message", x.user, fresh, err)
				x.bad = &errorBody{Code: codeUnavailable, Message: "the message could not be sent; send it again in a moment, with the same ref"}
				return
			}
			x.id, x.at, x.sent = id, timeOf(id), id != fresh && p.server.hub.knows(id)
		})
	}
	claims.Wait()
	for _, x := range batch {
		l.publishes.add(x)
	}
}

// publish is the second stage.
func (p *post) publish(batch []*letter) {
	defer func() {
		for _, x := range batch {
			if !x.done {
				p.tell(x)
			}
		}
	}()
	defer p.recover(batch...)
	send := make([]*letter, 0, len(batch))
	for _, x := range batch {
		if x.bad == nil && !x.sent {
			send = append(send, x)
		}
	}
	err := p.together(send)
	if len(send) > 1 && errors.Is(err, ErrRefused) {
		// For one of them, which must not keep the others.
		for _, x := range send {
			p.fail(x, p.together([]*letter{x}))
		}
		return
	}
	for _, x := range send {
		p.fail(x, err)
	}
}

// together publishes batch in one call, which returns when the broker has everything: first the
// tasks to archive them, then the events, so that what people see is archived.
func (p *post) together(batch []*letter) error {
	if len(batch) == 0 {
		return nil
	}
	msgs := make([]proto.Message, 0, 2*len(batch))
	events := make([]*chat.ChatMessage, len(batch))
	for i, x := range batch {
		m := x.in.chatMessage(x.user, x.id, x.at)
		m.Ref, _ = parseID(x.ref)
		if m.GetToUser() == "" || p.server.cfg.ArchivePrivate {
			msgs = append(msgs, &tasks.ArchiveMessage{Message: m})
		}
		events[i] = m
	}
	for _, m := range events {
		msgs = append(msgs, m)
	}
	ctx, cancel := context.WithTimeout(p.server.ctx, publishTimeout)
	defer cancel()
	return p.server.cfg.Publisher.Publish(ctx, msgs...)
}

// fail notes that x could not be published, if there is an error.
func (p *post) fail(x *letter, err error) {
	if err == nil {
		return
	}
	p.server.unsent("publish", x.user, x.id, err)
	x.bad = &errorBody{Code: codeUnavailable, Message: "the message could not be sent; try again in a moment"}
}

// recover fails batch after a panic, instead of the process.
func (p *post) recover(batch ...*letter) {
	v := recover()
	if v == nil {
		return
	}
	p.server.metrics.panics.Inc()
	p.server.log.Error("send: panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	for _, x := range batch {
		x.bad = &errorBody{Code: codeInternal, Message: "internal error"}
		x.from.broken()
	}
}

// unsent logs that a message could not be sent.
func (s *Server) unsent(what, user, id string, err error) {
	s.logPublish.Do(func() {
		s.log.Warn(what, slog.String("id", id), slog.String("user", user), slog.Any("error", err))
	})
}

// batcher calls do with what is added, in that order and up to max at a time, one call after the
// other. It has a goroutine for as long as there is something to do.
type batcher[T any] struct {
	do  func([]T)
	max int

	mu      sync.Mutex
	waiting []T
	running bool
}

func (b *batcher[T]) add(x T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, x)
	if !b.running {
		b.running = true
		go b.run()
	}
}

func (b *batcher[T]) run() {
	for {
		b.mu.Lock()
		n := min(len(b.waiting), b.max)
		if n == 0 {
			b.waiting, b.running = nil, false
			b.mu.Unlock()
			return
		}
		batch := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		b.mu.Unlock()
		b.do(batch)
	}
}
