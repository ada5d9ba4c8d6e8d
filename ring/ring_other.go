//go:build !linux

package ring

import "errors"

// Ring does not exist on this system.
type Ring struct{}

// New says that there is no ring.
func New() (*Ring, error) { return nil, errors.New("io_uring is a part of Linux") }

// Close does nothing.
func (*Ring) Close() error { return nil }

// Add is never called.
func (*Ring) Add(uintptr, []byte) {}

// Send is never called.
func (*Ring) Send() []Result { return nil }
