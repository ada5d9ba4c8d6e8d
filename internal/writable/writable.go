// Package writable reports whether files can be written, without writing.
package writable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir returns nil if files can be created in dir, or if dir is missing and can be created.
func Dir(dir string) error {
	for {
		info, err := os.Stat(dir)
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
		return access(dir, true)
	}
}

// File returns nil if the file exists and can be written.
func File(path string) error { return access(path, false) }
