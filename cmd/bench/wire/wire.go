// Package wire reads and writes WebSocket frames (RFC 6455) for a load on a server: without a goroutine
// or a buffer for each connection, and without a copy.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Opcodes.
const (
	OpContinuation = 0x0
	OpText         = 0x1
	OpBinary       = 0x2
	OpClose        = 0x8
	OpPing         = 0x9
	OpPong         = 0xA
)

// maxFrame bounds what is taken for a frame of the server.
const maxFrame = 16 << 20

// Read reads from r once and calls each for every whole frame that has come with that, in
// order: unmasked, as those of a server are, and not compressed. What is left of the last one stays
// in rest until the next call. It returns how many bytes it read, and whether they filled buf, which
// grows for a frame that is larger. The payload is good until each returns.
func Read(r io.Reader, buf, rest *[]byte, each func(op byte, payload []byte) error) (n int, full bool, err error) {
	if len(*rest) >= len(*buf) {
		*buf = make([]byte, 2*len(*rest))
	}
	kept := copy(*buf, *rest)
	n, err = r.Read((*buf)[kept:])
	came := (*buf)[:kept+n]
	full = len(came) == len(*buf)
	for n > 0 {
		size, header, bad := frameSize(came)
		if bad != nil {
			return n, full, bad
		}
		if size == 0 || len(came) < size {
			break
		}
		if e := each(came[0]&0x0f, came[header:size]); e != nil {
			return n, full, e
		}
		came = came[size:]
	}
	*rest = append((*rest)[:0], came...)
	return n, full, err
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

// Append adds payload as one masked frame, as clients send them.
func Append(b []byte, op byte, key [4]byte, payload []byte) []byte {
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
