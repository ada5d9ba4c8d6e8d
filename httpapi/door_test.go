package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"burrow/httpapi"
)

// keepAlive is an HTTP connection between two requests.
type keepAlive struct {
	net.Conn
	r *bufio.Reader
}

// knock opens a connection to n; the test closes it.
func (n *node) knock(t *testing.T) *keepAlive {
	t.Helper()
	conn, err := net.DialTimeout("tcp", n.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(3 * patience))
	return &keepAlive{conn, bufio.NewReader(conn)}
}

// ask sends a request for path and returns the status, or 0 if the server has closed the connection.
func (k *keepAlive) ask(path string, headers ...string) int {
	fmt.Fprintf(k, "GET %s HTTP/1.1\r\nHost: burrow\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n"))
	res, err := http.ReadResponse(k.r, nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0
	}
	return res.StatusCode
}

// TestDoor_IdleConnections opens more connections of one address than it may have: those idle longest are
// closed, and each new one is served. Connections that never sent a request are idle too.
func TestDoor_IdleConnections(t *testing.T) {
	for _, first := range []string{"silent", "kept alive"} {
		t.Run(first, func(t *testing.T) {
			n := start(t, func(c *httpapi.Config) { c.HTTP.MaxConnectionsPerAddress = 5 })
			var all []*keepAlive
			for i := range 20 {
				k := n.knock(t)
				all = append(all, k)
				if first == "kept alive" || i == 19 {
					if got := k.ask("/healthz"); got != 200 {
						t.Fatalf("connection %d: got %d", i, got)
					}
				}
			}
			eventually(t, "5 connections are open", func() bool { return httpapi.OpenConnections(n.Server) == 5 })
			served := 0
			for _, k := range all {
				if k.ask("/healthz") == 200 {
					served++
				}
			}
			if served != 5 || all[19].ask("/healthz") != 200 {
				t.Errorf("%d connections are served, want 5 and the last one among them", served)
			}
		})
	}
}

// TestDoor_OpenSessions has an address use all its connections for WebSockets: the next connection is
// refused with the reason, and served again once one has ended.
func TestDoor_OpenSessions(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.HTTP.MaxConnectionsPerAddress = 3 })
	var sessions []*client
	for i := range 3 {
		sessions = append(sessions, n.join(t, fmt.Sprint("user", i)))
	}
	k := n.knock(t)
	res, err := http.ReadResponse(k.r, nil) // Without a request: reading one first could reset it.
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 503 || errorCode(t, string(body)) != "full" || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %s, %v", res.StatusCode, body, err)
	}
	if got := n.metric(t, "burrow_edge_limited_total", "open connections"); got != 1 {
		t.Errorf("%v refusals are counted", got)
	}
	_ = sessions[0].CloseNow()
	eventually(t, "there is room again", func() bool { return httpapi.OpenConnections(n.Server) == 2 })
	n.join(t, "late")
}

// TestDoor_Proxy counts the connections of a trusted proxy for its clients, not for the proxy.
func TestDoor_Proxy(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.HTTP.MaxConnectionsPerAddress = 3 })
	for i := range 9 {
		from := fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i/3)
		n.join(t, fmt.Sprint("user", i), from)
	}
	k := n.knock(t)
	if got := k.ask("/healthz", "X-Forwarded-For: 203.0.113.1"); got != 429 {
		t.Errorf("a fourth connection of one client got %d, want 429", got)
	}
	for _, from := range []string{"203.0.113.9", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"} {
		// IPv6 clients of one /64: the one idle longest makes room.
		if got := n.knock(t).ask("/healthz", "X-Forwarded-For: "+from); got != 200 {
			t.Errorf("%s got %d", from, got)
		}
	}
	eventually(t, "3 connections of the /64", func() bool { return httpapi.OpenConnectionsOf(n.Server, "2001:db8::9") == 3 })
}

// TestDoor_Descriptors bounds all connections together, whatever their addresses, below the limit of open
// files; an idle one makes room, and one address cannot have all.
func TestDoor_Descriptors(t *testing.T) {
	n := prepare(t, func(c *httpapi.Config) { c.HTTP.MaxConnectionsPerAddress = 1000 })
	httpapi.SetDescriptors(n.Server, 40)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if got := n.knock(t).ask("/healthz", fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i)); got != 200 {
			t.Fatalf("connection %d got %d", i, got)
		}
		if got := httpapi.OpenConnections(n.Server); got > 20 {
			t.Fatalf("%d connections are open, of 40 descriptors", got)
		}
	}
	for i := range 30 { // Of one address: 15 at most.
		n.knock(t).ask("/healthz", "X-Forwarded-For: 198.51.100.1")
		if got := httpapi.OpenConnectionsOf(n.Server, "198.51.100.1"); got > 15 {
			t.Fatalf("%d connections of one address after %d, want 15 at most", got, i)
		}
	}
}
