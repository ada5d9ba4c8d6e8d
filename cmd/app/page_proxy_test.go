package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
)

// front is a reverse proxy in front of a server.
type front struct {
	*httptest.Server
	addr string
}

// newFront returns a proxy for the server at addr. Each request goes through handle, which answers
// it or passes it on to next.
func newFront(t *testing.T, addr string, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) *front {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	transport := &http.Transport{}
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	f := &front{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, proxy) }))
	f.Config.ErrorLog = proxy.ErrorLog
	f.Start()
	f.addr = strings.TrimPrefix(f.URL, "http://")
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// TestPageProxy has the page talk through proxies that do less, or other things, than they should.
func TestPageProxy(t *testing.T) {
	browser := openBrowser(t)
	t.Run("ForeignRefusal", func(t *testing.T) { foreignRefusal(t, browser) })
	t.Run("NoHost", func(t *testing.T) { noHost(t, browser) })
	t.Run("OtherOrigin", func(t *testing.T) { otherOrigin(t, browser) })
	t.Run("SevenTabs", func(t *testing.T) { sevenTabs(t, browser) })
	t.Run("Buffering", func(t *testing.T) { buffering(t, browser) })
	t.Run("SubPath", func(t *testing.T) { subPath(t, browser) })
	t.Run("SubPathNginx", func(t *testing.T) { subPathNginx(t, browser) })
}

// foreignRefusal has the proxy refuse everything while the server restarts: the page stays signed in.
func foreignRefusal(t *testing.T, browser context.Context) {
	in := install(t, embedded)
	server := in.start(t)
	var refusing, form atomic.Bool
	var sessions, posts atomic.Int32
	f := newFront(t, server.addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !refusing.Load() {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/api/session" {
			sessions.Add(1)
		}
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader([]int{http.StatusForbidden, http.StatusUnauthorized}[sessions.Load()%2])
		_, _ = io.WriteString(w, "<html>not now</html>") // The page may have gone.
	})
	alice := openTab(t, browser, f.addr)
	alice.signIn("alice")
	alice.say("before")
	refusing.Store(true)
	server.stop()
	in.startWith(t, nil, "BURROW_HTTP_ADDR="+server.addr)
	alice.awaitFunc("the page has asked three times who it is", func() bool {
		form.Store(form.Load() || alice.count(hook("name-form")) > 0)
		return sessions.Load() >= 3 || form.Load()
	})
	if form.Load() {
		t.Fatal("the page asks for a name")
	}
	refusing.Store(false)
	alice.await("the banner is gone", "!document.querySelector("+quote(hook("banner"))+")")
	alice.say("after")
	alice.reads("before", "after")
	if posts.Load() != 0 {
		t.Errorf("the page asked for its name %d times", posts.Load())
	}

	// The same for a page that is opened then.
	refusing.Store(true)
	alice.do(chromedp.Reload())
	alice.await("the browser shows the proxy's page", "document.body.textContent.includes('not now')")
	refusing.Store(false)
	alice.do(chromedp.Reload())
	alice.reads("before", "after")
}

// noHost has a proxy ask for its own address and not for the one that the browser has.
func noHost(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	f := newFront(t, addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Host = addr
		next.ServeHTTP(w, r)
	})
	p := openTab(t, browser, f.addr)
	p.typeIn(hook("name-input"), "alice")
	p.click(hook("name-submit"))
	p.shows(hook("name-error"))
	if got, want := p.text(hook("name-error")), "This chat is not set up for this address; ask the operator."; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
	p.fits()
	p.shot("no-host")
}

