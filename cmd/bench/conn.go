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
	"sync"
	"time"
)

const (
	connectTimeout = 30 * time.Second
	sendTimeout    = 30 * time.Second
	readBuffer     = 8 << 10
	// portsPerAddress is how many connections come from one loopback address: the system has
	// some 28,000 ports for them.
	portsPerAddress = 16000
)

// conn is one WebSocket of the load.
type conn struct {
	net.Conn
	protocol protocol
	tally    *tally
	streams  []stream // Of each publisher; the reader's.
	sender   int      // Which publisher this is; -1: none.
	returned chan int // To a publisher that waits for its messages: how many came back.

	write sync.Mutex
	key   [4]byte
	out   []byte
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
	c := &conn{Conn: raw, protocol: p, sender: -1}
	_, _ = rand.Read(c.key[:]) // Never fails.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if err := c.handshake(addr, user); err != nil {
		raw.Close()
		return nil, fmt.Errorf("connection of %s: %w", user, err)
	}
	return c, nil
}

func (c *conn) handshake(host, user string) error {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	path := "/ws/" + url.PathEscape(user)
	if c.protocol.path != nil {
		path = c.protocol.path(user)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		base64.StdEncoding.EncodeToString(nonce[:]) + "\r\n"
	if c.protocol.name != "" {
		request += "Sec-WebSocket-Protocol: " + c.protocol.name + "\r\n"
	}
	if _, err := c.Conn.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	// One byte at a time: what follows the answer are frames already.
	var head []byte
	for b := [1]byte{}; !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		if len(head) > 8<<10 {
			return errors.New("the answer to the upgrade does not end")
		}
		if _, err := c.Conn.Read(b[:]); err != nil {
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
	if got := response.Header.Get("Sec-WebSocket-Protocol"); got != c.protocol.name {
		return fmt.Errorf("the server chose the protocol %q, not %q: it does not know it", got, c.protocol.name)
	}
	if c.protocol.hello != nil {
		return c.send(c.protocol.op, c.protocol.hello)
	}
	return nil
}

// send writes one frame. Any goroutine may call it.
func (c *conn) send(op byte, payload []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.out = appendFrame(c.out[:0], op, c.key, payload)
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(c.out)
	return err
}

// errClosed ends a reader whose server has said goodbye.
var errClosed = errors.New("closed by the server")

// read counts what comes until the connection ends. Times are since epoch; markers of another run
// are not counted.
func (c *conn) read(epoch time.Time, run uint32) error {
	frames := frameReader{r: c.Conn, buf: make([]byte, readBuffer)}
	var (
		now     time.Duration
		mine    int
		beats   int // Bytes of pings: they are no sign that something happens.
		control []byte
		locked  bool
	)
	each := func(op byte, payload []byte) error {
		if !locked {
			c.tally.mu.Lock()
			now, locked = time.Since(epoch), true
		}
		switch op {
		case opText, opBinary, opContinuation:
			known := false
			for rest := payload; ; {
				m, after, ok := nextMarker(rest)
				if !ok {
					break
				}
				rest = after
				if m.run != run || int(m.sender) >= len(c.streams) {
					continue
				}
				known = true
				c.tally.see(c.streams[m.sender].see(m.seq), m, now)
				if int(m.sender) == c.sender {
					mine++
				}
			}
			if c.sender >= 0 && (!known || op == opBinary || c.protocol.name != "") {
				refused := c.protocol.errors(payload)
				c.tally.refused += int64(refused)
				mine += refused
				c.tally.acked += int64(c.protocol.acks(payload))
			}
			if !known && c.protocol.beat != nil && bytes.Equal(payload, c.protocol.beat) {
				beats += len(payload) + 2
				return c.send(op, c.protocol.beat)
			}
		case opPing:
			beats += len(payload) + 2
			control = append(control[:0], payload...)
			return c.send(opPong, control)
		case opClose:
			return fmt.Errorf("%w: %q", errClosed, payload)
		}
		return nil
	}
	for {
		mine, beats, locked = 0, 0, false
		n, err := frames.read(each)
		if !locked {
			c.tally.mu.Lock()
		}
		c.tally.bytes += int64(n - beats)
		c.tally.mu.Unlock()
		if mine > 0 && c.returned != nil {
			c.returned <- mine
		}
		if err != nil {
			return err
		}
	}
}
