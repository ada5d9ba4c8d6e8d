package auth

import (
	"fmt"
	"log/slog"
	"strings"

	"burrow/internal/secretfile"
)

const keyFile = "cookie.key"

// loadKey returns the configured key, or the key kept in dir. Without dir the key is random; so is a
// rehearsal's in place of a missing file.
func loadKey(text, dir string, rehearsal bool, log *slog.Logger) ([]byte, error) {
	if text != "" {
		return []byte(strings.TrimSpace(text)), nil
	}
	if dir == "" {
		return secretfile.New(), nil
	}
	f := secretfile.File{Dir: dir, Name: keyFile, Replaced: "everyone has to sign in again", Log: log, Rehearsal: rehearsal}
	key, err := f.Load()
	if err != nil {
		return nil, fmt.Errorf("auth: cookie key: %w", err)
	}
	return key, nil
}
