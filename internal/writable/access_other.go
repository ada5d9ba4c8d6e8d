//go:build !unix

package writable

import (
	"io/fs"
	"os"
)

// access knows only the read-only attribute here.
func access(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o200 == 0 {
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrPermission}
	}
	return nil
}
