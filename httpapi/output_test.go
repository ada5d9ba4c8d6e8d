package httpapi

import (
	"io"
	"net"
	"testing"

	"burrow/ring"
)

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
			out := takeOutput(useRing)
			defer out.giveBack()
			if useRing && out.ring == nil {
				t.Skip("no io_uring here")
			}
			const closed, other = 3, 5
			now, most := 0, 0
			turns, peers := make([]turn, ring.Size), make([]net.Conn, ring.Size)
			for i := range turns {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				if peers[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
					t.Fatal(err)
				}
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.Close(); _ = peers[i].Close(); _ = conn.Close() })
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
