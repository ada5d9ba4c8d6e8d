package httpapi_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/httpapi"
)

// fakeBroker confirms what is published and brings chat messages back at once.
type fakeBroker struct {
	deliver func(*chat.ChatMessage)
	typing  func(*chat.Typing)

	mu    sync.Mutex
	calls [][]proto.Message
	err   error
	hold  chan struct{} // If set, publishes wait for it to be closed.
	held  chan struct{} // If set, gets one for each publish that waits.

	refuse func(proto.Message) bool // If set, says which messages are no good.
}

func (b *fakeBroker) Publish(ctx context.Context, msgs ...proto.Message) error {
	b.mu.Lock()
	err, hold, held, refuse := b.err, b.hold, b.held, b.refuse
	b.mu.Unlock()
	if hold != nil {
		held <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	if refuse != nil && slices.ContainsFunc(msgs, refuse) {
		return fmt.Errorf("%w: by a test", httpapi.ErrRefused)
	}
	b.mu.Lock()
	b.calls = append(b.calls, msgs)
	b.mu.Unlock()
	for _, m := range msgs {
		switch m := m.(type) {
		case *chat.ChatMessage:
			b.deliver(proto.CloneOf(m))
		case *chat.Typing:
			b.typing(proto.CloneOf(m))
		}
	}
	return nil
}

func (b *fakeBroker) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *fakeBroker) refuses(refuse func(proto.Message) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = refuse
}

// published returns the kinds of messages of each publish: "task event".
func (b *fakeBroker) published() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, msgs := range b.calls {
		var kinds []string
		for _, m := range msgs {
			switch m.(type) {
			case *tasks.ArchiveMessage:
				kinds = append(kinds, "task")
			case *chat.ChatMessage:
				kinds = append(kinds, "event")
			}
		}
		all = append(all, strings.Join(kinds, " "))
	}
	return all
}

// fakeArchive pages through a slice.
type fakeArchive struct {
	mu   sync.Mutex
	msgs []*chat.ChatMessage
	err  error
	bad  int // so many calls more fail
}

// failed tells if this call does. The caller holds the lock.
func (a *fakeArchive) failed() error {
	if a.bad > 0 {
		a.bad--
		return errors.New("busy")
	}
	return a.err
}

func (a *fakeArchive) add(msgs ...*chat.ChatMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.msgs = append(a.msgs, msgs...)
	slices.SortFunc(a.msgs, func(x, y *chat.ChatMessage) int { return cmp.Compare(x.Id, y.Id) })
}

func (a *fakeArchive) Page(_ context.Context, before string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.failed(); err != nil {
		return nil, false, err
	}
	var found []*chat.ChatMessage
	for _, m := range a.msgs {
		talk := m.ToUser == "" && users == [2]string{} || m.ToUser != "" &&
			([2]string{m.Sender, m.ToUser} == users || [2]string{m.ToUser, m.Sender} == users)
		if talk && (before == "" || m.Id < before) {
			found = append(found, m)
		}
	}
	cut := max(0, len(found)-limit)
	return found[cut:], cut > 0, nil
}

func (a *fakeArchive) PageAfter(_ context.Context, after string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	all, _, err := a.Page(context.Background(), "", 1<<30, users)
	newer := slices.DeleteFunc(slices.Clone(all), func(m *chat.ChatMessage) bool { return m.Id <= after })
	return newer[:min(limit, len(newer))], len(newer) > limit, err
}

func (a *fakeArchive) PageAll(_ context.Context, before string, limit int) ([]*chat.ChatMessage, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	older := slices.DeleteFunc(slices.Clone(a.msgs), func(m *chat.ChatMessage) bool { return before != "" && m.Id >= before })
	cut := max(0, len(older)-limit)
	return older[cut:], cut > 0, a.failed()
}

// fakePresence is a tracker of one node without grace.
type fakePresence struct {
	status func(string, bool)
	away   func(string)

	mu    sync.Mutex
	users map[string]int
	gone  map[string]int // How many of their sessions are away.
}

func (p *fakePresence) Join(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users[user]++
	p.tell(user)
}

func (p *fakePresence) Away(user string, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if away {
		p.gone[user]++
	} else {
		p.gone[user]--
	}
	p.tell(user)
}

func (p *fakePresence) Leave(user string, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[user]--; p.users[user] == 0 {
		delete(p.users, user)
	}
	if away {
		p.gone[user]--
	}
	p.tell(user)
}

func (p *fakePresence) tell(user string) {
	if n := p.users[user]; n > 0 && p.gone[user] == n {
		p.away(user)
	} else {
		p.status(user, n > 0)
	}
}

func (p *fakePresence) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.users) == 0
}

// fakeAuth knows cookies by heart. In guest mode the name "taken" is somebody else's.
type fakeAuth struct {
	mode    string
	mu      sync.Mutex
	cookies map[string]auth.Session
	err     error
}

func (a *fakeAuth) Mode() string { return a.mode }

func (a *fakeAuth) KeyID() string { return "0a1b2c3d" }

func (a *fakeAuth) SignIn(_ context.Context, _, name string) (auth.Session, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name, err := auth.ValidName(name)
	if err != nil {
		return auth.Session{}, "", fmt.Errorf("sign in: %w", err)
	}
	if name == "taken" {
		return auth.Session{}, "", fmt.Errorf("sign in: %w", auth.ErrTaken)
	}
	if name == "greedy" {
		return auth.Session{}, "", fmt.Errorf("sign in: %w", auth.ErrTooManyNames)
	}
	s := auth.Session{Name: name, Expires: time.Now().Add(time.Hour)}
	a.cookies["cookie-of-"+name] = s
	return s, "cookie-of-" + name, a.err
}

func (a *fakeAuth) Same(x, y string) bool {
	return strings.EqualFold(x, y) && (x == y || a.mode == auth.ModeGuest)
}

// Resolve knows Ada, in any case in mode guest, and refuses the look-alike a\u0501a.
func (a *fakeAuth) Resolve(_ context.Context, name string) (string, error) {
	switch {
	case a.mode != auth.ModeGuest:
		return name, nil
	case strings.EqualFold(name, "Ada"):
		return "Ada", a.err
	case name == "a\u0501a":
		return "", fmt.Errorf("find: %w", auth.ErrTaken)
	}
	return name, a.err
}

// Renew finds the cookie of "old" old.
func (a *fakeAuth) Renew(ctx context.Context, cookie string) (auth.Session, string, error) {
	s, err := a.Verify(ctx, cookie)
	if err == nil && s.Name == "old" {
		return s, "new-cookie", nil
	}
	return s, "", err
}

func (a *fakeAuth) Verify(_ context.Context, cookie string) (auth.Session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.cookies[cookie]
	if a.err != nil {
		return auth.Session{}, a.err
	}
	if !ok {
		return auth.Session{}, fmt.Errorf("verify: %w", auth.ErrNoSession)
	}
	return s, nil
}
