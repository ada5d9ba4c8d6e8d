package httpapi

import (
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// timeFormat is how all of the edge writes a time: UTC, in milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

// appendJSON appends m as protojson has it, with the names of the .proto and with fields that
// are empty, but always in the same bytes (protojson puts in spaces by chance) and with times in
// milliseconds. Messages that are absent are left out. m is one of edge.v1: it holds
// strings, bools, uint32s, messages, and lists of them.
func appendJSON(b []byte, m protoreflect.Message) []byte {
	if at, ok := m.Interface().(*timestamppb.Timestamp); ok {
		b = append(b, '"')
		b = at.AsTime().AppendFormat(b, timeFormat)
		return append(b, '"')
	}
	b = append(b, '{')
	open := len(b)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.HasPresence() && !m.Has(field) {
			continue
		}
		if len(b) > open {
			b = append(b, ',')
		}
		b = appendString(b, field.TextName())
		b = append(b, ':')
		value := m.Get(field)
		if !field.IsList() {
			b = appendValue(b, field.Kind(), value)
			continue
		}
		b = append(b, '[')
		for i := range value.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, field.Kind(), value.List().Get(i))
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendValue(b []byte, kind protoreflect.Kind, v protoreflect.Value) []byte {
	switch kind {
	case protoreflect.MessageKind:
		return appendJSON(b, v.Message())
	case protoreflect.StringKind:
		return appendString(b, v.String())
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case protoreflect.Uint32Kind:
		return strconv.AppendUint(b, v.Uint(), 10)
	}
	panic("httpapi: edge.v1 has a field of kind " + kind.String() + ", which nobody has taught to appendValue")
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029': // Line ends to JavaScript of old.
			b = append(append(b, s[start:i]...), '\\', 'u', '2', '0', '2', hex[r&15])
			start = i + size
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}
