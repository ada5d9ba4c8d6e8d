//go:build unix

package writable

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// access asks the kernel, which also knows read-only mounts and access control lists.
func access(path string) error {
	// With the effective user, as open(2): a service may have changed it.
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
