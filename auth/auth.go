// Package auth says who is asking.
//
// In mode "guest" a visitor claims a free name and gets a signed cookie that proves
// it. A name belongs to one owner until its claim expires; an owner may hold
// several. In mode "open" everyone is who they say they are.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Errors that callers branch on; test with errors.Is.
var (
	// ErrInvalidName: the name breaks a rule; the error says which names are allowed.
	ErrInvalidName = errors.New("not a valid name")
	// ErrTaken: somebody else holds the name.
	ErrTaken = errors.New("the name is taken")
	// ErrTooManyNames: the visitor holds as many names as one may.
	ErrTooManyNames = errors.New("you hold too many names already")
	// ErrNoSession: there is no cookie, or it is forged, expired, or for a name
	// that its owner no longer holds.
	ErrNoSession = errors.New("not signed in")
)

// Modes of Config.Mode.
const (
	ModeOpen  = "open"
	ModeGuest = "guest"
)

// Config is the [auth] table of config.toml.
type Config struct {
	// Mode is guest or open. Default guest.
	Mode string `toml:"mode" oneof:"open,guest"`
	// SessionTTL is how long a cookie and the claim on its name last without a
	// visit. Default 720h.
	SessionTTL time.Duration `toml:"session_ttl" min:"1m" max:"8760h"`
	// CookieKey signs the cookies: any secret of 32 characters or more, the same
	// on every node. Default: a random one, kept in DataDir/cookie.key.
	CookieKey string `toml:"cookie_key"`
	// DataDir is where the key is kept.
	DataDir string `toml:"-"`
}

// DefaultConfig returns the settings that config.toml ships.
func DefaultConfig() Config { return Config{Mode: ModeGuest, SessionTTL: 720 * time.Hour} }

// minKey is the least length of a secret: the output of the hash.
const minKey = 32

// Validate reports a key that is too short, without showing it.
func (c Config) Validate() error {
	if n := len(c.CookieKey); n > 0 && n < minKey {
		return fmt.Errorf("auth.cookie_key: %d characters are too few to be secret; use %d or more random ones, or leave it empty for a key in data_dir", n, minKey)
	}
	return nil
}

// Claims remembers who holds which name.
type Claims interface {
	// Claim gives name to owner for ttl, or renews it. It returns ErrTaken when
	// another owner holds the name, ErrTooManyNames when owner holds too many.
	Claim(ctx context.Context, name, owner string, ttl time.Duration) error
	// Holds reports whether owner's claim on name has not expired.
	Holds(ctx context.Context, name, owner string) (bool, error)
}

// Session is a visitor who proved a name.
type Session struct {
	Name    string
	Owner   string // random, the same for all names of one visitor
	Expires time.Time
}

// Auth signs visitors in and knows them again. It may be used concurrently.
type Auth struct {
	cfg    Config
	claims Claims
	key    []byte
}

