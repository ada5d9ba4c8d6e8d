package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestScreenshots makes the pictures of the README where BURROW_SCREENSHOTS names a
// directory: `make screenshots`.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("BURROW_SCREENSHOTS")
	if dir == "" {
		t.Skip("BURROW_SCREENSHOTS names no directory")
	}
	in := install(t, memory, "BURROW_STORE_ARCHIVE_PRIVATE=true")
	in.remember(t, conversation(time.Now()))
	addr := in.start(t).addr
	reader := signIn(t, addr, "linus.p")
	eventually(t, patience, "the private talks can be found", func() bool { _, behind := reader.search(addr, "x", ""); return behind == 0 })
	reader.dial(addr)
	for _, name := range []string{"Grace Hopper", "Edsger", "barbara", "Margaret", "Katherine"} {
		signIn(t, addr, name).dial(addr)
	}
	browser := openBrowser(t)

	p := openTab(t, browser, addr)
	p.do(chromedp.EmulateViewport(1180, 760))
	p.signIn("ada")
	for _, name := range []string{"Grace Hopper", "Margaret", "barbara"} {
		p.shows(hook("talk", user(name)) + " " + hook("last"))
	}
	// This is not her first visit, and what Margaret has written is new.
	p.do(chromedp.Evaluate[chromedp.Void](`(key => {
		const { Margaret, ...read } = JSON.parse(localStorage.getItem(key));
		localStorage.setItem(key, JSON.stringify(read));
	})('burrow.read.ada')`))
	p.do(chromedp.Reload())
	p.shows(hook("user", user("barbara")))
	p.shows(hook("talk", user("Margaret")) + " " + hook("unread"))
	p.await("the newest message is there", "document.querySelector("+quote(hook("messages"))+").textContent.includes('ship it')")
	p.await("all of it is drawn", "document.querySelectorAll("+quote(hook("last"))+").length === 4")
	picture(p, filepath.Join(dir, "desktop-light.png"))
	p.dark()
	p.await("it is dark", "matchMedia('(prefers-color-scheme: dark)').matches")
	picture(p, filepath.Join(dir, "desktop-dark.png"))

	p.do(chromedp.EmulateViewport(390, 780, chromedp.EmulateScale(1.5), chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.await("the drawer has gone", "innerWidth === 390 && document.querySelector('#sidebar').getBoundingClientRect().right <= 0")
	p.light()
	p.await("it is light", "!matchMedia('(prefers-color-scheme: dark)').matches")
	picture(p, filepath.Join(dir, "phone.png"))
	p.quiet()
}

// conversation is what some people might have talked about by now.
func conversation(now time.Time) (all []said) {
	at := now.Add(-26 * time.Hour)
	say := func(pause time.Duration, sender, content string) {
		at = at.Add(pause)
		all = append(all, said{at, sender, "", content})
	}
	say(0, "Katherine", "The new relay came through the weekend without a single lost message. Graphs are in the wiki.")
	say(2*time.Minute, "Edsger", "Nice. Did anyone pull the plug on the broker yet?")
	say(time.Minute, "Katherine", "Three times 🙂")
	at = now.Add(-74 * time.Minute)
	say(0, "Grace Hopper", "Good morning! The nightly build is green again. It was the time zone in the archive test, of course.")
	say(40*time.Second, "Grace Hopper", "Fix is one line:")
	say(20*time.Second, "Grace Hopper", "```go\nday := msg.SentAt.AsTime().In(loc).Truncate(24 * time.Hour)\n```")
	say(3*time.Minute, "Edsger", "Truncate works on absolute time, so that is wrong in half of the world. `time.Date(y, m, d, 0, 0, 0, 0, loc)` is what you want.")
	say(time.Minute, "Grace Hopper", "…of course it is. Thank you, pushed.")
	say(22*time.Minute, "barbara", "@ada could you look at the migration before lunch? It is short: https://example.org/changes/412")
	say(90*time.Second, "ada", "Reading it now.")
	say(3*time.Minute, "ada", "Two small remarks, otherwise it is fine. I like that it can be run twice.")
	say(2*time.Minute, "barbara", "Both done.")
	say(9*time.Minute, "Margaret", "שלום לכולם, אני מצטרפת מהטלפון 👋")
	say(time.Minute, "linus.p", "Hello Margaret! We are about to release.")
	say(4*time.Minute, "Katherine", "Canary has been quiet for an hour: no resumes, no dead letters, p99 at 9 ms.")
	say(50*time.Second, "Edsger", "Then ship it.")
	say(15*time.Second, "ada", "ship it 🚀")

	between := func(ago time.Duration, from, to, content string) {
		all = append(all, said{now.Add(-ago), from, to, content})
	}
	between(25*time.Hour, "barbara", "ada", "Lunch tomorrow?")
	between(25*time.Hour-time.Minute, "ada", "barbara", "With pleasure, 12:30")
	between(50*time.Minute, "ada", "Grace Hopper", "Do you have the numbers of last week?")
	between(48*time.Minute, "Grace Hopper", "ada", "In your mailbox")
	between(5*time.Minute, "Margaret", "ada", "Are you coming to the review?")
	between(4*time.Minute, "Margaret", "ada", "Room 4, at three")
	return all
}

// picture writes what the page shows to a file.
func picture(p *tab, name string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void]("document.activeElement?.blur()"))
	bytes, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(name, bytes, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if limit := 150 << 10; len(bytes) > limit {
		p.t.Errorf("%s has %d bytes, want at most %d", name, len(bytes), limit)
	}
}
