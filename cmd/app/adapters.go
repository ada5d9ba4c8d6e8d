package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/dlq"
	"burrow/gen/chat"
	genpresence "burrow/gen/presence"
	"burrow/gen/tasks"
	"burrow/httpapi"
	"burrow/presence"
	"burrow/router"
	"burrow/store"
)

// claims is the store as auth.Claims.
type claims struct{ *store.Store }

func (c claims) Claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	err := c.Store.Claim(ctx, name, owner, ttl)
	switch {
	case errors.Is(err, store.ErrTaken):
		return auth.ErrTaken
	case errors.Is(err, store.ErrTooManyNames):
		return auth.ErrTooManyNames
	}
	return err
}

func (c claims) Spelling(ctx context.Context, name string) (string, error) {
	spelling, err := c.Store.Spelling(ctx, name)
	if errors.Is(err, store.ErrTaken) {
		return "", auth.ErrTaken
	}
	return spelling, err
}

// archive reads the store for the edge.
type archive struct{ store *store.Store }

func (a archive) Page(ctx context.Context, before string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	return a.store.Page(ctx, store.Query{Before: before, Limit: limit, Users: users})
}

func (a archive) PageAfter(ctx context.Context, after string, limit int, users [2]string) ([]*chat.ChatMessage, bool, error) {
	return a.store.Page(ctx, store.Query{After: after, Limit: limit, Users: users})
}

func (a archive) PageAll(ctx context.Context, before string, limit int) ([]*chat.ChatMessage, bool, error) {
	return a.store.Page(ctx, store.Query{Before: before, Limit: limit, All: true})
}

func (a archive) Search(ctx context.Context, q httpapi.SearchQuery) (httpapi.SearchHits, error) {
	found, err := a.store.Search(ctx, store.SearchQuery(q))
	if errors.Is(err, store.ErrInvalid) {
		return httpapi.SearchHits{}, fmt.Errorf("%w: %w", httpapi.ErrBadSearch, err)
	}
	hits := httpapi.SearchHits{HasMore: found.HasMore, Behind: found.Behind}
	for _, h := range found.Hits {
		marks := make([][2]int, 0, len(h.Marks))
		for _, m := range h.Marks {
			marks = append(marks, [2]int{m.Start, m.End})
		}
		hits.Messages, hits.Marks = append(hits.Messages, h.Message), append(hits.Marks, marks)
	}
	return hits, err
}

// Talks lists the private talks of user.
func (a archive) Talks(ctx context.Context, user, privateFrom string, limit int) (last []*chat.ChatMessage, behind int, err error) {
	return a.store.Talks(ctx, user, privateFrom, limit)
}

// presenceEvents publishes what the tracker has to say.
type presenceEvents struct {
	router *router.Router
	behind func() string // what this node may have missed; see presence.StateRequest
}

func (p presenceEvents) PublishStatus(ctx context.Context, s presence.Status) error {
	return p.router.Publish(ctx, &chat.UserStatus{
		ClientId: s.User, Online: s.Online, Away: s.Away, Node: s.Node, Incarnation: s.Incarnation, Version: s.Version,
	})
}

func (p presenceEvents) PublishState(ctx context.Context, s presence.State) error {
	return p.router.Publish(ctx, &genpresence.NodeState{
		Node: s.Node, Incarnation: s.Incarnation, Version: s.Version,
		Users: s.Users, Away: s.Away, Leaving: s.Leaving, Part: s.Part, Parts: s.Parts,
	})
}

func (p presenceEvents) PublishRequest(ctx context.Context, node string) error {
	return p.router.Publish(ctx, &genpresence.StateRequest{Node: node, Behind: p.behind()})
}

// publisher is the router as httpapi.Publisher.
type publisher struct{ *router.Router }

func (p publisher) Publish(ctx context.Context, msgs ...proto.Message) error {
	err := p.Router.Publish(ctx, msgs...)
	if errors.Is(err, router.ErrInvalid) || errors.Is(err, router.ErrTooLarge) {
		return fmt.Errorf("%w: %w", httpapi.ErrRefused, err)
	}
	return err
}

// replays is the router as dlq.Sender.
type replays struct{ router *router.Router }

func (r replays) Replay(ctx context.Context, p dlq.Replay) error {
	err := r.router.Replay(ctx, router.Replay(p))
	if errors.Is(err, router.ErrInvalid) || errors.Is(err, router.ErrTooLarge) {
		return fmt.Errorf("%w: %w", dlq.ErrRefused, err)
	}
	return err
}

// letterOf bounds what a schema bounds, and what is only for people.
func letterOf(l router.DeadLetter) *tasks.DeadLetter {
	return &tasks.DeadLetter{
		MessageId: boundID(l.MessageID), Topic: l.Topic, Function: l.Function,
		Error: clip(l.Err.Error(), 4096), Attempts: uint32(l.Attempts), Payload: l.Payload,
		FailedAt: timestamppb.New(l.Time), Metadata: boundMetadata(l.Metadata), Replay: clip(l.Replay, 128),
	}
}

// boundID returns an id of at most 256 bytes that differs where ids do.
func boundID(id string) string {
	if len(id) <= 256 && utf8.ValidString(id) {
		return id
	}
	return fmt.Sprintf("%s sha256:%x", clip(id, 180), sha256.Sum256([]byte(id)))
}

// boundMetadata leaves out what tasks.DeadLetter has no room for: a replay does
// better without a value than with half of it.
func boundMetadata(m map[string]string) map[string]string {
	bounded := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		value := m[key]
		if len(bounded) < 32 && len(key) <= 128 && len(value) <= 1024 && utf8.ValidString(key) && utf8.ValidString(value) {
			bounded[key] = value
		}
	}
	return bounded
}

// nodeName is how this process signs what it does by itself.
func nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("node %s/%d", host, os.Getpid())
}

// clip returns at most n bytes of s, as valid UTF-8.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// pageURL is the address as a person on this machine types it.
func pageURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
