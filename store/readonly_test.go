package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"burrow/store"
	"burrow/store/storetest"
)

const newest = 8 // the last file in migration/

// readsLetters lists and shows the dead letters of the database in dir.
func readsLetters(t *testing.T, dir string) (letters []*store.DeadLetter, err error) {
	t.Helper()
	err = store.View(t.Context(), store.Config{DataDir: dir}, func(r *store.ReadOnly) (err error) {
		letters, _, err = r.ListDeadLetters(t.Context(), store.LetterQuery{Limit: 10})
		for _, l := range letters {
			if _, err := r.DeadLetter(t.Context(), l.ID); err != nil {
				return err
			}
			if _, err := r.DeadLetterActions(t.Context(), l.ID, 10); err != nil {
				return err
			}
		}
		return err
	})
	return letters, err
}

func insertLetter(t *testing.T, db *sql.DB, message string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), `INSERT INTO dead_letters (message_id, function, topic, error, attempts, payload, failed_at)
		VALUES (?, 'print', 'topic', 'no paper', 5, x'01', 1)`, message); err != nil {
		t.Fatal(err)
	}
}

// TestView_EarlierSchema reads databases of every earlier schema, after a graceful shutdown, a crash
// and beside a running program. No byte of a database changes, and no file appears.
func TestView_EarlierSchema(t *testing.T) {
	for schema := int64(1); schema <= newest; schema++ {
		for _, state := range []string{"stopped", "running", "crashed", "crashed, and the index of the log is lost"} {
			t.Run(fmt.Sprintf("%d %s", schema, state), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "burrow.db")
				db := storetest.Database(t, path, schema)
				insertLetter(t, db, "one")
				switch state {
				case "stopped":
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
				case "running":
				default:
					dir = copyFiles(t, path, path+"-wal", path+"-shm")
					path = filepath.Join(dir, "burrow.db")
					if strings.Contains(state, "lost") {
						if err := os.Remove(path + "-shm"); err != nil {
							t.Fatal(err)
						}
					}
				}
				before := storetest.Files(t, dir)
				status, err := store.Inspect(t.Context(), store.Config{DataDir: dir})
				if err != nil || status != (store.Status{Path: path, Exists: true, Schema: schema, Newest: newest}) {
					t.Errorf("got %+v and %v", status, err)
				}
				want := fmt.Sprintf("schema %d, next start migrates to %d", schema, newest)
				if schema == newest {
					want = fmt.Sprintf("schema %d, which is current", newest)
				}
				if !strings.HasSuffix(status.String(), want) {
					t.Errorf("got %q, want %q", status, want)
				}
				letters, err := readsLetters(t, dir)
				switch {
				case schema == 1:
					if err == nil || !strings.Contains(err.Error(), "schema 1") || !strings.Contains(err.Error(), "start Burrow once") {
						t.Errorf("got %v, want an error with the schema and what to do", err)
					}
				case err != nil || len(letters) != 1 || letters[0].MessageID != "one":
					t.Errorf("got %v and %v, want one letter", letters, err)
				}
				if schema < newest {
					_, err := store.Open(t.Context(), store.Config{DataDir: dir, MustExist: true, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
					if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has schema %d, and this command needs schema %d", schema, newest)) {
						t.Errorf("got %v, want an error that names both schemas", err)
					}
				}
				after := storetest.Files(t, dir)
				if strings.Contains(state, "lost") {
					delete(after, path+"-shm")
				}
				if !maps.Equal(before, after) {
					t.Errorf("files changed: before %q, after %q", names(before), names(after))
				}
				if state == "running" { // it still writes, and what it writes is read
					insertLetter(t, db, "two")
					if letters, err := readsLetters(t, dir); schema > 1 && (err != nil || len(letters) != 2) {
						t.Errorf("got %v and %v, want two letters", letters, err)
					}
				}
			})
		}
	}
}

// TestView_WriterMeanwhile lets a program write while the only reader reads without a lock: what was
// read is void, and read again.
func TestView_WriterMeanwhile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "burrow.db")
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	calls, found := 0, 0
	err := store.View(t.Context(), store.Config{DataDir: dir}, func(r *store.ReadOnly) error {
		if calls++; calls == 1 {
			insertLetter(t, sqlite(t, path), "one")
			return errors.New("void")
		}
		letters, _, err := r.ListDeadLetters(t.Context(), store.LetterQuery{Limit: 10})
		found = len(letters)
		return err
	})
	if err != nil || calls != 2 || found != 1 {
		t.Errorf("got %v after %d calls with %d letters, want the letter in the second", err, calls, found)
	}
}

func TestInspect_NewerSchema(t *testing.T) {
	dir := t.TempDir()
	db := storetest.Database(t, filepath.Join(dir, "burrow.db"), newest)
	exec1(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	before := storetest.Files(t, dir)
	_, err := store.Inspect(t.Context(), store.Config{DataDir: dir})
	_, errLetters := readsLetters(t, dir)
	for _, err := range []error{err, errLetters} {
		if err == nil || !strings.Contains(err.Error(), "has schema 999") || !strings.Contains(err.Error(), "a newer version has used it") {
			t.Errorf("got %v, want an error that names the schema", err)
		}
	}
	if !maps.Equal(before, storetest.Files(t, dir)) {
		t.Error("files changed")
	}
}

// TestInspect_Missing inspects places without a database: nothing is created.
func TestInspect_Missing(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(root, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := storetest.Files(t, root)
	for _, test := range []struct {
		cfg  store.Config
		says string // of the error; "" if it can be created
	}{
		{store.Config{DataDir: filepath.Join(root, "a", "b")}, ""},
		{store.Config{DataDir: filepath.Join(root, "empty")}, ""},
		{store.Config{DSN: file}, ""}, // without a byte, as after a crash
		{store.Config{DataDir: file}, "not a directory"},
		{store.Config{DataDir: filepath.Join(file, "below")}, "not a directory"},
		{store.Config{DSN: filepath.Join(root, "empty")}, "not a regular file"},
		{store.Config{DSN: garbage}, "is not an SQLite database"},
		{store.Config{DSN: "postgres://db/x"}, "not supported"},
	} {
		status, err := store.Inspect(t.Context(), test.cfg)
		switch {
		case test.says == "" && (err != nil || !strings.Contains(status.String(), "next start creates")):
			t.Errorf("%+v: got %q and %v, want that it can be created", test.cfg, status, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%+v: got %v, want %q", test.cfg, err, test.says)
		}
	}
	if after := storetest.Files(t, root); !maps.Equal(before, after) {
		t.Errorf("files changed: before %q, after %q", names(before), names(after))
	}
}

func names(files map[string]string) (names []string) {
	for name, data := range files {
		names = append(names, fmt.Sprintf("%s (%d bytes)", filepath.Base(name), len(data)))
	}
	return names
}

// copyFiles copies files into a new directory.
func copyFiles(t *testing.T, paths ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(path)), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
