package main

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// texts reads and writes texts of all kinds: addresses, mentions, commands, files, from right to left.
func texts(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	bob := signIn(t, addr, "bob").dial(addr)
	p := openTab(t, browser, addr)
	p.signIn("alice")
	p.shows(hook("user", user("bob")))

	long := "https://example.org/" + strings.Repeat("long/", 60)
	bob.send("", "see (https://en.wikipedia.org/wiki/Curtain_(disambiguation)), www.example.org, me@example.org and "+long+" @bob @nobody")
	bob.send("", "שלום לכולם")
	bob.send("", "http://a/"+strings.Repeat("!", 2700)+"x"+strings.Repeat(")", 1380))
	p.await("the addresses", "[...document.querySelectorAll('[data-testid=message] a')].slice(0, 4).map((a) => a.href).join(' ') === "+
		quote("https://en.wikipedia.org/wiki/Curtain_(disambiguation) https://www.example.org/ mailto:me@example.org "+long))
	p.await("the long one is one line, and whole for those who copy it", `(() => {
		const a = document.querySelectorAll('[data-testid=message] a')[3];
		return a && a.title === a.href && a.textContent === a.href && a.getClientRects().length <= 4 && a.getBoundingClientRect().height < 60;
	})()`)
	p.await("only members are mentioned", "[...document.querySelectorAll('.at')].map((e) => e.textContent).join() === '@bob'")
	p.hears("שלום לכולם")
	p.await("text from right to left is by its author", `(() => {
		const text = [...document.querySelectorAll('.content')].find((e) => e.textContent.startsWith('שלום'));
		return text.matches(':dir(rtl)') && text.getBoundingClientRect().right < document.querySelector('.message').getBoundingClientRect().left + 250;
	})()`)

	p.typeIn(hook("composer"), "/help")
	p.enter()
	p.shows(hook("notice-action"))
	p.shot("command")
	p.types("!")
	p.await("the offer was about another text", "!document.querySelector("+quote(hook("notice-action"))+")")
	p.enter()
	p.click(hook("notice-action"))
	p.hears("/help!")
	bob.await("the text that looks like a command", says("alice", "/help!"))
	p.await("one can write", "document.querySelector("+quote(hook("composer"))+").value === '' && !document.querySelector("+quote(hook("notice"))+")")

	// A file is pasted, and one is dropped beside the field.
	for what, event := range map[string]string{
		"paste": "document.querySelector('textarea').dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true, cancelable: true }))",
		"drop":  "document.querySelector('.log').dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }))",
	} {
		if look[bool](p, "(() => { const files = new DataTransfer(); files.items.add(new File(['x'], 'x.png', { type: 'image/png' })); return "+event+"; })()") {
			t.Errorf("%s: the browser does what it likes with the file", what)
		}
		p.await("the answer to "+what, "document.querySelector("+quote(hook("notice"))+")?.textContent.includes('cannot be sent yet')")
		look[bool](p, "document.querySelector("+quote(hook("notice")+" .iconbutton")+")?.click() ?? true") // it may have gone by itself
		p.await("the notice is gone", "!document.querySelector("+quote(hook("notice"))+")")
	}

	p.click(hook("user", user("bob")))
	bob.send("", "hi all")
	bob.send("", "hi @Alice")
	p.await("the mention is counted apart", "document.querySelector("+quote(hook("tab-global")+" "+hook("called"))+")?.textContent === '@1' && document.querySelector("+quote(hook("tab-global")+" "+hook("unread"))+")?.textContent === '2'")
	p.shot("badges")
	p.click(hook("tab-global"))
	p.await("it is read", "!document.querySelector("+quote(hook("called"))+")")

	p.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.await("the screen is a phone's", "innerWidth === 390 && matchMedia('(pointer: coarse)').matches && document.querySelector('#sidebar').getBoundingClientRect().right <= 0")
	p.fits()
	p.shot("phone")
	p.typeIn(hook("composer"), "two")
	p.types("\rlines")
	p.click(hook("send"))
	p.hears("two\nlines")
	p.quiet()
}
