package client_test

import (
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

// TestClient_EarlierServer reconnects to a server of an earlier version, as during a rolling upgrade or
// after a rollback: such a server reads only the cookie burrow_session.
func TestClient_EarlierServer(t *testing.T) {
	w := newWorld(t)
	node := w.start("guest", nil)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: node.Addr()})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	var earlier atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if earlier.Load() {
			known, err := r.Cookie("burrow_session")
			r.Header.Del("Cookie")
			if err == nil {
				r.AddCookie(known)
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	front.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })

	door := newDoor(t, front.Listener.Addr().String())
	ada := dial(t, door.url(), "ada", func(cfg *client.Config) { cfg.MinRetry, cfg.MaxRetry = 5*time.Millisecond, 20*time.Millisecond })
	event[client.Connected](t, ada, nil)
	cookie := ada.Cookie()
	earlier.Store(true)
	door.leadTo(front.Listener.Addr().String())
	event[client.Connected](t, ada, nil)
	if ada.Err() != nil || ada.Name() != "ada" || ada.Cookie() != cookie {
		t.Errorf("name %q, cookie kept: %v, %v", ada.Name(), ada.Cookie() == cookie, ada.Err())
	}
}
