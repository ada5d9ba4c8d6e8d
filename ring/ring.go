// Package ring sends to many sockets in one call of the system: Linux's io_uring, used for that
// and nothing else.
//
// A message to a thousand sessions is a thousand writes. Entering the kernel is up to half of what a
// small one costs, the more so in a virtual machine or with the mitigations of recent
// processors; in a ring it is paid once for [Size] of them.
//
// Many systems have no io_uring or do not let containers use it. [New] says so, and its callers write
// in the ordinary way then.
package ring

import "errors"

// Size is how many sends go out in one call. A power of two: the larger, the fewer calls, and the
// longer a goroutine stays in the kernel (32 small sends are about 130 µs).
const Size = 32

// Result is what became of one send.
type Result struct {
	// N is how many bytes the socket took at once; fewer than there were, or none, if its buffer is
	// full.
	N int
	// Err is why it takes nothing any more, a syscall.Errno, or ErrLost. A full buffer is none.
	Err error
}

// ErrLost is what became of a send of which the kernel did not say anything: some of it may have
// gone, and its bytes may still be read.
var ErrLost = errors.New("io_uring did not say what became of it")
