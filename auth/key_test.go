package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestKeyIsMadeOnceAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "burrow")
	first, err := loadKey("", dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadKey("", dir)
	if err != nil || !bytes.Equal(first, second) || len(first) < keyBytes {
		t.Errorf("got %d bytes, then others: %v", len(first), err)
	}
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v: %v", info.Mode(), err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files are left", len(files))
	}
	if other, err := loadKey("", t.TempDir()); err != nil || bytes.Equal(other, first) {
		t.Errorf("another directory has the same key: %v", err)
	}
}

func TestProcessesThatStartTogetherAgree(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		keys := make([][]byte, 8)
		start := make(chan struct{})
		var group sync.WaitGroup
		for i := range keys {
			group.Go(func() {
				<-start
				key, err := loadKey("", dir)
				if err != nil {
					t.Error(err)
				}
				keys[i] = key
			})
		}
		close(start)
		group.Wait()
		for _, key := range keys {
			if !bytes.Equal(key, keys[0]) {
				t.Fatal("two processes have different keys")
			}
		}
	}
}

func TestKeyThatIsBeingWrittenIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), keyFile)
	want := newKey()
	if err := os.WriteFile(path, want[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Millisecond, func() {
		_ = os.WriteFile(path, append(bytes.Clone(want), '\n'), 0o600)
	})
	defer timer.Stop()
	if key, err := readKey(path); err != nil || !bytes.Equal(key, want) {
		t.Errorf("got %q, %v", key, err)
	}
}

func TestDamagedKeyFileSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey("", dir); err == nil || !strings.Contains(err.Error(), "remove it, and a new key is made") {
		t.Errorf("loadKey: %v", err)
	}
	// A directory where the file should be.
	if _, err := loadKey("", filepath.Join(dir, keyFile)); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestKeyOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	key, err := loadKey("  "+strings.Repeat("k", 32)+"\n", dir)
	if err != nil || string(key) != strings.Repeat("k", 32) {
		t.Errorf("got %q, %v", key, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Error("a key was kept that is not needed")
	}
	if a, _ := loadKey("", ""); len(a) < keyBytes {
		t.Errorf("the key that is not kept has %d bytes", len(a))
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
			keys, err := parseKeys(algorithm, content)
			if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
				t.Fatalf("%s: %d keys, %v", algorithm, len(keys), err)
			}
			for _, k := range keys {
				good := false
				switch key := k.key.(type) {
				case []byte:
					good = algorithm == "HS256" && len(key) >= keyBytes
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