// sevenTabs has one person open seven tabs behind a proxy without WebSockets, over HTTP/1.1: a browser has
// six connections to a host.
func sevenTabs(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	var streams, most atomic.Int32
	f := newFront(t, addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Upgrade")
		if r.URL.Path == "/events" {
			if n := streams.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer streams.Add(-1)
		}
		next.ServeHTTP(w, r)
	})
	window := openTab(t, browser, f.addr)
	tabs := []*tab{window.beside(f.addr)}
	tabs[0].signIn("alice")
	for len(tabs) < 7 {
		p := window.beside(f.addr)
		p.shows(hook("user", user("alice")))
		tabs = append(tabs, p)
	}
	var want []string
	for i, p := range tabs {
		want = append(want, fmt.Sprint("from tab ", i))
		p.say(want[i])
	}
	for _, p := range tabs {
		p.awaitFunc("every tab has all messages", func() bool { return slices.Equal(p.messages(), want) })
	}
	if most.Load() > 5 {
		t.Errorf("%d connections were held", most.Load())
	}
}

// buffering has a proxy without WebSockets hold every answer back until its end.
func buffering(t *testing.T, browser context.Context) {
	addr := install(t, memory).start(t).addr
	var lose, left atomic.Bool
	var lost, sockets atomic.Int32
	f := newFront(t, addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasPrefix(r.URL.Path, "/ws/") {
			sockets.Add(1)
		}
		if r.URL.Query().Has("leave") {
			left.Store(true)
		}
		r.Header.Del("Upgrade")
		held := httptest.NewRecorder()
		next.ServeHTTP(held, r)
		if lose.Load() && strings.Contains(held.Body.String(), "lost on the way") && lost.Add(1) == 1 {
			panic(http.ErrAbortHandler) // The browser sends the request again, and does not tell the page.
		}
		maps.Copy(w.Header(), held.Header())
		w.WriteHeader(held.Code)
		_, _ = w.Write(held.Body.Bytes()) // The page may have gone.
	})
	alice, bob := openTab(t, browser, f.addr), openTab(t, browser, addr)
	alice.signIn("alice")
	bob.signIn("bob")
	alice.shows(hook("user", user("bob")))
	alice.say("from behind the proxy")
	bob.hears("from behind the proxy")
	bob.say("from outside")
	alice.reads("from behind the proxy", "from outside")
	state := "document.querySelector(" + quote(hook("user", user("alice"))) + ").dataset.state"
	alice.hide(true)
	bob.await("alice is away", state+" === 'away'")
	alice.hide(false)
	bob.await("alice is back", state+" === 'on'")

	lose.Store(true)
	bob.say("lost on the way")
	bob.say("and the next")
	alice.reads("from behind the proxy", "from outside", "lost on the way", "and the next")
	if lost.Load() == 0 {
		t.Error("no answer was lost")
	}

	// The next page knows what gets through, and a page that goes says so.
	before := sockets.Load()
	alice.do(chromedp.Reload())
	alice.reads("from behind the proxy", "from outside", "lost on the way", "and the next")
	alice.awaitFunc("the page has told that it goes", left.Load)
	alice.shows(hook("user", user("bob")))
	if n := sockets.Load() - before; n != 0 {
		t.Errorf("the next page tries %d WebSockets", n)
	}
}

// otherOrigin has the page of another origin, which is listed or not, call the API with cookies.
func otherOrigin(t *testing.T, browser context.Context) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>another site</title>") // The browser may have gone.
	}))
	t.Cleanup(site.Close)
	in := install(t, memory)
	listed := in.startWith(t, nil, "BURROW_HTTP_ALLOWED_ORIGINS="+site.URL).addr
	closed := install(t, memory).start(t).addr
	p := openTab(t, browser, strings.TrimPrefix(site.URL, "http://"))
	p.do(chromedp.Evaluate[chromedp.Void](`(async () => {
		const call = async (base, path, body) => {
			const post = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
			const res = await fetch(base + path, { credentials: 'include', ...post });
			return res.headers.get('content-type') === 'text/event-stream' ? (await res.body.getReader().read(), 'events') : await res.json();
		};
		const listed = 'http://` + listed + `', closed = 'http://` + closed + `', said = [];
		said.push((await call(listed, '/api/session', { name: 'eve' })).name, (await call(listed, '/api/session')).name);
		said.push((await call(listed, '/api/messages', { ref: '00000000-0000-4000-8000-000000000001', content: 'from another site' })).ref !== undefined);
		said.push(await call(listed, '/events'));
		said.push((await call(listed, '/api/messages', { ref: '?' })).error.code);
		for (const path of ['/api/session', '/events']) said.push(await call(closed, path).then(() => 'read', () => 'blocked'));
		said.push(await call(closed, '/api/session', { name: 'eve' }).then(() => 'read', () => 'blocked'));
		window.said = said.join(' ');
	})().catch((err) => { window.said = String(err); }), undefined`))
	p.await("the calls are answered", "window.said")
	if got, want := look[string](p, "window.said"), "eve eve true events bad_frame blocked blocked blocked"; got != want {
		t.Errorf("the page got %q, want %q", got, want)
	}
}

