package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	genpresence "burrow/gen/presence"
	"burrow/gen/tasks"
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

// presenceEvents publishes what the tracker has to say.
type presenceEvents struct{ router *router.Router }

func (p presenceEvents) PublishStatus(ctx context.Context, s presence.Status) error {
	return p.router.Publish(ctx, &chat.UserStatus{
		ClientId: s.User, Online: s.Online, Node: s.Node, Incarnation: s.Incarnation, Version: s.Version,
	})
}

func (p presenceEvents) PublishState(ctx context.Context, s presence.State) error {
	return p.router.Publish(ctx, &genpresence.NodeState{
		Node: s.Node, Incarnation: s.Incarnation, Version: s.Version,
		Users: s.Users, Leaving: s.Leaving, Part: s.Part, Parts: s.Parts,
	})
}

func (p presenceEvents) PublishRequest(ctx context.Context, node string) error {
	return p.router.Publish(ctx, &genpresence.StateRequest{Node: node})
}

// letterOf bounds what a schema bounds, and what is only for people.
func letterOf(l router.DeadLetter) *tasks.DeadLetter {
	return &tasks.DeadLetter{
		MessageId: clip(l.MessageID, 64), Topic: l.Topic, Function: l.Function,
		Error: clip(l.Err.Error(), 4096), Attempts: uint32(l.Attempts), Payload: l.Payload,
		FailedAt: timestamppb.New(l.Time),
	}
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
