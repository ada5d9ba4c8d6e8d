//go:build !linux

package ring

import (
	"errors"
	"fmt"
)

// Ring does not exist on this system.
type Ring struct{}

// New says that there is no ring.
func New() (*Ring, error) {
	return nil, fmt.Errorf("%w: io_uring is a part of Linux", errors.ErrUnsupported)
}

// Close does nothing.
func (*Ring) Close() error { return nil }

// Add is never called.
func (*Ring) Add(uintptr, []byte) {}

// Send is never called.
func (*Ring) Send() ([]Result, error) { return nil, errors.ErrUnsupported }
