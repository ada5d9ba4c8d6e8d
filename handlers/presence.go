package handlers

import (
	"context"
	"fmt"
	"slices"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/presence"
)

// Presence takes in what other nodes say of who is online. Every node runs it;
// what comes twice, late or in another order is for Leases to sort out.
type Presence struct {
	Leases Leases
	Talk   Talk
}

// Talk is what Presence needs of the edge.
type Talk interface {
	// Behind notes that a node may not know yet what was said after the message last, or
	// if that is empty, that it has just started.
	Behind(node, last string)
}

// Leases is what Presence needs of the table of leases. The arguments are the
// fields of the messages.
type Leases interface {
	ApplyStatus(user string, online, away bool, node string, incarnation, version uint64)
	ApplyState(node string, incarnation, version uint64, users, away []string, leaving bool, part, parts uint32)
	ApplyRequest(node string)
}

// Status takes in that a user came online on a node, or is away there, or is gone.
func (p *Presence) Status(_ context.Context, m *chat.UserStatus) error {
	user, err := auth.ValidName(m.GetClientId())
	if err != nil {
		return fmt.Errorf("presence: %w", Permanent(err))
	}
	p.Leases.ApplyStatus(user, m.GetOnline(), m.GetAway(), m.GetNode(), m.GetIncarnation(), m.GetVersion())
	return nil
}

// State takes in who is online on a node. Names that no user can have are left out.
func (p *Presence) State(_ context.Context, m *presence.NodeState) error {
	p.Leases.ApplyState(m.GetNode(), m.GetIncarnation(), m.GetVersion(), valid(m.GetUsers()), valid(m.GetAway()), m.GetLeaving(), m.GetPart(), m.GetParts())
	return nil
}

// Request has this node say who is online here, and know that the one who asks may not
// know everything that was said.
func (p *Presence) Request(_ context.Context, m *presence.StateRequest) error {
	p.Talk.Behind(m.GetNode(), m.GetBehind())
	p.Leases.ApplyRequest(m.GetNode())
	return nil
}

// valid returns the users with names as the edge knows them. A node sends no others; a program might.
func valid(users []string) []string {
	bad := func(user string) bool {
		name, err := auth.ValidName(user)
		return err != nil || name != user
	}
	if slices.ContainsFunc(users, bad) {
		return slices.DeleteFunc(slices.Clone(users), bad)
	}
	return users
}
