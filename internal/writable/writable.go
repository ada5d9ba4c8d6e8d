// Package writable reports whether files can be written, and leaves nothing behind.
package writable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir returns nil if files can be created in dir, or if dir is missing and can be created. It tries with a
// directory, which it removes: permissions alone say nothing about file systems such as /proc.
func Dir(dir string) error {
	for {
		info, err := os.Lstat(dir)
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			info, err = os.Stat(dir)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is a link to nothing", dir)
			}
		}
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		trial, err := os.MkdirTemp(dir, ".burrow-check-*")
		if err != nil {
			return err
		}
		return os.Remove(trial)
	}
}

// File returns nil if the file exists and can be written.
func File(path string) error { return access(path) }
