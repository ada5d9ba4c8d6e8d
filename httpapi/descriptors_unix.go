//go:build unix

package httpapi

import "syscall"

// descriptorLimit returns how many files the process may have open; 0: no limit. Go has raised the soft
// limit to the hard one at its start.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > maxDescriptors {
		return 0
	}
	return int(limit.Cur)
}

// maxDescriptors is a limit that no process reaches.
const maxDescriptors = 1 << 30
