package main

import (
	"bytes"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"burrow/cmd/bench/wire"
)

// protocol is how messages look on the wire.
type protocol struct {
	name string // Sec-WebSocket-Protocol; empty: none.
	op   byte   // Of the frames of a client.
	// send adds the frame's payload that says content.
	send func(b, content []byte) []byte
	// errors counts the error frames in a payload of the server, acks those that confirm.
	errors, acks func(payload []byte) int
	path         func(user string) string // Of the upgrade; nil: Burrow's.
	hello        []byte                   // The client's first frame; nil: none.
	beat         []byte                   // A frame of the server that is sent back; nil: none.
}

var protocols = map[string]protocol{
	"plain":    {op: wire.OpText, send: sendPlain, errors: errorsJSON, acks: func([]byte) int { return 0 }},
	"v1.json":  {name: "burrow.v1.json", op: wire.OpText, send: sendJSON, errors: errorsJSON, acks: acksJSON},
	"v1.proto": {name: "burrow.v1.proto", op: wire.OpBinary, send: sendProto, errors: errorsProto, acks: acksProto},
	rivalName:  rivalProtocol,
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
	serverAcks   = 5
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

func acksJSON(payload []byte) int { return bytes.Count(payload, []byte(`{"ack":{`)) }

func errorsProto(payload []byte) int { return framesProto(payload, serverErrors) }

func acksProto(payload []byte) int { return framesProto(payload, serverAcks) }

// framesProto counts the frames of a batch that are of a kind.
func framesProto(payload []byte, kind protowire.Number) (found int) {
	for len(payload) > 0 {
		number, wire, n := protowire.ConsumeTag(payload)
		if n < 0 || number != batchFrames || wire != protowire.BytesType {
			return found
		}
		frame, size := protowire.ConsumeBytes(payload[n:])
		if size < 0 {
			return found
		}
		payload = payload[n+size:]
		if number, _, n := protowire.ConsumeTag(frame); n > 0 && number == kind {
			found++
		}
	}
	return found
}
