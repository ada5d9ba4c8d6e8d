//go:build unix

package writable

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// access asks the kernel, which also knows read-only mounts and access control lists.
func access(path string, dir bool) error {
	mode := uint32(unix.W_OK)
	if dir {
		mode |= unix.X_OK
	}
	// With the effective user, as open(2): a service may have changed it.
	if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
