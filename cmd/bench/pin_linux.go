package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// halves splits the CPUs that this process may use: one half for the server, one for us.
func halves() (server, ours unix.CPUSet, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return server, ours, fmt.Errorf("-pin: %w", err)
	}
	if all.Count() < 2 {
		return server, ours, errors.New("-pin needs two CPUs")
	}
	for cpu, n := 0, 0; n < all.Count(); cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if n < all.Count()/2 {
			server.Set(cpu)
		} else {
			ours.Set(cpu)
		}
		n++
	}
	return server, ours, nil
}

// pinStart runs start, which starts the server, so that the server has the first half of the
// CPUs; this process keeps to the other half from then on.
func pinStart(start func() error) error {
	server, ours, err := halves()
	if err != nil {
		return err
	}
	// A child has the CPUs of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &server); err != nil {
		return fmt.Errorf("-pin: %w", err)
	}
	err = start()
	return errors.Join(err, pinThreads(&ours))
}

// pinOurs gives this process the half of the CPUs that is not the servers'.
func pinOurs() error {
	_, ours, err := halves()
	if err != nil {
		return err
	}
	return pinThreads(&ours)
}

// ourCPUs returns how many CPUs this process may use.
func ourCPUs() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return runtime.NumCPU()
	}
	return set.Count()
}

// maxFiles returns how many files, and so connections, one process may have open.
func maxFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Max, 1<<20)) // Go raises what it may use to that.
}

// keepCPUs returns what gives this process the CPUs back that it has now.
func keepCPUs() (restore func() error, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("-pin: %w", err)
	}
	return func() error { return pinThreads(&all) }, nil
}

func pinThreads(set *unix.CPUSet) error {
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("-pin: %w", err)
		}
	}
	return nil
}

// latePort has the kernel choose the port of a socket when it is connected and not when it gets
// its address: then only that of another connection to the same server is taken, and not one of a
// connection that was closed a minute ago.
func latePort(_, _ string, conn syscall.RawConn) error {
	return conn.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // Else it is as it was.
	})
}
