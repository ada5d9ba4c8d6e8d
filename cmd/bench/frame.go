package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxFrame bounds what is taken for a frame of the server.
const maxFrame = 16 << 20

// frameReader reads the frames of a server: unmasked, and not compressed. It reads as much
// as there is in one call, and copies a frame only if it is the last, unfinished one.
type frameReader struct {
	r          io.Reader
	buf        []byte
	start, end int // What is read and not yet handed out.
}

// read calls each for every whole frame of what comes with the next read call, in order, and
// returns how many bytes that was. The payload is good until each returns.
func (f *frameReader) read(each func(op byte, payload []byte) error) (int, error) {
	if f.start == f.end {
		f.start, f.end = 0, 0
	} else if f.start > 0 {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	if f.end == len(f.buf) {
		f.buf = append(f.buf, make([]byte, len(f.buf))...)
	}
	n, err := f.r.Read(f.buf[f.end:])
	f.end += n
	for err == nil || n > 0 {
		size, header, bad := frameSize(f.buf[f.start:f.end])
		if bad != nil {
			return n, bad
		}
		if size == 0 || f.end-f.start < size {
			break
		}
		whole := f.buf[f.start : f.start+size]
		f.start += size
		if e := each(whole[0]&0x0f, whole[header:]); e != nil {
			return n, e
		}
	}
	return n, err
}

// frameSize returns the size of the frame that b begins with, and of its header; 0 if b is too
// short to tell.
func frameSize(b []byte) (size, header int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return 0, 0, fmt.Errorf("a frame begins with %#x: it is compressed or masked", b[:2])
	}
	switch n := int(b[1]); {
	case n < 126:
		return 2 + n, 2, nil
	case n == 126:
		if len(b) < 4 {
			return 0, 0, nil
		}
		return 4 + int(binary.BigEndian.Uint16(b[2:])), 4, nil
	}
	if len(b) < 10 {
		return 0, 0, nil
	}
	n := binary.BigEndian.Uint64(b[2:])
	if n > maxFrame {
		return 0, 0, errors.New("a frame is larger than 16 MiB")
	}
	return 10 + int(n), 10, nil
}

// appendFrame adds payload as one masked frame, as clients send them.
func appendFrame(b []byte, op byte, key [4]byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}
