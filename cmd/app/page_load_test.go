package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// loading is how a page came, as its browser has measured it.
type loading struct {
	Paint    float64  // ms from the request until something was drawn
	Shift    float64  // how much things have moved without anybody touching them (CLS)
	Bytes    int      // of all answers, compressed and with headers
	Files    int      // that were asked for
	Foreign  []string // what came from elsewhere
	Lang     string
	Title    string
	Viewport string
	About    string // the description
	Mains    int
	Heads    int // of the first level
}

const measure = `new Promise((done) => {
	let shift = 0;
	new PerformanceObserver((list) => {
		for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
	}).observe({ type: 'layout-shift', buffered: true });
	// What is buffered is told before the second frame.
	requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => {
		const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource').filter((e) => e.initiatorType !== 'fetch')];
		const meta = (name) => document.querySelector('meta[name=' + name + ']')?.content ?? '';
		done({
			paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
			shift, bytes: all.reduce((sum, e) => sum + e.transferSize, 0), files: all.length,
			foreign: all.map((e) => e.name).filter((name) => !name.startsWith(location.origin + '/')),
			lang: document.documentElement.lang, title: document.title, viewport: meta('viewport'), about: meta('description'),
			mains: document.querySelectorAll('main').length, heads: document.querySelectorAll('h1').length,
		});
	})));
}).then((l) => { window.loading = l }), undefined`

// measured returns how the page of p came.
func measured(p *tab) loading {
	p.t.Helper()
	p.await("something is drawn", "performance.getEntriesByName('first-contentful-paint').length > 0")
	p.do(chromedp.Evaluate[chromedp.Void](measure))
	p.await("the page has been measured", "window.loading")
	return look[loading](p, "window.loading")
}

// load looks at the page as tools that judge pages do.
func load(t *testing.T, browser context.Context) {
	in := install(t, memory)
	var messages []said
	for i := range 100 {
		messages = append(messages, said{time.Now().Add(time.Duration(i-100) * 7 * time.Minute), fmt.Sprint("user ", i%5), "", strings.Repeat(fmt.Sprint("some words ", i, " "), 1+i%9)})
	}
	messages = append(messages, said{time.Now().Add(-time.Minute), "carol", "", strings.Repeat("long ", 600)})
	in.remember(t, messages)
	addr := in.start(t).addr
	p := openTab(t, browser, addr) // the first request that this server gets
	p.shows(hook("name-form"))
	check := func(what string) {
		t.Helper()
		l := measured(p)
		t.Logf("%s: first paint after %.0f ms, %d bytes in %d files, layout shift %.3f", what, l.Paint, l.Bytes, l.Files, l.Shift)
		if l.Paint > 10_000 {
			t.Errorf("%s: the first paint was after %.0f ms", what, l.Paint)
		}
		if l.Shift > 0.1 {
			t.Errorf("%s: things moved by %.3f, want at most 0.1", what, l.Shift)
		}
		if l.Bytes > 110_000 || l.Files < 10 {
			t.Errorf("%s: %d bytes in %d files, want at most 110000", what, l.Bytes, l.Files)
		}
		if len(l.Foreign) > 0 {
			t.Errorf("%s: %q come from elsewhere", what, l.Foreign)
		}
		if l.Lang != "en" || l.Title != "Burrow" || l.About == "" || !strings.Contains(l.Viewport, "width=device-width") || strings.Contains(l.Viewport, "maximum-scale") || strings.Contains(l.Viewport, "user-scalable") {
			t.Errorf("%s: the head of the page is %+v", what, l)
		}
		if l.Mains != 1 || l.Heads != 1 {
			t.Errorf("%s: there are %d main parts and %d first headings, want one of each", what, l.Mains, l.Heads)
		}
	}
	check("the first visit")
	p.signIn("alice")
	for _, width := range []int64{1280, 390} {
		p.do(chromedp.EmulateViewport(width, 800), chromedp.Reload())
		p.await("all is there", "document.querySelector('.message:last-child')?.textContent.includes('long') && document.querySelector('.heading p').textContent.includes('online')")
		check(fmt.Sprintf("coming back at %d px", width))
	}

	// What one touches is large enough for a finger.
	large := func(what string) {
		t.Helper()
		small := look[[]string](p, `[...document.querySelectorAll('button, input, select, textarea, a[href], summary')]
			.filter((e) => !e.closest('.content') && e.checkVisibility({ visibilityProperty: true }) && !e.closest('[inert]'))
			.map((e) => [e, (e.closest('label') ?? e).getBoundingClientRect()])
			.filter(([, box]) => box.width < 24 || box.height < 24)
			.map(([e, box]) => box.width + ' x ' + box.height + ': ' + e.outerHTML.slice(0, 120))`)
		if len(small) > 0 {
			t.Errorf("%s: these are too small to touch: %q", what, small)
		}
	}
	large("the chat")
	p.click(hook("find"))
	p.typeIn(hook("search-input"), "long")
	p.shows(hook("hit"))
	large("the search")
	p.click(hook("search-close"))
	p.click(`[aria-controls=sidebar]`)
	p.await("the drawer is there", "document.querySelector('#sidebar').getBoundingClientRect().left === 0")
	large("the drawer")
	p.click(hook("settings"))
	p.shows(hook("settings-dialog"))
	large("the settings")
	p.quiet()
}
