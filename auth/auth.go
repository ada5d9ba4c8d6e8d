// Package auth says who is asking. A visitor claims a name, and a signed cookie
// proves from then on that the name is theirs: no accounts, no passwords. The
// claim is in the store and ends with the cookie, so that a name becomes free
// again when nobody comes back for it. Or, where people have accounts already,
// whoever keeps those signs a JSON Web Token that says who somebody is.
//
// The cookie holds the name, its owner (a random number that stands for one
// browser) and when it expires, and is signed with a key that only the servers
// know. Whoever has the cookie has the name; it is for httpapi to keep it from
// scripts and other sites.
package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"burrow/internal/names"
	"burrow/internal/secretfile"
)

// How names are proven.
const (
	ModeOpen  = "open"  // by nobody: a client is who it says it is
	ModeGuest = "guest" // by the cookie of whoever took the name first
	ModeJWT   = "jwt"   // by a token of the operator's own login
)

// Config is the [auth] table of config.toml and what cmd/app wires. Fields that
// are empty take their defaults.
type Config struct {
	// Mode is "guest", "jwt" or, for demos and tests, "open". Default "guest".
	Mode string `toml:"mode" oneof:"open,guest,jwt" alias:"none=open,off=open,cookie=guest,anonymous=guest,token=jwt,oidc=jwt,oauth=jwt,bearer=jwt"`
	// SessionTTL is how long a name is kept for its owner after they signed in or
	// were renewed. Default 720h, thirty days.
	SessionTTL time.Duration `toml:"session_ttl" min:"1s" max:"87600h"`
	// CookieKey signs the cookies. It is a secret: any text of at least 32 bytes,
	// taken as it is (what "openssl rand -base64 32" prints is good), and the same
	// for all servers that share their users. Changing it signs everyone out.
	// Default: a random key, kept in DataDir.
	CookieKey string `toml:"cookie_key"`
	// JWT is for mode jwt, which uses none of the above.
	JWT JWTConfig `toml:"jwt"`
	// DataDir is where the random key is kept, in the file cookie.key that only the
	// owner may read. Empty: the key is not kept, and everyone is signed out when
	// the process ends.
	DataDir string `toml:"-"`
	// Log gets changes of JWT.KeyFile, and secrets with open permissions. Default slog.Default().
	Log *slog.Logger `toml:"-"`
	// Rehearsal makes New create no file.
	Rehearsal bool `toml:"-"`
}

// DefaultConfig returns the defaults of the [auth] table.
func DefaultConfig() Config {
	return Config{Mode: ModeGuest, SessionTTL: 720 * time.Hour, JWT: DefaultJWTConfig()}
}

// Validate reports keys that are missing or too short, without showing them. It reads no file.
func (c Config) Validate() error {
	if c.Mode == ModeJWT {
		return c.JWT.validate()
	}
	if c.CookieKey != "" && len(strings.TrimSpace(c.CookieKey)) < secretfile.MinBytes {
		return fmt.Errorf(`auth.cookie_key: too short; use at least %d bytes, as "openssl rand -base64 32" prints them, or leave it empty for a random key kept in data_dir`, secretfile.MinBytes)
	}
	return nil
}

// What callers branch on, with errors.Is.
var (
	// ErrNoSession: the cookie or token proves nothing (any more). Sign in. For a token it
	// is a TokenError.
	ErrNoSession = errors.New("no valid session; sign in with a name")
	// ErrOtherName: the cookie proves another name than the one asked for.
	ErrOtherName = errors.New("signed in with another name")
	// ErrTaken: somebody else holds the name, or one that looks like it. Claims returns it.
	ErrTaken = errors.New("the name, or one that looks like it, is taken; choose another one")
	// ErrTooManyNames: the owner holds as many names as one may. Claims returns it.
	ErrTooManyNames = errors.New("too many names in use; go back to one of yours")
	// ErrInvalidName: no user can have this name. See ValidName.
	ErrInvalidName = errors.New("invalid name")
	// ErrSignInElsewhere: in mode jwt names come from the operator's own login.
	ErrSignInElsewhere = errors.New("names come from another login")
)

