package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"
)

// TestPage has people talk through the page, in a real browser.
func TestPage(t *testing.T) {
	browser := openBrowser(t)
	t.Run("talk", func(t *testing.T) {
		addr := install(t, memory).start(t).addr
		alice, bob := openTab(t, browser, addr), openTab(t, browser, addr)
		alice.shows(hook("name-form"))
		alice.shot("welcome")
		alice.signIn("alice")
		takenName(t, bob)
		bob.signIn("bob")
		alice.shows(hook("user", user("bob")))
		globalTalk(t, alice, bob)
		privateTalk(t, alice, bob)
		injection(t, alice, bob)
		alice.shot("end")
		alice.dark()
		alice.shot("dark")
		alice.quiet()
		bob.quiet("409") // the name that was taken
	})
	t.Run("phone", func(t *testing.T) { phone(t, browser) })
	t.Run("token", func(t *testing.T) { elsewhere(t, browser) })
	t.Run("past", func(t *testing.T) { past(t, browser) })
	t.Run("search", func(t *testing.T) { search(t, browser) })
	t.Run("tabs", func(t *testing.T) { tabs(t, browser) })
	t.Run("hostile", func(t *testing.T) { hostile(t, browser) })
	t.Run("texts", func(t *testing.T) { texts(t, browser) })
	t.Run("keyboard", func(t *testing.T) { keyboard(t, browser) })
	t.Run("everyone", func(t *testing.T) { everyone(t, browser) })
	t.Run("load", func(t *testing.T) { load(t, browser) })
	t.Run("failed", func(t *testing.T) { failed(t, browser) })
	t.Run("many", func(t *testing.T) { many(t, browser) })
	t.Run("resume", func(t *testing.T) { resume(t, browser) })
	t.Run("restart", func(t *testing.T) {
		for _, b := range []*broker{memory, embedded} {
			t.Run(b.String(), func(t *testing.T) { restart(t, browser, b) })
		}
	})
}

func takenName(t *testing.T, p *tab) {
	t.Helper()
	p.typeIn(hook("name-input"), "Alice")
	p.click(hook("name-submit"))
	p.shows(hook("name-error"))
	if got := p.text(hook("name-error")); !strings.Contains(strings.ToLower(got), "somebody else has this name") {
		t.Errorf("the error for a taken name is %q", got)
	}
	p.shot("taken")
	p.await("the name that was refused is selected, to type over it",
		"(i => i === document.activeElement && i.selectionEnd - i.selectionStart === i.value.length)(document.querySelector("+quote(hook("name-input"))+"))")
}

func globalTalk(t *testing.T, alice, bob *tab) {
	t.Helper()
	alice.say("hello, is anybody here?")
	bob.hears("hello, is anybody here?")
	bob.typeIn(hook("composer"), "yes, me")
	bob.enter()
	alice.reads("hello, is anybody here?", "yes, me")
	bob.reads("hello, is anybody here?", "yes, me")
	bob.await("the composer is empty", "document.querySelector("+quote(hook("composer"))+").value === ''")
	alice.shot("global")
}

func privateTalk(t *testing.T, alice, bob *tab) {
	t.Helper()
	alice.click(hook("user", user("bob")))
	alice.say("between us")
	unread := hook("talk", user("alice")) + " " + hook("unread")
	bob.shows(unread)
	if got := bob.text(unread); got != "1" {
		t.Errorf("the mark of unread messages says %q, want 1", got)
	}
	bob.await("the title tells of it", "document.title.startsWith('(1)')")
	bob.reads("hello, is anybody here?", "yes, me") // still in the room
	bob.shot("unread")
	bob.click(hook("talk", user("alice")))
	bob.reads("between us")
	bob.await("the mark is gone", "!document.querySelector("+quote(hook("unread"))+")")
	bob.say("so it is")
	alice.reads("between us", "so it is")
	alice.shot("private")
	for _, p := range []*tab{alice, bob} {
		p.click(hook("tab-global"))
		p.reads("hello, is anybody here?", "yes, me")
	}
}

