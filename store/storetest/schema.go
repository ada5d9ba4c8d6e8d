package storetest

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"burrow/store/migration"
)

// Database creates a database with an earlier schema, as that version of the program left it after a
// graceful shutdown, and returns its open handle.
func Database(t testing.TB, path string, schema int64) *sql.DB {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	versions, err := goose.NewProvider(goose.DialectSQLite3, db, migration.Files, goose.WithDisableGlobalRegistry(true))
	if err == nil {
		_, err = versions.UpTo(t.Context(), schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Files returns the content of every file below dir, by path. Index files of SQLite (-shm), which
// hold no data, are left out.
func Files(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".db-shm" {
			if err == nil {
				files[path] = "" // directories too
			}
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
