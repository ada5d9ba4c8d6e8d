package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"

	"burrow/cmd/bench/wire"
)

const (
	connectTimeout = 30 * time.Second
	sendTimeout    = 30 * time.Second
	readBuffer     = 64 << 10
	// portsPerAddress is how many connections come from one loopback address: the system has
	// some 28,000 ports for them.
	portsPerAddress = 16000
)

// conn is one WebSocket of the load.
type conn struct {
	socket   *socket
	protocol protocol
	tally    *tally
	streams  []stream      // Of each publisher; the reader's.
	rest     []byte        // Of a frame that has not come whole; the reader's.
	sender   int           // Which publisher this is; -1: none.
	returned chan int      // To a publisher that waits for its messages: how many came back.
	greeted  chan struct{} // Closed when the first thing has come, or none will.
	spoken   bool          // It is; the reader's.

	write  sync.Mutex
	key    [4]byte
	out    []byte
	closed bool
}

// dial opens a WebSocket of user, from the i-th connection's own address if the server is on this
// machine.
func dial(ctx context.Context, addr, user string, i int, p protocol) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	dialer := net.Dialer{Control: latePort}
	if to, err := net.ResolveTCPAddr("tcp", addr); err == nil && to.IP.IsLoopback() && to.IP.To4() != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/portsPerAddress))}
	}
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if err := handshake(raw, addr, user, p); err != nil {
		raw.Close()
		return nil, fmt.Errorf("connection of %s: %w", user, err)
	}
	c := &conn{protocol: p, sender: -1, greeted: make(chan struct{})}
	_, _ = rand.Read(c.key[:]) // Never fails.
	if c.socket, err = newSocket(raw); err != nil {
		return nil, err
	}
	if p.hello != nil {
		if err := c.send(p.op, p.hello); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// handshake asks for the upgrade and reads the answer to it.
func handshake(raw net.Conn, host, user string, p protocol) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	path := "/ws/" + url.PathEscape(user)
	if p.path != nil {
		path = p.path(user)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		base64.StdEncoding.EncodeToString(nonce[:]) + "\r\n"
	if p.name != "" {
		request += "Sec-WebSocket-Protocol: " + p.name + "\r\n"
	}
	if _, err := raw.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	// One byte at a time: what follows the answer are frames already.
	var head []byte
	for b := [1]byte{}; !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		if len(head) > 8<<10 {
			return errors.New("the answer to the upgrade does not end")
		}
		if _, err := raw.Read(b[:]); err != nil {
			return err
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	if got := response.Header.Get("Sec-WebSocket-Protocol"); got != p.name {
		return fmt.Errorf("the server chose the protocol %q, not %q: it does not know it", got, p.name)
	}
	return nil
}

// send writes one frame. Any goroutine may call it.
func (c *conn) send(op byte, payload []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.out = wire.Append(c.out[:0], op, c.key, payload)
	_, err := c.socket.Write(c.out)
	return err
}

// close ends the connection, from which nobody reads any more.
func (c *conn) close() {
	c.write.Lock()
	defer c.write.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.socket.Close()
	if c.returned != nil {
		close(c.returned)
	}
}

// errClosed ends a reader whose server has said goodbye.
var errClosed = errors.New("closed by the server")

// errNothing says that there is nothing to read now.
var errNothing = errors.New("nothing to read")

// reader counts what comes, at one connection after the other.
type reader struct {
	epoch time.Time // Of all times that are counted.
	run   uint32    // Markers of another one are not counted.
	buf   []byte
}

// read counts what comes with one read call. It reports whether there may be more.
func (r *reader) read(c *conn) (full bool, err error) {
	if r.buf == nil {
		r.buf = make([]byte, readBuffer)
	}
	var (
		now    time.Duration
		mine   int
		beats  int // Bytes of pings: they are no sign that something happens.
		locked bool
	)
	n, full, err := wire.Read(c.socket, &r.buf, &c.rest, func(op byte, payload []byte) error {
		if !locked {
			c.tally.mu.Lock()
			now, locked = time.Since(r.epoch), true
		}
		switch op {
		case wire.OpText, wire.OpBinary, wire.OpContinuation:
			known := false
			for rest := payload; ; {
				m, after, ok := nextMarker(rest)
				if !ok {
					break
				}
				rest = after
				if m.run != r.run || int(m.sender) >= len(c.streams) {
					continue
				}
				known = true
				c.tally.see(c.streams[m.sender].see(m.seq), m, now)
				if int(m.sender) == c.sender {
					mine++
				}
			}
			if c.sender >= 0 && (!known || op == wire.OpBinary || c.protocol.name != "") {
				refused := c.protocol.errors(payload)
				c.tally.refused += int64(refused)
				mine += refused
				c.tally.acked += int64(c.protocol.acks(payload))
			}
			if !known && c.protocol.beat != nil && bytes.Equal(payload, c.protocol.beat) {
				beats += len(payload) + 2
				return c.send(op, c.protocol.beat)
			}
		case wire.OpPing:
			beats += len(payload) + 2
			return c.send(wire.OpPong, payload)
		case wire.OpClose:
			return fmt.Errorf("%w: %q", errClosed, payload)
		}
		return nil
	})
	if !c.spoken && (n > 0 || err != nil && !errors.Is(err, errNothing)) {
		c.spoken = true
		close(c.greeted)
	}
	if n > beats && !locked {
		c.tally.mu.Lock()
		locked = true
	}
	if locked {
		c.tally.bytes += int64(n - beats)
		c.tally.mu.Unlock()
	}
	if mine > 0 && c.returned != nil {
		c.returned <- mine
		runtime.Gosched() // Else it waits until there is nothing to read.
	}
	return full, err
}
