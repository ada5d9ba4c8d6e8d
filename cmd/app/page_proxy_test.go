package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

// front is a reverse proxy in front of a server.
type front struct {
	*httptest.Server
	addr string
}

// newFront returns a proxy for the server at addr. Each request goes through handle, which answers
// it or passes it on to next.
func newFront(t *testing.T, addr string, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) *front {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	transport := &http.Transport{}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	f := &front{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, proxy) }))
	f.Config.ErrorLog = proxy.ErrorLog
	f.Start()
	f.addr = strings.TrimPrefix(f.URL, "http://")
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// TestPageProxy has the page talk through proxies that do less, or other things, than they should.
func TestPageProxy(t *testing.T) {
	browser := openBrowser(t)
	t.Run("ForeignRefusal", func(t *testing.T) { foreignRefusal(t, browser) })
	t.Run("NoHost", func(t *testing.T) { noHost(t, browser) })
}

// foreignRefusal has the proxy refuse everything while the server restarts: the page stays signed in.
func foreignRefusal(t *testing.T, browser context.Context) {
	in := install(t, embedded)
	server := in.start(t)
	var refusing, form atomic.Bool
	var sessions, posts atomic.Int32
	f := newFront(t, server.addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !refusing.Load() {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/api/session" {
			sessions.Add(1)
		}
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader([]int{http.StatusForbidden, http.StatusUnauthorized}[sessions.Load()%2])
		_, _ = io.WriteString(w, "<html>not now</html>") // The page may have gone.
	})
	alice := openTab(t, browser, f.addr)
	alice.signIn("alice")
	alice.say("before")
	refusing.Store(true)
	server.stop()
	in.startWith(t, nil, "BURROW_HTTP_ADDR="+server.addr)
	alice.awaitFunc("the page has asked three times who it is", func() bool {
		form.Store(form.Load() || alice.count(hook("name-form")) > 0)
		return sessions.Load() >= 3 || form.Load()
	})
	if form.Load() {
		t.Fatal("the page asks for a name")
	}
	refusing.Store(false)
	alice.await("the banner is gone", "!document.querySelector("+quote(hook("banner"))+")")
	alice.say("after")
	alice.reads("before", "after")
	if posts.Load() != 0 {
		t.Errorf("the page asked for its name %d times", posts.Load())
	}

	// The same for a page that is opened then.
	refusing.Store(true)
	alice.do(chromedp.Reload())
	alice.await("the browser shows the proxy's page", "document.body.textContent.includes('not now')")
	refusing.Store(false)
	alice.do(chromedp.Reload())
	alice.reads("before", "after")
}

// noHost has a proxy ask for its own address and not for the one that the browser has.
func noHost(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	f := newFront(t, addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Host = addr
		next.ServeHTTP(w, r)
	})
	p := openTab(t, browser, f.addr)
	p.typeIn(hook("name-input"), "alice")
	p.click(hook("name-submit"))
	p.shows(hook("name-error"))
	if got, want := p.text(hook("name-error")), "This chat is not set up for this address; ask the operator."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.fits()
	p.shot("no-host")
}