// Claims keeps who holds which name. The spellings of a name (names.Key) are one name
// there, and nobody can take a name that looks like one that is held.
// It is safe for concurrent use.
type Claims interface {
	// Claim makes owner the holder of name until ttl has passed, or renews that,
	// which keeps since when they hold it.
	// Its errors include ErrTaken, when another owner holds the name or somebody one that
	// looks like it, and ErrTooManyNames.
	Claim(ctx context.Context, name, owner string, ttl time.Duration) error
	// Holds returns in which spelling owner holds name now, empty if they do not, and
	// since when: the zero time if that was not recorded.
	Holds(ctx context.Context, name, owner string) (spelling string, since time.Time, err error)
	// Spelling returns in which spelling name is held, empty if it is not. The error is
	// ErrTaken if the name is free but looks like a held one, so that no user can take it.
	Spelling(ctx context.Context, name string) (spelling string, err error)
}

// Session is the proof that somebody is the holder of a name.
type Session struct {
	// Name is a name as ValidName returns it, in mode guest in the spelling of the claim.
	Name string
	// Owner stands for the browser that holds the name, in hexadecimal. Empty in
	// modes open and jwt. It is not for other users to see.
	Owner string
	// Expires is when the session ends. Zero in mode open: never.
	Expires time.Time
	// Since is when the owner took the name: what was said with it in private before
	// is somebody else's. Zero in modes open and jwt: the name was never another one's.
	Since time.Time
}

// Auth signs visitors in and recognises them. It is safe for concurrent use.
type Auth struct {
	mode   string
	ttl    time.Duration
	key    []byte
	claims Claims
	tokens *verifier // In mode jwt.
}

