package main

import (
	"bytes"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// protocol is how messages look on the wire.
type protocol struct {
	name string // Sec-WebSocket-Protocol; empty: none.
	op   byte   // Of the frames of a client.
	// send adds the frame's payload that says content.
	send func(b, content []byte) []byte
	// errors counts the error frames in a payload of the server.
	errors func(payload []byte) int
}

var protocols = map[string]protocol{
	"plain":    {op: opText, send: sendPlain, errors: errorsJSON},
	"v1.json":  {name: "burrow.v1.json", op: opText, send: sendJSON, errors: errorsJSON},
	"v1.proto": {name: "burrow.v1.proto", op: opBinary, send: sendProto, errors: errorsProto},
}

// The content is a marker and x: nothing in it has to be escaped.

func sendPlain(b, content []byte) []byte {
	b = append(b, `{"content":"`...)
	b = append(b, content...)
	return append(b, `"}`...)
}

func sendJSON(b, content []byte) []byte {
	b = append(b, `{"send":{"ref":"`...)
	b = append(b, uuid.NewString()...)
	b = append(b, `","content":"`...)
	b = append(b, content...)
	return append(b, `"}}`...)
}

// Field numbers of messages/edge.proto.
const (
	clientSend   = 1
	sendRef      = 1
	sendContent  = 2
	batchFrames  = 1
	serverErrors = 6
)

func sendProto(b, content []byte) []byte {
	ref := uuid.NewString()
	size := protowire.SizeTag(sendRef) + protowire.SizeBytes(len(ref)) + protowire.SizeTag(sendContent) + protowire.SizeBytes(len(content))
	b = protowire.AppendTag(b, clientSend, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = protowire.AppendTag(b, sendRef, protowire.BytesType)
	b = protowire.AppendString(b, ref)
	b = protowire.AppendTag(b, sendContent, protowire.BytesType)
	return protowire.AppendBytes(b, content)
}

func errorsJSON(payload []byte) int { return bytes.Count(payload, []byte(`{"error":{`)) }

func errorsProto(payload []byte) (found int) {
	for len(payload) > 0 {
		number, kind, n := protowire.ConsumeTag(payload)
		if n < 0 || number != batchFrames || kind != protowire.BytesType {
			return found
		}
		frame, size := protowire.ConsumeBytes(payload[n:])
		if size < 0 {
			return found
		}
		payload = payload[n+size:]
		if number, _, n := protowire.ConsumeTag(frame); n > 0 && number == serverErrors {
			found++
		}
	}
	return found
}
