package handlers

import (
	"context"

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
	p.Leases.ApplyStatus(m.GetClientId(), m.GetOnline(), m.GetAway(), m.GetNode(), m.GetIncarnation(), m.GetVersion())
	return nil
}

// State takes in who is online on a node.
func (p *Presence) State(_ context.Context, m *presence.NodeState) error {
	p.Leases.ApplyState(m.GetNode(), m.GetIncarnation(), m.GetVersion(), m.GetUsers(), m.GetAway(), m.GetLeaving(), m.GetPart(), m.GetParts())
	return nil
}

// Request has this node say who is online here, and know that the one who asks may not
// know everything that was said.
func (p *Presence) Request(_ context.Context, m *presence.StateRequest) error {
	p.Talk.Behind(m.GetNode(), m.GetBehind())
	p.Leases.ApplyRequest(m.GetNode())
	return nil
}
