package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"burrow/auth"
	"burrow/internal/names"
)

const key = "0123456789abcdef0123456789abcdef"

// claims is the store in memory.
type claims struct {
	mu   sync.Mutex
	held map[string]claim
	err  error
}

type claim struct {
	name  string
	owner string
	until time.Time
	since time.Time
}

func (c *claims) Claim(_ context.Context, name, owner string, ttl time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	now := time.Now()
	since := now
	key := names.Key(name)
	if old, ok := c.held[key]; ok && now.Before(old.until) {
		if old.owner != owner {
			return auth.ErrTaken
		}
		since, name = old.since, old.name
	}
	c.held[key] = claim{name, owner, now.Add(ttl), since}
	return nil
}

func (c *claims) Holds(_ context.Context, name, owner string) (string, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.held[names.Key(name)]; ok && old.owner == owner && time.Now().Before(old.until) {
		return old.name, old.since, c.err
	}
	return "", time.Time{}, c.err
}

func (c *claims) Spelling(_ context.Context, name string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == "\u0430lice" { // Cyrillic
		return "", auth.ErrTaken
	}
	return c.held[names.Key(name)].name, c.err
}

func newClaims() *claims { return &claims{held: map[string]claim{}} }

func guests(t testing.TB, c auth.Claims) *auth.Auth {
	t.Helper()
	cfg := auth.DefaultConfig()
	cfg.CookieKey = key
	a, err := auth.New(cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signIn(t testing.TB, a *auth.Auth, cookie, name string) (auth.Session, string) {
	t.Helper()
	s, cookie, err := a.SignIn(t.Context(), cookie, name)
	if err != nil {
		t.Fatalf("SignIn as %q: %v", name, err)
	}
	return s, cookie
}

func same(a, b auth.Session) bool {
	return a.Name == b.Name && a.Owner == b.Owner && a.Expires.Equal(b.Expires)
}

func TestAGuestSignsInAndIsRecognised(t *testing.T) {
	a := guests(t, newClaims())
	s, cookie := signIn(t, a, "", "Ame\u0301lie")
	if s.Name != "Am\u00e9lie" || len(s.Owner) != 32 || time.Until(s.Expires).Round(time.Hour) != 720*time.Hour {
		t.Errorf("session %+v", s)
	}
	if strings.ContainsAny(cookie, "=;, \"\\") || len(cookie) > 300 {
		t.Errorf("%q cannot be the value of a cookie", cookie)
	}
	got, err := a.Verify(t.Context(), cookie)
	if err != nil || !same(got, s) {
		t.Errorf("Verify: %+v, %v; want %+v", got, err, s)
	}
	if _, other := signIn(t, a, "", "bob"); other == cookie {
		t.Error("two guests have the same cookie")
	}
}

func TestANameBelongsToWhoTookItFirst(t *testing.T) {
	c := newClaims()
	a := guests(t, c)
	s, cookie := signIn(t, a, "", "alice")
	for _, stranger := range []string{"", "nonsense", cookie + "x"} {
		if _, got, err := a.SignIn(t.Context(), stranger, "alice"); !errors.Is(err, auth.ErrTaken) || got != "" {
			t.Errorf("SignIn with the cookie %q: %v", stranger, err)
		}
	}
	again, cookie2 := signIn(t, a, cookie, "alice")
	if again.Owner != s.Owner {
		t.Error("the owner changed")
	}
	bob, _ := signIn(t, a, cookie2, "bob")
	if bob.Owner != s.Owner {
		t.Error("another name of the same browser has another owner")
	}
	if _, err := a.Verify(t.Context(), cookie); err != nil {
		t.Errorf("the first name is lost: %v", err)
	}
	stranger, _ := signIn(t, a, "", "carol")
	if stranger.Owner == s.Owner {
		t.Error("a stranger is the same owner")
	}
}

func TestSessionEndsWithTimeOrClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaims()
		a := guests(t, c)
		s, cookie := signIn(t, a, "", "alice")
		time.Sleep(time.Until(s.Expires) - time.Nanosecond)
		if _, err := a.Verify(t.Context(), cookie); err != nil {
			t.Errorf("just before it expires: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := a.Verify(t.Context(), cookie); !errors.Is(err, auth.ErrNoSession) {
			t.Errorf("after it expired: %v", err)
		}
		time.Sleep(time.Second)
		again, cookie := signIn(t, a, cookie, "alice") // free by now
		if again.Owner == s.Owner {
			t.Error("an expired cookie still stands for its owner")
		}
		taken := time.Now()
		time.Sleep(time.Minute)
		renewed, _ := signIn(t, a, cookie, "alice")
		verified, err := a.Verify(t.Context(), cookie)
		if !again.Since.Equal(taken) || !renewed.Since.Equal(taken) || !verified.Since.Equal(taken) || err != nil {
			t.Errorf("taken at %s: held since %s, renewed since %s, verified since %s, %v", taken, again.Since, renewed.Since, verified.Since, err)
		}
		delete(c.held, "alice")
		if _, err := a.Verify(t.Context(), cookie); !errors.Is(err, auth.ErrNoSession) {
			t.Errorf("without its claim: %v", err)
		}
		if back, _ := signIn(t, a, cookie, "alice"); back.Owner != again.Owner {
			t.Error("an owner whose claim was lost did not get it back")
		}
	})
}

func TestRenewPastHalfTheLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := guests(t, newClaims())
		s, cookie := signIn(t, a, "", "alice")
		time.Sleep(359 * time.Hour)
		got, renewed, err := a.Renew(t.Context(), cookie)
		if err != nil || renewed != "" || !same(got, s) {
			t.Errorf("before half its life: %+v, %q, %v", got, renewed, err)
		}
		time.Sleep(2 * time.Hour)
		got, renewed, err = a.Renew(t.Context(), cookie)
		if err != nil || renewed == "" || got.Owner != s.Owner || !got.Expires.Equal(s.Expires.Add(361*time.Hour)) {
			t.Errorf("past half its life: %+v, %q, %v", got, renewed, err)
		}
		time.Sleep(360 * time.Hour) // past the end of the first
		if _, err := a.Verify(t.Context(), renewed); err != nil {
			t.Errorf("the renewed cookie: %v", err)
		}
		if _, _, err := a.Renew(t.Context(), cookie); !errors.Is(err, auth.ErrNoSession) {
			t.Errorf("the old cookie: %v", err)
		}
	})
}

func TestForgedCookies(t *testing.T) {
	a := guests(t, newClaims())
	_, cookie := signIn(t, a, "", "alice")
	payload, signature, _ := strings.Cut(cookie, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(payload)
	mallory := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), "alice", "admin", 1)))

	cfg := auth.DefaultConfig()
	cfg.CookieKey = strings.Repeat("x", 32)
	other, err := auth.New(cfg, newClaims())
	if err != nil {
		t.Fatal(err)
	}
	_, foreign := signIn(t, other, "", "alice")

	for name, forged := range map[string]string{
		"nothing":              "",
		"no signature":         payload,
		"an empty signature":   payload + ".",
		"only a signature":     "." + signature,
		"another name":         mallory + "." + signature,
		"another server's":     foreign,
		"half a signature":     payload + "." + signature[:20],
		"two signatures":       cookie + "." + signature,
		"padding":              payload + "=." + signature,
		"a line break":         payload + ".\n" + signature,
		"very long":            cookie + strings.Repeat("A", 1<<20),
		"signature of nothing": ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if s, err := a.Verify(t.Context(), forged); !errors.Is(err, auth.ErrNoSession) || s != (auth.Session{}) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for i := range len(cookie) {
		for _, c := range []byte("A_.\xff") {
			forged := cookie[:i] + string(c) + cookie[i+1:]
			if forged == cookie {
				continue
			}
			if _, err := a.Verify(t.Context(), forged); !errors.Is(err, auth.ErrNoSession) {
				t.Fatalf("%q passes for %q: %v", forged, cookie, err)
			}
		}
	}
}

func TestTheStoreIsAway(t *testing.T) {
	c := newClaims()
	a := guests(t, c)
	_, cookie := signIn(t, a, "", "alice")
	c.err = errors.New("the disk is full")
	if _, err := a.Verify(t.Context(), cookie); !errors.Is(err, c.err) || errors.Is(err, auth.ErrNoSession) {
		t.Errorf("Verify: %v", err)
	}
	if _, got, err := a.SignIn(t.Context(), cookie, "alice"); !errors.Is(err, c.err) || got != "" {
		t.Errorf("SignIn: %v", err)
	}
	c.err = auth.ErrTooManyNames
	if _, _, err := a.SignIn(t.Context(), cookie, "bob"); !errors.Is(err, auth.ErrTooManyNames) {
		t.Errorf("SignIn with one name too many: %v", err)
	}
}

