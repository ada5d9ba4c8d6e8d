package client_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"burrow/client"
)

// TestClient_ForeignRefusal has a proxy refuse requests while the server restarts, in the forms of
// various products. The client keeps its cookie, name and session, and connects once the proxy lets it.
func TestClient_ForeignRefusal(t *testing.T) {
	for _, tt := range []struct {
		status     int
		kind, body string
	}{
		{401, "text/html", "<html>401 Authorization Required</html>"},
		{403, "text/html", "<html>403 Forbidden</html>"},
		{409, "text/plain", "conflict"},
		{400, "text/html", "<html>400 Bad Request</html>"},
		{401, "application/json", `{"error":{"code":401,"message":"Unauthorized"}}`},
		{403, "application/json", `{"error":{"code":"forbidden","message":"blocked by policy"}}`},
		{401, "application/json", `{"error":{"code":"no_session","message":"sign in"}}`},
		{401, "application/json", `{"error":"unauthorized"}`},
		{200, "text/html", "<html>please sign in to the network</html>"},
		{200, "application/json", `{"mode":"","name":""}`},
		{302, "text/html", "<html>moved</html>"},
	} {
		t.Run(fmt.Sprint(tt.status, tt.body), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			node := w.start("guest", nil)
			proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: node.Addr()})
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
			var refusing atomic.Bool
			var refused atomic.Int32
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !refusing.Load() {
					proxy.ServeHTTP(w, r)
					return
				}
				refused.Add(1)
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body) // The client may have gone.
			}))
			front.Config.ErrorLog = proxy.ErrorLog
			t.Cleanup(func() { front.CloseClientConnections(); front.Close() })

			door := newDoor(t, front.Listener.Addr().String())
			ada := dial(t, door.url(), "ada", func(cfg *client.Config) { cfg.MinRetry, cfg.MaxRetry = 5*time.Millisecond, 20*time.Millisecond })
			event[client.Connected](t, ada, nil)
			cookie := ada.Cookie()
			refusing.Store(true)
			door.leadTo(front.Listener.Addr().String())
			for end := time.Now().Add(patience); refused.Load() < 10 && ada.Err() == nil; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d requests in %s", refused.Load(), patience)
				}
			}
			refusing.Store(false)
			event[client.Connected](t, ada, nil)
			say(t, ada, "", "back")
			hears(t, ada, "back")
			if ada.Err() != nil || ada.Name() != "ada" || ada.Cookie() != cookie {
				t.Errorf("name %q, cookie kept: %v, %v", ada.Name(), ada.Cookie() == cookie, ada.Err())
			}
		})
	}
}

// TestClient_ForeignAnswer has a proxy without WebSockets answer requests with a 200 that is its own: no message
// is sent by it, and no page of the history empty.
func TestClient_ForeignAnswer(t *testing.T) {
	w := newWorld(t)
	node := w.start("guest", nil)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: node.Addr()})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	var foreign atomic.Int32 // How many answers are the proxy's own.
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Upgrade")
		if (r.URL.Path == "/api/messages" || r.URL.Path == "/api/history") && foreign.Add(-1) >= 0 {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"status":"maintenance"}`) // The client may have gone.
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	front.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	ada := dial(t, front.URL, "ada", func(cfg *client.Config) { cfg.MinRetry, cfg.MaxRetry = 5*time.Millisecond, 20*time.Millisecond })
	event[client.Connected](t, ada, nil)
	foreign.Store(3)
	if sent := say(t, ada, "", "not sent by a proxy"); sent.ID == "" {
		t.Errorf("sent as %+v", sent)
	}
	hears(t, ada, "not sent by a proxy")
	foreign.Store(3)
	page, err := ada.History(t.Context(), client.HistoryQuery{})
	if err == nil && len(page.Messages) != 1 {
		t.Errorf("the history is %+v", page)
	}
}
