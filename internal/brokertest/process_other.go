//go:build !linux

package brokertest

import (
	"errors"
	"os/exec"
	"syscall"
)

// supported is false where the kernel does not end the brokers of a test binary that crashes: Start skips.
const supported = false

const (
	sigStop syscall.Signal = iota
	sigCont
	sigHup
	sigKill
)

// EndWithParent does nothing on this system.
func EndWithParent(*exec.Cmd) {}

func signalGroup(int, syscall.Signal) error { return errors.ErrUnsupported }

func processStopped(int) (bool, error) { return false, errors.ErrUnsupported }
