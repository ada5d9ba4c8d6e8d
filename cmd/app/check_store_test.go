package main

import (
	"database/sql"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"burrow/store/storetest"
)

// TestCheck_ChangesNoFile checks installations in every state: no file appears, and no byte changes.
func TestCheck_ChangesNoFile(t *testing.T) {
	older := func(t *testing.T, in *installation) *sql.DB {
		return storetest.Database(t, filepath.Join(in.dir, "archive.db"), 5)
	}
	for _, test := range []struct {
		name   string
		create func(t *testing.T, in *installation)
		says   string
	}{
		{"no directory", func(t *testing.T, in *installation) {
			if err := os.Remove(in.dir); err != nil {
				t.Fatal(err)
			}
		}, "archive.db does not exist, next start creates it"},
		{"an empty directory", func(*testing.T, *installation) {}, "archive.db does not exist, next start creates it"},
		{"an earlier version, stopped", func(t *testing.T, in *installation) {
			if err := older(t, in).Close(); err != nil {
				t.Fatal(err)
			}
		}, "archive.db has schema 5, next start migrates to 8"},
		{"an earlier version, running", func(t *testing.T, in *installation) { older(t, in) }, "archive.db has schema 5, next start migrates to 8"},
		{"this version, stopped", func(t *testing.T, in *installation) { in.start(t).stop() }, "archive.db has schema 8, which is current"},
		{"this version, running", func(t *testing.T, in *installation) { in.start(t) }, "archive.db has schema 8, which is current"},
	} {
		for _, mode := range []string{"", "-edge=false"} {
			t.Run(strings.TrimSpace(test.name+" "+mode), func(t *testing.T) {
				in := install(t, external)
				test.create(t, in)
				before := storetest.Files(t, filepath.Dir(in.dir))
				code, out, log := in.process(t, append(strings.Fields(mode), "-check")...)
				if code != exitOK || !strings.Contains(out, test.says) || !strings.Contains(out, "fine") || strings.Contains(log, "level=ERROR") {
					t.Errorf("got %d, %q and\n%s", code, out, log)
				}
				if after := storetest.Files(t, filepath.Dir(in.dir)); !maps.Equal(before, after) {
					for name := range after {
						if before[name] != after[name] {
							t.Errorf("%s changed", name)
						}
					}
					t.Errorf("there were %d files, and are %d", len(before), len(after))
				}
			})
		}
	}
}

// TestCheck_CannotCreate checks places where a start fails.
func TestCheck_CannotCreate(t *testing.T) {
	in := install(t, memory)
	file := filepath.Join(in.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/burrow"} {
		code, out, log := runs(t, append(in.env, "BURROW_DATA_DIR="+dir, "BURROW_STORE_DSN="), "-check")
		if code != exitFailed || out != "" || !strings.Contains(log, "data_dir") || !strings.Contains(log, dir) {
			t.Errorf("%s: got %d, %q and\n%s", dir, code, out, log)
		}
	}
}
