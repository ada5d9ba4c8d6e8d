package httpapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// asset is one file of the page.
type asset struct {
	content     []byte
	contentType string
	etag        string
	// zipped returns the content compressed, or nil where that is of no use. It is made when it
	// is first asked for: a start need not wait for it.
	zipped func() []byte
	inline string // Of index.html, the sources of its inline scripts.
}

// minZip is the least size that is compressed, in bytes: anything less is one packet anyway.
const minZip = 512

// newAsset returns the file with that name.
func newAsset(name string, content []byte) *asset {
	sum := sha256.Sum256(content)
	a := &asset{content: content, contentType: contentTypes[path.Ext(name)], etag: hex.EncodeToString(sum[:16])}
	if a.contentType == "" {
		a.contentType = "text/plain; charset=utf-8"
	}
	a.zipped = sync.OnceValue(func() []byte {
		if len(content) < minZip {
			return nil
		}
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(content)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil || b.Len() > len(content)*9/10 { // A picture is compressed already.
			return nil
		}
		return b.Bytes()
	})
	return a
}

// contentTypes are those that the page uses, rather than what this machine happens to know.
var contentTypes = map[string]string{
	".css":         "text/css; charset=utf-8",
	".html":        "text/html; charset=utf-8",
	".ico":         "image/x-icon",
	".js":          "text/javascript; charset=utf-8",
	".json":        "application/json",
	".map":         "application/json",
	".mjs":         "text/javascript; charset=utf-8",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".webmanifest": "application/manifest+json",
	".woff2":       "font/woff2",
}

// loadPages reads the files of the page, by path. Index.html refers to the others below /ui/: in the
// answer these are relative addresses, which work below any path of a proxy, with the version of all
// files in them, so that their content never changes.
func loadPages(files fs.FS) (pages map[string]*asset, version string, err error) {
	pages = make(map[string]*asset)
	if files == nil {
		return pages, "", nil
	}
	all := sha256.New()
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		pages[name] = newAsset(name, content)
		fmt.Fprintf(all, "%s %s\n", name, pages[name].etag)
		return nil
	})
	index := pages["index.html"]
	if err == nil && index == nil {
		err = errors.New("there is no index.html")
	}
	if err != nil {
		return nil, "", fmt.Errorf("httpapi: Config.UI: %w", err)
	}
	version = "@" + hex.EncodeToString(all.Sum(nil)[:8])
	pages["index.html"] = newAsset("index.html", bytes.ReplaceAll(index.content, []byte(`"/ui/`), []byte(`"ui/`+version+`/`)))
	pages["index.html"].inline = inlineSources(index.content)
	return pages, version, nil
}

// index serves the page. Browsers keep it but ask each time, so that a new version of the server
// is a new page at once.
func (s *Server) index(c echo.Context) error {
	if page := s.pages["index.html"]; page != nil {
		c.Response().Header().Set("Content-Security-Policy", policyOf(page.inline))
	}
	return s.serve(c, "index.html", false)
}

// inlineSources returns the sources of a policy for the inline scripts of a page, each after a space.
func inlineSources(page []byte) string {
	var sources strings.Builder
	for _, script := range inlineScript.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(script[1])
		sources.WriteString(" 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'")
	}
	return sources.String()
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// static serves what the page loads. What is asked for by its version is kept and not asked for
// again. A page that another version of the server has made gets the file as it is here.
func (s *Server) static(c echo.Context) error {
	// What a file may do is decided by the page that loads it. Opened by itself it may do nothing,
	// and saying that is shorter: there are fifty of them.
	c.Response().Header().Set("Content-Security-Policy", "default-src 'none'")
	name, err := url.PathUnescape(strings.TrimPrefix(c.Request().URL.EscapedPath(), "/ui/"))
	if err != nil {
		return echo.ErrNotFound
	}
	version, rest, found := strings.Cut(name, "/")
	if found && strings.HasPrefix(version, "@") {
		name = rest
	}
	return s.serve(c, name, version == s.pagesVersion)
}

// serve answers with a file, compressed if the browser takes that.
func (s *Server) serve(c echo.Context, name string, forever bool) error {
	a, ok := s.pages[name]
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	content, etag := a.content, a.etag
	if acceptsGzip(c.Request().Header) {
		if zipped := a.zipped(); zipped != nil {
			content, etag = zipped, etag+"-gzip"
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(c.Response(), c.Request(), name, time.Time{}, bytes.NewReader(content))
	return nil
}

// acceptsGzip reports whether a request takes an answer in gzip.
func acceptsGzip(h http.Header) bool {
	for _, line := range h["Accept-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, given := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			if q, err := strconv.ParseFloat(weight, 64); !given || err == nil && q > 0 {
				return true
			}
		}
	}
	return false
}
