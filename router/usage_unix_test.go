//go:build unix

package router

import (
	"syscall"
	"time"
)

// processCPU returns the CPU time of this process.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // cannot happen for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
