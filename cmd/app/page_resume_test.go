package main

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// wire stands between a browser and the server, and can be cut.
type wire struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, target: target, conns: map[net.Conn]bool{}}
	w.done.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.set(true)
		w.done.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.listener.Addr().String() }

// set cuts the wire, with all that is on it, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Close()
		}
		clear(w.conns)
	}
}

// keep notes a connection, unless the wire is cut.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = c.Close()
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) accept() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		if !w.keep(from) {
			continue
		}
		to, err := net.Dial("tcp", w.target)
		if err != nil {
			_ = from.Close()
			continue
		}
		if !w.keep(to) {
			continue
		}
		for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
			w.done.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.conns, pair[0])
			})
		}
	}
}

// resume cuts the connection of a page in the middle of a talk.
func resume(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	link := newWire(t, addr)
	bob := signIn(t, addr, "bob").dial(addr)
	p := openTab(t, browser, link.addr())
	p.signIn("alice")
	p.say("before")
	bob.send("", "heard")
	p.hears("heard")

	link.set(true)
	p.shows(hook("banner"))
	p.await("it counts down, or tries", "/Trying again in \\d+ s|Connecting/.test(document.querySelector("+quote(hook("banner"))+").textContent)")
	bob.send("", "missed in the room")
	bob.send("alice", "missed in private")
	p.typeIn(hook("composer"), "written meanwhile")
	p.enter()
	p.await("it waits", "document.querySelector("+quote(hook("pending"))+")?.textContent.includes('Waiting')")
	p.shot("cut")

	link.set(false)
	p.await("the page is back", "!document.querySelector("+quote(hook("banner"))+")")
	p.await("it says what was new", "document.querySelector("+quote(hook("caught-up"))+")?.textContent === 'Caught up, 2 new.'")
	p.shot("back")
	bob.await("what was written meanwhile", says("alice", "written meanwhile"))
	p.reads("before", "heard", "missed in the room", "written meanwhile")
	p.shows(hook("talk", user("bob")) + " " + hook("unread"))
	p.await("what was missed is marked", "document.querySelector("+quote(hook("new"))+")")
	p.click(hook("talk", user("bob")))
	p.reads("missed in private")
	p.quiet("WebSocket connection to", "net::ERR_")
}
