package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// walk scrolls up through a talk to its beginning, as fast as the page draws, and notes
// which messages it has seen, how many were drawn at once, and by how much what was
// read moved although nobody scrolled.
const walk = `(async () => {
	const log = document.querySelector('[data-testid=messages]');
	const seen = new Set();
	let most = 0;
	const jumps = [];
	const frame = () => new Promise((r) => requestAnimationFrame(() => setTimeout(r)));
	const look = () => {
		const all = [...log.querySelectorAll('[data-testid=message]')];
		most = Math.max(most, all.length);
		for (const m of all) seen.add(m.dataset.id);
		return all;
	};
	for (let i = 0; i < 5000 && !log.firstElementChild.textContent.includes('begins'); i++) {
		log.scrollTop -= 3000;
		await frame();
		const top = log.getBoundingClientRect().top + 150;
		const mark = look().find((m) => m.getBoundingClientRect().bottom > top);
		const at = mark.getBoundingClientRect().bottom;
		await frame();
		await frame();
		const by = mark.isConnected ? Math.round(mark.getBoundingClientRect().bottom - at) : 'out of sight';
		if (Math.abs(by) > 2 || !mark.isConnected) jumps.push(by);
	}
	look();
	window.walked = { seen: seen.size, most, jumps };
})(), undefined`

// past reads far back in a talk of 5000 messages.
func past(t *testing.T, browser context.Context) {
	const n = 5000
	in := install(t, memory)
	messages := make([]said, n)
	for i := range messages {
		messages[i] = said{time.Now().Add(time.Duration(i-n) * time.Minute), fmt.Sprintf("user %d", i/3%7), "", fmt.Sprintf("message %d", i)}
	}
	in.remember(t, messages)
	addr := in.start(t).addr
	bob := signIn(t, addr, "bob").dial(addr)
	p := openTab(t, browser, addr)
	p.signIn("alice")
	p.hears("message 4999")
	p.await("the page is at the end", atEnd)

	p.do(chromedp.Evaluate[chromedp.Void](walk))
	eventually(t, patience, "the page has got to the first message", func() bool { return look[bool](p, "window.walked !== undefined") })
	type walked struct {
		Seen, Most int
		Jumps      []any // by how many px
	}
	got := look[walked](p, "window.walked")
	if got.Seen != n {
		t.Errorf("the way up showed %d messages, want all %d", got.Seen, n)
	}
	if got.Most > 320 {
		t.Errorf("%d messages were drawn at once: want a part of them", got.Most)
	}
	if len(got.Jumps) > 0 {
		t.Errorf("what was read jumped by %v px", got.Jumps)
	}
	p.hears("message 0")
	p.shot("first")

	// What comes meanwhile does not move the page, and is counted on the button.
	bob.send("", "are you still there?")
	p.await("the button tells of it", "document.querySelector("+quote(hook("jump"))+").textContent.includes('1 new message')")
	if !slices.Contains(p.messages(), "message 0") {
		t.Error("a new message moved the page")
	}
	p.click(hook("jump"))
	p.hears("are you still there?")
	p.await("the page is at the end", atEnd)
	if got := len(p.messages()); got > 320 {
		t.Errorf("%d messages are drawn at the end", got)
	}
	p.quiet()
}

// atEnd tells whether the log shows its end.
const atEnd = `((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2)(document.querySelector('[data-testid=messages]'))`

