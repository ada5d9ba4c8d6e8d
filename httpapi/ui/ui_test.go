package ui_test

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"burrow/httpapi/ui"
)

// A reference is a path in quotes, as it stands in src, href, import, or url().
var references = regexp.MustCompile(`(?:\bsrc=|\bhref=|\bfrom\s*|\bimport\s*\(?\s*|url\()["']([^"'$]+)["']`)

// An address with a host. The name space of SVG is a name, never fetched.
var foreign = regexp.MustCompile(`(?i)(?:\b(?:https?|wss?):)?//[a-z0-9-]+(?:\.[a-z0-9-]+)+`)

var namespaces = strings.NewReplacer(
	"http://www.w3.org/2000/svg", "",
	"http://www.w3.org/1998/Math/MathML", "",
	"http://www.w3.org/1999/xhtml", "",
)

func TestEveryReferenceIsEmbedded(t *testing.T) {
	seen := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		text, err := fs.ReadFile(ui.Files, name)
		if err != nil {
			t.Errorf("not embedded: %v", err)
			return
		}
		for _, m := range references.FindAllStringSubmatch(string(text), -1) {
			switch ref := m[1]; {
			case strings.HasPrefix(ref, "data:"):
			case strings.HasPrefix(ref, "/ui/"):
				follow(strings.TrimPrefix(ref, "/ui/"))
			case strings.HasPrefix(ref, "./"), strings.HasPrefix(ref, "../"):
				follow(path.Join(path.Dir(name), ref))
			default:
				t.Errorf("%s refers to %q: want a path below /ui/ or a relative one", name, ref)
			}
		}
	}
	follow("index.html")

	for _, want := range []string{"app.js", "style/theme.css", "store/chat.js", "vendor/preact.js", "vendor/hooks.js", "vendor/htm.js"} {
		if !seen[want] {
			t.Errorf("%s is not reached from index.html: the test follows too little", want)
		}
	}
	err := fs.WalkDir(ui.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if ext := path.Ext(name); err == nil && (ext == ".js" || ext == ".css") && !seen[name] {
			t.Errorf("%s is embedded and nothing refers to it", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingComesFromAnotherHost(t *testing.T) {
	err := fs.WalkDir(ui.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch path.Ext(name) {
		case ".md", ".txt":
			return nil // licences and notes: read by people, loaded by nobody
		}
		text, err := fs.ReadFile(ui.Files, name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(namespaces.Replace(string(text))) {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				continue // a comment may name an address
			}
			for _, found := range foreign.FindAllString(line, -1) {
				t.Errorf("%s names another host: %q", name, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The server's Content-Security-Policy allows no inline style, and of inline scripts those that it finds as
// <script> in index.html, by their hash. Any other would be a broken page.
func TestPageNeedsNoInlineScriptOrStyle(t *testing.T) {
	page, err := fs.ReadFile(ui.Files, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for what, pattern := range map[string]string{
		"an inline script":  `(?is)<script\s[^>]*>\s*[^<\s]`,
		"a style element":   `(?i)<style\b`,
		"a style attribute": `(?i)<[^>]+\sstyle\s*=`,
		"an event handler":  `(?i)<[^>]+\son[a-z]+\s*=`,
		"an import map":     `(?i)importmap`,
	} {
		if found := regexp.MustCompile(pattern).Find(page); found != nil {
			t.Errorf("index.html has %s: %q", what, found)
		}
	}
}

// Without it the browser would find the modules one level of imports after the other.
func TestEveryModuleIsPreloaded(t *testing.T) {
	page, err := fs.ReadFile(ui.Files, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(ui.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if path.Ext(name) == ".js" && name != "app.js" && !strings.Contains(string(page), `<link rel="modulepreload" href="/ui/`+name+`">`) {
			t.Errorf("index.html does not preload %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a browser loads at first: the page should be there on a slow phone too.
func TestFirstLoadIsLight(t *testing.T) {
	const limit = 100 << 10
	total := 0
	err := fs.WalkDir(ui.Files, ".", func(name string, d fs.DirEntry, err error) error {
		switch path.Ext(name) {
		case ".html", ".js", ".css", ".svg":
		default:
			return err
		}
		text, err := fs.ReadFile(ui.Files, name)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err = w.Write(text)
		if err == nil {
			err = w.Close()
		}
		total += packed.Len() + 300 // the head of the answer
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the first load takes %d bytes", total)
	if total > limit {
		t.Errorf("the first load takes %d bytes, want at most %d", total, limit)
	}
}
