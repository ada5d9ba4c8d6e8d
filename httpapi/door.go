package httpapi

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// spareDescriptors are kept for the broker, the store and other files: at most, and no more than
	// half of all.
	spareDescriptors = 256
	// probedDescriptors must be free for the node to be ready.
	probedDescriptors = 8
	// refusalTimeout bounds the write of a refusal, which the socket has room for.
	refusalTimeout = 100 * time.Millisecond
)

// door is the listener of the edge. It bounds the open connections, idle ones and WebSockets included:
// all of them together, so that descriptors remain for the broker and the store, and those of each
// address. For a connection over a bound the one that is idle longest is closed, of the same address if
// that is over its bound; if none is idle the new one gets 503 and is closed.
//
// A connection counts for the address of its peer, and from its first request on for the address of the
// client, which a trusted proxy names.
type door struct {
	net.Listener
	max        int // 0: no limit.
	perAddress int // 0: no limit.
	refused    func(what, address string)

	mu    sync.Mutex
	open  int
	hosts map[netip.Prefix]*guests
	idle  list.List // Of *visit, longest first.
}

// guests are the connections of one address.
type guests struct {
	address netip.Prefix
	open    int
	idle    list.List // Of *visit, longest first.
}

// visit is one open connection.
type visit struct {
	net.Conn
	door   *door
	host   *guests       // The door's.
	idle   *list.Element // In door.idle; nil: in use. The door's.
	idleBy *list.Element // In host.idle. The door's.
	gone   bool          // Counted no longer. The door's.
}

// newDoor returns l with bounds. Of descriptors, 0 if there is no limit, spareDescriptors are kept.
func newDoor(l net.Listener, descriptors, perAddress int, refused func(what, address string)) *door {
	d := &door{Listener: l, perAddress: perAddress, refused: refused, hosts: make(map[netip.Prefix]*guests)}
	if descriptors > 0 {
		d.max = max(1, descriptors-min(spareDescriptors, descriptors/2))
		// Others get in even if one address has all that it may.
		if share := max(1, d.max*3/4); d.perAddress > share {
			d.perAddress = share
		}
	}
	return d
}

// Accept returns the next connection within the bounds.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err // net/http waits a while if descriptors have run out.
		}
		v, old, over := d.admit(conn)
		if old != nil {
			_ = old.Conn.Close() // It was idle.
		}
		if v != nil {
			return v, nil
		}
		d.refused(over, hostOf(conn))
		turnAway(conn)
	}
}

// admit counts conn, in place of the returned idle connection if there is one. A nil visit: the bound
// named by over is reached, and no connection is idle.
func (d *door) admit(conn net.Conn) (v, old *visit, over string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	address := hostPrefix(hostOf(conn))
	if old, over = d.roomLocked(address); over != "" {
		return nil, nil, over
	}
	if d.max > 0 && d.open >= d.max {
		first := d.idle.Front()
		if first == nil {
			return nil, old, "open connections of all addresses"
		}
		old = first.Value.(*visit)
		d.forgetLocked(old)
	}
	v = &visit{Conn: conn, door: d}
	d.open++
	d.enterLocked(v, address)
	d.restLocked(v)
	return v, old, ""
}

// roomLocked makes room for one more connection of address: it forgets the returned idle one, if that is
// needed. If none is idle, over names the bound.
func (d *door) roomLocked(address netip.Prefix) (old *visit, over string) {
	h := d.hosts[address]
	if h == nil || d.perAddress == 0 || h.open < d.perAddress {
		return nil, ""
	}
	first := h.idle.Front()
	if first == nil {
		return nil, "open connections"
	}
	old = first.Value.(*visit)
	d.forgetLocked(old)
	return old, ""
}

func (d *door) enterLocked(v *visit, address netip.Prefix) {
	h := d.hosts[address]
	if h == nil {
		h = &guests{address: address}
		d.hosts[address] = h
	}
	h.open++
	v.host = h
}

func (d *door) leaveLocked(v *visit) {
	d.useLocked(v)
	if v.host.open--; v.host.open == 0 {
		delete(d.hosts, v.host.address)
	}
	v.host = nil
}

// restLocked notes that v is idle now.
func (d *door) restLocked(v *visit) {
	if v.idle == nil {
		v.idle, v.idleBy = d.idle.PushBack(v), v.host.idle.PushBack(v)
	}
}

// useLocked notes that v is in use.
func (d *door) useLocked(v *visit) {
	if v.idle != nil {
		d.idle.Remove(v.idle)
		v.host.idle.Remove(v.idleBy)
		v.idle, v.idleBy = nil, nil
	}
}

// forgetLocked counts v no longer.
func (d *door) forgetLocked(v *visit) {
	if v.gone {
		return
	}
	v.gone = true
	d.open--
	d.leaveLocked(v)
}

// note is the http.Server's ConnState.
func (d *door) note(conn net.Conn, state http.ConnState) {
	v, ok := conn.(*visit)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case v.gone:
	case state == http.StateIdle:
		d.restLocked(v)
	case state == http.StateActive, state == http.StateHijacked:
		d.useLocked(v)
	}
}

// move counts v for the address of its client. It reports whether that has room.
func (d *door) move(v *visit, client string) bool {
	address := hostPrefix(client)
	d.mu.Lock()
	if v.gone || v.host.address == address {
		d.mu.Unlock()
		return true
	}
	old, over := d.roomLocked(address)
	if over == "" {
		d.leaveLocked(v)
		d.enterLocked(v, address)
	}
	d.mu.Unlock()
	if old != nil {
		_ = old.Conn.Close()
	}
	return over == ""
}

// Close closes the connection and counts it no longer.
func (v *visit) Close() error {
	v.door.mu.Lock()
	v.door.forgetLocked(v)
	v.door.mu.Unlock()
	return v.Conn.Close()
}

// hostOf returns the address of the peer, without its port.
func hostOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}

// turnAway answers a connection for which there is no room, and closes it.
func turnAway(conn net.Conn) {
	body := encodeJSON(errorFrame{errorBody{Code: errFull.code, Message: errFull.message}})
	_ = conn.SetWriteDeadline(time.Now().Add(refusalTimeout))
	// What does not fit is lost: the connection closes either way.
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n"+
		"Content-Length: %d\r\nRetry-After: 5\r\nConnection: close\r\n\r\n%s", len(body), body)
	_ = conn.Close()
}

// visitKey is the key of the *visit in the context of a request.
type visitKey struct{}

func withVisit(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, visitKey{}, conn)
}

// countVisit counts the connection of a request for the address of its client.
func (e *endpoint) countVisit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if v, ok := c.Request().Context().Value(visitKey{}).(*visit); ok && !v.door.move(v, c.RealIP()) {
			c.Response().Header().Set("Connection", "close")
			return e.tooMany(c, "open connections", refusedSpread)
		}
		return next(c)
	}
}

// turnedAway counts and logs a connection over a bound.
func (e *endpoint) turnedAway(what, address string) {
	if what == "open connections" {
		e.limited(what, "", address)
		return
	}
	e.limits.WithLabelValues(what).Inc()
	e.noted.log(e.log, slog.LevelWarn, what, address, "no room for a connection; raise the limit of open files (ulimit -n)",
		slog.Int("connections", e.door.max))
}

// checkDescriptors fails if the process cannot open files any more.
func checkDescriptors() error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // Nothing was written.
		}
	}()
	for range probedDescriptors {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return fmt.Errorf("descriptors run out; raise the limit of open files (ulimit -n): %w", err)
		}
		files = append(files, f)
	}
	return nil
}
