package httpapi

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"burrow/ring"
)

// connected returns both ends of a TCP connection.
func connected(t *testing.T) (conn, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peer, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close(); _ = conn.Close() })
	return conn, peer
}

// heldConn counts how many sockets are kept open at the same time.
type heldConn struct {
	syscallConn
	now, most *int
}

func (c heldConn) Control(f func(fd uintptr)) error {
	defer func() { *c.now-- }()
	*c.now++
	*c.most = max(*c.most, *c.now)
	return c.syscallConn.Control(f)
}

// All sockets are kept open until everything is sent, a closed one among them is an error of its own,
// and one that somebody else writes to is left alone.
func TestSocketsAreHeldWhileSent(t *testing.T) {
	for name, useRing := range map[string]bool{"in one call": true, "in a call for each": false} {
		t.Run(name, func(t *testing.T) {
			shards := newShards(newHub(DefaultConfig()), useRing, slog.New(slog.DiscardHandler))
			out := shards.takeOutput()
			defer out.giveBack()
			if useRing && out.ring == nil {
				t.Skip("no io_uring here")
			}
			const closed, other = 3, 5
			now, most := 0, 0
			turns, peers := make([]turn, ring.Size), make([]net.Conn, ring.Size)
			for i := range turns {
				conn, peer := connected(t)
				peers[i] = peer
				turns[i] = turn{session: &session{raw: heldConn{rawConn(conn), &now, &most}}, bytes: []byte{byte(i), 1, 2}}
				switch i {
				case closed:
					_ = conn.Close()
				case other:
					turns[i].session.raw = nil
				}
			}
			for range 3 { // An output is used again.
				for i := range turns {
					turns[i].n, turns[i].err = 0, nil
				}
				out.write(turns)
				for i, turn := range turns {
					switch {
					case i == closed:
						if turn.n != 0 || turn.err == nil {
							t.Errorf("a closed socket took %d bytes, %v", turn.n, turn.err)
						}
					case i == other:
						if turn.n != 0 || turn.err != nil {
							t.Errorf("another's socket took %d bytes, %v", turn.n, turn.err)
						}
					default:
						got := make([]byte, 3)
						if turn.n != 3 || turn.err != nil {
							t.Errorf("%d took %d bytes, %v", i, turn.n, turn.err)
						} else if _, err := io.ReadFull(peers[i], got); err != nil || string(got) != string(turn.bytes) {
							t.Errorf("%d received %v, %v", i, got, err)
						}
					}
				}
			}
			// The closed one is not held.
			if useRing && most < ring.Size-2 {
				t.Errorf("at most %d of %d were held at the same time", most, ring.Size)
			}
			if now != 0 {
				t.Errorf("%d are held still", now)
			}
		})
	}
}

// takenAway is a ring that the system takes away in the middle: the first was sent, of the second
// nobody knows, and the others were not.
type takenAway struct{ added int }

func (r *takenAway) Add(uintptr, []byte) { r.added++ }

func (r *takenAway) Send() ([]ring.Result, error) {
	results := make([]ring.Result, r.added)
	results[0].N, results[1].Err = 3, ring.ErrLost
	return results, syscall.EPERM
}

func (*takenAway) Close() error { return nil }

// When the ring fails, what was not sent is written without it, what may have been sent is not sent
// again, and from then on there is no ring.
func TestRingTakenAway(t *testing.T) {
	shards := newShards(newHub(DefaultConfig()), false, slog.New(slog.DiscardHandler))
	shards.ring.Store(true)
	out := &output{shards: shards, attempt: newAttempt(), ring: &takenAway{}}
	out.held = out.hold
	var turns []turn
	var peers []net.Conn
	for i := range 4 {
		conn, peer := connected(t)
		turns, peers = append(turns, turn{session: &session{raw: rawConn(conn)}, bytes: []byte{byte(i), 1, 2}}), append(peers, peer)
	}
	out.write(turns)
	for i, want := range []string{"", "", "\x02\x01\x02", "\x03\x01\x02"} {
		if i == 1 {
			if !errors.Is(turns[i].err, ring.ErrLost) {
				t.Errorf("what may have been sent: %+v", turns[i])
			}
		} else if turns[i].n != 3 || turns[i].err != nil {
			t.Errorf("%d: %d bytes, %v", i, turns[i].n, turns[i].err)
		}
		if want == "" {
			continue
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(peers[i], got); err != nil || string(got) != want {
			t.Errorf("%d received %q, %v", i, got, err)
		}
	}
	if out.ring != nil || shards.ring.Load() {
		t.Error("it has a ring still")
	}
}
