//go:build unix

package httpapi

import "syscall"

// attempt writes to sockets without waiting for them. It is one goroutine's.
type attempt struct {
	bytes []byte
	n     int
	err   error
	call  func(fd uintptr) bool // Made once: a closure for each write would have to be allocated.
}

func newAttempt() *attempt {
	a := &attempt{}
	a.call = a.do
	return a
}

// write returns how much of b the socket took at once. An error means that it takes nothing any
// more.
func (a *attempt) write(raw syscallConn, b []byte) (int, error) {
	if raw == nil {
		return 0, nil
	}
	a.bytes, a.n, a.err = b, 0, nil
	err := raw.Write(a.call)
	a.bytes = nil
	if err == nil {
		err = a.err
	}
	return a.n, err
}

// do is one call of write(2). It says that it is done whatever came of it, for otherwise the
// runtime would wait.
func (a *attempt) do(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), a.bytes)
		switch err {
		case nil:
			a.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			a.err = err
		}
		return true
	}
}
