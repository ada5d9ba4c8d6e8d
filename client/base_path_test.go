package client_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"burrow/client"
	"burrow/httpapi"
)

// TestClient_BasePath connects to a server below a path, with and without WebSockets.
func TestClient_BasePath(t *testing.T) {
	for name, upgrade := range map[string]bool{"WebSocket": true, "events": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			node := w.start("guest", func(cfg *httpapi.Config) { cfg.HTTP.BasePath = "/team/chat" })
			proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: node.Addr()})
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
			below := http.NewServeMux()
			below.Handle("/team/chat/", proxy)
			below.Handle("/stripped/", http.StripPrefix("/stripped", proxy))
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !upgrade {
					r.Header.Del("Upgrade")
				}
				below.ServeHTTP(w, r)
			}))
			front.Config.ErrorLog = proxy.ErrorLog
			t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
			ada := dial(t, front.URL+"/team/chat", "ada", nil)
			bob := dial(t, front.URL+"/stripped/", "bob", nil)
			if e := event[client.Connected](t, ada, nil); e.Fallback == upgrade {
				t.Errorf("connected by %+v", e)
			}
			say(t, ada, "", "hello")
			hears(t, bob, "hello")
			hears(t, ada, "hello")
		})
	}
}
