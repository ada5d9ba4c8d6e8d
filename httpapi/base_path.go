package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// ownPaths are the first segments of the routes, which a base path may not begin with.
var ownPaths = []string{"admin", "api", "events", "healthz", "metrics", "readyz", "ui", "ws"}

// CheckBasePath returns nil if text is valid as http.base_path, or an error with the fix.
func CheckBasePath(text string) error {
	if text == "" || text == "/" {
		return nil
	}
	trimmed := strings.TrimSuffix(text, "/")
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/-._~", r)
	}
	switch first, _, _ := strings.Cut(strings.TrimPrefix(trimmed, "/"), "/"); {
	case !strings.HasPrefix(trimmed, "/") || trimmed != path.Clean(trimmed) || strings.ContainsFunc(trimmed, bad):
		return errors.New(`this is no path; write "/chat", of letters, digits and the marks - . _ ~ between slashes, or "" for the root`)
	case slices.Contains(ownPaths, first):
		return fmt.Errorf("/%s is an address of Burrow itself; take another path", first)
	}
	return nil
}

// belowBasePath serves next also below http.base_path, for a proxy that does not strip it.
func (s *Server) belowBasePath(next http.Handler) http.Handler {
	base := s.cfg.HTTP.BasePath
	if base == "" {
		return next
	}
	strip := http.StripPrefix(base, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == base: // Relative addresses of the page need the final slash.
			to := base + "/"
			if r.URL.RawQuery != "" {
				to += "?" + r.URL.RawQuery
			}
			http.Redirect(w, r, to, http.StatusPermanentRedirect)
		case strings.HasPrefix(r.URL.Path, base+"/"):
			strip.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
