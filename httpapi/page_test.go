package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"burrow/httpapi"
	"burrow/httpapi/ui"
)

// fetch asks as a browser does, and returns the answer as it is on the wire.
func fetch(t *testing.T, n *node, path string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

const browserTakes = "Accept-Encoding: gzip, deflate, br, zstd"

// The first visit: all that the page refers to, with all headers, is below 110 KB. What it refers to
// is kept for ever, and nothing is asked for a second time but the page itself.
func TestFirstLoadIsSmall(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.UI = ui.Files })
	total, files := 0, 0
	load := func(path, cache string) []byte {
		t.Helper()
		res, body := fetch(t, n, path, browserTakes)
		if res.StatusCode != 200 || res.Header.Get("Cache-Control") != cache || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
		var head bytes.Buffer
		_ = res.Header.Write(&head)
		total += len(body) + head.Len()
		files++
		if again, _ := fetch(t, n, path, browserTakes, "If-None-Match: "+res.Header.Get("ETag")); again.StatusCode != 304 {
			t.Errorf("%s again: %d", path, again.StatusCode)
		}
		return unzip(t, res, body)
	}
	page := load("/", "no-cache")
	for _, ref := range regexp.MustCompile(`(?:href|src)="(ui/[^"]+)"`).FindAllSubmatch(page, -1) {
		body := load("/"+string(ref[1]), "public, max-age=31536000, immutable")
		_, name, _ := strings.Cut(strings.TrimPrefix(string(ref[1]), "ui/"), "/")
		if want, err := ui.Files.ReadFile(name); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s is not the file %s: %v", ref[1], name, err)
		}
	}
	t.Logf("%d files, %d bytes", files, total)
	if total > 110_000 || files < 10 {
		t.Errorf("%d files with %d bytes, want at most 110000", files, total)
	}
}

func unzip(t *testing.T, res *http.Response, body []byte) []byte {
	t.Helper()
	if res.Header.Get("Content-Encoding") == "" {
		return body
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestPageIsCompressedForThoseWhoTakeIt(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.UI = ui.Files })
	for accept, want := range map[string]string{
		"gzip": "gzip", "GZIP": "gzip", "br, gzip;q=0.5": "gzip", "gzip; q=1.0": "gzip", "": "", "br": "", "gzip;q=0": "",
		"gzip;q=0.000": "", "xgzip": "", "gzip;q=x": "", "identity, *;q=0": "",
	} {
		res, body := fetch(t, n, "/ui/app.js", "Accept-Encoding: "+accept)
		file, err := ui.Files.ReadFile("app.js")
		if got := res.Header.Get("Content-Encoding"); err != nil || got != want || !bytes.Equal(unzip(t, res, body), file) {
			t.Errorf("%q: got %q, want %q, %v", accept, got, want, err)
		}
		if cache := res.Header.Get("Cache-Control"); cache != "no-cache" {
			t.Errorf("without a version: %q", cache)
		}
	}
	// A page of another version gets what is here, and does not keep it.
	res, _ := fetch(t, n, "/ui/@0123456789abcdef/app.js", browserTakes)
	if res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("another version: %d %v", res.StatusCode, res.Header)
	}
	for _, name := range []string{"/ui/@0123456789abcdef/", "/ui/@/@/app.js", "/ui/@0123456789abcdef/" + path.Join("x", "app.js")} {
		if res, _ := fetch(t, n, name); res.StatusCode != 404 {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

// TestPage_InlineScript allows the inline scripts of index.html by their hashes, and no others.
func TestPage_InlineScript(t *testing.T) {
	n := prepare(t, func(c *httpapi.Config) {
		c.UI = fstest.MapFS{"index.html": {Data: []byte("<script>let a</script>\n<script src=\"/ui/x.js\"></script><script>\nlet b\n</script>")}}
	})
	n.run(t)
	res, _ := fetch(t, n, "/")
	policy := res.Header.Get("Content-Security-Policy")
	want := "; script-src 'self'"
	for _, script := range []string{"let a", "\nlet b\n"} {
		sum := sha256.Sum256([]byte(script))
		want += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	if !strings.Contains(policy, want+"; ") {
		t.Errorf("the policy is %q, want %q in it", policy, want)
	}
}
