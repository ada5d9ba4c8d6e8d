package auth_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"burrow/auth"
)

// signer makes tokens byte by byte: what no library makes has to be refused too.
type signer struct {
	alg  string
	sign func(text string) []byte
}

// hs256, eddsa and rs256 are three logins, and strangers are others of the same kinds.
var (
	secret               = []byte("a secret of a login that is long enough")
	rsaKey, otherRSA     = newRSA(2048), newRSA(2048)
	edKey, otherEd       = newEd25519(), newEd25519()
	hs256, eddsa         = hmacSigner(secret), edSigner(edKey)
	rs256                = rsaSigner(rsaKey)
	strangerHS, strangeR = hmacSigner([]byte("another secret that is long enough")), rsaSigner(otherRSA)
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newEd25519() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func hmacSigner(key []byte) signer {
	return signer{"HS256", func(text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}}
}

func edSigner(key ed25519.PrivateKey) signer {
	return signer{"EdDSA", func(text string) []byte { return ed25519.Sign(key, []byte(text)) }}
}

func rsaSigner(key *rsa.PrivateKey) signer {
	return signer{"RS256", func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signature
	}}
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// raw signs a header and claims that are given as JSON, or as what should be JSON.
func (s signer) raw(header, payload string) string {
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	return text + "." + b64(s.sign(text))
}

// token signs claims, with a header that has kid unless that is empty.
func (s signer) token(kid string, c claimSet) string {
	header := map[string]any{"alg": s.alg, "typ": "JWT"}
	if kid != "" {
		header["kid"] = kid
	}
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	p, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return s.raw(string(h), string(p))
}

type claimSet map[string]any

// alice returns good claims, with these changes: a nil removes a claim.
func alice(changes claimSet) claimSet {
	c := claimSet{"sub": "alice", "aud": "burrow", "iss": "https://login.example.org", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func publicPEM(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func rsaJWK(kid string, key *rsa.PrivateKey) string {
	return fmt.Sprintf(`{"kty":"RSA","kid":%q,"use":"sig","alg":"RS256","n":%q,"e":%q}`, kid, b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
}

func edJWK(kid string, key ed25519.PrivateKey) string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, kid, b64(key.Public().(ed25519.PublicKey)))
}

func octJWK(kid string, key []byte) string {
	return fmt.Sprintf(`{"kty":"oct","kid":%q,"k":%q}`, kid, b64(key))
}

func keySet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// keyFile keeps content in a file, as it comes from a program of the operator.
func keyFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	writeFile(t, path, content)
	return path
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tokenAuth(t testing.TB, cfg auth.JWTConfig) *auth.Auth {
	t.Helper()
	a, err := auth.New(auth.Config{Mode: auth.ModeJWT, JWT: cfg, Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// strict returns a config that asks for everything that can be asked for.
func strict(t testing.TB, algorithm, key string) auth.JWTConfig {
	return auth.JWTConfig{Algorithm: algorithm, KeyFile: keyFile(t, key), Audience: "burrow", Issuer: "https://login.example.org"}
}

func TestATokenProvesItsSubject(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg    auth.JWTConfig
		signer signer
		kid    string
	}{
		"HS256, configured":        {auth.JWTConfig{Key: " " + string(secret) + "\n", Audience: "burrow"}, hs256, ""},
		"HS256, bare file":         {strict(t, "HS256", string(secret)+"\n"), hs256, ""},
		"HS256, set":               {strict(t, "HS256", keySet(octJWK("1", secret), rsaJWK("2", rsaKey))), hs256, "1"},
		"EdDSA, PEM":               {strict(t, "EdDSA", publicPEM(edKey.Public())), eddsa, ""},
		"EdDSA, PEM and any kid":   {strict(t, "EdDSA", publicPEM(edKey.Public())), eddsa, "2026"},
		"EdDSA, set":               {strict(t, "EdDSA", keySet(edJWK("1", otherEd), edJWK("2", edKey))), eddsa, "2"},
		"RS256, PEM":               {strict(t, "RS256", publicPEM(rsaKey.Public())), rs256, ""},
		"RS256, set":               {strict(t, "RS256", keySet(edJWK("1", edKey), rsaJWK("1", rsaKey), rsaJWK("2", otherRSA))), rs256, "1"},
		"RS256, set of one, no id": {strict(t, "RS256", keySet(rsaJWK("1", rsaKey))), rs256, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := tokenAuth(t, tt.cfg)
			c := alice(claimSet{"sub": "Zoë M", "aud": []string{"other", "burrow"}, "nbf": time.Now().Unix(), "Sub": "bob", "SUB": "bob"})
			token := tt.signer.token(tt.kid, c)
			want := auth.Session{Name: "Zoë M", Expires: time.Unix(c["exp"].(int64), 0)}
			if got, err := a.Verify(t.Context(), token); err != nil || !same(got, want) {
				t.Errorf("Verify: %+v, %v; want %+v", got, err, want)
			}
			if got, renewed, err := a.Renew(t.Context(), token); err != nil || !same(got, want) || renewed != "" {
				t.Errorf("Renew: %+v, %q, %v", got, renewed, err)
			}
			if _, err := a.Identify(t.Context(), token, "bob"); !errors.Is(err, auth.ErrOtherName) {
				t.Errorf("Identify as bob: %v", err)
			}
		})
	}
}

// hostile returns tokens that prove nothing to a Burrow that takes those of rs256, with kid "1", and
// knows the key "2" of another login.
func hostile() map[string]struct{ token, reason string } {
	good := rs256.token("1", alice(nil))
	parts := strings.Split(good, ".")
	pub := publicPEM(rsaKey.Public())
	der, _ := pem.Decode([]byte(pub))
	with := func(alg string, s signer) signer { return signer{alg, s.sign} }
	claim := func(name string, value any) string { return rs256.token("1", alice(claimSet{name: value})) }
	header := func(h string) string {
		payload, _ := json.Marshal(alice(nil))
		return rs256.raw(h, string(payload))
	}
	unsigned := signer{"none", func(string) []byte { return nil }}
	rs384 := signer{"RS384", func(text string) []byte {
		sum := sha512.Sum384([]byte(text))
		signature, _ := rsa.SignPKCS1v15(nil, rsaKey, crypto.SHA384, sum[:])
		return signature
	}}
	ps256 := signer{"PS256", func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, _ := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum[:], nil)
		return signature
	}}
	flip := func(part, at int) string { // One bit of one byte.
		all := strings.Split(good, ".")
		data, _ := base64.RawURLEncoding.DecodeString(all[part])
		if at < 0 {
			at += len(data)
		}
		data[at] ^= 1
		all[part] = b64(data)
		return strings.Join(all, ".")
	}
	const (
		wrongAlgorithm = "not signed with RS256"
		wrongSignature = "wrong signature"
		malformed      = "not a JWT"
		lacks          = "lacks a claim"
		wrongType      = "wrong type"
		noKey          = "not known here"
	)
	return map[string]struct{ token, reason string }{
		"alg none":                             {unsigned.token("1", alice(nil)), wrongAlgorithm},
		"alg None":                             {with("None", unsigned).token("1", alice(nil)), wrongAlgorithm},
		"alg none, old signature":              {b64([]byte(`{"alg":"none","kid":"1"}`)) + "." + parts[1] + "." + parts[2], wrongAlgorithm},
		"alg empty":                            {with("", rs256).token("1", alice(nil)), wrongAlgorithm},
		"alg missing":                          {header(`{"kid":"1"}`), wrongAlgorithm},
		"alg a list":                           {header(`{"alg":["RS256"],"kid":"1"}`), wrongAlgorithm},
		"alg unknown":                          {with("HS1", rs256).token("1", alice(nil)), wrongAlgorithm},
		"HS256 with the public key, PEM":       {hmacSigner([]byte(pub)).token("1", alice(nil)), wrongAlgorithm},
		"HS256 with the public key, trimmed":   {hmacSigner([]byte(strings.TrimSpace(pub))).token("1", alice(nil)), wrongAlgorithm},
		"HS256 with the public key, DER":       {hmacSigner(der.Bytes).token("1", alice(nil)), wrongAlgorithm},
		"HS256 with the modulus":               {hmacSigner(rsaKey.N.Bytes()).token("1", alice(nil)), wrongAlgorithm},
		"HS256 that says RS256":                {with("RS256", hmacSigner([]byte(pub))).token("1", alice(nil)), wrongSignature},
		"RS384 of the same key":                {rs384.token("1", alice(nil)), wrongAlgorithm},
		"PS256 of the same key":                {ps256.token("1", alice(nil)), wrongAlgorithm},
		"EdDSA":                                {eddsa.token("1", alice(nil)), wrongAlgorithm},
		"another RSA key":                      {strangeR.token("1", alice(nil)), wrongSignature},
		"the kid of another key":               {rs256.token("2", alice(nil)), wrongSignature},
		"an unknown kid":                       {rs256.token("3", alice(nil)), noKey},
		"a kid that is a path":                 {rs256.token("../../dev/null", alice(nil)), noKey},
		"no kid, and there are two keys":       {rs256.token("", alice(nil)), "several"},
		"a kid that is a number":               {header(`{"alg":"RS256","kid":1}`), "no text"},
		"a kid that is empty":                  {header(`{"alg":"RS256","kid":""}`), "no text"},
		"a key of its own":                     {strangeR.raw(`{"alg":"RS256","jwk":`+rsaJWK("1", otherRSA)+`}`, `{"sub":"alice","exp":99999999999,"aud":"burrow"}`), "several"},
		"an extension":                         {header(`{"alg":"RS256","kid":"1","crit":["b64"],"b64":false}`), "extension"},
		"one byte of the header":               {flip(0, 9), ""},
		"one byte of the claims":               {flip(1, 9), ""},
		"one byte of the signature":            {flip(2, 0), wrongSignature},
		"the last byte of the signature":       {flip(2, -1), wrongSignature},
		"bits that base64 leaves over":         {good[:len(good)-1] + string(nextOf(good[len(good)-1])), malformed},
		"no signature":                         {parts[0] + "." + parts[1] + ".", wrongSignature},
		"two parts":                            {parts[0] + "." + parts[1], malformed},
		"four parts":                           {good + ".x", malformed},
		"padding":                              {good + "==", malformed},
		"a space":                              {" " + good, malformed},
		"a line break":                         {parts[0] + ".\n" + parts[1] + "." + parts[2], "damaged"},
		"other claims, old signature":          {parts[0] + "." + b64([]byte(`{"sub":"bob","aud":"burrow","exp":99999999999}`)) + "." + parts[2], wrongSignature},
		"expired":                              {claim("exp", time.Now().Add(-time.Second).Unix()), "expired"},
		"expired long ago":                     {claim("exp", 1), "expired"},
		"expires before time began":            {claim("exp", -1e300), "expired"},
		"never expires":                        {claim("exp", nil), lacks},
		"never expires: 0":                     {claim("exp", 0), lacks},
		"expires at a text":                    {claim("exp", "99999999999"), wrongType},
		"expires at an endless number":         {claim("exp", 1e15), "9999"},
		"not valid yet":                        {claim("nbf", time.Now().Add(time.Minute).Unix()), "not valid yet"},
		"not valid at a text":                  {claim("nbf", "now"), wrongType},
		"another audience":                     {claim("aud", "intranet"), "another audience"},
		"an audience that differs in case":     {claim("aud", "Burrow"), "another audience"},
		"no audience":                          {claim("aud", nil), lacks},
		"an empty list of audiences":           {claim("aud", []string{}), lacks},
		"an audience that is a number":         {claim("aud", []any{"burrow", 7}), wrongType},
		"another issuer":                       {claim("iss", "https://login.example.org.evil"), "another issuer"},
		"no issuer":                            {claim("iss", nil), lacks},
		"nobody":                               {claim("sub", nil), "names no user"},
		"nobody: empty":                        {claim("sub", ""), "names no user"},
		"nobody: a number":                     {claim("sub", 7), "names no user"},
		"everyone":                             {claim("sub", "Global"), "has no valid user name"},
		"a name that ends in a space":          {claim("sub", "alice "), "has no valid user name"},
		"a name with a zero byte":              {claim("sub", "alice\x00"), "has no valid user name"},
		"a name of markup":                     {claim("sub", "<b>"), "has no valid user name"},
		"a name that is too long":              {claim("sub", strings.Repeat("x", 65)), "has no valid user name"},
		"a name in another normal form":        {claim("sub", "Ame\u0301lie"), "normal form C"},
		"claims that are a list":               {rs256.raw(`{"alg":"RS256","kid":"1"}`, `[]`), malformed},
		"claims that are null":                 {rs256.raw(`{"alg":"RS256","kid":"1"}`, `null`), lacks},
		"claims in capitals":                   {rs256.raw(`{"alg":"RS256","kid":"1"}`, `{"SUB":"alice","EXP":99999999999,"AUD":"burrow","ISS":"https://login.example.org"}`), lacks},
		"claims and more":                      {rs256.raw(`{"alg":"RS256","kid":"1"}`, `{"sub":"alice"}{}`), malformed},
		"a header that is null":                {header(`null`), wrongAlgorithm},
		"deep claims":                          {rs256.raw(`{"alg":"RS256","kid":"1"}`, strings.Repeat("[", 1200)+strings.Repeat("]", 1200)), malformed},
		"too much":                             {claim("x", strings.Repeat("x", 4000)), "too long"},
		"the cookie of a guest":                {"AQAAAABpfoYAAAAAAAAAAAAAAAAAAAAAAGFsaWNl.AAAA", malformed},
		"a token for another login's audience": {strangerHS.token("1", alice(claimSet{"aud": "x"})), wrongAlgorithm},
	}
}

// nextOf returns the character of base64url whose value is one more than c's.
func nextOf(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[(strings.IndexByte(alphabet, c)+1)%64]
}

func TestHostileTokensProveNothing(t *testing.T) {
	cfg := strict(t, "RS256", keySet(rsaJWK("1", rsaKey), rsaJWK("2", otherRSA), edJWK("1", edKey)))
	a := tokenAuth(t, cfg)
	if _, err := a.Verify(t.Context(), rs256.token("1", alice(nil))); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	for name, tt := range hostile() {
		t.Run(name, func(t *testing.T) {
			s, err := a.Verify(t.Context(), tt.token)
			var why *auth.TokenError
			if !errors.Is(err, auth.ErrNoSession) || !errors.As(err, &why) || s != (auth.Session{}) {
				t.Fatalf("got %+v, %v; want a TokenError", s, err)
			}
			if !strings.Contains(why.Reason, tt.reason) {
				t.Errorf("the reason is that it %s; want %q", why.Reason, tt.reason)
			}
			if strings.Contains(why.Reason, "eyJ") || strings.Contains(why.Reason, "alice") {
				t.Errorf("the reason repeats the token: %s", why.Reason)
			}
		})
	}
	if _, err := a.Verify(t.Context(), ""); !errors.Is(err, auth.ErrNoSession) || errors.As(err, new(*auth.TokenError)) {
		t.Errorf("no token: %v", err)
	}
}

func TestTheOnlyKeyIsNotForEveryID(t *testing.T) {
	a := tokenAuth(t, auth.JWTConfig{Algorithm: "EdDSA", KeyFile: keyFile(t, keySet(edJWK("1", edKey)))})
	for kid, want := range map[string]string{"": "", "1": "", "2": "not known here"} {
		if _, err := a.Verify(t.Context(), eddsa.token(kid, alice(nil))); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("kid %q: %v, want %q", kid, err, want)
		}
	}
}

func TestWhatIsNotDemandedIsNotChecked(t *testing.T) {
	a := tokenAuth(t, auth.JWTConfig{Key: string(secret)})
	for _, c := range []claimSet{alice(nil), alice(claimSet{"aud": nil, "iss": nil}), alice(claimSet{"aud": "x", "iss": "y"})} {
		if _, err := a.Verify(t.Context(), hs256.token("", c)); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestATokenEndsAtItsExpiry(t *testing.T) {
	a := tokenAuth(t, auth.JWTConfig{Key: string(secret)})
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		token := hs256.token("", alice(claimSet{"exp": now.Add(time.Minute).Unix()}))
		early := hs256.token("", alice(claimSet{"nbf": now.Add(5 * time.Second).Unix()}))
		if _, err := a.Verify(t.Context(), early); err != nil {
			t.Errorf("by a clock that is 5s ahead: %v", err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if _, err := a.Verify(t.Context(), token); err != nil {
			t.Errorf("in its last moment: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := a.Verify(t.Context(), token); !errors.Is(err, auth.ErrNoSession) {
			t.Errorf("at its expiry: %v", err)
		}
	})
}

func TestNobodySignsInHere(t *testing.T) {
	a := tokenAuth(t, auth.JWTConfig{Key: string(secret)})
	if _, cookie, err := a.SignIn(t.Context(), "", "alice"); !errors.Is(err, auth.ErrSignInElsewhere) || cookie != "" {
		t.Errorf("SignIn: %q, %v", cookie, err)
	}
	if a.Mode() != "jwt" {
		t.Errorf("mode %s", a.Mode())
	}
}

func TestKeyFileIsReadAgain(t *testing.T) {
	var said strings.Builder
	path := keyFile(t, keySet(edJWK("old", edKey)))
	synctest.Test(t, func(t *testing.T) {
		cfg := auth.Config{Mode: auth.ModeJWT, Log: slog.New(slog.NewTextHandler(&said, nil))}
		cfg.JWT = auth.JWTConfig{Algorithm: "EdDSA", KeyFile: path}
		a, err := auth.New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, after := eddsa.token("old", alice(nil)), edSigner(otherEd).token("new", alice(nil))
		check := func(when string, oldGood, newGood bool) {
			t.Helper()
			_, err := a.Verify(t.Context(), before)
			_, err2 := a.Verify(t.Context(), after)
			if (err == nil) != oldGood || (err2 == nil) != newGood {
				t.Errorf("%s: the old key %v, the new one %v", when, err, err2)
			}
		}
		check("at first", true, false)
		writeFile(t, path, keySet(edJWK("old", edKey), edJWK("new", otherEd)))
		check("within the second", true, false)
		time.Sleep(time.Second)
		check("with both", true, true)
		writeFile(t, path, keySet(edJWK("new", otherEd)))
		time.Sleep(time.Second)
		check("without the old one", false, true)

		damage := []string{"", "{}", "[]", `{"keys":null}`, `{"keys":{}}`, `{"KEYS":[]}`, `{"keys":[]`, `{"keys":[]}x`, keySet(edJWK("old", edKey))[:50], publicPEM(rsaKey.Public())}
		for _, broken := range damage {
			writeFile(t, path, broken)
			for range 3 {
				time.Sleep(time.Second)
				check("with a broken file", false, true)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("without a file", false, true)
		if got := strings.Count(said.String(), "the keys of before stay"); got < 4 || got > len(damage)+1 {
			t.Errorf("%d warnings of %d troubles:\n%s", got, len(damage)+1, said.String())
		}
		writeFile(t, path, keySet(edJWK("old", edKey)))
		time.Sleep(time.Second)
		check("with the old key again", true, false)
	})
}

// TestKeyFile_DamagedKeys replaces a set of the keys "old" and "new" by one with damaged entries: a
// key whose entry is gone ends, and one whose entry is damaged stays.
func TestKeyFile_DamagedKeys(t *testing.T) {
	old, next := edJWK("old", edKey), edJWK("new", otherEd)
	damaged := func(id string) string { return `{"kty":"OKP","crv":"Ed25519","kid":"` + id + `","x":"AAAA"}` }
	for name, tt := range map[string]struct {
		set      string
		old, new bool
	}{
		"a third one":             {keySet(next, damaged("third")), false, true},
		"a third one first":       {keySet(damaged("third"), next), false, true},
		"the removed one's":       {keySet(next, damaged("old")), true, true},
		"both":                    {keySet(damaged("old"), damaged("new")), true, true},
		"only a third one":        {keySet(damaged("third")), false, false},
		"a private key":           {keySet(next, strings.Replace(edJWK("third", edKey), `"x"`, `"d":"hunter2","x"`, 1)), false, true},
		"a member of a type":      {keySet(next, `{"kty":7,"kid":"third"}`), false, true},
		"no object":               {keySet(next, `7`), false, true},
		"twice, the second other": {keySet(next, strings.Replace(old, `"old"`, `"new"`, 1)), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := keyFile(t, keySet(old, next))
				said := new(strings.Builder)
				cfg := auth.Config{Mode: auth.ModeJWT, Log: slog.New(slog.NewTextHandler(said, nil))}
				cfg.JWT = auth.JWTConfig{Algorithm: "EdDSA", KeyFile: path}
				a, err := auth.New(cfg, nil)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, tt.set)
				time.Sleep(time.Second)
				for range 2 { // and at the next look
					_, errOld := a.Verify(t.Context(), eddsa.token("old", alice(nil)))
					_, errNew := a.Verify(t.Context(), edSigner(otherEd).token("new", alice(nil)))
					if (errOld == nil) != tt.old || (errNew == nil) != tt.new {
						t.Errorf("old: %v, new: %v", errOld, errNew)
					}
					time.Sleep(time.Second)
				}
				if got := strings.Count(said.String(), "has a damaged key"); got == 0 || got > 2 || strings.Contains(said.String(), "hunter2") {
					t.Errorf("log: %s", said.String())
				}
			})
		})
	}
}

// TestKeyFile_SetWithoutKeys replaces a working key file by a well-formed set without a usable key:
// all tokens end, and begin again with the next key.
func TestKeyFile_SetWithoutKeys(t *testing.T) {
	for name, tt := range map[string]struct{ before, set string }{
		"empty":             {keySet(edJWK("1", edKey)), `{"keys":[]}`},
		"empty, spaced":     {keySet(edJWK("1", edKey)), " \n{ \"keys\" : [ ] , \"more\": 1 }\n"},
		"empty, with a BOM": {keySet(edJWK("1", edKey)), "\ufeff{\"keys\":[]}"},
		"another algorithm": {keySet(edJWK("1", edKey)), keySet(rsaJWK("1", rsaKey))},
		"another use":       {keySet(edJWK("1", edKey)), keySet(strings.Replace(edJWK("1", edKey), `"kty"`, `"use":"enc","kty"`, 1))},
		"after a PEM key":   {publicPEM(edKey.Public()), `{"keys":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			path := keyFile(t, tt.before)
			synctest.Test(t, func(t *testing.T) {
				cfg := auth.Config{Mode: auth.ModeJWT, Log: slog.New(slog.NewTextHandler(&said, nil))}
				cfg.JWT = auth.JWTConfig{Algorithm: "EdDSA", KeyFile: path}
				a, err := auth.New(cfg, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, step := range []struct {
					content string
					valid   bool
				}{{tt.before, true}, {tt.set, false}, {"damage", false}, {tt.before, true}} {
					writeFile(t, path, step.content)
					time.Sleep(time.Second)
					for _, kid := range []string{"1", ""} {
						if _, err := a.Verify(t.Context(), eddsa.token(kid, alice(nil))); (err == nil) != step.valid {
							t.Errorf("kid %q with %q: %v, want valid: %v", kid, step.content, err, step.valid)
						}
					}
				}
			})
			if got := strings.Count(said.String(), "has no key for auth.jwt.algorithm"); got != 1 {
				t.Errorf("%d warnings: %s", got, said.String())
			}
		})
	}
}

// TestTokenError_Lasting separates tokens that another sign-in cures from those of a login with
// wrong settings.
func TestTokenError_Lasting(t *testing.T) {
	a := tokenAuth(t, strict(t, "EdDSA", keySet(edJWK("1", edKey))))
	for name, tt := range map[string]struct {
		token   string
		lasting bool
	}{
		"expired":              {eddsa.token("1", alice(claimSet{"exp": 1})), false},
		"expired, no name":     {eddsa.token("1", alice(claimSet{"exp": 1, "sub": "a/b"})), false},
		"not valid yet":        {eddsa.token("1", alice(claimSet{"nbf": time.Now().Add(time.Hour).Unix()})), false},
		"nonsense":             {"x", false},
		"signed by a stranger": {edSigner(otherEd).token("1", alice(claimSet{"sub": "a/b"})), false},
		"unknown key":          {eddsa.token("2", alice(nil)), false},
		"no name":              {eddsa.token("1", alice(claimSet{"sub": "a/b"})), true},
		"everyone":             {eddsa.token("1", alice(claimSet{"sub": "Global"})), true},
		"empty":                {eddsa.token("1", alice(claimSet{"sub": ""})), true},
		"a number":             {eddsa.token("1", alice(claimSet{"sub": 7})), true},
		"not in form C":        {eddsa.token("1", alice(claimSet{"sub": "Ame\u0301lie"})), true},
		"another audience":     {eddsa.token("1", alice(claimSet{"aud": "x"})), true},
		"another issuer":       {eddsa.token("1", alice(claimSet{"iss": "x"})), true},
		"for ever":             {eddsa.token("1", alice(claimSet{"exp": nil})), true},
	} {
		_, err := a.Verify(t.Context(), tt.token)
		bad := new(auth.TokenError)
		if !errors.As(err, &bad) || bad.Lasting != tt.lasting {
			t.Errorf("%s: %+v, want lasting: %v", name, err, tt.lasting)
		}
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	private, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	privatePEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	edPEM := publicPEM(edKey.Public())
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	for name, tt := range map[string]struct{ algorithm, content, want string }{
		"nothing":                 {"HS256", "", "too short"},
		"a short secret":          {"HS256", strings.Repeat("hunter2", 4), "too short"},
		"a public key as secret":  {"HS256", edPEM, "not a secret of HS256"},
		"a public key with text":  {"HS256", "Bag Attributes\n" + edPEM, "not a secret of HS256"},
		"a page as secret":        {"HS256", "<html><body>502 Bad Gateway, try again later</body></html>\n", "not a secret of HS256"},
		"a list as secret":        {"HS256", "[" + rsaJWK("1", rsaKey) + "]", "not a secret of HS256"},
		"a public set with a BOM": {"HS256", "\ufeff" + keySet(rsaJWK("1", rsaKey)), "no key for"},
		"a secret as public key":  {"EdDSA", string(secret), "neither a PEM public key nor"},
		"a private key":           {"EdDSA", privatePEM, "private key"},
		"two keys":                {"EdDSA", edPEM + edPEM, "more than one"},
		"another algorithm's key": {"RS256", edPEM, `auth.jwt.algorithm "RS256"`},
		"the other way round":     {"EdDSA", publicPEM(rsaKey.Public()), `auth.jwt.algorithm "EdDSA"`},
		"a weak key":              {"RS256", publicPEM(weak), "1024 bits"},
		"a certificate request":   {"RS256", "-----BEGIN X-----\nAAAA\n-----END X-----\n", "openssl pkey -pubout"},
		"too much":                {"RS256", strings.Repeat(" ", 65<<10), "over 65536 bytes"},

		"no set":                  {"RS256", `{"keys":7}`, "not a JSON Web Key Set"},
		"an empty set":            {"RS256", keySet(), "no key for"},
		"a set of others":         {"RS256", keySet(edJWK("1", edKey), octJWK("2", secret)), "no key for"},
		"a key for encryption":    {"EdDSA", keySet(strings.Replace(edJWK("1", edKey), `"kid"`, `"use":"enc","kid"`, 1)), "no key for"},
		"another curve":           {"EdDSA", keySet(strings.Replace(edJWK("1", edKey), "Ed25519", "Ed448", 1)), "no key for"},
		"two of one id":           {"EdDSA", keySet(edJWK("1", edKey), edJWK("1", otherEd)), "key 2: it has the kid of another"},
		"two without":             {"EdDSA", keySet(edJWK("", edKey), edJWK("", otherEd)), "key 2: it has the kid of another"},
		"a private key in a set":  {"EdDSA", keySet(strings.Replace(edJWK("1", edKey), `"x"`, `"d":"hunter2","x"`, 1)), "key 1: this is a private key"},
		"a short key":             {"EdDSA", keySet(`{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`), `key 1: "x" has 3 bytes`},
		"padding":                 {"EdDSA", keySet(`{"kty":"OKP","crv":"Ed25519","x":"AAA="}`), `key 1: "x" is missing, or not base64url`},
		"a short secret in a set": {"HS256", keySet(octJWK("1", []byte("hunter2"))), `key 1: "k" is too short`},
		"no secret in a set":      {"HS256", keySet(`{"kty":"oct"}`), `key 1: "k" is missing`},
		"no modulus":              {"RS256", keySet(`{"kty":"RSA","e":"AQAB"}`), `key 1: "n" is missing`},
		"a small modulus":         {"RS256", keySet(`{"kty":"RSA","n":"AQAB","e":"AQAB"}`), "key 1: an RSA key of 17 bits"},
		"no exponent":             {"RS256", keySet(`{"kty":"RSA","n":"AQAB"}`), `key 1: "e" is missing`},
		"the exponent 1":          {"RS256", keySet(strings.Replace(rsaJWK("1", rsaKey), "AQAB", "AQ", 1)), "key 1: this RSA key is damaged"},
		"a large exponent":        {"RS256", keySet(strings.Replace(rsaJWK("1", rsaKey), "AQAB", "AQABAQAB", 1)), `key 1: "e" is too large`},
		"a number as a member":    {"RS256", keySet(`{"kty":7}`), "key 1 is not a JSON Web Key"},
		"over 64":                 {"HS256", `{"keys":[` + strings.Repeat("{},", 64) + `{}]}`, "65 keys"},
	} {
		t.Run(name, func(t *testing.T) {
			path := keyFile(t, tt.content)
			_, err := auth.New(auth.Config{Mode: auth.ModeJWT, JWT: auth.JWTConfig{Algorithm: tt.algorithm, KeyFile: path}}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "auth.jwt.key_file: "+path) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestTokenConfigIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  auth.JWTConfig
		want string
	}{
		"no key":            {auth.JWTConfig{}, "needs the key"},
		"two keys":          {auth.JWTConfig{Key: string(secret), KeyFile: "x"}, "leave one of them empty"},
		"a short key":       {auth.JWTConfig{Key: strings.Repeat("hunter2", 4)}, "auth.jwt.key: the secret of HS256 is too short"},
		"a key for nothing": {auth.JWTConfig{Key: string(secret), Algorithm: "RS256"}, "HS256 only"},
		"another algorithm": {auth.JWTConfig{Key: string(secret), Algorithm: "none"}, "HS256 only"},
		"no file":           {auth.JWTConfig{KeyFile: "does/not/exist"}, "no such file"},
		"a directory":       {auth.JWTConfig{KeyFile: os.TempDir()}, "not a regular file"},
		"a device":          {auth.JWTConfig{KeyFile: "/dev/zero"}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.New(auth.Config{Mode: auth.ModeJWT, JWT: tt.cfg}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestKeyFile_OpenPermissions(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		path := keyFile(t, string(secret))
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		cfg := auth.Config{Mode: auth.ModeJWT, JWT: auth.JWTConfig{KeyFile: path}, Log: slog.New(slog.NewTextHandler(&said, nil))}
		if _, err := auth.New(cfg, nil); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(said.String(), "chmod o="); got != want || strings.Contains(said.String(), string(secret)) {
			t.Errorf("mode %v: said %q", mode, said.String())
		}
	}
}

func FuzzToken(f *testing.F) {
	a := tokenAuth(f, strict(f, "RS256", keySet(rsaJWK("1", rsaKey), rsaJWK("2", otherRSA))))
	good := rs256.token("1", alice(nil))
	f.Add(good)
	for _, tt := range hostile() {
		f.Add(tt.token)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := a.Verify(t.Context(), in)
		if in == good {
			return // Until it expires.
		}
		if !errors.Is(err, auth.ErrNoSession) || s != (auth.Session{}) {
			t.Fatalf("%q: %+v, %v", in, s, err)
		}
	})
}

// FuzzClaims has whoever may sign tokens write anything into them: it names a valid user for a
// time that has not passed, or nobody.
func FuzzClaims(f *testing.F) {
	a := tokenAuth(f, auth.JWTConfig{Key: string(secret), Audience: "burrow"})
	f.Add(`{"alg":"HS256"}`, `{"sub":"alice","aud":"burrow","exp":99999999999}`)
	f.Add(`{"alg":"HS256","kid":"x"}`, `{"sub":"Ame\u0301lie","aud":["burrow"],"exp":1e300,"nbf":-1e300}`)
	f.Add(`{"alg":"none"}`, `{"sub":{},"aud":null,"exp":null}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		s, err := a.Verify(t.Context(), hs256.raw(header, payload))
		if err != nil {
			if !errors.Is(err, auth.ErrNoSession) || s != (auth.Session{}) {
				t.Fatalf("%q.%q: %+v, %v", header, payload, s, err)
			}
			return
		}
		if name, err := auth.ValidName(s.Name); err != nil || name != s.Name || time.Until(s.Expires) < -time.Minute || s.Expires.Year() > 9999 {
			t.Fatalf("%q.%q: %+v", header, payload, s)
		}
	})
}
