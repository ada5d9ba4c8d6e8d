package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// lean is a WebSocket that speaks burrow.v1.proto and costs so little that a test can have a
// thousand of them. One goroutine reads; any may send.
type lean struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte

	write sync.Mutex
	out   []byte
}

// refused is an answer to an upgrade that is none.
type refused struct{ status int }

func (r *refused) Error() string { return fmt.Sprintf("the upgrade was answered with %d", r.status) }

// goodbye is a close frame of the server.
type goodbye struct {
	code   int
	reason string
}

func (g *goodbye) Error() string { return fmt.Sprintf("closed with %d %q", g.code, g.reason) }

// dialLean connects user, who may be anybody where auth.mode is open. It comes from an address of
// its own: one who dials a port of their own address that is free at the moment may get it.
func dialLean(addr, user, query string) (*lean, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &lean{conn: conn, in: bufio.NewReaderSize(conn, 2048)}
	if err := c.upgrade(addr, "/ws/"+url.PathEscape(user)+query); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *lean) upgrade(host, path string) error {
	_ = c.conn.SetDeadline(time.Now().Add(patience)) // What it says, the next write does too.
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: burrow.v1.proto\r\n\r\n"
	if _, err := io.WriteString(c.conn, request); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return &refused{res.StatusCode}
	}
	return c.conn.SetDeadline(time.Time{})
}

// read returns the next batch as it came, which is good until the next call. It answers pings.
// The error is a *goodbye if the server closed.
func (c *lean) read() ([]byte, error) {
	for {
		var head [10]byte
		if _, err := io.ReadFull(c.in, head[:2]); err != nil {
			return nil, err
		}
		size := int(head[1])
		switch size {
		case 126:
			if _, err := io.ReadFull(c.in, head[2:4]); err != nil {
				return nil, err
			}
			size = int(binary.BigEndian.Uint16(head[2:]))
		case 127:
			if _, err := io.ReadFull(c.in, head[2:10]); err != nil {
				return nil, err
			}
			size = int(binary.BigEndian.Uint64(head[2:]))
		}
		if cap(c.buf) < size {
			c.buf = make([]byte, size)
		}
		data := c.buf[:size]
		if _, err := io.ReadFull(c.in, data); err != nil {
			return nil, err
		}
		switch head[0] {
		case 0x82:
			return data, nil
		case 0x89:
			if err := c.frame(0x8a, data); err != nil {
				return nil, err
			}
		case 0x88:
			_ = c.frame(0x88, data[:min(2, size)]) // The server may not wait for it.
			if size < 2 {
				return nil, &goodbye{code: 1005}
			}
			return nil, &goodbye{int(binary.BigEndian.Uint16(data)), string(data[2:])}
		default:
			return nil, fmt.Errorf("a frame begins with %#x", head[:2])
		}
	}
}

// frame sends one masked frame; a mask of zeros is one.
func (c *lean) frame(first byte, payload []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	b := append(c.out[:0], first)
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(payload)))
	}
	c.out = append(append(b, 0, 0, 0, 0), payload...)
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(c.out)
	return err
}

func (c *lean) send(f *edge.ClientFrame) error {
	data, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	return c.frame(0x82, data)
}

func (c *lean) close() { _ = c.conn.Close() }

// frames returns the frames of the next batch.
func (c *lean) frames() ([]*edge.ServerFrame, error) {
	data, err := c.read()
	if err != nil {
		return nil, err
	}
	b := new(edge.ServerBatch)
	if err := proto.Unmarshal(data, b); err != nil {
		return nil, err
	}
	return b.Frames, nil
}

// line is what one node showed, in its order, as somebody saw it who was there all the time. Its
// methods are safe for concurrent use.
type line struct {
	mu  sync.Mutex
	ids []string
}

func (l *line) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
}

// isPart reports whether ids are there in one piece, and in this order.
func (l *line) isPart(ids []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	const sep = "\n"
	whole, part := sep+strings.Join(l.ids, sep)+sep, sep+strings.Join(ids, sep)+sep
	return len(ids) > 0 && strings.Contains(whole, part)
}
