//go:build !linux

package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

type socket struct{ net.Conn }

func newSocket(raw net.Conn) (*socket, error) { return &socket{raw}, nil }

func (s *socket) Write(b []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return 0, err
	}
	return s.Conn.Write(b)
}

// poller reads from each of its connections in a goroutine of its own.
type poller struct {
	reader  reader
	ended   func(*conn, error)
	readers sync.WaitGroup

	mu     sync.Mutex
	conns  []*conn
	closed bool
}

func newPoller(r reader, ended func(*conn, error)) (*poller, error) {
	return &poller{reader: r, ended: ended}, nil
}

func (p *poller) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.conns = append(p.conns, c)
	p.readers.Go(func() {
		r := p.reader // With a buffer of its own.
		var err error
		for err == nil {
			_, err = r.read(c)
		}
		c.close()
		if !errors.Is(err, net.ErrClosed) {
			p.ended(c, err)
		}
	})
	return nil
}

func (p *poller) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, c := range p.conns {
		c.socket.Close() // Which ends its reader.
	}
	p.readers.Wait()
}
