package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/google/uuid"

	goclient "burrow/client"
)

// TestFallback talks through the whole program, on two nodes, with somebody for whom no WebSocket
// gets through: the same ref over a WebSocket at one node and by POST at the other is one message,
// and one goes on at the other node.
func TestFallback(t *testing.T) {
	for _, b := range []*broker{embedded, onRedis} {
		t.Run(b.String(), func(t *testing.T) {
			in := install(t, b)
			nodes := in.startAll(t, b.nodes)
			here, there := nodes[0].addr, nodes[b.nodes-1].addr
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Upgrade")
				proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: there})
				proxy.Transport = transport
				proxy.ServeHTTP(w, r)
			}))
			t.Cleanup(func() {
				office.CloseClientConnections()
				office.Close()
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			dial := func(cfg goclient.Config) *goclient.Conn {
				t.Helper()
				c, err := goclient.Dial(ctx, cfg)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				return c
			}
			hears := func(c *goclient.Conn, content string) goclient.Message {
				t.Helper()
				select {
				case m := <-c.Messages():
					if m.Content != content {
						t.Fatalf("%s hears %q, want %q", c.Name(), m.Content, content)
					}
					return m
				case <-ctx.Done():
					t.Fatalf("%s does not hear %q: %v", c.Name(), content, c.Err())
				}
				panic("not reached")
			}

			socket := dial(goclient.Config{URL: "http://" + here, Name: "ada"})
			ref := uuid.NewString()
			sent, err := socket.SendRef(ctx, ref, "", "once")
			if err != nil {
				t.Fatal(err)
			}
			last := hears(socket, "once")
			_ = socket.Close()

			bob := dial(goclient.Config{URL: "http://" + here, Name: "bob"})
			if m := hears(bob, "once"); !m.Old {
				t.Errorf("bob hears %+v", m)
			}
			if _, err := bob.Send(ctx, "", "meanwhile"); err != nil {
				t.Fatal(err)
			}
			hears(bob, "meanwhile")

			ada := dial(goclient.Config{URL: office.URL, Name: "ada", Cookie: socket.Cookie(), Since: last.ID})
			if e, ok := (<-ada.Events()).(goclient.Connected); !ok || !e.Fallback {
				t.Fatalf("ada is connected by %+v", e)
			}
			again, err := ada.SendRef(ctx, ref, "", "once")
			if err != nil || again != sent {
				t.Errorf("by POST it is %+v, %v; want %+v", again, err, sent)
			}
			hears(ada, "meanwhile")
			if _, err := ada.Send(ctx, "", "and on"); err != nil {
				t.Fatal(err)
			}
			hears(ada, "and on")
			hears(bob, "and on")
			in.archive(t).comesToHold("once", "meanwhile", "and on")
		})
	}
}
