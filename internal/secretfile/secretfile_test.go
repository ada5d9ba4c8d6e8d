package secretfile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func file(dir string) File {
	return File{Dir: dir, Name: "test.key", Replaced: "nothing is lost", Log: slog.New(slog.DiscardHandler)}
}

func TestFile_CreatedOnceAndKept(t *testing.T) {
	f := file(filepath.Join(t.TempDir(), "data", "burrow"))
	first, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Load()
	if err != nil || !bytes.Equal(first, second) || len(first) < MinBytes {
		t.Errorf("got %d bytes, then others: %v", len(first), err)
	}
	info, err := os.Stat(f.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v: %v", info.Mode(), err)
	}
	if files, _ := os.ReadDir(f.Dir); len(files) != 1 {
		t.Errorf("%d files are left", len(files))
	}
	if other, err := file(t.TempDir()).Load(); err != nil || bytes.Equal(other, first) {
		t.Errorf("another directory has the same secret: %v", err)
	}
}

func TestFile_ConcurrentProcesses(t *testing.T) {
	for range 20 {
		f := file(t.TempDir())
		secrets := make([][]byte, 8)
		start := make(chan struct{})
		var group sync.WaitGroup
		for i := range secrets {
			group.Go(func() {
				<-start
				secret, err := f.Load()
				if err != nil {
					t.Error(err)
				}
				secrets[i] = secret
			})
		}
		close(start)
		group.Wait()
		for _, secret := range secrets {
			if !bytes.Equal(secret, secrets[0]) {
				t.Fatal("two processes have different secrets")
			}
		}
	}
}

func TestFile_IncompleteWrite(t *testing.T) {
	f := file(t.TempDir())
	want := New()
	if err := os.WriteFile(f.Path(), want[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Millisecond, func() {
		_ = os.WriteFile(f.Path(), append(bytes.Clone(want), '\n'), 0o600)
	})
	defer timer.Stop()
	if secret, err := f.Load(); err != nil || !bytes.Equal(secret, want) {
		t.Errorf("got %q, %v", secret, err)
	}
}

func TestFile_Damaged(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"short":       func(path string) error { return os.WriteFile(path, []byte("short\n"), 0o600) },
		"empty":       func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"too large":   func(path string) error { return os.WriteFile(path, make([]byte, maxBytes+1), 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"a dead link": func(path string) error { return os.Symlink("does/not/exist", path) },
	} {
		f := file(t.TempDir())
		if err := damage(f.Path()); err != nil {
			t.Fatal(err)
		}
		secret, err := f.Load()
		if err == nil || !strings.Contains(err.Error(), f.Path()) {
			t.Errorf("%s: %q, %v", name, secret, err)
		}
		if (name == "short" || name == "empty") && !strings.Contains(err.Error(), "remove it, and a new one is made (nothing is lost)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := file(filepath.Join(t.TempDir(), "file", "below"))
	if err := os.WriteFile(filepath.Dir(f.Dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err == nil {
		t.Error("a file was used as a directory")
	}
}

func TestFile_OpenPermissions(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o400: false, 0o600: false, 0o640: false, 0o644: true, 0o602: true} {
		var said strings.Builder
		f := file(t.TempDir())
		f.Log = slog.New(slog.NewTextHandler(&said, nil))
		secret, err := f.Load()
		if err != nil || said.Len() > 0 {
			t.Fatalf("%v, logged %q", err, said.String())
		}
		if err := os.Chmod(f.Path(), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); err != nil {
			t.Errorf("mode %v: %v", mode, err)
		}
		if got := strings.Contains(said.String(), "chmod o="); got != want || strings.Contains(said.String(), string(secret)) {
			t.Errorf("mode %v: logged %q", mode, said.String())
		}
	}
}
