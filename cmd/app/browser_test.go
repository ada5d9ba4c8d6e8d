package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// openBrowser starts a browser that lives until the test ends. Without one the
// test is skipped, or fails where BURROW_TEST_REQUIRE is set.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("BURROW_TEST_REQUIRE") != "" {
			t.Fatal("there is no chromium in PATH: install it")
		}
		t.Skip("there is no chromium in PATH: install it to run this")
	}
	profile, err := os.MkdirTemp("", "burrow-browser-") // not TempDir: see below
	if err != nil {
		t.Fatal(err)
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.NoSandbox, // which root has no right to
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.WindowSize(1100, 760),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close the browser: %v", err)
		}
		cancel()
		stop()
		// Processes of the browser may write there for a moment longer.
		eventually(t, patience, "the browser's directory is gone", func() bool { return os.RemoveAll(profile) == nil })
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// tab is a page in a browser context of its own: other cookies, another person.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // errors and warnings of the console
}

func openTab(t *testing.T, browser context.Context, addr string) *tab {
	t.Helper()
	p := &tab{t: t}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	p.ctx = ctx
	t.Cleanup(cancel)
	p.do(chromedp.Navigate("http://" + addr + "/"))
	return p
}

// listen notes what a person who looks at the console would worry about.
func (p *tab) listen(event any) {
	var problem string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if level := string(e.Entry.Level); level == "error" || level == "warning" {
			problem = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			problem += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if kind := string(e.Type); kind == "error" || kind == "warning" || kind == "assert" {
			problem = "console." + kind
			for _, a := range e.Args {
				problem += fmt.Sprintf(" %s %s", a.Value, a.Description)
			}
		}
	}
	if problem != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.problems = append(p.problems, problem)
	}
}

// quiet checks that the console shows no errors, except those that contain one of
// the given texts.
func (p *tab) quiet(except ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.problems {
		if !slices.ContainsFunc(except, func(s string) bool { return strings.Contains(problem, s) }) {
			p.t.Errorf("the console shows: %s", problem)
		}
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	// The first use of a context binds the page to it, so the time limit is not in it.
	overdue := time.AfterFunc(patience, func() { _ = chromedp.Cancel(p.ctx) })
	defer overdue.Stop()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// look returns the value of a JavaScript expression.
func look[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// await waits until an expression is true.
func (p *tab) await(what, expression string) {
	p.t.Helper()
	p.awaitFunc(what, func() bool { return look[bool](p, "Boolean("+expression+")") })
}

func (p *tab) awaitFunc(what string, ok func() bool) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.shot("failed")
		}
	}()
	eventually(p.t, patience, what, ok)
}

// hook selects an element by the name that the page gives it for tests.
func hook(name string, attributes ...string) string {
	return fmt.Sprintf("[data-testid=%s]%s", name, strings.Join(attributes, ""))
}

// user is the attribute of elements that stand for one.
func user(name string) string { return fmt.Sprintf("[data-user=%q]", name) }

// shows waits for an element.
func (p *tab) shows(selector string) {
	p.t.Helper()
	p.await("the page shows "+selector, "document.querySelector("+quote(selector)+")")
}

// text returns what an element says, "" without one.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return look[string](p, "document.querySelector("+quote(selector)+")?.textContent ?? ''")
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.shows(selector)
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

func (p *tab) typeIn(selector, text string) {
	p.t.Helper()
	p.shows(selector)
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// signIn fills in the form and waits for the chat.
func (p *tab) signIn(name string) {
	p.t.Helper()
	p.typeIn(hook("name-input"), name)
	p.click(hook("name-submit"))
	p.shows(hook("user", user(name)))
}

// say writes into the talk that is open, and waits until it is there.
func (p *tab) say(text string) {
	p.t.Helper()
	p.typeIn(hook("composer"), text)
	p.await("the message can be sent", "!document.querySelector("+quote(hook("send"))+").disabled")
	p.click(hook("send"))
	p.hears(text)
	p.await("nothing is on its way", "!document.querySelector("+quote(hook("pending"))+")")
}

// enter presses the key as a keyboard does. The one of SendKeys also types a line
// break, although the page has taken the key.
func (p *tab) enter() { p.t.Helper(); p.press("Enter") }

// keyCodes are the Windows key codes of the keys that tests press.
var keyCodes = map[string]int64{"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "k": 75}

// press presses a key, with chromedp.ModifierShift and the like, without what it would type.
func (p *tab) press(key string, modifiers ...chromedp.Modifier) {
	p.t.Helper()
	code, ok := keyCodes[key]
	if !ok {
		p.t.Fatalf("no code for the key %q", key)
	}
	var held int64
	for _, m := range modifiers {
		held |= int64(m)
	}
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		_, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{
			Type: kind, Key: key, Code: key, Modifiers: held, WindowsVirtualKeyCode: code, NativeVirtualKeyCode: code,
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// activate presses Enter on a button that has the focus.
func (p *tab) activate() { p.t.Helper(); p.types("\r") }

// types types into whatever has the focus.
func (p *tab) types(text string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(text))
}

// focused is true while the element has the focus.
func focused(selector string) string {
	return "document.activeElement.matches(" + quote(selector) + ")"
}

// count returns how many elements there are.
func (p *tab) count(selector string) int {
	p.t.Helper()
	return look[int](p, "document.querySelectorAll("+quote(selector)+").length")
}

// messages returns what the talk that is open shows.
func (p *tab) messages() []string {
	p.t.Helper()
	return look[[]string](p, "[...document.querySelectorAll("+quote(hook("message"))+")].map((m) => m.querySelector('.content').textContent)")
}

// hears waits for a message.
func (p *tab) hears(text string) {
	p.t.Helper()
	p.awaitFunc(fmt.Sprintf("the page shows the message %q", text), func() bool { return slices.Contains(p.messages(), text) })
}

// reads checks the whole talk that is open.
func (p *tab) reads(want ...string) {
	p.t.Helper()
	p.awaitFunc(fmt.Sprintf("the page shows %d messages", len(want)), func() bool { return len(p.messages()) >= len(want) })
	if got := p.messages(); !slices.Equal(got, want) {
		p.t.Errorf("the page shows %q, want %q", got, want)
	}
}

// fits checks that nothing scrolls sideways, neither the page nor a part of it.
func (p *tab) fits() {
	p.t.Helper()
	// Not the composer: a long placeholder does not wrap there.
	wide := look[[]string](p, `[document.documentElement, ...document.querySelectorAll('body :not(textarea)')]
		.filter((e) => e.scrollWidth > e.clientWidth && (e === document.documentElement || /auto|scroll/.test(getComputedStyle(e).overflowX)))
		.map((e) => e.scrollWidth + ' px in ' + e.clientWidth + ': ' + e.cloneNode().outerHTML)`)
	if len(wide) > 0 {
		p.t.Errorf("these scroll sideways: %q", wide)
	}
}

// shot keeps a picture where BURROW_TEST_SCREENSHOTS names a directory.
func (p *tab) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("BURROW_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+"-"+name+".png"), picture, 0o600)
	}
	if err != nil {
		p.t.Logf("screenshot %s: %v", name, err)
	}
}

// dark and light switch the theme.
func (p *tab) dark()  { p.t.Helper(); p.media("prefers-color-scheme", "dark") }
func (p *tab) light() { p.t.Helper(); p.media("prefers-color-scheme", "light") }

// media has the page believe a media feature.
func (p *tab) media(name, value string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: name, Value: value}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
