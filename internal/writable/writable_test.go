package writable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDir(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{
		root: true, filepath.Join(root, "a"): true, filepath.Join(root, "a", "b", "c"): true,
		file: false, filepath.Join(file, "a"): false,
	} {
		if err := Dir(dir); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v, %v", left, err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := File(path); err == nil {
		t.Error("a missing file is writable")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := File(path); err != nil {
		t.Error(err)
	}
}
