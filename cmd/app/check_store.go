package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"burrow/store"
)

// rehearseStore inspects the database without a change, and returns the settings of an empty one in a
// temporary directory, for the other parts of the check.
func (n *node) rehearseStore(ctx context.Context, cfg store.Config) (store.Config, error) {
	var err error
	if n.storeStatus, err = store.Inspect(ctx, cfg); err != nil {
		return cfg, err
	}
	temporary, err := os.MkdirTemp("", "burrow-check-*")
	if err != nil {
		return cfg, fmt.Errorf("the check needs a directory for temporary files; set TMPDIR: %w", err)
	}
	n.parts.add("temporary directory", nil, func(context.Context) error { return os.RemoveAll(temporary) })
	cfg.DSN, cfg.DataDir, cfg.Log = "", temporary, slog.New(slog.DiscardHandler)
	return cfg, nil
}