// subPath has proxies serve the page below a path: one strips it, without the server knowing, and one
// does not. Without WebSockets too.
func subPath(t *testing.T, browser context.Context) {
	for _, tt := range []struct {
		name             string
		strip, noUpgrade bool
		environ          []string
	}{
		{"stripped", true, false, nil},
		{"stripped, without WebSockets", true, true, nil},
		{"stripped, with http.base_path", true, false, []string{"BURROW_HTTP_BASE_PATH=/team/chat"}},
		{"not stripped", false, false, []string{"BURROW_HTTP_BASE_PATH=/team/chat/"}},
		{"not stripped, without WebSockets", false, true, []string{"BURROW_HTTP_BASE_PATH=/team/chat"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := install(t, memory).startWith(t, nil, tt.environ...).addr
			f := newFront(t, addr, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if tt.noUpgrade {
					r.Header.Del("Upgrade")
				}
				if tt.strip {
					next = http.StripPrefix("/team/chat", next)
				}
				if !strings.HasPrefix(r.URL.Path, "/team/chat") {
					http.NotFound(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
			talkBelow(t, browser, f.addr, "/team/chat/")
		})
	}
}

// talkBelow opens the page at a path of a proxy, signs in, says something and comes back.
func talkBelow(t *testing.T, browser context.Context, addr, path string) {
	t.Helper()
	p := openTab(t, browser, addr+strings.TrimSuffix(path, "/"))
	p.signIn("alice")
	p.say("from below")
	p.do(chromedp.Reload())
	p.reads("from below")
	if got := look[string](p, "location.pathname"); got != path {
		t.Errorf("the page is at %s", got)
	}
	p.quiet("favicon", "WebSocket connection")
	// Without the final slash, which some proxies serve in the same way.
	p.do(chromedp.Navigate("http://" + addr + strings.TrimSuffix(path, "/")))
	p.reads("from below")
	if got := look[string](p, "location.pathname"); got != path {
		t.Errorf("the page is at %s", got)
	}
}

// subPathNginx is subPath with a real nginx and the lines of docs/operations.md.
func subPathNginx(t *testing.T, browser context.Context) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("BURROW_TEST_REQUIRE") != "" {
			t.Fatal("there is no nginx in PATH: install it")
		}
		t.Skip("there is no nginx in PATH: install it to run this")
	}
	stripped := install(t, memory).start(t).addr
	whole := install(t, memory).startWith(t, nil, "BURROW_HTTP_BASE_PATH=/whole").addr
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.Addr().String()
	_ = socket.Close()
	const forward = `
		proxy_http_version 1.1;
		proxy_set_header Host $http_host;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection $connection_upgrade;
		proxy_set_header X-Forwarded-For $remote_addr;
		proxy_set_header X-Forwarded-Proto $scheme;`
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1; %[5]s
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
	server {
		listen %[2]s;
		location /chat/ { proxy_pass http://%[3]s/; %[6]s }
		location /whole { proxy_pass http://%[4]s; %[6]s }
	}
}`, dir, addr, stripped, whole, nginxUser(), forward)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // It may have ended.
		<-ended
	})
	eventually(t, patience, "nginx listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	talkBelow(t, browser, addr, "/chat/")
	talkBelow(t, browser, addr, "/whole/")
}

// nginxUser is the directive for its workers, which as another user could not use the directory of a test.
func nginxUser() string {
	if os.Geteuid() == 0 {
		return "user root;"
	}
	return ""
}