func TestIdentify(t *testing.T) {
	a := guests(t, newClaims())
	s, cookie := signIn(t, a, "", "alice")
	if got, err := a.Identify(t.Context(), cookie, "alice"); err != nil || !same(got, s) {
		t.Errorf("by cookie: %+v, %v", got, err)
	}
	for _, tt := range []struct {
		cookie, name string
		want         error
	}{
		{cookie, "bob", auth.ErrOtherName},
		{"", "alice", auth.ErrNoSession},
		{cookie, "-", auth.ErrInvalidName},
	} {
		if s, err := a.Identify(t.Context(), tt.cookie, tt.name); !errors.Is(err, tt.want) || s != (auth.Session{}) {
			t.Errorf("%q: %+v, %v; want %v", tt.name, s, err, tt.want)
		}
	}
}

// One user has one spelling: that of the claim.
func TestAuth_SpellingOfTheClaim(t *testing.T) {
	a := guests(t, newClaims())
	s, first := signIn(t, a, "", "Ada")
	again, second := signIn(t, a, first, "ＡDA")
	if s.Name != "Ada" || again.Name != "Ada" || again.Owner != s.Owner {
		t.Errorf("signed in as %q and then as %q", s.Name, again.Name)
	}
	for _, cookie := range []string{first, second} {
		for _, name := range []string{"Ada", "ada", "ADA", "Ａda"} {
			if got, err := a.Identify(t.Context(), cookie, name); err != nil || got.Name != "Ada" {
				t.Errorf("as %q: %q, %v", name, got.Name, err)
			}
		}
	}
	for name, want := range map[string]string{"ada": "Ada", "Ada": "Ada", "bob": "bob"} {
		if got, err := a.Resolve(t.Context(), name); err != nil || got != want {
			t.Errorf("%q is reached as %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := a.Resolve(t.Context(), "\u0430lice"); !errors.Is(err, auth.ErrTaken) {
		t.Errorf("what looks like a held name is reached as %q, %v", got, err)
	}
	open, err := auth.New(auth.Config{Mode: auth.ModeOpen}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open.Resolve(t.Context(), "ADA"); err != nil || got != "ADA" || open.Same("ADA", "ada") {
		t.Errorf("without claims ADA is %q, %v", got, err)
	}
}

func TestOpenModeBelievesEveryone(t *testing.T) {
	dir := t.TempDir()
	a, err := auth.New(auth.Config{Mode: auth.ModeOpen, DataDir: dir}, nil)
	if err != nil || a.Mode() != "open" {
		t.Fatal(err)
	}
	if s, err := a.Identify(t.Context(), "", "alice"); err != nil || s != (auth.Session{Name: "alice"}) {
		t.Errorf("Identify: %+v, %v", s, err)
	}
	if s, cookie, err := a.SignIn(t.Context(), "", "alice"); err != nil || cookie != "" || s.Name != "alice" {
		t.Errorf("SignIn: %+v, %q, %v", s, cookie, err)
	}
	if _, err := a.Identify(t.Context(), "", "global"); !errors.Is(err, auth.ErrInvalidName) {
		t.Errorf("Identify as global: %v", err)
	}
	if _, err := a.Verify(t.Context(), "anything"); !errors.Is(err, auth.ErrNoSession) {
		t.Errorf("Verify: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    auth.Config
		claims auth.Claims
		want   string
	}{
		{"unknown mode", auth.Config{Mode: "oidc"}, newClaims(), `auth.mode: "oidc" is not one of open, guest, jwt`},
		{"short key", auth.Config{CookieKey: " secret "}, newClaims(), "auth.cookie_key: too short; use at least 32 bytes"},
		{"no store", auth.Config{}, nil, "set auth.mode to open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auth.New(tt.cfg, tt.claims)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
	if a, err := auth.New(auth.Config{}, newClaims()); err != nil || a.Mode() != auth.ModeGuest {
		t.Errorf("the zero Config: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	a := guests(f, newClaims())
	_, cookie := signIn(f, a, "", "alice")
	f.Add(cookie)
	f.Add("")
	f.Add(".")
	f.Add("AQAAAABpfoYAAAAAAAAAAAAAAAAAAAAAAGFsaWNl.AAAA")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := a.Verify(t.Context(), in)
		if in == cookie {
			if err != nil || s.Name != "alice" {
				t.Fatalf("our own cookie: %+v, %v", s, err)
			}
			return
		}
		if !errors.Is(err, auth.ErrNoSession) || s != (auth.Session{}) {
			t.Fatalf("%q: %+v, %v", in, s, err)
		}
	})
}