// New returns an Auth for cfg. In mode guest claims is required, and the key is
// read, or made and kept, in cfg.DataDir; of several processes that do this at the
// same time, all get the same key. In mode jwt the keys of cfg.JWT are read.
func New(cfg Config, claims Claims) (*Auth, error) {
	if cfg.Mode == "" {
		cfg.Mode = ModeGuest
	}
	if cfg.SessionTTL <= 0 {
		cfg.SessionTTL = DefaultConfig().SessionTTL
	}
	a := &Auth{mode: cfg.Mode, ttl: cfg.SessionTTL, claims: claims}
	switch cfg.Mode {
	case ModeOpen:
		return a, nil
	case ModeGuest, ModeJWT:
	default:
		return nil, fmt.Errorf("auth.mode: %q is not one of open, guest, jwt", cfg.Mode)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	var err error
	if cfg.Mode == ModeJWT {
		a.tokens, err = newVerifier(cfg.JWT, cfg.Log)
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	if claims == nil {
		return nil, errors.New("auth: names are claimed in a store, and there is none; give New one, or set auth.mode to open")
	}
	if a.key, err = loadKey(cfg.CookieKey, cfg.DataDir, cfg.Rehearsal, cfg.Log); err != nil {
		return nil, err
	}
	return a, nil
}

// Mode returns ModeOpen, ModeGuest or ModeJWT.
func (a *Auth) Mode() string { return a.mode }

// KeyID returns a short name of the key in mode guest, which tells installations apart and does not
// reveal the key. Otherwise it is empty.
func (a *Auth) KeyID() string {
	if a.mode != ModeGuest {
		return ""
	}
	h := hmac.New(sha256.New, a.key)
	h.Write([]byte("burrow key id\x00"))
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// SignIn claims name for the visitor who sent cookie, and returns the session and
// the cookie that proves it. A visitor with a valid cookie, of whatever name, stays
// the same owner and may take up a name again that they hold; everyone else (cookie
// may be empty, or nonsense) is a new owner. In mode open nothing is claimed and
// the new cookie is empty. Errors: ErrInvalidName, ErrTaken, ErrTooManyNames, or
// that of the store; in mode jwt always ErrSignInElsewhere.
func (a *Auth) SignIn(ctx context.Context, cookie, name string) (Session, string, error) {
	if a.mode == ModeJWT {
		return Session{}, "", fmt.Errorf("auth: sign in: %w", ErrSignInElsewhere)
	}
	name, err := ValidName(name)
	if err != nil {
		return Session{}, "", err
	}
	if a.mode == ModeOpen {
		return Session{Name: name}, "", nil
	}
	// The signature is enough here: an owner whose claim is gone, with the store of
	// before, may claim again.
	old, err := a.open(cookie, time.Now())
	if err != nil {
		old.Owner = newOwner()
	}
	return a.grant(ctx, name, old.Owner)
}

// Verify returns the session that cookie, or in mode jwt a token, proves. Errors:
// ErrNoSession if the cookie is not one of ours, has expired, or its name is no longer
// held by its owner; or that of the store, when it cannot tell. Of a token ErrNoSession is
// all, mostly as a TokenError. In mode open no cookie proves anything.
func (a *Auth) Verify(ctx context.Context, cookie string) (Session, error) {
	switch a.mode {
	case ModeOpen:
		return Session{}, fmt.Errorf("auth: mode open: %w", ErrNoSession)
	case ModeJWT:
		return a.tokens.verify(cookie)
	}
	s, err := a.open(cookie, time.Now())
	if err != nil {
		return Session{}, err
	}
	if s.Name, s.Since, err = a.held(ctx, s.Name, s.Owner); err != nil {
		return Session{}, err
	}
	return s, nil
}

// Renew is Verify, and for a session past half its life it claims the name for
// another SessionTTL and returns the new session and its cookie; the old one stays
// good until it expires. Otherwise, and always in mode jwt, the new cookie is empty.
func (a *Auth) Renew(ctx context.Context, cookie string) (Session, string, error) {
	s, err := a.Verify(ctx, cookie)
	if err != nil || a.mode == ModeJWT || time.Until(s.Expires) > a.ttl/2 {
		return s, "", err
	}
	return a.grant(ctx, s.Name, s.Owner)
}

// Identify returns the session of somebody who says that their name is name: in
// mode open that of any valid name, otherwise that of the cookie or token. Errors:
// ErrInvalidName, ErrOtherName, and those of Verify.
func (a *Auth) Identify(ctx context.Context, cookie, name string) (Session, error) {
	name, err := ValidName(name)
	if err != nil {
		return Session{}, err
	}
	if a.mode == ModeOpen {
		return Session{Name: name}, nil
	}
	s, err := a.Verify(ctx, cookie)
	if err == nil && !a.Same(s.Name, name) {
		return Session{}, fmt.Errorf("auth: %q asked for %q: %w", s.Name, name, ErrOtherName)
	}
	return s, err
}

// grant claims name for owner and seals the session.
func (a *Auth) grant(ctx context.Context, name, owner string) (Session, string, error) {
	// Before the claim, which so does not end before the cookie.
	s := Session{Name: name, Owner: owner, Expires: time.Now().Add(a.ttl).Truncate(time.Second)}
	if err := a.claims.Claim(ctx, name, owner, a.ttl); err != nil {
		return Session{}, "", fmt.Errorf("auth: claim %q: %w", name, err)
	}
	var err error
	if s.Name, s.Since, err = a.held(ctx, name, owner); err != nil {
		return Session{}, "", err
	}
	cookie, err := a.seal(s)
	if err != nil {
		return Session{}, "", err
	}
	return s, cookie, nil
}

// Same reports whether x and y, valid names, are names of one user: in mode guest also in other
// spellings. In mode jwt the operator's login may have another user for each spelling.
func (a *Auth) Same(x, y string) bool {
	return x == y || a.mode == ModeGuest && names.Key(x) == names.Key(y)
}

// Resolve returns the one spelling by which messages reach the user with the valid name: in mode guest
// that of the claim, if the name is held. Errors: ErrTaken if the name is free but looks like a held one,
// so that no user can take it; or that of the store.
func (a *Auth) Resolve(ctx context.Context, name string) (string, error) {
	if a.mode != ModeGuest {
		return name, nil
	}
	spelling, err := a.claims.Spelling(ctx, name)
	if err != nil {
		return "", fmt.Errorf("auth: find %q: %w", name, err)
	}
	return cmp.Or(spelling, name), nil
}

// held returns the spelling in which owner holds name, and since when. The error is ErrNoSession if
// they do not.
func (a *Auth) held(ctx context.Context, name, owner string) (string, time.Time, error) {
	spelling, since, err := a.claims.Holds(ctx, name, owner)
	switch {
	case err != nil:
		return "", time.Time{}, fmt.Errorf("auth: verify %q: %w", name, err)
	case spelling == "":
		return "", time.Time{}, fmt.Errorf("auth: %q has another holder now, or none: %w", name, ErrNoSession)
	}
	return spelling, since, nil
}

// newOwner returns 128 random bits in hexadecimal.
func newOwner() string {
	var id [ownerBytes]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the program instead
	return hex.EncodeToString(id[:])
}
