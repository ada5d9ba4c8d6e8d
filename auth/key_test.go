package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"burrow/internal/secretfile"
)

func TestKey_KeptInDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "burrow")
	first, err := loadKey("", dir, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, nil))
	for _, mode := range []os.FileMode{0o600, 0o640, 0o644} {
		said.Reset()
		if err := os.Chmod(filepath.Join(dir, keyFile), mode); err != nil {
			t.Fatal(err)
		}
		if key, err := loadKey("", dir, false, log); err != nil || !bytes.Equal(first, key) {
			t.Errorf("another key: %v", err)
		}
		if got := strings.Contains(said.String(), "chmod o="); got != (mode == 0o644) || strings.Contains(said.String(), string(first)) {
			t.Errorf("mode %v: logged %q", mode, said.String())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey("", dir, false, log); err == nil || !strings.Contains(err.Error(), "everyone has to sign in again") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestKeyOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	key, err := loadKey("  "+strings.Repeat("k", 32)+"\n", dir, false, nil)
	if err != nil || string(key) != strings.Repeat("k", 32) {
		t.Errorf("got %q, %v", key, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Error("a key was kept that is not needed")
	}
	if a, _ := loadKey("", "", false, nil); len(a) < secretfile.MinBytes {
		t.Errorf("the key that is not kept has %d bytes", len(a))
	}
}

func TestAuth_KeyID(t *testing.T) {
	id := func(mode, key string) string {
		a := &Auth{mode: mode, key: []byte(key)}
		return a.KeyID()
	}
	one := id(ModeGuest, strings.Repeat("k", 32))
	if len(one) != 8 || one != id(ModeGuest, strings.Repeat("k", 32)) || one == id(ModeGuest, strings.Repeat("l", 32)) {
		t.Errorf("the id is %q", one)
	}
	if got := id(ModeOpen, "") + id(ModeJWT, ""); got != "" {
		t.Errorf("without a key: %q", got)
	}
}

// FuzzParseKeys reads key files of every kind: what comes out is keys that the algorithm can use.
func FuzzParseKeys(f *testing.F) {
	for _, content := range []string{
		"", "0123456789abcdef0123456789abcdef", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
		`{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{}]}`,
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for algorithm := range keyTypes {
			keys, damaged, err := parseKeys(algorithm, content)
			if err != nil && keys != nil || len(keys)+len(damaged) > maxKeys {
				t.Fatalf("%s: %d keys, %v", algorithm, len(keys), err)
			}
			for _, k := range keys {
				good := false
				switch key := k.key.(type) {
				case []byte:
					good = algorithm == "HS256" && len(key) >= secretfile.MinBytes
				case ed25519.PublicKey:
					good = algorithm == "EdDSA" && len(key) == ed25519.PublicKeySize
				case *rsa.PublicKey:
					good = algorithm == "RS256" && key.N.BitLen() >= minRSA && key.E >= 3
				}
				if !good {
					t.Fatalf("%s: %T", algorithm, k.key)
				}
			}
		}
	})
}
