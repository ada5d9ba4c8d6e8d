package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// cors lets pages of http.allowed_origins call the API from a browser: those listed by name with
// cookies, all others without if the list has "*".
func (s *Server) cors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, h := c.Request(), c.Response().Header()
		allowed := s.cfg.HTTP.AllowedOrigins
		if len(allowed) == 0 || !strings.HasPrefix(r.URL.Path, "/api/") && r.URL.Path != "/events" {
			return next(c)
		}
		h.Add("Vary", "Origin")
		lines := r.Header["Origin"]
		if len(lines) != 1 {
			return next(c)
		}
		if o, err := parseOrigin(lines[0]); err == nil && s.listed(o) {
			h.Set("Access-Control-Allow-Origin", lines[0])
			h.Set("Access-Control-Allow-Credentials", "true")
		} else if slices.Contains(allowed, "*") {
			h.Set("Access-Control-Allow-Origin", "*")
		} else {
			return next(c)
		}
		h.Set("Access-Control-Expose-Headers", errorHeader+", Retry-After")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			return next(c)
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "600")
		return c.NoContent(http.StatusNoContent)
	}
}
