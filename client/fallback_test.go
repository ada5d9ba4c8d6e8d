package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/client"
	"burrow/httpapi"
)

// office is a proxy that lets no WebSocket through until it is opened.
type office struct {
	*httptest.Server
	open    atomic.Bool
	streams atomic.Int32 // How many GET /events came.
	posts   atomic.Int32
}

// newOffice returns a proxy before the node at to. How says what becomes of an upgrade: many proxies
// strip the headers that ask for it.
func newOffice(t testing.TB, to string, how string) *office {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: to}
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	o := &office{}
	hang := make(chan struct{})
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/events":
			o.streams.Add(1)
		case r.Method == http.MethodPost:
			o.posts.Add(1)
		}
		if r.Header.Get("Upgrade") == "" || o.open.Load() {
			proxy.ServeHTTP(w, r)
			return
		}
		switch how {
		case "strip":
			r.Header.Del("Upgrade")
			r.Header.Del("Connection")
			proxy.ServeHTTP(w, r)
		case "refuse":
			http.Error(w, "no", http.StatusBadRequest)
		case "page":
			fmt.Fprint(w, "<html>please sign in to the network</html>")
		case "drop":
			panic(http.ErrAbortHandler)
		case "hang":
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}))
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		close(hang)
		o.CloseClientConnections()
		o.Close()
	})
	return o
}

// Where no upgrade gets through everything goes on, over events and requests, through cuts; and over a
// WebSocket as soon as one gets through.
func TestFallback(t *testing.T) {
	for _, how := range []string{"strip", "refuse", "page", "drop", "hang"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			node := w.start("guest", func(cfg *httpapi.Config) { cfg.Edge.Rate, cfg.Edge.PingInterval = 200, time.Second })
			o := newOffice(t, node.Addr(), how)
			ada := dial(t, o.URL, "ada", func(cfg *client.Config) { cfg.MinRetry, cfg.MaxRetry = 20*time.Millisecond, 100*time.Millisecond })
			bob := dial(t, "http://"+node.Addr(), "bob", nil)
			if e := event[client.Connected](t, ada, nil); !e.Fallback {
				t.Fatalf("ada is connected by %+v", e)
			}
			event(t, ada, func(e client.StatusChange) bool { return slices.Contains(e.Online, "bob") })

			ref := uuid.NewString()
			sent, err := ada.SendRef(t.Context(), ref, "", "hello")
			if err != nil {
				t.Fatal(err)
			}
			if m := next(t, bob); m.ID != sent.ID || m.Ref != ref || !m.SentAt.Equal(sent.At) {
				t.Errorf("bob hears %+v, ada sent %+v", m, sent)
			}
			hears(t, ada, "hello")
			say(t, bob, "ada", "psst")
			hears(t, ada, "psst")
			hears(t, bob, "psst")
			bob.Typing("ada")
			event[client.Typing](t, ada, nil)
			ada.Typing("")
			event[client.Typing](t, bob, nil)
			page, err := ada.History(t.Context(), client.HistoryQuery{With: "bob"})
			if err != nil || len(page.Messages) != 1 || page.Messages[0].Content != "psst" {
				t.Errorf("the history is %+v, %v", page, err)
			}
			if _, err := ada.Send(t.Context(), "", " "); err == nil || !strings.Contains(err.Error(), "empty_content") {
				t.Errorf("sent nothing: %v", err)
			}

			// Cut again and again: nothing is lost or comes twice.
			const n = 30
			var talking sync.WaitGroup
			defer talking.Wait()
			talking.Go(func() {
				for i := range n {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					if _, err := ada.Send(ctx, "", fmt.Sprint(i)); err != nil {
						t.Errorf("send %d: %v", i, err)
					}
					cancel()
				}
			})
			for i := range n {
				hears(t, ada, fmt.Sprint(i))
				hears(t, bob, fmt.Sprint(i))
				if i%10 == 9 {
					o.CloseClientConnections()
				}
			}
			talking.Wait()

			o.open.Store(true)
			event(t, ada, func(e client.Connected) bool { return !e.Fallback })
			posts := o.posts.Load()
			again, err := ada.SendRef(t.Context(), ref, "", "hello")
			if err != nil || again != sent {
				t.Errorf("sent again over the WebSocket it is %+v, %v; want %+v", again, err, sent)
			}
			say(t, ada, "", "the end")
			hears(t, ada, "the end")
			hears(t, bob, "the end")
			if o.posts.Load() != posts {
				t.Error("it still sends by POST")
			}
		})
	}
}

// What the server itself refuses is no reason to fall back.
func TestNoFallback(t *testing.T) {
	w := newWorld(t)
	node := w.start("guest", nil)
	o := newOffice(t, node.Addr(), "strip")
	o.open.Store(true)
	ada := dial(t, o.URL, "ada", nil)
	if e := event[client.Connected](t, ada, nil); e.Fallback {
		t.Error("it fell back without need")
	}
	if _, err := client.Dial(t.Context(), client.Config{URL: o.URL, Name: "ada"}); err == nil {
		t.Error("took a name that is taken")
	}
	w.stop(node)
	event[client.Disconnected](t, ada, nil)
	if n := o.streams.Load(); n != 0 {
		t.Errorf("%d streams were opened", n)
	}
}
