package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// reach moves the focus with Tab, or backwards with Shift, until an element has it.
func (p *tab) reach(selector string, modifiers ...chromedp.Modifier) {
	p.t.Helper()
	for range 60 {
		if look[bool](p, focused(selector)) {
			return
		}
		p.press("Tab", modifiers...)
	}
	p.t.Fatalf("the keyboard does not get to %s", selector)
}

// keyboard does everything without a pointer.
func keyboard(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	bob := signIn(t, addr, "bob").dial(addr)
	p := openTab(t, browser, addr)
	p.await("one can type at once", "document.querySelector("+quote(hook("name-input"))+") && "+focused(hook("name-input")))
	p.types("alice")
	p.activate()
	p.await("one can write at once", "document.querySelector("+quote(hook("composer"))+") && "+focused(hook("composer")))
	p.types("two")
	p.do(chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierShift)))
	p.types("lines")
	p.enter()
	p.hears("two\nlines")
	p.shows(hook("user", user("bob")))

	p.reach(hook("user", user("bob")), chromedp.ModifierShift)
	p.shot("focus")
	p.activate()
	p.await("the talk is open, and one can write", "document.querySelector('.heading h1').textContent === 'bob' && "+focused(hook("composer")))
	p.types("psst")
	p.enter()
	bob.await("what was whispered", says("alice", "psst"))
	bob.send("", "everybody hears me")
	p.shows(hook("tab-global") + " " + hook("unread"))
	p.press("ArrowDown", chromedp.ModifierAlt, chromedp.ModifierShift)
	p.await("the talk with something unread is open", "document.querySelector('.heading h1').textContent === 'Global room'")
	p.hears("everybody hears me")
	p.press("ArrowDown", chromedp.ModifierAlt)
	p.await("the next talk is open", "document.querySelector('.heading h1').textContent === 'bob'")

	p.reach(hook("messages"), chromedp.ModifierShift)
	p.reach(hook("settings"), chromedp.ModifierShift)
	p.activate()
	p.shows(hook("settings-dialog"))
	for range 12 {
		p.press("Tab")
		if !look[bool](p, "document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)") {
			t.Fatal("the focus has left the dialog")
		}
	}
	p.shot("settings")
	p.press("Escape")
	p.await("the dialog is closed, and the focus is back", "!document.querySelector('dialog') && "+focused(hook("settings")))
	p.press("Escape")
	p.await("one can write", focused(hook("composer")))
	p.quiet()
}

// everyone looks at the page as those do who hear it, who have a small screen, or who do
// not like things that move.
func everyone(t *testing.T, browser context.Context) {
	axe, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, memory)
	addr := in.start(t).addr
	bob := signIn(t, addr, "bob").dial(addr)
	p := openTab(t, browser, addr)
	// without checks that axe finds nothing serious.
	check := func(what string) {
		t.Helper()
		p.do(chromedp.Evaluate[chromedp.Void](string(axe) + "\n;undefined"))
		p.do(chromedp.Evaluate[chromedp.Void](`window.findings = null; axe.run(document, { resultTypes: ['violations'] }).then((r) => {
			window.findings = r.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html + ' ' + n.failureSummary));
			window.rules = r.passes.length;
		}, (e) => { window.findings = [String(e)]; }), undefined`))
		p.await("axe has looked at "+what, "window.findings")
		for _, finding := range look[[]string](p, "window.findings") {
			t.Errorf("%s: %s", what, finding)
		}
		if look[int](p, "window.rules") == 0 {
			t.Errorf("axe has checked nothing of %s", what)
		}
	}
	check("the form")
	p.signIn("alice")
	p.typeIn(hook("composer"), "hello `code` https://example.org/")
	p.enter()
	p.hears("hello code https://example.org/")
	bob.send("", "@alice שלום\n```\nsome code\n```")
	bob.send("alice", "in private")
	p.shows(hook("talk", user("bob")) + " " + hook("unread"))
	p.await("it is announced", "document.querySelector("+quote(hook("announcements"))+").textContent.includes('bob, privately: in private')")
	p.await("the mention is marked", "document.querySelector('[data-mention] mark.at')?.textContent === '@alice'")
	if !look[bool](p, "document.querySelector('[data-sender=bob] .content').matches(':dir(rtl)') || document.querySelector('[data-sender=bob] .content').matches(':dir(ltr)')") {
		t.Error("a message has no direction of its own")
	}
	check("the chat")
	p.click(hook("find"))
	p.shows(hook("search-input"))
	check("the search")
	p.dark()
	check("the search in the dark")
	p.click(hook("settings"))
	p.shows(hook("settings-dialog"))
	check("the settings in the dark")
	p.light()
	check("the settings")
	p.press("Escape")
	p.click(hook("search-close"))

	p.do(chromedp.EmulateViewport(320, 640, chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.await("the screen is small", "innerWidth === 320 && document.querySelector('#sidebar').getBoundingClientRect().right <= 0")
	bob.send("", strings.Repeat("Donaudampfschifffahrtsgesellschaftskapitän", 4))
	bob.send("", "```\n"+strings.Repeat("a long line of code ", 12)+"\n```")
	p.hears(strings.Repeat("a long line of code ", 12))
	p.fits()
	check("the chat on a small screen")
	p.shot("small")
	p.click(`[aria-controls=sidebar]`)
	p.shows(`#sidebar.open`)
	p.await("the drawer has come to rest", "document.querySelector('#sidebar').getBoundingClientRect().left === 0")
	p.fits()
	check("the drawer")
	p.shot("small-drawer")
	p.press("Escape")
	p.click(hook("find"))
	p.shows(hook("search-input"))
	p.fits()
	p.click(hook("search-close"))

	p.media("prefers-reduced-motion", "reduce")
	p.await("nothing moves", "[...document.querySelectorAll('*')].every((e) => { const s = getComputedStyle(e); return s.animationName === 'none' && /^0s(, 0s)*$/.test(s.transitionDuration); })")
	p.quiet()
}
