package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"

	"burrow/store/migration"
)

// migrate brings the schema up to date. Another process may be doing the same:
// each migration is one transaction, so one of the two fails without a trace
// and finds, when it looks again, that the work is done.
func (s *Store) migrate(ctx context.Context) error {
	goosed, err := goose.NewProvider(goose.DialectSQLite3, s.writer, migration.Files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	newest, err := newestSchema()
	if err != nil {
		return err
	}
	for {
		version, err := schemaVersion(ctx, s.writer)
		if err != nil {
			return s.explain(err)
		}
		if version > newest {
			return s.tooNew(version, newest)
		}
		if version == newest {
			return nil
		}
		if s.mustExist {
			return s.tooOld(version, newest)
		}
		var done []*goose.MigrationResult
		err = retryBusy(ctx, func() (err error) {
			done, err = goosed.Up(ctx)
			return err
		})
		for _, m := range done {
			s.log.Info("store: database migrated", "path", s.path, "schema", m.Source.Version)
		}
		if err == nil {
			continue
		}
		if now, again := schemaVersion(ctx, s.writer); again != nil || now == version {
			return fmt.Errorf("migrate the database from schema %d: %w", version, s.explain(err))
		}
	}
}

func (s *Store) tooNew(version, newest int64) error {
	return fmt.Errorf("the database %s has schema %d, and this program knows schemas up to %d: a newer version has used it; run that version, or set store.dsn to another path", s.path, version, newest)
}

func (s *Store) tooOld(version, newest int64) error {
	return fmt.Errorf("the database %s has schema %d, and this command needs schema %d: use the version of Burrow that runs, or start this version once, which migrates the database", s.path, version, newest)
}

// newestSchema returns the version of the last migration.
func newestSchema() (int64, error) {
	files, err := migration.Files.ReadDir(".")
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(files[len(files)-1].Name(), "_") // in the order of their names
	return strconv.ParseInt(number, 10, 64)
}

// schemaVersion returns the newest migration that was applied, or -1 in an empty
// database.
func schemaVersion(ctx context.Context, db *sql.DB) (version int64, err error) {
	err = retryBusy(ctx, func() error {
		var tables int
		if err := db.QueryRowContext(ctx,
			"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", goose.DefaultTablename).Scan(&tables); err != nil {
			return err
		}
		if tables == 0 {
			version = -1
			return nil
		}
		return db.QueryRowContext(ctx,
			"SELECT coalesce(max(version_id), -1) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&version)
	})
	return version, err
}
