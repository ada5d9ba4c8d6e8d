package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"buf.build/go/protovalidate"

	"burrow/auth"
	"burrow/gen/chat"
)

// claims is a Claims in memory, without expiry.
type claims struct {
	mu    sync.Mutex
	owner map[string]string
}

func (c *claims) Claim(_ context.Context, name, owner string, _ time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner == nil {
		c.owner = map[string]string{}
	}
	if held := c.owner[name]; held != "" && held != owner {
		return auth.ErrTaken
	}
	c.owner[name] = owner
	return nil
}

func (c *claims) Holds(_ context.Context, name, owner string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owner[name] == owner, nil
}

func newAuth(t testing.TB, cfg auth.Config, c auth.Claims) *auth.Auth {
	t.Helper()
	if cfg.Mode == "" {
		cfg.Mode = auth.ModeGuest
	}
	if cfg.DataDir == "" {
		cfg.DataDir = t.TempDir()
	}
	a, err := auth.New(cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestACookieProvesItsNameAndNoOther(t *testing.T) {
	ctx := t.Context()
	c := &claims{}
	a := newAuth(t, auth.Config{}, c)
	alice, cookie, err := a.SignIn(ctx, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Verify(ctx, cookie)
	if err != nil || got != alice || got.Name != "alice" {
		t.Fatalf("got %+v, %v, want %+v", got, err, alice)
	}
	if _, _, err := a.SignIn(ctx, "", "alice"); !errors.Is(err, auth.ErrTaken) {
		t.Errorf("a stranger got %v, want ErrTaken", err)
	}
	again, second, err := a.SignIn(ctx, cookie, "alice2")
	if err != nil || again.Owner != alice.Owner {
		t.Errorf("the same visitor got owner %q, %v, want %q", again.Owner, err, alice.Owner)
	}
	if got, err := a.Verify(ctx, second); err != nil || got.Name != "alice2" {
		t.Errorf("got %+v, %v", got, err)
	}
	c.owner["alice"] = "somebody else"
	if _, err := a.Verify(ctx, cookie); !errors.Is(err, auth.ErrNoSession) {
		t.Errorf("a lost claim got %v, want ErrNoSession", err)
	}
}

func TestAForgedCookieIsNoSession(t *testing.T) {
	ctx := t.Context()
	a := newAuth(t, auth.Config{}, &claims{})
	_, cookie, err := a.SignIn(ctx, "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(cookie) {
		forged := []byte(cookie)
		forged[i] ^= 1
		if _, err := a.Verify(ctx, string(forged)); !errors.Is(err, auth.ErrNoSession) {
			t.Fatalf("byte %d changed: got %v, want ErrNoSession", i, err)
		}
	}
	other := newAuth(t, auth.Config{CookieKey: strings.Repeat("k", 32)}, &claims{})
	if _, err := other.Verify(ctx, cookie); !errors.Is(err, auth.ErrNoSession) {
		t.Errorf("another key: got %v, want ErrNoSession", err)
	}
	open := newAuth(t, auth.Config{Mode: auth.ModeOpen}, nil)
	unsigned := base64.RawURLEncoding.EncodeToString([]byte("\x01\x7f00000000000000000000000alice")) + "."
	for _, forged := range []string{"", ".", "a.b", unsigned, cookie + "=", strings.Repeat("a", 5000) + ".b"} {
		for _, a := range []*auth.Auth{a, open} {
			if _, err := a.Verify(ctx, forged); !errors.Is(err, auth.ErrNoSession) {
				t.Errorf("%.20q: got %v, want ErrNoSession", forged, err)
			}
		}
	}
}

func TestACookieExpires(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, auth.Config{SessionTTL: time.Hour, DataDir: dir}, &claims{})
		_, cookie, err := a.SignIn(t.Context(), "", "alice")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - 2*time.Second) // the bubble's time
		if _, err := a.Verify(t.Context(), cookie); err != nil {
			t.Errorf("before: %v", err)
		}
		time.Sleep(3 * time.Second)
		if _, err := a.Verify(t.Context(), cookie); !errors.Is(err, auth.ErrNoSession) {
			t.Errorf("after: got %v, want ErrNoSession", err)
		}
	})
}

func TestNodesThatStartAtOnceShareTheKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := &claims{}
	nodes := make([]*auth.Auth, 8)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			a, err := auth.New(auth.Config{Mode: auth.ModeGuest, DataDir: dir}, c)
			if err != nil {
				t.Error(err)
			}
			nodes[i] = a
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	_, cookie, err := nodes[0].SignIn(t.Context(), "", "alice")
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range nodes {
		if _, err := a.Verify(t.Context(), cookie); err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "cookie.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestAWeakKeyIsRefusedAndNotShown(t *testing.T) {
	_, err := auth.New(auth.Config{Mode: auth.ModeGuest, CookieKey: "hunter2"}, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "auth.cookie_key") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cookie.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.New(auth.Config{Mode: auth.ModeGuest, DataDir: dir}, nil); err == nil {
		t.Error("an empty key file was taken")
	}
}

func TestValidName(t *testing.T) {
	good := map[string]string{
		"alice": "alice", "Zoë": "Zoë", "Zoe\u0308": "Zo\u00eb", "a": "a", "7": "7", "a b": "a b", "a.b@c-d_e": "a.b@c-d_e",
		"李雷": "李雷", strings.Repeat("ß", 64): strings.Repeat("ß", 64), "globalist": "globalist",
	}
	for in, want := range good {
		if got, err := auth.ValidName(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	bad := []string{
		"", " ", " a", "a ", "-a", "a-", ".", "a/b", "a\nb", "a\x00b", "a\u202eb", "a\u200db", "<b>", "a%41", "global", "Global", "GLOBAL",
		strings.Repeat("a", 65), strings.Repeat("a", 5000), "a\xffb", "a'b", "😀", "a😀b", "½",
	}
	for _, in := range bad {
		if got, err := auth.ValidName(in); !errors.Is(err, auth.ErrInvalidName) {
			t.Errorf("%.20q: got %q, %v, want ErrInvalidName", in, got, err)
		}
	}
}

func FuzzValidName(f *testing.F) {
	for _, s := range []string{"alice", "Zoe\u0308", "a b", "<b>", "a\xff", "½", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := auth.ValidName(s)
		if err != nil {
			return
		}
		if again, err := auth.ValidName(name); err != nil || again != name {
			t.Errorf("%q is not stable: %q, %v", name, again, err)
		}
		// What the edge lets in, the schema must let through.
		if err := protovalidate.Validate(&chat.ChatMessage{Sender: name, ToUser: name, Content: "x"}); err != nil {
			t.Errorf("%q: the schema refuses it: %v", name, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	a := newAuth(f, auth.Config{CookieKey: strings.Repeat("k", 32)}, &claims{})
	_, cookie, err := a.SignIn(context.Background(), "", "alice")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cookie)
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := a.Verify(t.Context(), s); err == nil && s != cookie {
			t.Errorf("%q was believed", s)
		}
	})
}
