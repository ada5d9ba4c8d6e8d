package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"burrow/auth"
	"burrow/httpapi"
	"burrow/httpapi/ui"
)

func TestCheckBasePath(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "/": "", "/chat": "", "/chat/": "", "/team-1/chat_2.0~": "", "/apis": "",
		"chat":                 "this is no path",
		"/chat//":              "this is no path",
		"//chat":               "this is no path",
		"/a/../b":              "this is no path",
		"/./chat":              "this is no path",
		"/ch at":               "this is no path",
		"/ch%61t":              "this is no path",
		"/chat?x":              "this is no path",
		"/chat;Domain=evil":    "this is no path",
		"https://host/chat":    "this is no path",
		"/bücher":              "this is no path",
		"/ws":                  "of Burrow itself",
		"/api/":                "of Burrow itself",
		"/events/chat":         "of Burrow itself",
		"/chat\r\nSet-Cookie:": "this is no path",
	} {
		err := httpapi.CheckBasePath(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := httpapi.New(httpapi.Config{HTTP: httpapi.HTTPConfig{BasePath: "chat"}}); err == nil || !strings.Contains(err.Error(), "http.base_path") {
		t.Errorf("New: %v", err)
	}
}

// TestBasePath asks for each kind of route as a proxy that strips the path does, and as one that does not.
func TestBasePath(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.UI, c.HTTP.BasePath = ui.Files, "/team/chat/" })
	for _, path := range []string{"/", "/ui/app.js", "/api/session", "/healthz"} {
		for _, prefix := range []string{"", "/team/chat"} {
			res, body := fetch(t, n, prefix+path)
			if res.StatusCode != 200 || res.Header.Get("Content-Security-Policy") == "" {
				t.Errorf("%s%s: %d %s", prefix, path, res.StatusCode, body)
			}
		}
	}
	for _, path := range []string{"/team", "/team/chatter", "/team/chat/team/chat/", "/team/chat//", "/TEAM/chat/"} {
		if res, _ := fetch(t, n, path); res.StatusCode != 404 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if !opens(t, n, upgrade) {
		t.Error("no WebSocket at the root")
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get("http://" + n.Addr() + "/team/chat?x=1")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("Location"); res.StatusCode != 308 || got != "/team/chat/?x=1" {
		t.Errorf("without the final slash: %d %q", res.StatusCode, got)
	}
}

func TestBasePath_Cookie(t *testing.T) {
	for base, want := range map[string]string{"": "/", "/": "/", "/chat": "/chat", "/chat/": "/chat"} {
		n := start(t, func(c *httpapi.Config) { c.HTTP.BasePath = base })
		n.auth.mode = auth.ModeGuest
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.Addr()+"/api/session", strings.NewReader(`{"name":"ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", "http://"+n.Addr())
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if len(res.Cookies()) != 1 || res.Cookies()[0].Path != want {
			t.Errorf("base path %q: %d %v, want the path %q", base, res.StatusCode, res.Cookies(), want)
		}
	}
}
