package httpapi_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"burrow/auth"
	"burrow/httpapi"
)

const ownCookie = "burrow_session_0a1b2c3d"

// TestCookie_Names signs in as pages and programs do: programs of the version before know the old
// name only.
func TestCookie_Names(t *testing.T) {
	for _, tt := range []struct {
		base    string
		headers []string
		want    []string
	}{
		{"", []string{"Origin: page"}, []string{ownCookie}},
		{"", []string{"Origin: page", "X-Forwarded-Proto: https"}, []string{"__Host-" + ownCookie}},
		{"/chat", []string{"Origin: page", "X-Forwarded-Proto: https"}, []string{"__Secure-" + ownCookie}},
		{"/chat", []string{"Origin: page"}, []string{ownCookie}},
		{"", nil, []string{"burrow_session", ownCookie}},
		{"", []string{"X-Forwarded-Proto: https"}, []string{"burrow_session", "__Host-" + ownCookie}},
	} {
		n := start(t, func(c *httpapi.Config) { c.HTTP.BasePath = tt.base })
		n.auth.mode = auth.ModeGuest
		headers := []string{"Content-Type: application/json"}
		for _, h := range tt.headers {
			origin := "http://"
			if slices.Contains(tt.headers, "X-Forwarded-Proto: https") {
				origin = "https://"
			}
			headers = append(headers, strings.Replace(h, "page", origin+n.Addr(), 1))
		}
		res, body := n.request(t, "POST", "/api/session", `{"name":"ada"}`, headers...)
		var names []string
		for _, c := range res.Cookies() {
			names = append(names, c.Name)
			secure := slices.Contains(tt.headers, "X-Forwarded-Proto: https")
			if c.Secure != secure || !c.HttpOnly || c.Domain != "" || c.Path != tt.base && (c.Path != "/" || tt.base != "") {
				t.Errorf("%+v: %v", tt, c)
			}
		}
		if res.StatusCode != 200 || !slices.Equal(names, tt.want) {
			t.Errorf("%+v: %d %s %v", tt, res.StatusCode, body, names)
		}
	}
}

// TestCookie_Several sends several cookies: the first valid one counts, the one with the name of the
// own key before the old one.
func TestCookie_Several(t *testing.T) {
	n := start(t, nil)
	n.guest("ada", "bob")
	const ada, bob = "=cookie-of-ada", "=cookie-of-bob"
	for cookies, want := range map[string]string{
		"burrow_session" + ada:                                       "ada",
		"burrow_session=x; burrow_session" + ada:                     "ada",
		"burrow_session" + ada + "; burrow_session=x":                "ada",
		ownCookie + "=x; " + ownCookie + ada:                         "ada",
		"burrow_session" + bob + "; " + ownCookie + ada:              "ada",
		ownCookie + bob + "; __Host-" + ownCookie + ada:              "ada",
		ownCookie + bob + "; __Secure-" + ownCookie + ada:            "ada",
		"__Host-" + ownCookie + "=x; burrow_session" + ada:           "ada",
		"burrow_session_ffffffff" + ada:                              "", // Of another installation.
		"__Host-burrow_session" + ada:                                "",
		ownCookie + "=x; burrow_session=x":                           "",
		strings.Repeat("burrow_session=x; ", 1000) + ownCookie + ada: "ada", // Of a neighbour that floods the old name.
	} {
		res, body := n.request(t, "GET", "/api/session", "", "Cookie: "+cookies)
		if res.StatusCode != 200 || !strings.Contains(body, `"name":"`+want+`"`) {
			t.Errorf("%.80s: %d %s, want %q", cookies, res.StatusCode, body, want)
		}
		if want != "" {
			n.join(t, want, "Cookie: "+cookies)
		}
		if res, _ := n.request(t, "GET", "/api/history", "", "Cookie: "+cookies); (res.StatusCode == 200) != (want != "") {
			t.Errorf("history with %.80s: %d", cookies, res.StatusCode)
		}
	}
	n.auth.mu.Lock()
	n.auth.err = errors.New("the store is away")
	n.auth.mu.Unlock()
	if res, body := n.request(t, "GET", "/api/session", "", "Cookie: burrow_session"+ada); res.StatusCode != 503 {
		t.Errorf("without a store: %d %s", res.StatusCode, body)
	}
}

// TestCookie_Migration asks with the cookie of the version before, or of the other scheme: the
// answer has the same cookie with the new name.
func TestCookie_Migration(t *testing.T) {
	n := start(t, nil)
	n.guest("ada", "old")
	for _, tt := range []struct {
		cookie string
		https  bool
		want   []string
	}{
		{"burrow_session=cookie-of-ada", false, []string{ownCookie + "=cookie-of-ada"}},
		{"burrow_session=cookie-of-ada", true, []string{"__Host-" + ownCookie + "=cookie-of-ada"}},
		{ownCookie + "=cookie-of-ada", true, []string{"__Host-" + ownCookie + "=cookie-of-ada"}},
		{ownCookie + "=cookie-of-ada", false, nil},
		{"__Host-" + ownCookie + "=cookie-of-ada", true, nil},
		{"burrow_session=cookie-of-old", false, []string{"burrow_session=new-cookie", ownCookie + "=new-cookie"}},
		{ownCookie + "=cookie-of-old", false, []string{ownCookie + "=new-cookie"}},
		{"burrow_session=x", false, nil},
	} {
		headers := []string{"Cookie: " + tt.cookie}
		if tt.https {
			headers = append(headers, "X-Forwarded-Proto: https")
		}
		res, body := n.request(t, "GET", "/api/session", "", headers...)
		var got []string
		for _, c := range res.Cookies() {
			got = append(got, c.Name+"="+c.Value)
			if time.Until(c.Expires) < 50*time.Minute || c.Secure != tt.https {
				t.Errorf("%+v: %v", tt, c)
			}
		}
		if res.StatusCode != 200 || !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %d %s %v", tt, res.StatusCode, body, got)
		}
	}
}

// TestCookie_SeveralTokens sends several cookies with tokens: any valid one counts.
func TestCookie_SeveralTokens(t *testing.T) {
	n := start(t, byToken(t))
	good, old := tokenOf(t, "ada", time.Hour), tokenOf(t, "ada", -time.Hour)
	for cookies, want := range map[string]int{
		"burrow_token=" + old + "; burrow_token=" + good: 200,
		"burrow_token=" + good + "; burrow_token=x":      200,
		"burrow_token=" + old + "; burrow_token=x":       401,
	} {
		if res, body := n.request(t, "GET", "/api/history", "", "Cookie: "+cookies); res.StatusCode != want {
			t.Errorf("%d %s, want %d", res.StatusCode, body, want)
		}
	}
}
