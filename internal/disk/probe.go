// Package disk tests whether a file system can be written.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Probe writes, syncs and removes a new file of size bytes at path. No other file may be
// there, and callers of the same path must not overlap.
func Probe(path string, size int) (err error) {
	// A new file: the blocks of an old one would be there on a full disk too.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close(), os.Remove(path)); err != nil {
			err = fmt.Errorf("test write of %d KiB: %w", size>>10, err)
		}
	}()
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	return f.Sync()
}
