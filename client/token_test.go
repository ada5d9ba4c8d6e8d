package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"burrow/auth"
	"burrow/client"
	"burrow/httpapi"
)

const secret = "a secret of at least thirty-two bytes"

// tokens returns a Config.Token whose tokens are good for ttl, and how many were made.
func tokens(t testing.TB, name string, ttl time.Duration) (func(context.Context) (string, error), *atomic.Int32) {
	made := new(atomic.Int32)
	return func(context.Context) (string, error) {
		made.Add(1)
		claims := jwt.RegisteredClaims{Subject: name, ExpiresAt: jwt.NewNumericDate(time.Now().Add(ttl))}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		if err != nil {
			t.Error(err)
		}
		return token, err
	}, made
}

func jwtNode(t *testing.T, w *world, change func(*httpapi.Config)) *httpapi.Server {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := auth.Config{Mode: auth.ModeJWT, JWT: auth.JWTConfig{Algorithm: "HS256", KeyFile: key}}
	people, err := auth.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.start("open", func(c *httpapi.Config) {
		c.Auth = people
		if change != nil {
			change(c)
		}
	})
}

// A connection outlives its token: a fresh one is brought before, over a WebSocket; without one, one
// comes back with a fresh one.
func TestTokens(t *testing.T) {
	for _, way := range []string{"websocket", "fallback"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			node := jwtNode(t, w, nil)
			address := "http://" + node.Addr()
			if way == "fallback" {
				address = newOffice(t, node.Addr(), "strip").URL
			}
			token, made := tokens(t, "ada", 6*time.Second) // JWT counts in seconds.
			ada := dial(t, address, "", func(cfg *client.Config) { cfg.Token = token })
			if ada.Name() != "ada" {
				t.Errorf("the name is %q", ada.Name())
			}
			long, _ := tokens(t, "bob", time.Hour)
			bob := dial(t, address, "bob", func(cfg *client.Config) { cfg.Token = long })
			for end := time.Now().Add(14 * time.Second); time.Now().Before(end); {
				sent := say(t, bob, "", "tick")
				if m := next(t, ada); m.ID != sent.ID {
					t.Fatalf("ada hears %+v, want %s", m, sent.ID)
				}
				hears(t, bob, "tick")
				<-time.After(60 * time.Millisecond) // A talk, not a flood: what counts is how long it lasts.
			}
			if n := made.Load(); n < 3 || n > 40 {
				t.Errorf("%d tokens were made", n)
			}
			lost := false
			for len(ada.Events()) > 0 {
				if _, is := (<-ada.Events()).(client.Disconnected); is {
					lost = true
				}
			}
			if way == "websocket" && lost {
				t.Error("the connection was lost although the token was renewed")
			}
		})
	}
}

// A token that is not good is not tried for ever.
func TestBadTokens(t *testing.T) {
	w := newWorld(t)
	node := jwtNode(t, w, nil)
	d := newDoor(t, node.Addr())
	var bad atomic.Bool
	good, _ := tokens(t, "ada", time.Hour)
	token := func(ctx context.Context) (string, error) {
		if bad.Load() {
			return "a.b.c", nil
		}
		return good(ctx)
	}
	ada := dial(t, d.url(), "ada", func(cfg *client.Config) { cfg.Token = token })
	bad.Store(true)
	d.leadTo(node.Addr())
	for range ada.Messages() {
	}
	refused := new(client.Error)
	if !errors.As(ada.Err(), &refused) || refused.Code != "invalid_token" || refused.Message == "" {
		t.Errorf("it ended with %v", ada.Err())
	}
	wrong, _ := tokens(t, "eve", time.Hour)
	if _, err := client.Dial(t.Context(), client.Config{URL: d.url(), Name: "ada", Token: wrong}); !errors.As(err, &refused) || refused.Code != "forbidden" {
		t.Errorf("eve as ada: %v", err)
	}
	failing := errors.New("the login is away")
	if _, err := client.Dial(t.Context(), client.Config{URL: d.url(), Name: "ada", Token: func(context.Context) (string, error) { return "", failing }}); !errors.Is(err, failing) {
		t.Errorf("without a token: %v", err)
	}
}
