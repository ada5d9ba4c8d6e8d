package handlers

import (
	"context"

	"burrow/gen/chat"
	"burrow/gen/presence"
)

// Presence takes in what other nodes say of who is online. Every node runs it;
// what comes twice, late or in another order is for Leases to sort out.
type Presence struct{ Leases Leases }

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

// Request has this node say who is online here.
func (p *Presence) Request(_ context.Context, m *presence.StateRequest) error {
	p.Leases.ApplyRequest(m.GetNode())
	return nil
}
