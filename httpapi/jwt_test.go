package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"burrow/auth"
	"burrow/httpapi"
)

const tokenSecret = "a secret of a login that is long enough"

// tokenOf returns one for user that is good for ttl, as the operator's login makes it.
func tokenOf(t testing.TB, user string, ttl time.Duration) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": user, "aud": "burrow", "exp": float64(time.Now().Add(ttl).UnixNano()) / 1e9}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(tokenSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// byToken makes a server one of mode jwt.
func byToken(t testing.TB) func(*httpapi.Config) {
	t.Helper()
	a, err := auth.New(auth.Config{Mode: auth.ModeJWT, JWT: auth.JWTConfig{Key: tokenSecret, Audience: "burrow"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *httpapi.Config) { c.Auth, c.LoginURL = a, "https://login.example.org/" }
}

func TestTokenOpensTheDoor(t *testing.T) {
	n := start(t, byToken(t))
	alice, bob := tokenOf(t, "alice", time.Hour), tokenOf(t, "bob", time.Hour)
	flipped := []byte(alice)
	flipped[len(flipped)/2] ^= 1
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + strings.TrimRight(alice[strings.Index(alice, "."):], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
	for _, tt := range []struct {
		name    string
		query   string
		headers []string
		status  int // 101: let in.
		code    string
		says    string
	}{
		{"a header", "", []string{"Authorization: Bearer " + alice}, 101, "", ""},
		{"a cookie", "", []string{"Cookie: burrow_token=" + alice}, 101, "", ""},
		{"a header counts for more than a cookie", "", []string{"Authorization: Bearer " + alice, "Cookie: burrow_token=" + bob}, 101, "", ""},
		{"also if it is bad", "", []string{"Authorization: Bearer " + alice + "x", "Cookie: burrow_token=" + alice}, 401, "invalid_token", ""},
		{"the password of a proxy is no token", "", []string{"Authorization: Basic YTpi", "Cookie: burrow_token=" + alice}, 101, "", ""},
		{"nothing", "", nil, 401, "no_session", "Authorization: Bearer"},
		{"an empty header", "", []string{"Authorization: Bearer "}, 401, "no_session", ""},
		{"a query is not read", "?token=" + alice + "&access_token=" + alice, nil, 401, "no_session", ""},
		{"nor a subprotocol", "", []string{"Sec-WebSocket-Protocol: " + alice}, 401, "no_session", ""},
		{"the cookie of a guest", "", []string{"Cookie: burrow_session=" + alice}, 401, "no_session", ""},
		{"somebody else's", "", []string{"Authorization: Bearer " + bob}, 403, "forbidden", "another name"},
		{"expired", "", []string{"Authorization: Bearer " + tokenOf(t, "alice", -time.Second)}, 401, "invalid_token", "expired"},
		{"one changed byte", "", []string{"Authorization: Bearer " + string(flipped)}, 401, "invalid_token", ""},
		{"unsigned", "", []string{"Authorization: Bearer " + unsigned}, 401, "invalid_token", "HS256"},
		{"nonsense", "", []string{"Cookie: burrow_token=x"}, 401, "invalid_token", "not a JWT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			headers := append(upgrade[:4:4], tt.headers...)
			if tt.status == 101 {
				if opens(t, n, headers) {
					return
				}
				tt.status = 0
			}
			res, body := n.request(t, "GET", "/ws/alice"+tt.query, "", headers...)
			if code := errorCode(t, body); res.StatusCode != tt.status || code != tt.code || !strings.Contains(body, tt.says) {
				t.Errorf("got %d %s, want %d %s that says %q", res.StatusCode, body, tt.status, tt.code, tt.says)
			}
			if got := res.Header.Get("WWW-Authenticate"); (got != "") != (res.StatusCode == 401) {
				t.Errorf("WWW-Authenticate %q with %d", got, res.StatusCode)
			}
		})
	}
	if res, body := n.request(t, "GET", "/api/history", "", "Authorization: Bearer "+alice+"x"); res.StatusCode != 401 || errorCode(t, body) != "invalid_token" {
		t.Errorf("history: %d %s", res.StatusCode, body)
	}
	n.Deliver(message(1, "alice", "bob", "between us"))
	if got, _ := contents(t, n, "?with=bob", "Authorization: Bearer "+alice); len(got) != 1 {
		t.Errorf("alice sees %v of her talk with bob", got)
	}
}

func TestSessionOfAToken(t *testing.T) {
	n := start(t, byToken(t))
	const nobody = `{"mode":"jwt","name":"","login":"https://login.example.org/"}`
	const ada = `{"mode":"jwt","name":"ada","login":"https://login.example.org/"}`
	good := tokenOf(t, "ada", time.Hour)
	get := func(headers ...string) string {
		t.Helper()
		res, body := n.request(t, "GET", "/api/session", "", headers...)
		if res.StatusCode != 200 || len(res.Cookies()) > 0 {
			t.Errorf("%d %s %v", res.StatusCode, body, res.Cookies())
		}
		return body
	}
	for _, tt := range []struct{ header, want string }{
		{"X: x", nobody}, {"Cookie: burrow_token=x", nobody}, {"Cookie: burrow_session=" + good, nobody},
		{"Cookie: burrow_token=" + good, ada}, {"Authorization: Bearer " + good, ada},
	} {
		if got := get(tt.header); got != tt.want {
			t.Errorf("%.30s: %s, want %s", tt.header, got, tt.want)
		}
	}

	res, body := n.request(t, "POST", "/api/session", "", "Authorization: Bearer "+good, "X-Forwarded-Proto: https")
	if res.StatusCode != 200 || body != ada || len(res.Cookies()) != 1 {
		t.Fatalf("POST: %d %s %v", res.StatusCode, body, res.Cookies())
	}
	c := res.Cookies()[0]
	if c.Name != "burrow_token" || c.Value != good || c.Path != "/" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || time.Until(c.Expires) < 50*time.Minute || time.Until(c.Expires) > time.Hour {
		t.Errorf("cookie %v", c)
	}
	n.join(t, "ada", "Cookie: burrow_token="+c.Value)
	for _, tt := range []struct {
		headers []string
		status  int
		code    string
	}{
		{nil, 401, "no_session"},
		{[]string{"Cookie: burrow_token=" + good}, 401, "no_session"}, // Another site's form sends cookies too.
		{[]string{"Authorization: Bearer " + good + "x"}, 401, "invalid_token"},
		{[]string{"Authorization: Bearer " + good, "Origin: https://evil.example"}, 403, "foreign_origin"},
	} {
		res, body := n.request(t, "POST", "/api/session", `{"name":"ada"}`, append(tt.headers, "Content-Type: application/json")...)
		if code := errorCode(t, body); res.StatusCode != tt.status || code != tt.code || len(res.Cookies()) > 0 {
			t.Errorf("POST %.30s: %d %s, want %d %s", tt.headers, res.StatusCode, code, tt.status, tt.code)
		}
	}
}

// TestToken_NoName sends tokens of a login whose "sub" is not a valid name: every route answers
// with the reason.
func TestToken_NoName(t *testing.T) {
	n := start(t, byToken(t))
	for _, sub := range []string{"a/b", "Global", "no  spaces", " ada", strings.Repeat("x", 65), "Ame\u0301lie", ""} {
		token := tokenOf(t, sub, time.Hour)
		for _, header := range []string{"Authorization: Bearer " + token, "Cookie: burrow_token=" + token} {
			for _, path := range []string{"/api/session", "/ws/ada", "/events", "/api/history", "/api/search?q=x", "/api/conversations", "/api/users?q=x"} {
				res, body := n.request(t, "GET", path, "", append(upgrade[:4:4], header)...)
				if res.StatusCode != 401 || errorCode(t, body) != "invalid_token" || !strings.Contains(body, `\"sub\"`) {
					t.Errorf("%s with %.20s and sub %q: %d %s", path, header, sub, res.StatusCode, body)
				}
			}
		}
		for _, path := range []string{"/api/session", "/api/messages", "/api/typing"} {
			res, body := n.request(t, "POST", path, `{"content":"x"}`, "Content-Type: application/json", "Authorization: Bearer "+token)
			if res.StatusCode != 401 || errorCode(t, body) != "invalid_token" || !strings.Contains(body, `\"sub\"`) {
				t.Errorf("POST %s with sub %q: %d %s", path, sub, res.StatusCode, body)
			}
		}
	}
}

func TestFreshProofMovesTheEndOfASession(t *testing.T) {
	t.Parallel()
	n := start(t, nil)
	cookie := n.guest("alice", "bob")
	end := time.Now().Add(10 * time.Second)
	prove := func(cookie, user string, expires time.Time) {
		n.auth.mu.Lock()
		defer n.auth.mu.Unlock()
		n.auth.cookies[cookie] = auth.Session{Name: user, Expires: expires}
	}
	prove("cookie-of-alice", "alice", end)
	prove("sooner", "alice", end.Add(-time.Second))
	prove("later", "alice", end.Add(500*time.Millisecond))
	alice := n.join(t, "alice", cookie)
	for proof, want := range map[string]string{"cookie-of-bob": "forbidden", "forged": "no valid session", "": "no valid session"} {
		if err := httpapi.Refresh(t.Context(), n.Server, proof); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("refresh with %q: %v, want %s", proof, err, want)
		}
	}
	for _, proof := range []string{"later", "sooner", "cookie-of-alice"} { // The end never moves closer.
		if err := httpapi.Refresh(t.Context(), n.Server, proof); err != nil {
			t.Errorf("refresh with %q: %v", proof, err)
		}
	}
	alice.closed(4401)
	if early := time.Until(end.Add(500 * time.Millisecond)); early > 0 {
		t.Errorf("closed %v before its time", early)
	}
}

func TestFreshProofComesTooLate(t *testing.T) {
	n := start(t, nil)
	n.guest("alice")
	n.auth.mu.Lock()
	n.auth.cookies["cookie-of-alice"] = auth.Session{Name: "alice", Expires: time.Now().Add(4 * time.Second)}
	n.auth.cookies["fresh"] = auth.Session{Name: "alice", Expires: time.Now().Add(time.Hour)}
	n.auth.mu.Unlock()
	alice := n.dial(t, "alice", "Cookie: burrow_session=cookie-of-alice")
	// Nobody reads the close frame and answers it, so the session is still there.
	eventually(t, "the session is closing", func() bool { return n.metric(t, "burrow_edge_closes_total", "4401") == 1 })
	if err := httpapi.Refresh(t.Context(), n.Server, "fresh"); err == nil {
		t.Error("a session that is closing was refreshed")
	}
	alice.closed(4401)
}

func TestSessionEndsWithItsToken(t *testing.T) {
	n := start(t, byToken(t))
	// In whole seconds, cut off: it is good for 4 to 5 of them.
	alice := n.dial(t, "alice", "Authorization: Bearer "+tokenOf(t, "alice", 5*time.Second))
	if _, reason := alice.closed(4401); !strings.Contains(reason, "sign in again") {
		t.Errorf("reason %q", reason)
	}
}

func TestTokensAreNotLogged(t *testing.T) {
	var said syncBuffer
	mode := byToken(t)
	n := start(t, func(c *httpapi.Config) {
		mode(c)
		c.Log = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, good := range []string{tokenOf(t, "alice", time.Hour), tokenOf(t, "alice", -time.Hour), tokenOf(t, "alice", time.Hour) + "x"} {
		signature := good[strings.LastIndex(good, ".")+1:]
		for _, path := range []string{"/ws/alice", "/ws/bob", "/api/history", "/api/session", "/ws/-"} {
			for _, method := range []string{"GET", "POST"} {
				for _, header := range []string{"Authorization: Bearer " + good, "Cookie: burrow_token=" + good, "Authorization: " + good} {
					res, body := n.request(t, method, path+"?token="+good, good, append(upgrade[1:4:4], header)...)
					if strings.Contains(body, signature) {
						t.Errorf("%s %s: the token is in the answer %d %s", method, path, res.StatusCode, body)
					}
				}
			}
		}
		if strings.Contains(said.String(), signature) {
			t.Errorf("the token is in the log: %s", said.String())
		}
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestWorthlessTokensAreSlowedDown(t *testing.T) {
	n := prepare(t, byToken(t))
	httpapi.SetFailureBurst(n.Server, 5)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := tokenOf(t, "alice", time.Hour)
	ask := func(path string, headers ...string) (int, string) {
		t.Helper()
		res, body := n.request(t, "GET", path, "", append(headers, upgrade...)...)
		if (res.StatusCode == 429) != (res.Header.Get("Retry-After") != "") {
			t.Errorf("%s: %d with Retry-After %q", path, res.StatusCode, res.Header.Get("Retry-After"))
		}
		return res.StatusCode, body
	}
	for i, path := range []string{"/ws/alice", "/api/history", "/api/session", "/ws/alice", "/api/history"} {
		if status, body := ask(path, "Authorization: Bearer x"); status != 401 && path != "/api/session" || status == 429 {
			t.Errorf("try %d: %d %s", i, status, body)
		}
	}
	for _, path := range []string{"/ws/alice", "/api/history", "/api/session"} {
		if status, body := ask(path, "Authorization: Bearer x"); status != 429 || errorCode(t, body) != "rate_limited" {
			t.Errorf("%s: %d %s, want 429", path, status, body)
		}
	}
	if got := n.metric(t, "burrow_edge_limited_total", "invalid sessions"); got != 3 {
		t.Errorf("%v are counted", got)
	}
	// Those who share the address are not locked out, nor those who have no token yet.
	n.join(t, "alice", "Authorization: Bearer "+good)
	if status, _ := ask("/ws/alice"); status != 401 {
		t.Errorf("without a token: %d", status)
	}
	if status, _ := ask("/api/session"); status != 200 {
		t.Errorf("session without a token: %d", status)
	}
	// Another address has a burst of its own; our proxy says whose it is.
	if status, _ := ask("/ws/alice", "Authorization: Bearer x", "X-Forwarded-For: 203.0.113.9"); status != 401 {
		t.Errorf("from another address: %d", status)
	}
}
