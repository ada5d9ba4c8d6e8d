//go:build !linux

package main

import (
	"errors"
	"runtime"
	"syscall"
)

func pinStart(func() error) error {
	return errors.New("-pin: there is no pinning on this system; leave it out")
}

func keepCPUs() (restore func() error, err error) { return func() error { return nil }, nil }

func pinOurs() error { return errors.New("-pin: there is no pinning on this system; leave it out") }

func ourCPUs() int { return runtime.NumCPU() }

func maxFiles() int { return 1024 }

func latePort(string, string, syscall.RawConn) error { return nil }
