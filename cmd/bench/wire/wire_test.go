package wire

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// TestFramesAreReadWhateverTheirPieces reads the same frames in one piece, byte by byte, and
// with a buffer that is too small.
func TestFramesAreReadWhateverTheirPieces(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 125, 126, 300, 65535, 65536, 5}
	for _, size := range sizes {
		f := Append(nil, OpText, [4]byte{}, bytes.Repeat([]byte{byte(size)}, size))
		// Unmasked, as a server sends it: without the bit and the key.
		header := len(f) - size - 4
		f[1] &^= 0x80
		stream = append(append(stream, f[:header]...), f[header+4:]...)
	}
	for name, r := range map[string]struct {
		io.Reader
		buf []byte
	}{
		"at once":      {bytes.NewReader(stream), make([]byte, 1<<20)},
		"byte by byte": {iotest.OneByteReader(bytes.NewReader(stream)), make([]byte, 16)},
		"by halves":    {iotest.HalfReader(bytes.NewReader(stream)), make([]byte, 7)},
	} {
		var got []int
		var rest []byte
		var err error
		for err == nil {
			_, _, err = Read(r, &r.buf, &rest, func(op byte, payload []byte) error {
				if op != OpText || len(bytes.TrimRight(payload, string([]byte{byte(len(payload))}))) > 0 {
					t.Errorf("%s: frame %d is not what was sent", name, len(got))
				}
				got = append(got, len(payload))
				return nil
			})
		}
		if len(got) != len(sizes) {
			t.Errorf("%s: read frames of %v, want %v (%v)", name, got, sizes, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 3, 'a', 'b', 'c', 0x89, 0})
	f.Add([]byte{0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var total int
		r, buf, rest := iotest.HalfReader(bytes.NewReader(stream)), make([]byte, 8), []byte(nil)
		for {
			if _, _, err := Read(r, &buf, &rest, func(_ byte, payload []byte) error { total += 2 + len(payload); return nil }); err != nil {
				break
			}
		}
		if total > len(stream) {
			t.Errorf("%d bytes of frames in %d bytes", total, len(stream))
		}
	})
}
