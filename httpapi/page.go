package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// asset is one file of the page.
type asset struct {
	content     []byte
	contentType string
	etag        string
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

// loadPages reads the files of the page, by path.
func loadPages(files fs.FS) (map[string]*asset, error) {
	pages := make(map[string]*asset)
	if files == nil {
		return pages, nil
	}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		a := &asset{content: content, contentType: contentTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		if a.contentType == "" {
			a.contentType = "text/plain; charset=utf-8"
		}
		pages[name] = a
		return nil
	})
	if err == nil && pages["index.html"] == nil {
		err = errors.New("there is no index.html")
	}
	if err != nil {
		return nil, fmt.Errorf("httpapi: Config.UI: %w", err)
	}
	return pages, nil
}

// index serves the page.
func (s *Server) index(c echo.Context) error { return s.serve(c, "index.html") }

// static serves what the page loads.
func (s *Server) static(c echo.Context) error {
	name, err := url.PathUnescape(strings.TrimPrefix(c.Request().URL.EscapedPath(), "/ui/"))
	if err != nil {
		return echo.ErrNotFound
	}
	return s.serve(c, name)
}

// serve answers with a file. Browsers keep it but ask each time, so that a new version of the
// server is a new page at once.
func (s *Server) serve(c echo.Context, name string) error {
	a, ok := s.pages[name]
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	h.Set("Content-Type", a.contentType)
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(c.Response(), c.Request(), name, time.Time{}, bytes.NewReader(a.content))
	return nil
}
