//go:build unix

package store_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"burrow/store"
)

// SQLite opens a file that it cannot write for reading only, and says so at the
// first write: for an archive that is too late.
func TestReadOnlyFileIsAnErrorAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "burrow.db"), 0o444); err != nil {
		t.Fatal(err)
	}
	var got string
	if os.Getuid() == 0 {
		got = openAsNobody(t, dir)
	} else if _, err := store.Open(context.Background(), store.Config{DataDir: dir}); err != nil {
		got = err.Error()
	}
	if !strings.Contains(got, "cannot write the database") || !strings.Contains(got, "let this user write") {
		t.Errorf("got %q, want an error that says what to do", got)
	}
}

// openAsNobody lets another process open the database, since root may write
// every file, and returns what it complains about.
func openAsNobody(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Neither the directory of the test binary nor that of the test is open to others.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	copied := filepath.Join(dir, "child")
	out, err := os.OpenFile(copied, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	cmd := exec.CommandContext(t.Context(), copied)
	cmd.Dir = "/"
	cmd.Env = []string{childEnv + "=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	said, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("the process had no error")
	}
	return string(said)
}
