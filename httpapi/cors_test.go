package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"burrow/httpapi"
)

// TestCORS asks as the pages of other origins do.
func TestCORS(t *testing.T) {
	const listed, other = "https://app.example", "https://evil.example"
	for _, tt := range []struct {
		name, allowed, origin, method, path string
		want, credentials                   string // Of the answer.
		status                              int
	}{
		{"listed", listed, listed, "GET", "/api/session", listed, "true", 200},
		{"listed, an error", listed, listed, "GET", "/api/history?limit=x", listed, "true", 400},
		{"listed, no route", listed, listed, "GET", "/api/nothing", listed, "true", 404},
		{"listed, events", listed, listed, "GET", "/events?client_id=-", listed, "true", 400},
		{"listed, preflight", listed, listed, "OPTIONS", "/api/messages", listed, "true", 204},
		{"listed, preflight of events", listed, listed, "OPTIONS", "/events", listed, "true", 204},
		{"listed with another case and port", "https://APP.example:443/", listed, "GET", "/api/session", listed, "true", 200},
		{"not listed", listed, other, "GET", "/api/session", "", "", 200},
		{"not listed, preflight", listed, other, "OPTIONS", "/api/messages", "", "", 204},
		{"null", listed, "null", "OPTIONS", "/api/messages", "", "", 204},
		{"a longer host", listed, "https://app.example.evil.example", "OPTIONS", "/api/messages", "", "", 204},
		{"all", "*", other, "GET", "/api/session", "*", "", 200},
		{"all, preflight", "*", other, "OPTIONS", "/api/messages", "*", "", 204},
		{"all, null", "*", "null", "GET", "/api/session", "*", "", 200},
		{"all and listed", "*," + listed, listed, "GET", "/api/session", listed, "true", 200},
		{"all and listed, another", "*," + listed, other, "GET", "/api/session", "*", "", 200},
		{"no list", "", listed, "GET", "/api/session", "", "", 200},
		{"no list, preflight", "", listed, "OPTIONS", "/api/messages", "", "", 204},
		{"another path", listed, listed, "GET", "/healthz", "", "", 200},
		{"preflight of another path", listed, listed, "OPTIONS", "/healthz", "", "", 204},
		{"two origins", listed, listed + "|" + listed, "GET", "/api/session", "", "", 200},
		{"no page", listed, "", "GET", "/api/session", "", "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t, func(c *httpapi.Config) {
				if c.HTTP.AllowedOrigins = strings.Split(tt.allowed, ","); tt.allowed == "" {
					c.HTTP.AllowedOrigins = nil
				}
			})
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+n.Addr()+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for o := range strings.SplitSeq(tt.origin, "|") {
				if o != "" {
					r.Header.Add("Origin", o)
				}
			}
			if tt.method == "OPTIONS" {
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", "content-type")
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			h := res.Header
			if got := h.Get("Access-Control-Allow-Origin"); res.StatusCode != tt.status || got != tt.want || h.Get("Access-Control-Allow-Credentials") != tt.credentials {
				t.Errorf("%d, origin %q, credentials %q", res.StatusCode, got, h.Get("Access-Control-Allow-Credentials"))
			}
			shared := strings.HasPrefix(tt.path, "/api/") || strings.HasPrefix(tt.path, "/events")
			if got := slices.Contains(h.Values("Vary"), "Origin"); got != (shared && tt.allowed != "") {
				t.Errorf("Vary: %v", h.Values("Vary"))
			}
			if tt.want != "" && tt.status == 204 && (h.Get("Access-Control-Allow-Methods") != "GET, POST" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Content-Type")) {
				t.Errorf("preflight: %v", h)
			}
			if tt.status == 400 && tt.want != "" && (h.Get("Burrow-Error") == "" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Burrow-Error")) {
				t.Errorf("error: %v", h)
			}
		})
	}
}
