package routertest_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"burrow/router"
)

// wire is the link between the nodes of one installation and a broker: it can stand
// still and be cut.
type wire struct {
	listener net.Listener
	target   string
	closing  chan struct{}

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	stalled chan struct{} // closed while traffic flows
	wg      sync.WaitGroup
}

var wires sync.Map // by topic prefix

// throughWire puts a wire into the way to u, and returns the address to use instead.
// sniff, which may be nil, makes a reader of what is sent on one connection.
func throughWire(t testing.TB, prefix string, u *url.URL, sniff func() io.Writer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: u.Host, conns: make(map[net.Conn]struct{}), stalled: make(chan struct{}), closing: make(chan struct{})}
	close(w.stalled)
	w.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.serve(conn, sniff) })
		}
	})
	wires.Store(prefix, w)
	t.Cleanup(func() {
		wires.Delete(prefix)
		close(w.closing)
		_ = l.Close()
		w.cut()
		w.wg.Wait()
	})
	through := *u
	through.Host = l.Addr().String()
	return through.String()
}

func (w *wire) serve(client net.Conn, sniff func() io.Writer) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	select {
	case <-w.closing:
		w.mu.Unlock()
		return
	default:
	}
	w.conns[client], w.conns[server] = struct{}{}, struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.conns, client)
		delete(w.conns, server)
	}()
	var sent io.Writer = server
	if sniff != nil {
		sent = io.MultiWriter(sniff(), server)
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(sent, client, server) })
	both.Go(func() { w.copy(client, server, client) })
	both.Wait()
}

// copy ends both connections when one ends.
func (w *wire) copy(to io.Writer, from, other net.Conn) {
	defer func() { _, _ = from.Close(), other.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			w.mu.Lock()
			flows := w.stalled
			w.mu.Unlock()
			select {
			case <-flows:
			case <-w.closing:
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		_ = conn.Close()
	}
}

func wireOf(t testing.TB, cfg router.Config) *wire {
	t.Helper()
	w, ok := wires.Load(cfg.TopicPrefix)
	if !ok {
		t.Fatal("there is no wire")
	}
	return w.(*wire)
}

func cut(t testing.TB, cfg router.Config) { wireOf(t, cfg).cut() }

func stall(t testing.TB, cfg router.Config) (resume func()) {
	w := wireOf(t, cfg)
	flows := make(chan struct{})
	w.mu.Lock()
	w.stalled = flows
	w.mu.Unlock()
	return sync.OnceFunc(func() { close(flows) })
}

// amqpNames finds the queues and exchanges that are declared on a connection: to
// list what is on it RabbitMQ needs a plugin.
type amqpNames struct {
	found   func(class, method uint16, name string)
	pending []byte
	begun   bool
}

// Write takes a piece of what a client sends.
func (a *amqpNames) Write(p []byte) (int, error) {
	a.pending = append(a.pending, p...)
	if !a.begun {
		if len(a.pending) < 8 {
			return len(p), nil
		}
		a.pending, a.begun = a.pending[8:], true // the protocol's name and version
	}
	for len(a.pending) >= 8 {
		size := int(binary.BigEndian.Uint32(a.pending[3:7])) + 8 // head of 7, an end of 1
		if len(a.pending) < size {
			break
		}
		// A method frame: class, method, a reserved short, and a name.
		if body := a.pending[7 : size-1]; a.pending[0] == 1 && len(body) >= 7 && len(body) >= 7+int(body[6]) {
			a.found(binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:]), string(body[7:7+int(body[6])]))
		}
		a.pending = a.pending[size:]
	}
	return len(p), nil
}