// search finds what was said long ago, and shows it where it was said.
func search(t *testing.T, browser context.Context) {
	// Open: a name that is taken brings nothing of what was said to it before.
	in := install(t, memory, "BURROW_AUTH_MODE=open", "BURROW_STORE_ARCHIVE_PRIVATE=true")
	var messages []said
	for i := range 400 {
		messages = append(messages, said{time.Now().Add(time.Duration(i-500) * time.Minute), "carol", "", fmt.Sprintf("line %d", i)})
	}
	messages[20].content = "the Zebra crossing <b>is</b> by the river"
	messages = append(messages,
		said{time.Now().Add(-time.Hour), "bob", "alice", "a zebra between us"},
		said{time.Now().Add(-time.Hour), "bob", "carol", "a zebra that is no business of alice"})
	in.remember(t, messages)
	addr := in.start(t).addr
	p := openTab(t, browser, addr)
	p.signIn("alice")
	p.hears("line 399")
	// Bob has written to her before she came here for the first time.
	p.shows(hook("talk", user("bob")) + " " + hook("last"))
	if n := p.count(hook("unread")); n > 0 {
		t.Error("what was said before the first visit is unread")
	}

	p.press("k", chromedp.ModifierCtrl)
	p.shows(hook("search-input"))
	p.await("the field has the focus", focused(hook("search-input")))
	p.typeIn(hook("search-input"), "zebra")
	p.awaitFunc("both messages are found", func() bool { return p.count(hook("hit")) == 2 })
	marks := look[[]string](p, "[...document.querySelectorAll('.hit mark')].map((m) => m.textContent)")
	if !slices.Equal(marks, []string{"zebra", "Zebra"}) {
		t.Errorf("what is highlighted in the hits is %q", marks)
	}
	p.shot("hits")

	// By keyboard to the second one, the public one.
	p.press("ArrowDown")
	p.press("ArrowDown")
	p.await("the hit has the focus", "document.activeElement.dataset.testid === 'hit' && document.activeElement.textContent.includes('crossing')")
	p.activate()
	p.await("the message is shown", "document.querySelector('.message.target')?.textContent.includes('crossing')")
	p.await("it is in view", `((m, log) => m.top >= log.top && m.bottom <= log.bottom)(document.querySelector('.message.target').getBoundingClientRect(), document.querySelector('[data-testid=messages]').getBoundingClientRect())`)
	p.hears("line 19")
	p.hears("line 21")
	if n := p.count("[data-testid=messages] b"); n > 0 {
		t.Error("a hit became markup")
	}
	p.shot("context")
	p.click(hook("jump"))
	p.hears("line 399")

	p.click(hook("hit"))
	p.await("the private talk is open", "document.querySelector('.heading h1').textContent === 'bob'")
	p.hears("a zebra between us")

	// Whatever is typed gives hits, none, or a reason.
	p.click(hook("search-input"))
	for _, q := range []string{`"`, `zebra* OR`, `NEAR(a b`, `😀`, `'; DROP TABLE messages; --`, `%_\`} {
		p.do(chromedp.Evaluate[chromedp.Void]("document.querySelector(" + quote(hook("search-input")) + ").select(), undefined"))
		p.typeIn(hook("search-input"), q)
		p.await("an answer to "+q, "(s => !s.includes('Searching') && (s !== '' || document.querySelector("+quote(hook("search-trouble"))+")))(document.querySelector("+quote(hook("search-status"))+").textContent)")
	}
	// Dave does while the page is closed.
	p.do(chromedp.Navigate("about:blank"))
	dave := signIn(t, addr, "dave")
	dave.dial(addr).send("alice", "we have not met")
	eventually(t, patience, "it can be found", func() bool { found, _ := dave.search(addr, "met", ""); return len(found) == 1 })
	p.do(chromedp.Navigate("http://" + addr + "/"))
	p.shows(hook("talk", user("dave")) + " " + hook("unread"))
	p.shows(hook("talk", user("bob")) + " " + hook("last"))
	if n := p.count(hook("unread")); n != 1 {
		t.Errorf("%d talks are unread, want that with dave", n)
	}
	p.click(hook("talk", user("dave")))
	p.reads("we have not met")

	p.click(hook("find"))
	p.shows(hook("search-input"))
	p.press("Escape")
	p.await("the search is closed, and one can write", "!document.querySelector("+quote(hook("search"))+") && "+focused(hook("composer")))
	p.quiet("400")
}