// New returns an Auth, after reading or making the key in mode guest.
func New(cfg Config, claims Claims) (*Auth, error) {
	if cfg.SessionTTL <= 0 {
		cfg.SessionTTL = DefaultConfig().SessionTTL
	}
	a := &Auth{cfg: cfg, claims: claims}
	switch cfg.Mode {
	case ModeOpen:
		return a, nil
	case ModeGuest:
	default:
		return nil, fmt.Errorf("auth.mode: %q is not one of guest, open", cfg.Mode)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	secret := []byte(cfg.CookieKey)
	if len(secret) == 0 {
		var err error
		if secret, err = loadKey(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	key := sha256.Sum256(append([]byte("burrow cookie v1\n"), secret...))
	a.key = key[:]
	return a, nil
}

// Mode is "open" or "guest".
func (a *Auth) Mode() string { return a.cfg.Mode }

// claimMargin keeps a name for longer than any cookie for it lasts.
const claimMargin = time.Hour

// SignIn claims name for the bearer of cookie, who stays the same owner if the
// cookie is genuine, and returns the cookie to set. Errors: ErrInvalidName,
// ErrTaken, ErrTooManyNames, or that of the claims.
func (a *Auth) SignIn(ctx context.Context, cookie, name string) (Session, string, error) {
	name, err := ValidName(name)
	if err != nil {
		return Session{}, "", err
	}
	before, err := a.decode(cookie)
	owner := before.Owner
	if err != nil {
		var id [ownerBytes]byte
		_, _ = rand.Read(id[:]) // never fails: it ends the program instead
		owner = hex.EncodeToString(id[:])
	}
	if err := a.claims.Claim(ctx, name, owner, a.cfg.SessionTTL+claimMargin); err != nil {
		return Session{}, "", fmt.Errorf("auth: sign in as %q: %w", name, err)
	}
	s := Session{Name: name, Owner: owner, Expires: time.Now().Add(a.cfg.SessionTTL).Truncate(time.Second)}
	return s, a.encode(s), nil
}

// Verify returns the session that cookie proves. Errors: ErrNoSession, or that of
// the claims.
func (a *Auth) Verify(ctx context.Context, cookie string) (Session, error) {
	s, err := a.decode(cookie)
	if err != nil {
		return Session{}, err
	}
	held, err := a.claims.Holds(ctx, s.Name, s.Owner)
	if err != nil {
		return Session{}, fmt.Errorf("auth: verify: %w", err)
	}
	if !held {
		return Session{}, ErrNoSession
	}
	return s, nil
}

// A cookie is base64url(payload) "." base64url(HMAC-SHA256 of the payload), and the
// payload is a version byte, the expiry in Unix seconds (8 bytes), the owner (16
// bytes) and the name.
const (
	cookieVersion = 1
	ownerBytes    = 16
	headerBytes   = 1 + 8 + ownerBytes
	maxCookie     = 1024
)

func (a *Auth) encode(s Session) string {
	owner, _ := hex.DecodeString(s.Owner) // made by SignIn
	payload := make([]byte, 0, headerBytes+len(s.Name))
	payload = append(payload, cookieVersion)
	payload = binary.BigEndian.AppendUint64(payload, uint64(s.Expires.Unix()))
	payload = append(payload, owner...)
	payload = append(payload, s.Name...)
	return base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(a.sign(payload))
}

func (a *Auth) sign(payload []byte) []byte {
	mac := hmac.New(sha256.New, a.key)
	mac.Write(payload)
	return mac.Sum(nil)
}

// decode checks the signature before it reads anything else.
func (a *Auth) decode(cookie string) (Session, error) {
	left, right, found := strings.Cut(cookie, ".")
	if !found || len(cookie) > maxCookie || a.key == nil {
		return Session{}, ErrNoSession
	}
	strict := base64.RawURLEncoding.Strict()
	payload, err := strict.DecodeString(left)
	if err != nil {
		return Session{}, ErrNoSession
	}
	mac, err := strict.DecodeString(right)
	if err != nil || !hmac.Equal(mac, a.sign(payload)) {
		return Session{}, ErrNoSession
	}
	if len(payload) <= headerBytes || payload[0] != cookieVersion {
		return Session{}, ErrNoSession
	}
	s := Session{
		Name:    string(payload[headerBytes:]),
		Owner:   hex.EncodeToString(payload[9:headerBytes]),
		Expires: time.Unix(int64(binary.BigEndian.Uint64(payload[1:9])), 0),
	}
	if !time.Now().Before(s.Expires) {
		return Session{}, ErrNoSession
	}
	return s, nil
}

// loadKey returns the key in dir and makes one if there is none. Of two processes
// that start at once, one makes it and both use that.
func loadKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "cookie.key")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(dir, path); err != nil {
			return nil, fmt.Errorf("auth: make the cookie key: %w; set data_dir to a directory that can be written, or set auth.cookie_key", err)
		}
		key, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: read the cookie key: %w", err)
	}
	if len(key) < minKey {
		return nil, fmt.Errorf("auth: %s holds %d bytes, a key has %d or more; remove the file to make a new one (everyone signs in again)", path, len(key), minKey)
	}
	return key, nil
}

func makeKey(dir, path string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "cookie.key.*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(rand.Text() + rand.Text()) // 260 random bits in 52 letters and digits
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil // another process was first
	}
	return err
}
