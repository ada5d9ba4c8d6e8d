package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"burrow/internal/secretfile"
)

const (
	// lookAgain is the least time between two looks at the key file.
	lookAgain = time.Second

	maxKeyFile = 64 << 10 // Bytes.
	maxKeys    = 64

	// The sizes of RSA keys in bits: below they can be broken, above they cost too much.
	minRSA = 2048
	maxRSA = 8192
)

// keyring holds the keys that may have signed a token. Those of a file are read again when it has
// changed, by whoever asks next: there is no goroutine, and at most one look each lookAgain. It is
// safe for concurrent use.
type keyring struct {
	algorithm string
	path      string // Empty: the key was configured.
	log       *slog.Logger

	mu      sync.Mutex
	keys    []verifyKey
	content []byte // What the file held when keys was made of it.
	looked  time.Time
	trouble string // Why the last look failed, so that it is logged once.
}

// verifyKey is a key of the type that the algorithm needs: []byte, ed25519.PublicKey or
// *rsa.PublicKey.
type verifyKey struct {
	id  string // Its "kid", or "".
	key any
}

func newKeyring(cfg JWTConfig, log *slog.Logger) (*keyring, error) {
	k := &keyring{algorithm: cfg.Algorithm, path: cfg.KeyFile, log: log}
	if cfg.KeyFile == "" {
		secret, err := secretKey([]byte(cfg.Key))
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.key: %w", err)
		}
		k.keys = []verifyKey{{key: secret}}
		return k, nil
	}
	if err := k.read(); err != nil {
		return nil, fmt.Errorf("auth.jwt.key_file: %w", err)
	}
	k.looked = time.Now()
	return k, nil
}

// find returns the key that a token with this "kid" (empty: it has none) is signed with. The error
// is a TokenError.
func (k *keyring) find(kid string) (any, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	if len(k.keys) == 1 && (kid == "" || k.keys[0].id == "") {
		return k.keys[0].key, nil
	}
	if kid == "" && len(k.keys) > 0 {
		return nil, &TokenError{Reason: `does not say which key ("kid") it is signed with, and there are several`}
	}
	for _, key := range k.keys {
		if key.id == kid {
			return key.key, nil
		}
	}
	return nil, &TokenError{Reason: `is signed with a key ("kid") that is not known here`}
}

// refresh takes the keys of the file if it has changed. A missing, damaged or unreadable file
// changes nothing, or a slip of the hand would sign everyone out. A well-formed set decides: a key
// that is not in it ends, one whose entry is damaged stays as it was, and a set without a usable key
// ends all tokens.
func (k *keyring) refresh() {
	now := time.Now()
	if k.path == "" || now.Sub(k.looked) < lookAgain {
		return
	}
	k.looked = now
	trouble := ""
	if err := k.read(); err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != k.trouble {
		k.log.Warn("auth.jwt.key_file cannot be read again; the keys of before stay", "error", trouble)
	}
	k.trouble = trouble
}

// read takes the keys of the file, unless it is as it was.
func (k *keyring) read() error {
	content, err := secretfile.ReadRegular(k.path, maxKeyFile)
	if err != nil || k.keys != nil && bytes.Equal(content, k.content) {
		return err
	}
	keys, damaged, err := parseKeys(k.algorithm, content)
	running := k.keys != nil
	switch {
	case err != nil:
	case !running && len(damaged) > 0:
		err = damaged[0].err
	case !running && len(keys) == 0:
		err = fmt.Errorf("there is no key for auth.jwt.algorithm %q in it", k.algorithm)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	if running {
		keys = k.replace(keys, damaged)
	}
	k.keys, k.content = keys, content
	if k.algorithm == "HS256" {
		secretfile.WarnIfExposed(k.path, k.log)
	}
	return nil
}

// replace returns keys, the usable ones of a changed file, and each current key whose entry in the
// file is damaged. It logs the change.
func (k *keyring) replace(keys []verifyKey, damaged []damagedKey) []verifyKey {
	keys = append([]verifyKey{}, keys...) // not nil, as before the first file
	with := func(id string) func(verifyKey) bool { return func(key verifyKey) bool { return key.id == id } }
	for _, d := range damaged {
		now := slices.IndexFunc(k.keys, with(d.id))
		kept := now >= 0 && !slices.ContainsFunc(keys, with(d.id))
		if kept {
			keys = append(keys, k.keys[now])
		}
		k.log.Warn("auth.jwt.key_file has a damaged key; correct it", "file", k.path, "kid", d.id, "earlier_key_stays", kept, "error", d.err)
	}
	if len(keys) == 0 {
		k.log.Warn("auth.jwt.key_file has no key for auth.jwt.algorithm; tokens are refused until it has one", "file", k.path, "algorithm", k.algorithm)
	} else {
		k.log.Info("auth.jwt.key_file has changed", "keys", len(keys))
	}
	return keys
}

// parseKeys returns the keys for algorithm in a key file: of a JSON Web Key Set, a PEM public
// key, or the secret of HS256. What its errors say is no secret.
func parseKeys(algorithm string, content []byte) ([]verifyKey, []damagedKey, error) {
	content = bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\ufeff")))
	if bytes.HasPrefix(content, []byte("{")) {
		return parseKeySet(algorithm, content)
	}
	var key any
	var err error
	if algorithm == "HS256" {
		key, err = secretKey(content)
	} else {
		key, err = pemKey(algorithm, content)
	}
	if err != nil {
		return nil, nil, err
	}
	return []verifyKey{{key: key}}, nil, nil
}

// secretKey returns the key of HS256 that is given as text.
func secretKey(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	// Whoever knows a public key, or the error page of a failed download, could sign with it.
	enclosed := func(first, last string) bool {
		return bytes.HasPrefix(text, []byte(first)) && bytes.HasSuffix(text, []byte(last))
	}
	switch {
	case bytes.Contains(text, []byte("-----BEGIN")):
		return nil, errors.New("this is a PEM key, not a secret of HS256; set auth.jwt.algorithm to EdDSA or RS256")
	case enclosed("<", ">"), enclosed("[", "]"), enclosed("{", "}"):
		return nil, errors.New("this is a page or JSON, not a secret of HS256; write the secret alone, or a JSON Web Key Set into a file")
	}
	if len(text) < secretfile.MinBytes {
		return nil, fmt.Errorf(`the secret of HS256 is too short; use at least %d bytes, as "openssl rand -base64 32" prints them`, secretfile.MinBytes)
	}
	return bytes.Clone(text), nil
}

// pemKey returns the public key in a PEM file.
func pemKey(algorithm string, content []byte) (any, error) {
	block, rest := pem.Decode(content)
	switch {
	case block == nil:
		return nil, errors.New("there is neither a PEM public key nor a JSON Web Key Set in it")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New(`this is a private key, which only who makes the tokens should have; give Burrow the public one, as "openssl pkey -pubout" prints it`)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("there is more than one PEM key in it; several keys go into a JSON Web Key Set")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf(`this is not a public key, as "openssl pkey -pubout" prints it: %w`, err)
	}
	return checkKey(algorithm, key)
}

// checkKey returns key if algorithm can use it.
func checkKey(algorithm string, key any) (any, error) {
	switch key := key.(type) {
	case ed25519.PublicKey:
		if algorithm == "EdDSA" {
			return key, nil
		}
	case *rsa.PublicKey:
		if algorithm != "RS256" {
			break
		}
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("an RSA key of %d bits; use one of %d to %d", bits, minRSA, maxRSA)
		}
		if key.E < 3 || key.E%2 == 0 || key.N.Bit(0) == 0 {
			return nil, errors.New("this RSA key is damaged")
		}
		return key, nil
	}
	return nil, fmt.Errorf("the key is not of the type that auth.jwt.algorithm %q needs", algorithm)
}

