package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migration/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Another process may be doing the same:
// each migration is one transaction, so one of the two fails without a trace
// and finds, when it looks again, that the work is done.
func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migration")
	if err != nil {
		return err
	}
	goosed, err := goose.NewProvider(goose.DialectSQLite3, s.writer, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sources := goosed.ListSources()
	newest := sources[len(sources)-1].Version
	for {
		version, err := s.schemaVersion(ctx)
		if err != nil {
			return s.explain(err)
		}
		if version > newest {
			return fmt.Errorf("the database %s has schema %d, and this program knows schemas up to %d: a newer version has used it; run that version, or set store.dsn to another path", s.path, version, newest)
		}
		if version == newest {
			return nil
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
		if now, again := s.schemaVersion(ctx); again != nil || now == version {
			return fmt.Errorf("migrate the database from schema %d: %w", version, s.explain(err))
		}
	}
}

// schemaVersion returns the newest migration that was applied, or -1 in an empty
// database.
func (s *Store) schemaVersion(ctx context.Context) (version int64, err error) {
	err = retryBusy(ctx, func() error {
		var tables int
		if err := s.writer.QueryRowContext(ctx,
			"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", goose.DefaultTablename).Scan(&tables); err != nil {
			return err
		}
		if tables == 0 {
			version = -1
			return nil
		}
		return s.writer.QueryRowContext(ctx,
			"SELECT coalesce(max(version_id), -1) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&version)
	})
	return version, err
}