// injection sends HTML: it is shown as it is and does nothing.
func injection(t *testing.T, alice, bob *tab) {
	t.Helper()
	evil := []string{
		`<img src=x onerror="window.pwned=1">`,
		`<script>window.pwned=1</script>`,
		`<a href="javascript:window.pwned=1">x</a> javascript:window.pwned=1`,
		`&lt;b&gt; "quotes" 'n' ${1+1} <!-- x`,
	}
	for _, text := range evil {
		alice.say(text)
		bob.hears(text)
	}
	alice.say("see https://example.org/?a=1&b=<2>")
	bob.hears("see https://example.org/?a=1&b=<2>")
	bob.shot("injection")
	for _, p := range []*tab{alice, bob} {
		if look[bool](p, "window.pwned !== undefined") {
			t.Error("a message ran as a script")
		}
		if n := look[int](p, "document.querySelectorAll('[data-testid=messages] :is(img, script, b)').length"); n > 0 {
			t.Errorf("messages made %d elements of their own", n)
		}
		links := look[[]string](p, "[...document.querySelectorAll('[data-testid=messages] a')].map((a) => `${a.protocol} ${a.target} ${a.rel}`)")
		if len(links) != 1 || links[0] != "https: _blank noopener noreferrer" {
			t.Errorf("the links in messages are %q, want the one to example.org, in a new tab that cannot reach this one", links)
		}
	}
}

// restart stops the server under an open page and starts it again.
func restart(t *testing.T, browser context.Context, b *broker) {
	in := install(t, b)
	server := in.start(t)
	addr := server.addr
	alice := openTab(t, browser, addr)
	alice.signIn("alice")
	alice.say("before")
	in.archive(t).comesToHold("before")
	alice.typeIn(hook("composer"), "a draft")
	alice.quiet()

	server.stop()
	alice.shows(hook("banner"))
	alice.shot("banner")
	if got := alice.text(hook("banner")); !strings.Contains(got, "restarting") {
		t.Errorf("the banner says %q, want that the server is restarting", got)
	}
	// What is written now is kept and sent later: in order, and once.
	alice.click(hook("send"))
	alice.await("the message waits", "document.querySelector("+quote(hook("pending"))+")?.textContent.includes('Waiting')")
	alice.typeIn(hook("composer"), "and another")
	alice.enter()
	alice.await("both wait", "document.querySelectorAll("+quote(hook("pending"))+").length === 2")
	alice.shot("offline")

	in.startWith(t, nil, "BURROW_HTTP_ADDR="+addr)
	bob := signIn(t, addr, "bob").dial(addr)
	bob.send("", "hello again")
	alice.await("the banner is gone", "!document.querySelector("+quote(hook("banner"))+")")
	alice.hears("hello again")
	bob.await("the other message", says("alice", "and another"))
	bob.await("the draft", says("alice", "a draft"))
	alice.await("nothing is on its way", "!document.querySelector("+quote(hook("pending"))+")")
	in.archive(t).comesToHold("before", "a draft", "and another", "hello again")
	if got := alice.messages(); len(got) != 4 {
		t.Errorf("the page shows %q, want each of the four messages once", got)
	}
	alice.shows(hook("user", user("bob")))
	alice.shot("after")
	bob.leave()
	alice.await("bob has gone", "!document.querySelector("+quote(hook("user", user("bob")))+")")
	// A browser reports each attempt that fails, which no page can prevent.
	alice.quiet("WebSocket connection to", "net::ERR_")
}

