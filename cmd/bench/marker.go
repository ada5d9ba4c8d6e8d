package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// A marker stands at the front of each content: who says it, the how many-th it is, and
// when it was due. It reads the same inside JSON and inside protobuf, so that it is found
// by a search for its beginning and nothing has to be decoded.
//
//	~bm: run(4) sender(2) sequence(4) nanoseconds(8), in hexadecimal digits
const (
	markerStart = "~bm:"
	markerBytes = 4 + 2 + 4 + 8
	markerSize  = len(markerStart) + 2*markerBytes
	maxSenders  = 1 << 16
)

type marker struct {
	run    uint32        // Another one for each measurement: older messages are not ours.
	sender uint16        // Which publisher.
	seq    uint32        // From 0.
	due    time.Duration // Since the epoch of the measurement.
}

// append adds m to b, filled up to size bytes.
func (m marker) append(b []byte, size int) []byte {
	var raw [markerBytes]byte
	binary.BigEndian.PutUint32(raw[0:], m.run)
	binary.BigEndian.PutUint16(raw[4:], m.sender)
	binary.BigEndian.PutUint32(raw[6:], m.seq)
	binary.BigEndian.PutUint64(raw[10:], uint64(m.due))
	b = append(b, markerStart...)
	b = hex.AppendEncode(b, raw[:])
	for range size - markerSize {
		b = append(b, 'x')
	}
	return b
}

// nextMarker returns the first marker in b and what stands after it.
func nextMarker(b []byte) (m marker, rest []byte, ok bool) {
	for {
		at := bytes.Index(b, []byte(markerStart))
		if at < 0 || len(b)-at < markerSize {
			return marker{}, nil, false
		}
		b = b[at+len(markerStart):]
		var raw [markerBytes]byte
		if _, err := hex.Decode(raw[:], b[:2*markerBytes]); err != nil {
			continue // Somebody else's text.
		}
		return marker{
			run:    binary.BigEndian.Uint32(raw[0:]),
			sender: binary.BigEndian.Uint16(raw[4:]),
			seq:    binary.BigEndian.Uint32(raw[6:]),
			due:    time.Duration(binary.BigEndian.Uint64(raw[10:])),
		}, b[2*markerBytes:], true
	}
}
