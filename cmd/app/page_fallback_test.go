package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPageFallback has the page talk through a proxy that lets no WebSocket through, as the network
// of many an office does.
func TestPageFallback(t *testing.T) {
	browser := openBrowser(t)
	addr := install(t, memory).start(t).addr
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	transport := &http.Transport{}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	var streams atomic.Int32
	office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Upgrade")
		if r.URL.Path == "/events" {
			streams.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	office.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(func() {
		office.CloseClientConnections()
		office.Close()
	})

	alice, bob := openTab(t, browser, strings.TrimPrefix(office.URL, "http://")), openTab(t, browser, addr)
	alice.signIn("alice")
	bob.signIn("bob")
	alice.shows(hook("user", user("bob")))
	bob.shows(hook("user", user("alice")))
	alice.say("hello from the office")
	bob.hears("hello from the office")
	bob.say("hello from outside")
	alice.reads("hello from the office", "hello from outside")
	if streams.Load() != 1 {
		t.Errorf("%d streams were opened, want 1", streams.Load())
	}

	// So does whether somebody is there.
	state := "document.querySelector(" + quote(hook("user", user("alice"))) + ").dataset.state"
	alice.hide(true)
	bob.await("alice is away", state+" === 'away'")
	alice.hide(false)
	bob.await("alice is back", state+" === 'on'")

	// The stream is cut: what was said meanwhile comes, and nothing twice.
	office.CloseClientConnections()
	bob.say("and again")
	alice.hears("and again")
	alice.say("still here")
	bob.hears("still here")
	alice.reads("hello from the office", "hello from outside", "and again", "still here")
	bob.quiet()
}
