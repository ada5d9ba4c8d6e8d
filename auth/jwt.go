package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWTConfig is the [auth.jwt] table of config.toml: whose tokens prove names in mode jwt.
type JWTConfig struct {
	// Algorithm is the only one that a token may be signed with: HS256, EdDSA (Ed25519) or
	// RS256. What a token says of itself decides nothing. Default "HS256".
	Algorithm string `toml:"algorithm" oneof:"HS256,EdDSA,RS256" alias:"ed25519=EdDSA,hmac=HS256,rsa=RS256"`
	// Key is the secret of HS256: any text of at least 32 bytes, taken as it is. Either this
	// or KeyFile is required.
	Key string `toml:"key"`
	// KeyFile is the path of the key, or of several: a PEM public key, a JSON Web Key Set, or for
	// HS256 also the bare secret. It is read again when it has changed.
	KeyFile string `toml:"key_file"`
	// Issuer, if set, has to be the token's "iss".
	Issuer string `toml:"issuer"`
	// Audience has to be among the token's "aud"; empty: anything may, or nothing. Default
	// "burrow".
	Audience string `toml:"audience"`
	// LoginURL is where the page sends people who have no token: an http or https URL, or a
	// path on the same host. Empty: the page can only say that one has to sign in elsewhere.
	LoginURL string `toml:"login_url"`
}

// DefaultJWTConfig returns the defaults of the [auth.jwt] table.
func DefaultJWTConfig() JWTConfig {
	return JWTConfig{Algorithm: "HS256", Audience: "burrow"}
}

// validate reports a key that is missing, there twice, or for nothing.
func (c JWTConfig) validate() error {
	switch {
	case c.Key == "" && c.KeyFile == "":
		return errors.New("auth.jwt.key_file: auth.mode jwt needs the key that tokens are signed with; name its file, or for HS256 set auth.jwt.key")
	case c.Key != "" && c.KeyFile != "":
		return errors.New("auth.jwt.key_file: there is auth.jwt.key too; leave one of them empty")
	case c.Key != "" && c.Algorithm != "" && c.Algorithm != "HS256":
		return errors.New("auth.jwt.key: this is for HS256 only; put the public key into a file, and name that with auth.jwt.key_file")
	}
	return nil
}

// TokenError says why a token proves nothing, for whoever made it. It repeats nothing of the
// token, and it is an ErrNoSession.
type TokenError struct {
	Reason string
	// Lasting reports that another sign-in does not help: the login makes tokens for another
	// service, or for a name that is not allowed.
	Lasting bool
}

func (e *TokenError) Error() string { return "auth: the token " + e.Reason }

// Is makes a TokenError an ErrNoSession.
func (e *TokenError) Is(target error) bool { return target == ErrNoSession }

const (
	// maxToken bounds a token, in bytes: a browser keeps cookies up to 4096, the name included.
	maxToken = 4000
	// clockSkew is how far the clock of who makes the tokens may be ahead of ours.
	clockSkew = 5 * time.Second
)

// verifier tells which session a token proves. It is safe for concurrent use.
type verifier struct {
	algorithm string
	keys      *keyring
	parser    *jwt.Parser
}

// newVerifier returns a verifier with the keys of cfg, which it reads.
func newVerifier(cfg JWTConfig, log *slog.Logger) (*verifier, error) {
	if cfg.Algorithm == "" {
		cfg.Algorithm = DefaultJWTConfig().Algorithm
	}
	keys, err := newKeyring(cfg, log)
	if err != nil {
		return nil, err
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{cfg.Algorithm}),
		jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(clockSkew),
		jwt.WithIssuer(cfg.Issuer), // Empty: any.
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	return &verifier{algorithm: cfg.Algorithm, keys: keys, parser: jwt.NewParser(options...)}, nil
}

// verify returns the session that token proves: the user whom its "sub" names, until "exp". The
// error is ErrNoSession, and a TokenError unless there is no token.
func (v *verifier) verify(token string) (Session, error) {
	no := func(why string) (Session, error) { return Session{}, &TokenError{Reason: why} }
	never := func(why string) (Session, error) { return Session{}, &TokenError{Reason: why, Lasting: true} }
	switch {
	case token == "":
		return Session{}, fmt.Errorf("auth: the token is missing: %w", ErrNoSession)
	case len(token) > maxToken:
		return no(fmt.Sprintf("is too long; at most %d bytes are read", maxToken))
	case strings.ContainsAny(token, "\r\n"): // base64 would skip them
		return no("is damaged")
	}
	// A map, because the fields of a struct also take claims that differ in case.
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, v.key)
	if err != nil {
		return Session{}, v.reason(parsed, err)
	}
	expires, _ := claims.GetExpirationTime() // No error: it was checked.
	switch {
	case !time.Now().Before(expires.Time): // Clocks that differ give nobody more time.
		return no("has expired; get a new one")
	case expires.Year() > 9999:
		return never(`expires ("exp") after the year 9999`)
	}
	sub, err := claims.GetSubject()
	if err != nil || sub == "" {
		return never(`names no user: "sub" has to be a text`)
	}
	name, err := ValidName(sub)
	if err != nil {
		return never(fmt.Sprintf(`has no valid user name ("sub"): %v`, err))
	}
	// Whoever may choose their account's name must not become another account by writing it in
	// another form.
	if name != sub {
		return never(`names a user ("sub") that is not in Unicode normal form C`)
	}
	return Session{Name: name, Expires: expires.Time}, nil
}

// key returns the key that token has to be signed with.
func (v *verifier) key(token *jwt.Token) (any, error) {
	if _, is := token.Header["crit"]; is {
		return nil, &TokenError{Reason: `asks for an extension ("crit") that is not known here`}
	}
	kid := ""
	if raw, is := token.Header["kid"]; is {
		if kid, is = raw.(string); !is || kid == "" {
			return nil, &TokenError{Reason: `has a "kid" that is no text`}
		}
	}
	return v.keys.find(kid)
}

// reason returns what is wrong with a token, and nothing of its content.
func (v *verifier) reason(token *jwt.Token, err error) *TokenError {
	var why *TokenError
	switch {
	case errors.As(err, &why):
		return why
	case errors.Is(err, jwt.ErrTokenMalformed):
		return &TokenError{Reason: "is not a JWT, or damaged"}
	case token.Method == nil || token.Method.Alg() != v.algorithm:
		return &TokenError{Reason: "is not signed with " + v.algorithm + ", which auth.jwt.algorithm demands"}
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return &TokenError{Reason: "has a wrong signature"}
	case errors.Is(err, jwt.ErrTokenExpired):
		return &TokenError{Reason: "has expired; get a new one"}
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return &TokenError{Reason: `is not valid yet ("nbf"); do the clocks agree?`}
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &TokenError{Reason: `is for another audience ("aud" is not what auth.jwt.audience demands)`, Lasting: true}
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return &TokenError{Reason: `has another issuer ("iss" is not what auth.jwt.issuer demands)`, Lasting: true}
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return &TokenError{Reason: `lacks a claim: it needs "sub" and "exp", and what auth.jwt.audience ("aud") and auth.jwt.issuer ("iss") demand`, Lasting: true}
	}
	return &TokenError{Reason: "has a claim of the wrong type", Lasting: true}
}
