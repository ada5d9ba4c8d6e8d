package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// eventsAtOnce is how many connections the system names in one answer.
	eventsAtOnce = 256
	// After fewer than gather a poller sleeps for gatherTime, which counts as latency: else the
	// server would have to wake it for each message that it sends, at a price that it does not
	// pay for clients elsewhere, whose network cards gather as well.
	gather     = 64
	gatherTime = 300 * time.Microsecond
	// closeTime is how many milliseconds a poller with nothing to do takes to see that it is closed.
	closeTime = 20
)

// socket is a connection that Go's runtime does not watch.
type socket struct{ fd int }

// newSocket takes raw over, which is closed.
func newSocket(raw net.Conn) (*socket, error) {
	defer raw.Close() // The socket itself stays open.
	tcp, ok := raw.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is not a TCP connection", raw)
	}
	access, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{}
	var failed error
	err = access.Control(func(fd uintptr) { s.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return s, errors.Join(err, failed)
}

// Read does not wait. It is a raw call, for with any other one Go's monitor would wake 50,000 times a
// second.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, errNothing
		case err != 0:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// Write waits for room for up to sendTimeout.
func (s *socket) Write(b []byte) (sent int, err error) {
	for sent < len(b) {
		n, err := unix.Write(s.fd, b[sent:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			room := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(room, int(sendTimeout.Milliseconds())); n == 0 && err == nil {
				return sent, fmt.Errorf("write: %w", os.ErrDeadlineExceeded)
			}
		case err != nil:
			return sent, fmt.Errorf("write: %w", err)
		default:
			sent += n
		}
	}
	return sent, nil
}

func (s *socket) Close() error { return unix.Close(s.fd) }

// poller reads from many connections in one goroutine: one that waits for each of them costs the
// load more than what it reads. Nor does Go's runtime wait for it, which would wake up while it
// gathers.
type poller struct {
	reader reader
	ended  func(*conn, error)
	epoll  int
	closed atomic.Bool
	done   chan struct{}

	mu    sync.Mutex
	conns []*conn // By the number in their events; nil: ended.
}

// newPoller has r read from connections, and calls ended for each that ends, unless close ends it.
func newPoller(r reader, ended func(*conn, error)) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &poller{reader: r, ended: ended, epoll: fd, done: make(chan struct{})}
	go p.run()
	return p, nil
}

func (p *poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, eventsAtOnce)
	ready := make([]*conn, eventsAtOnce)
	pause := unix.NsecToTimespec(gatherTime.Nanoseconds())
	for !p.closed.Load() {
		// An error is an interruption, or none at all with what is given here.
		n, _ := unix.EpollWait(p.epoll, events, closeTime)
		n = max(n, 0)
		p.mu.Lock()
		for i, event := range events[:n] {
			ready[i] = p.conns[event.Fd]
		}
		p.mu.Unlock()
		for i, c := range ready[:n] {
			p.serve(c, events[i])
		}
		if n < gather {
			_ = unix.Nanosleep(&pause, nil) // Or less.
		}
	}
}

// serve reads what there is. The system tells of a connection once: again after it was empty.
func (p *poller) serve(c *conn, event unix.EpollEvent) {
	if c == nil {
		return
	}
	last := event.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for {
		full, err := p.reader.read(c)
		if errors.Is(err, errNothing) {
			return
		}
		if err != nil {
			c.close()
			p.mu.Lock()
			p.conns[event.Fd] = nil
			p.mu.Unlock()
			p.ended(c, err)
			return
		}
		if !full && !last {
			return
		}
	}
}

// add begins to read from c.
func (p *poller) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(len(p.conns))}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, c.socket.fd, &event); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	p.conns = append(p.conns, c)
	return nil
}

// close ends all connections and waits for the reader.
func (p *poller) close() {
	p.closed.Store(true)
	<-p.done
	unix.Close(p.epoll)
	for _, c := range p.conns {
		if c != nil {
			c.close()
		}
	}
}
