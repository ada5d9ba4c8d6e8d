package ring

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What io_uring_setup(2) and io_uring_enter(2) describe.
const (
	offRings = 0          // IORING_OFF_SQ_RING: where both rings are mapped.
	offSQEs  = 0x10000000 // IORING_OFF_SQES

	enterGetEvents = 1 << 0 // IORING_ENTER_GETEVENTS
	opNop          = 0      // IORING_OP_NOP
	opSend         = 26     // IORING_OP_SEND

	// IORING_FEAT_SINGLE_MMAP, of Linux 5.4, and IORING_FEAT_NATIVE_WORKERS, of 5.12: from then on
	// a ring counts against no limit of locked memory, and everything used here is there.
	featSingleMmap    = 1 << 0
	featNativeWorkers = 1 << 9
	wanted            = featSingleMmap | featNativeWorkers
)

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// sqe is struct io_uring_sqe, as far as a send needs it.
type sqe struct {
	opcode, flags uint8
	_             uint16
	fd            int32
	_             uint64
	addr          uint64
	length        uint32
	msgFlags      uint32
	userData      uint64
	_             [3]uint64
}

// cqe is struct io_uring_cqe.
type cqe struct {
	userData uint64
	result   int32
	_        uint32
}

// Ring is one io_uring. It is for one goroutine at a time.
type Ring struct {
	fd      int
	mapped  []byte // Both rings.
	entries []byte // The queue of sends.

	sqTail *uint32
	sqHead *uint32 // The kernel's.
	sqMask uint32
	sqes   []sqe
	cqHead *uint32
	cqTail *uint32 // The kernel's.
	cqMask uint32
	cqes   []cqe

	bytes   [Size][]byte // Of the sends that were added: the kernel's addresses keep nothing alive.
	n       int
	results [Size]Result
}

// New makes a ring. An error is that the system has none, or none for us; it says why.
func New() (_ *Ring, err error) {
	var p params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, Size, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &Ring{fd: int(fd)}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	if p.features&wanted != wanted {
		return nil, fmt.Errorf("%w: io_uring is used from Linux 5.12 on (this one has features %#x)", errors.ErrUnsupported, p.features)
	}
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{})))
	if r.mapped, err = r.mmap(offRings, int(size)); err != nil {
		return nil, err
	}
	if r.entries, err = r.mmap(offSQEs, int(p.sqEntries)*int(unsafe.Sizeof(sqe{}))); err != nil {
		return nil, err
	}
	word := func(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mapped[at])) }
	r.sqHead, r.sqTail, r.sqMask = word(p.sq.head), word(p.sq.tail), *word(p.sq.mask)
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), *word(p.cq.mask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.entries[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.mapped[p.cq.cqes])), p.cqEntries)
	// The places of the queue are used in turn.
	places := unsafe.Slice(word(p.sq.array), p.sqEntries)
	for i := range places {
		places[i] = uint32(i)
	}
	return r, r.try()
}

// try does nothing, in the ring: who may set one up may still be forbidden to use it.
func (r *Ring) try() error {
	r.sqes[*r.sqTail&r.sqMask] = sqe{opcode: opNop}
	r.n = 1
	results, err := r.Send()
	if err == nil {
		err = results[0].Err
	}
	return err
}

func (r *Ring) mmap(offset int64, size int) ([]byte, error) {
	b, err := unix.Mmap(r.fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	return b, nil
}

// Close gives the ring back to the system. Nothing may be sent afterwards.
func (r *Ring) Close() error {
	err := unix.Close(r.fd)
	for _, b := range [][]byte{r.mapped, r.entries} {
		if b != nil {
			err = errors.Join(err, unix.Munmap(b))
		}
	}
	r.mapped, r.entries = nil, nil
	return err
}

// Add notes that b, which is not empty, is to be sent to the socket fd. Until Send has returned fd must stay
// open, lest another socket has its number by then, and b must not change. It panics if Size sends
// wait already.
func (r *Ring) Add(fd uintptr, b []byte) {
	r.bytes[r.n] = b // Panics.
	r.sqes[(*r.sqTail+uint32(r.n))&r.sqMask] = sqe{
		opcode: opSend, fd: int32(fd),
		addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), length: uint32(len(b)),
		// With MSG_DONTWAIT a send is done when the kernel has seen it: it does not wait for room.
		msgFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL, userData: uint64(r.n),
	}
	r.n++
}

// Send sends what was added and returns what became of each, in the order in which they were
// added. It waits for no socket. The results are valid until the next Send.
//
// An error is that the system does not let us use the ring any more; it must be closed then. Of what
// was not sent the results say so, or ErrLost if it may have been.
func (r *Ring) Send() ([]Result, error) {
	n := uint32(r.n)
	for i := range n {
		r.results[i] = Result{Err: ErrLost}
	}
	from := *r.sqTail
	atomic.StoreUint32(r.sqTail, from+n)
	taken := uint32(0)
	var failed error
	for taken < n && failed == nil {
		errno := r.enter(n-taken, n-taken)
		before := taken
		if taken = atomic.LoadUint32(r.sqHead) - from; taken == before && errno != unix.EINTR {
			failed = fmt.Errorf("io_uring_enter: %w", errno)
		}
	}
	// What the kernel does not take, for want of memory say, has not been sent.
	atomic.StoreUint32(r.sqTail, from+taken)
	clear(r.results[taken:n])
	err := r.reap(int(taken))
	runtime.KeepAlive(&r.bytes)
	clear(r.bytes[:n])
	r.n = 0
	return r.results[:n], cmp.Or(err, failed)
}

// enter hands over n sends and waits until so many are done.
func (r *Ring) enter(n, done uint32) syscall.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n), uintptr(done), enterGetEvents, 0, 0)
	return errno
}

// reap collects the results of n sends, all of which the kernel has seen.
func (r *Ring) reap(n int) error {
	for {
		head := *r.cqHead
		for tail := atomic.LoadUint32(r.cqTail); head != tail; head++ {
			done := r.cqes[head&r.cqMask]
			r.results[done.userData] = resultOf(done.result)
			n--
		}
		atomic.StoreUint32(r.cqHead, head)
		if n <= 0 {
			return nil
		}
		if errno := r.enter(0, uint32(n)); errno != 0 && errno != unix.EINTR {
			return fmt.Errorf("io_uring_enter: %w", errno)
		}
	}
}

// resultOf returns what the result of a send in the ring means.
func resultOf(result int32) Result {
	if result >= 0 {
		return Result{N: int(result)}
	}
	switch errno := syscall.Errno(-result); errno {
	case unix.EAGAIN, unix.EINTR, // The socket is full, or
		unix.ENOMEM, unix.ENOBUFS, unix.ECANCELED: // the kernel had no room for the send: that says nothing about the socket.
		return Result{}
	default:
		return Result{Err: errno}
	}
}
