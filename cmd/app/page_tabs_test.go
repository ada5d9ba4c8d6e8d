package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// beside opens the page in another tab of the same browser: the same person.
func (p *tab) beside(addr string) *tab {
	p.t.Helper()
	other := &tab{t: p.t}
	ctx, cancel := chromedp.NewContext(p.ctx, chromedp.WithListener(other.listen))
	other.ctx = ctx
	p.t.Cleanup(cancel)
	other.do(chromedp.Navigate("http://" + addr + "/"))
	return other
}

// hide has the page believe that nobody sees it, or that somebody does.
func (p *tab) hide(hidden bool) {
	p.t.Helper()
	state := "visible"
	if hidden {
		state = "hidden"
	}
	p.do(chromedp.Evaluate[chromedp.Void](`Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => '` + state + `' });
		document.dispatchEvent(new Event('visibilitychange'))`))
}

// noted replaces notifications by notes in window.notes, and allows them.
const noted = `window.notes = []; window.Notification = class {
	static permission = 'granted';
	static requestPermission = async () => 'granted';
	constructor(title, options) { window.notes.push({ title, ...options, note: this }); }
	close() {}
}, undefined`

// tabs has one person look at two tabs.
func tabs(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	friend := signIn(t, addr, "bob")
	bob := friend.dial(addr)
	window := openTab(t, browser, addr) // the tabs end on their own, but not after this one
	one := window.beside(addr)
	one.signIn("alice")
	two := window.beside(addr)
	two.shows(hook("user", user("alice")))

	// Drafts.
	one.typeIn(hook("composer"), "half a thought")
	draft := "document.querySelector(" + quote(hook("composer")) + ").value"
	two.await("the other tab has the draft", draft+" === 'half a thought'")
	two.typeIn(hook("composer"), " more")
	one.await("and the other way round", draft+" === 'half a thought more'")
	two.do(chromedp.Reload())
	two.await("it survives a reload", "document.querySelector("+quote(hook("composer"))+")?.value === 'half a thought more'")
	two.enter()
	one.await("what was sent is no draft", draft+" === ''")
	one.hears("half a thought more")
	two.hears("half a thought more")

	// Unread, and away: not while one of the tabs is seen.
	away := func() bool {
		res, err := friend.http.Get("http://" + addr + "/api/users?q=alice")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(body), `{"name":"alice","away":true}`)
	}
	one.hide(true)
	two.hide(true)
	one.awaitFunc("alice is away", away)
	bob.send("", "one")
	bob.send("alice", "two")
	for _, p := range []*tab{one, two} {
		p.await("two are unread", "document.title.startsWith('(2)')")
	}
	two.hide(false)
	two.awaitFunc("alice is back", func() bool { return !away() })
	for _, p := range []*tab{one, two} {
		p.await("one is unread: the room was seen", "document.title.startsWith('(1)')")
	}
	two.click(hook("talk", user("bob")))
	for _, p := range []*tab{one, two} {
		p.await("nothing is unread", "document.title.endsWith('Burrow') && !document.title.startsWith('(')")
	}

	// Notifications: nothing by default, then one for each message.
	for _, p := range []*tab{one, two} {
		p.do(chromedp.Evaluate[chromedp.Void](noted))
	}
	bob.send("", "nobody is told of this")
	one.await("it has come", "document.title.startsWith('(1)')")
	two.click(hook("settings"))
	two.do(chromedp.Evaluate[chromedp.Void](`(s => { s.value = 'all'; s.dispatchEvent(new Event('change', { bubbles: true })) })(document.querySelector('[data-testid=notify]')), undefined`))
	two.await("it is chosen", "document.querySelector("+quote(hook("notify"))+").value === 'all' && localStorage.getItem('burrow.settings.alice')?.includes('all')")
	two.press("Escape")
	two.await("the dialog is closed", "!document.querySelector('dialog')")
	notes := func(p *tab) int { return look[int](p, "window.notes.length") }
	told := func() int { return notes(one) + notes(two) }

	bob.send("alice", "you see this one") // two shows this talk
	two.hears("you see this one")
	bob.send("", "and not this one")
	one.awaitFunc("one notification", func() bool { return told() == 1 })
	one.hide(true)
	two.hide(true)
	bob.send("alice", "nor this")
	one.awaitFunc("another one", func() bool { return told() == 2 })
	p := one
	if notes(two) > 0 {
		p = two
	}
	if got := look[string](p, "window.notes.map((n) => n.title + ': ' + n.body).join('; ')"); got != "bob in the global room: and not this one; bob: nor this" {
		t.Errorf("the notifications are %q", got)
	}

	// The tab that speaks is closed: the other one speaks.
	if err := chromedp.Cancel(p.ctx); err != nil {
		t.Fatal(err)
	}
	other := two
	if p == two {
		other = one
	}
	other.await("the other tab has the lock", "navigator.locks.query().then((l) => { window.held = l.held.length === 1 && l.pending.length === 0 }), window.held")
	bob.send("alice", "anybody?")
	other.await("it tells of the message", "window.notes.length === 1 && window.notes[0].body === 'anybody?'")
	other.do(chromedp.Evaluate[chromedp.Void]("window.notes[0].note.onclick(), undefined"))
	other.await("a click on it opens the talk", "document.querySelector('.heading h1').textContent === 'bob'")
	other.hide(false)
	other.await("only the room is unread", "document.title.startsWith('(2)')")
	other.quiet()
}