// jwk is a JSON Web Key (RFC 7517), as far as it is used here.
type jwk struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	K         string `json:"k"`
	D         string `json:"d"` // There in a private key only.
}

// keyTypes are the "kty" of the keys that each algorithm takes.
var keyTypes = map[string]string{"HS256": "oct", "EdDSA": "OKP", "RS256": "RSA"}

// damagedKey is an entry of a set that algorithm should be able to use, and cannot.
type damagedKey struct {
	id  string // Its "kid", or "".
	err error
}

// parseKeySet returns the keys of a set that algorithm can use, and the damaged ones; those for
// something else are skipped. There may be none: an operator ends all tokens with such a set.
func parseKeySet(algorithm string, content []byte) (keys []verifyKey, damaged []damagedKey, err error) {
	var set map[string]json.RawMessage // A struct would also match "KEYS".
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, nil, fmt.Errorf("this is not a JSON Web Key Set: %w", err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(set["keys"], &all); err != nil || all == nil {
		return nil, nil, errors.New(`this is not a JSON Web Key Set: the member "keys" is not a list`)
	}
	if len(all) > maxKeys {
		return nil, nil, fmt.Errorf("there are %d keys in it; %d may be", len(all), maxKeys)
	}
	ids := map[string]bool{}
	for i, raw := range all {
		var j jwk
		if err := json.Unmarshal(raw, &j); err != nil { // What it could read is in j.
			damaged = append(damaged, damagedKey{j.ID, fmt.Errorf("key %d is not a JSON Web Key: a member has the wrong type", i+1)})
			continue
		}
		if j.Type != keyTypes[algorithm] || j.Use != "" && j.Use != "sig" || j.Algorithm != "" && j.Algorithm != algorithm ||
			j.Type == "OKP" && j.Curve != "Ed25519" {
			continue
		}
		key, err := j.key(algorithm)
		if err == nil && ids[j.ID] {
			err = errors.New("it has the kid of another one, or neither has one")
		}
		if err != nil {
			damaged = append(damaged, damagedKey{j.ID, fmt.Errorf("key %d: %w", i+1, err)})
			continue
		}
		ids[j.ID] = true
		keys = append(keys, verifyKey{j.ID, key})
	}
	return keys, damaged, nil
}

// key returns the key of j, whose type is right.
func (j *jwk) key(algorithm string) (any, error) {
	if j.D != "" {
		return nil, errors.New(`this is a private key ("d"), which only who makes the tokens should have`)
	}
	switch algorithm {
	case "HS256":
		secret, err := member("k", j.K)
		if err == nil && len(secret) < secretfile.MinBytes {
			err = fmt.Errorf(`"k" is too short; use at least %d bytes`, secretfile.MinBytes)
		}
		return secret, err
	case "EdDSA":
		x, err := member("x", j.X)
		if err == nil && len(x) != ed25519.PublicKeySize {
			err = fmt.Errorf(`"x" has %d bytes, and not %d`, len(x), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(x), err
	}
	n, err := member("n", j.N)
	if err != nil {
		return nil, err
	}
	e, err := member("e", j.E)
	if err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.BitLen() > 31 {
		return nil, errors.New(`"e" is too large`)
	}
	return checkKey(algorithm, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())})
}

// member decodes a member of a key, which is no secret in errors.
func member(name, text string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(data) == 0 {
		return nil, fmt.Errorf("%q is missing, or not base64url without padding", name)
	}
	return data, nil
}
