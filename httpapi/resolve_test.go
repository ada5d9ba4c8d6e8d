package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/httpapi"
	"burrow/store"
)

// claims is a store as auth.Claims.
type claims struct{ *store.Store }

func (c claims) Claim(ctx context.Context, name, owner string, ttl time.Duration) error {
	return asTaken(c.Store.Claim(ctx, name, owner, ttl))
}

func (c claims) Spelling(ctx context.Context, name string) (string, error) {
	spelling, err := c.Store.Spelling(ctx, name)
	return spelling, asTaken(err)
}

func asTaken(err error) error {
	if errors.Is(err, store.ErrTaken) {
		return auth.ErrTaken
	}
	return err
}

// startGuests runs a server with names that are claimed in a store.
func startGuests(t *testing.T, change func(*httpapi.Config)) *node {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	a, err := auth.New(auth.DefaultConfig(), claims{s})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(c *httpapi.Config) {
		c.Auth = a
		if change != nil {
			change(c)
		}
	})
}

// signIn takes a name, which the server spells as shown, and returns the header with the cookie.
func (n *node) signIn(t *testing.T, name, shown string, headers ...string) string {
	t.Helper()
	res, answer := n.request(t, http.MethodPost, "/api/session", fmt.Sprintf(`{"name":%q}`, name), append(headers, jsonBody)...)
	if want := fmt.Sprintf(`{"mode":"guest","name":%q}`, shown); res.StatusCode != 200 || answer != want {
		t.Fatalf("sign in as %q: %d %s, want %s", name, res.StatusCode, answer, want)
	}
	for _, c := range res.Cookies() {
		if c.Name == "burrow_session" {
			return "Cookie: burrow_session=" + c.Value
		}
	}
	t.Fatalf("sign in as %q: no cookie", name)
	return ""
}

func toUser(name string) string { return fmt.Sprintf(`,"to_user":%q`, name) }

// All spellings of a held name are one user.
func TestResolve_OneUserForAllSpellings(t *testing.T) {
	n := startGuests(t, func(c *httpapi.Config) { c.ArchivePrivate = true })
	cookie := n.signIn(t, "Ada", "Ada")
	again := n.signIn(t, "ＡDA", "Ada", cookie)
	bobs := n.signIn(t, "bob", "bob")
	ada, other := n.joinV1(t, v1JSON, "ada", cookie), n.joinV1(t, v1JSON, "ADA", again)
	bob := n.joinV1(t, v1JSON, "BOB", bobs)
	plain := n.join(t, "bob", bobs)

	n.presence.mu.Lock()
	if want := map[string]int{"Ada": 2, "bob": 2}; !maps.Equal(n.presence.users, want) {
		t.Errorf("online are %v, want %v", n.presence.users, want)
	}
	n.presence.mu.Unlock()

	for i, to := range []string{"Ada", "ada", "Ａda", "ADA"} {
		text := fmt.Sprint("psst ", i)
		switch i % 3 {
		case 0:
			bob.acked(bob.say(text, to))
		case 1:
			plain.send(fmt.Sprintf(`{"content":%q,"to_user":%q}`, text, to))
		case 2:
			if res, body := n.request(t, http.MethodPost, "/api/messages", posted(ref(i), text, toUser(to)), jsonBody, bobs); res.StatusCode != 200 {
				t.Errorf("post to %q: %d %s", to, res.StatusCode, body)
			}
		}
		for _, c := range []*v1{ada, other} {
			c.hears("bob", "Ada", text)
		}
		plain.hears("bob", "Ada", text)
		if to == "ada" {
			bob.sendFrame(&edge.ClientFrame{Frame: &edge.ClientFrame_Typing{Typing: &edge.Typing{ToUser: to}}})
			for _, c := range []*v1{ada, other} {
				if f := c.next().GetTyping(); f.GetClientId() != "bob" || f.GetToUser() != "Ada" {
					t.Errorf("typing to %q is %v", to, f)
				}
			}
		}
	}

	// A name that looks like Ada's never receives anything.
	const lookalike = "\u0410da"
	bob.fails("invalid_user", bob.say("psst", lookalike))
	plain.send(fmt.Sprintf(`{"content":"psst","to_user":%q}`, lookalike))
	plain.fails("invalid_user")
	if res, body := n.request(t, http.MethodPost, "/api/messages", posted(ref(9), "psst", toUser(lookalike)), jsonBody, bobs); errorCode(t, body) != "invalid_user" {
		t.Errorf("post to a look-alike: %d %s", res.StatusCode, body)
	}
	if res, body := n.request(t, http.MethodPost, "/api/session", `{"name":"`+lookalike+`"}`, jsonBody); errorCode(t, body) != "name_taken" {
		t.Errorf("sign in as a look-alike: %d %s", res.StatusCode, body)
	}
	bob.acked(bob.say("for later", "nobody yet"))

	const all = "[psst 0 psst 1 psst 2 psst 3]"
	for _, with := range []string{"Ada", "ada", "Ａda"} {
		if got, _ := contents(t, n, "?with="+url.QueryEscape(with), bobs); fmt.Sprint(got) != all {
			t.Errorf("history with %q: %q", with, got)
		}
	}
	bob.sendFrame(historyOf(&edge.HistoryRequest{WithUser: "ada"}))
	for {
		if h := bob.next().GetHistory(); h != nil {
			if h.GetWithUser() != "Ada" || fmt.Sprint(texts(h.GetMessages())) != all {
				t.Errorf("history over v1: %v", h)
			}
			break
		}
	}
	if got, _ := contents(t, n, "?with="+url.QueryEscape(lookalike), bobs); len(got) > 0 {
		t.Errorf("history with a look-alike: %q", got)
	}
	if res, body := n.request(t, http.MethodGet, "/api/history?client_id=aDa&with=bob", "", cookie); res.StatusCode != 200 {
		t.Errorf("history of aDa: %d %s", res.StatusCode, body)
	}
}

// All spellings of a user share the limits of one.
func TestResolve_OneLimitForAllSpellings(t *testing.T) {
	n := startGuests(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.001, 4 })
	cookie := n.signIn(t, "Ada", "Ada")
	for i, spelling := range []string{"Ada", "ada", "ADA", "Ａda", "adA"} {
		want := 200
		if i == 4 {
			want = http.StatusTooManyRequests
		}
		path := "/api/messages?client_id=" + url.QueryEscape(spelling)
		if res, body := n.request(t, http.MethodPost, path, posted(ref(i), "x", ""), jsonBody, cookie); res.StatusCode != want {
			t.Errorf("%q is answered %d %s, want %d", spelling, res.StatusCode, body, want)
		}
	}
}

// Without the store a direct message is refused, not acknowledged.
func TestResolve_WithoutTheStore(t *testing.T) {
	n := start(t, nil)
	cookie := n.guest("alice")
	c := n.join(t, "alice", cookie)
	n.auth.mu.Lock()
	n.auth.err = errors.New("the disk is gone")
	n.auth.mu.Unlock()
	c.send(`{"content":"psst","to_user":"bob"}`)
	c.fails("unavailable")
	c.send(`{"content":"to myself","to_user":"alice"}`) // Here, so that no store is needed.
	c.hears("alice", "alice", "to myself")
	n.Deliver(&chat.ChatMessage{Id: id(1), Sender: "bob", Content: "for all"})
	c.hears("bob", "", "for all")
}