// phone uses the page on a small screen.
func phone(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	bob := signIn(t, addr, "Somebody with quite a long name, as names go"[:31]).dial(addr)
	p := openTab(t, browser, addr)
	p.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.fits()
	p.shot("welcome")
	p.typeIn(hook("name-input"), "alice")
	p.click(hook("name-submit"))
	p.shows(hook("composer"))
	p.await("the page invites to speak", "document.querySelector("+quote(hook("messages"))+").textContent.includes('Be the first')")
	p.shot("empty")
	bob.send("", strings.Repeat("Donaudampfschifffahrtsgesellschaft", 8))
	bob.send("", "https://example.org/"+strings.Repeat("a", 200))
	bob.send("", strings.Repeat("many words ", 30))
	bob.send("alice", "between us")
	p.say("hello from my phone")
	p.fits()
	p.shot("global")

	p.click(`[aria-controls=sidebar]`)
	p.shows(`#sidebar.open`)
	talk := hook("talk", user(bob.name))
	p.await("the mark of the unread message", "document.querySelector("+quote(talk+" "+hook("unread"))+")?.textContent === '1'")
	p.await("the drawer has come to rest", "document.querySelector('#sidebar').getBoundingClientRect().left === 0")
	p.fits()
	p.shot("drawer")
	p.click(talk)
	p.reads("between us")
	p.await("the drawer is gone", "document.querySelector('#sidebar').getBoundingClientRect().right <= 0")
	p.say("so it is")
	bob.await("the answer", says("alice", "so it is"))
	p.fits()
	p.shot("private")
	p.quiet()
}

// elsewhere has somebody come who signs in on another page of the same site, which leaves
// tokens as cookies.
func elsewhere(t *testing.T, browser context.Context) {
	const secret = "the login and Burrow share this secret"
	in := install(t, memory, "BURROW_AUTH_MODE=jwt", "BURROW_AUTH_JWT_KEY="+secret, "BURROW_AUTH_JWT_LOGIN_URL=/login")
	node := in.start(t)
	addr := node.addr
	p := openTab(t, browser, addr)
	p.shows(hook("sign-in-elsewhere"))
	if got := look[string](p, "document.querySelector("+quote(hook("login"))+").getAttribute('href')"); got != "/login" {
		t.Errorf("the page sends people to %q, want /login", got)
	}
	p.fits()
	p.shot("welcome")

	// What a script of the login does. In whole seconds, cut off.
	now := time.Now()
	signIn := func(ttl time.Duration) {
		t.Helper()
		claims := jwt.MapClaims{"sub": "ada", "aud": "burrow", "exp": now.Add(ttl).Unix()}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		p.do(chromedp.Evaluate[chromedp.Void]("window.signedIn = 0; fetch('/api/session', {method: 'POST', headers: {authorization: 'Bearer " + token + "'}}).then((r) => { window.signedIn = r.status }); undefined"))
		p.await("the token is taken", "window.signedIn === 200")
	}
	signIn(15 * time.Second)
	if look[bool](p, "document.cookie.includes('burrow_token')") {
		t.Error("scripts can read the token")
	}
	p.click(hook("try-again"))
	p.shows(hook("user", user("ada")))
	if look[bool](p, "Boolean(document.querySelector("+quote(hook("switch-name"))+"))") {
		t.Error("the page offers another name")
	}
	p.say("hello")
	p.typeIn(hook("composer"), "a draft")

	// The login has renewed the cookie by the time the first token is over: the chat goes on.
	signIn(30 * time.Second)
	ended := func(sessions string) bool {
		_, body := node.get("/metrics", in.bearer(t))
		return strings.Contains(body, `burrow_edge_closes_total{code="4401"} `+sessions+"\n")
	}
	eventually(t, patience, "the first token is over", func() bool { return ended("1") })
	p.await("the page is connected again", "document.querySelector('.heading p').textContent.includes('online')")
	if got := look[string](p, "document.querySelector("+quote(hook("composer"))+").value"); got != "a draft" {
		t.Errorf("of what was typed %q is left", got)
	}
	p.reads("hello")

	// It has not when the second one is.
	p.shows(hook("sign-in-elsewhere"))
	if got := p.text(hook("sign-in-elsewhere")); !strings.Contains(got, "Your session has ended") {
		t.Errorf("the page says %q", got)
	}
	if !ended("2") {
		t.Error("the second session did not end with its token")
	}
	p.shot("ended")
	p.quiet()
}
