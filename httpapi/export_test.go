package httpapi

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// SetReseedAfter makes s merge the archive again after d instead of 3 s. Before Run only.
func SetReseedAfter(s *Server, d time.Duration) { s.reseedAfter = d }

// SetPostTimeout bounds requests by d. Before Run only.
func SetPostTimeout(s *Server, d time.Duration) { s.postTimeout = d }

// SetFailureBurst makes s answer 429 after n proofs that are worth nothing. Before Run only.
func SetFailureBurst(s *Server, n int) { s.failures = newHostLimiter(0.001, n) }

// SetHistoryBurst lets an address read n pages of history and then no more. Before the first request only.
func SetHistoryBurst(s *Server, n int) { s.readers = newHostLimiter(0.001, n) }

// SetSearchBurst lets an address search n times and then no more. Before the first request only.
func SetSearchBurst(s *Server, n int) { s.searchers = newHostLimiter(0.001, n) }

// SetOwnWriters makes each session of s write in a goroutine of its own, as it does where a socket
// cannot be written to without waiting. Before Run only.
func SetOwnWriters(s *Server) { s.raw = func(net.Conn) syscallConn { return nil } }

// SetWritesOneByOne makes s write to each socket in a call of its own, as where there is no
// io_uring. Before Run only.
func SetWritesOneByOne(s *Server) { s.shards.ring.Store(false) }

// WritesTogether reports whether s writes to many sockets in one call.
func WritesTogether(s *Server) bool { return s.shards.ring.Load() }

// Sends returns how many messages are on their way to the broker.
func Sends(s *Server) int { return s.publishing.count() }

// Refresh gives proof to the first session that is open on s.
func Refresh(ctx context.Context, s *Server, proof string) error {
	s.hub.mu.Lock()
	open := slices.Clone(s.hub.sessions)
	s.hub.mu.Unlock()
	if len(open) == 0 {
		return errors.New("no session is open")
	}
	return open[0].refresh(ctx, proof)
}

// Posting returns how many requests of user are going on.
func Posting(s *Server, user string) int {
	s.posting.mu.Lock()
	defer s.posting.mu.Unlock()
	return s.posting.users[user]
}

// SetDescriptors bounds the connections of s as if the process could open n files. Before Run only.
func SetDescriptors(s *Server, n int) {
	old := s.door
	s.door = newDoor(old.Listener, n, s.cfg.HTTP.MaxConnectionsPerAddress, old.refused)
	s.server.ConnState = s.door.note
}

// OpenConnections returns how many connections s counts.
func OpenConnections(s *Server) int {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	return s.door.open
}

// OpenConnectionsOf returns how many connections s counts for an address.
func OpenConnectionsOf(s *Server, address string) int {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	if h := s.door.hosts[hostPrefix(address)]; h != nil {
		return h.open
	}
	return 0
}
