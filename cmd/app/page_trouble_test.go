package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// put sets the text of a field at once, as pasting does, whatever its length.
func (p *tab) put(selector, text string) {
	p.t.Helper()
	p.shows(selector)
	p.do(chromedp.Evaluate[chromedp.Void]("(e => { e.value = " + quote(text) + "; e.dispatchEvent(new Event('input', { bubbles: true })) })(document.querySelector(" + quote(selector) + ")), undefined"))
}

// failed has the server refuse what was written while it was away.
func failed(t *testing.T, browser context.Context) {
	in := install(t, embedded)
	server := in.start(t)
	addr := server.addr
	p := openTab(t, browser, addr)
	p.signIn("alice")
	server.stop()
	p.shows(hook("banner"))
	long := strings.Repeat("x", 60)
	for _, text := range []string{long, long + " to be forgotten", "short"} {
		p.put(hook("composer"), text)
		p.enter()
	}
	p.await("all of it waits", "document.querySelectorAll("+quote(hook("pending"))+").length === 3")

	// The server that comes is one that takes less.
	server = in.startWith(t, nil, "BURROW_HTTP_ADDR="+addr, "BURROW_EDGE_MAX_CONTENT_BYTES=50")
	friend := signIn(t, addr, "bob")
	bob := friend.dial(addr)
	refused := hook("pending", "[data-state=failed]")
	p.await("two are refused", "document.querySelectorAll("+quote(refused)+").length === 2")
	bob.await("what was behind them", says("alice", "short"))
	if got := p.text(refused); !strings.Contains(got, "Not sent") || !strings.Contains(got, "60 bytes") {
		t.Errorf("the page says %q", got)
	}
	p.fits()
	p.shot("refused")
	p.do(chromedp.Reload())
	p.await("they survive a reload", "document.querySelectorAll("+quote(refused)+").length === 2")
	p.do(chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll(` + quote(hook("discard")) + `)].at(-1).click(), undefined`))
	p.await("one is discarded", "document.querySelectorAll("+quote(hook("pending"))+").length === 1")

	server.stop()
	p.shows(hook("banner"))
	in.startWith(t, nil, "BURROW_HTTP_ADDR="+addr)
	bob = friend.dial(addr)
	p.await("the banner is gone", "!document.querySelector("+quote(hook("banner"))+")")
	p.click(hook("retry"))
	bob.await("what was tried again", says("alice", long))
	p.await("nothing waits", "!document.querySelector("+quote(hook("pending"))+")")
	p.do(chromedp.Reload())
	p.reads("short", long)
	p.quiet("WebSocket connection to", "net::ERR_")
}

// many has more people than the page is told of, a search for a great deal of text, and a sound.
func many(t *testing.T, browser context.Context) {
	addr := install(t, memory, "BURROW_PRESENCE_LIST_LIMIT=5").start(t).addr
	var last *client
	for i := range 12 {
		last = signIn(t, addr, fmt.Sprintf("person %02d", i)).dial(addr)
	}
	p := openTab(t, browser, addr)
	p.signIn("alice")
	p.await("all are counted", "document.querySelector("+quote(hook("online-count"))+").textContent === '13'")
	if n := p.count(hook("user")); n > 6 {
		t.Errorf("%d people are named", n)
	}
	p.typeIn(hook("filter"), "SON 11")
	p.shows(hook("user", user("person 11")))
	p.shot("found")
	p.click(hook("user", user("person 11")))
	p.await("the talk is open", "document.querySelector('.heading h1').textContent === 'person 11'")
	p.say("found you")
	last.await("what was said", says("alice", "found you"))

	p.click(hook("find"))
	for _, q := range []string{strings.Repeat("z", 10<<10), strings.Repeat("many words ", 1000), strings.Repeat("😀", 2500), strings.Repeat(`"*(`, 3500)} {
		p.put(hook("search-input"), q)
		p.await("an answer", "(document.querySelector("+quote(hook("search-trouble"))+") || /found|message/.test(document.querySelector("+quote(hook("search-status"))+").textContent))")
		if got := p.text(hook("search-trouble")); got != "" && !strings.Contains(got, "cannot be searched for") {
			t.Errorf("to %.20q… the page says %q", q, got)
		}
		p.fits()
	}
	p.shot("refused")
	p.put(hook("search-input"), "found")
	p.shows(hook("search-status"))
	p.click(hook("search-close"))

	// A sound for what is not seen, if it is wanted.
	p.do(chromedp.Evaluate[chromedp.Void](`window.tones = 0; window.AudioContext = class extends AudioContext { createOscillator() { window.tones++; return super.createOscillator(); } }, undefined`))
	p.click(hook("settings"))
	p.shows(hook("sound"))
	if look[bool](p, "document.querySelector("+quote(hook("sound"))+").checked") {
		t.Error("there is sound although nobody asked for it")
	}
	p.click(hook("sound"))
	p.await("one hears what it is like", "window.tones === 2")
	p.press("Escape")
	p.hide(true)
	last.send("alice", "are you there?")
	p.await("it sounds", "window.tones === 4")
	p.hide(false)
	p.do(chromedp.Reload())
	p.click(hook("settings"))
	p.await("it is remembered", "document.querySelector("+quote(hook("sound"))+")?.checked")
	p.quiet("400", "414", "431")
}
