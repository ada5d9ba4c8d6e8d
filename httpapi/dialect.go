package httpapi

import (
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// dialect is what a session speaks. What many sessions get is encoded once for each dialect,
// not for each session.
type dialect uint8

const (
	plain    dialect = iota // One flat JSON object in a frame.
	v1JSON                  // The messages of edge.v1, as JSON in text frames.
	v1Proto                 // The same in binary frames.
	v1Events                // The same, as JSON in Server-Sent Events: see events.go.
	dialects
)

// subprotocols are the dialects by what stands for them in Sec-WebSocket-Protocol.
var subprotocols = map[string]dialect{"burrow.v1.json": v1JSON, "burrow.v1.proto": v1Proto}

// negotiate returns the first subprotocol of the client's that is known here, or plain without a
// name: that is also what clients get that offer only others, as the header is but a wish.
func negotiate(h http.Header) (name string, d dialect) {
	for _, line := range h["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if d, known := subprotocols[name]; known {
				return name, d
			}
		}
	}
	return "", plain
}

// opcode is that of the frames with the dialect's messages.
func (d dialect) opcode() byte {
	if d == v1Proto {
		return opBinary
	}
	return opText
}

// frames names the kind of frames that the dialect has.
func (d dialect) frames() string {
	if d == v1Proto {
		return "binary"
	}
	return "text"
}

// What is around the frames of a batch in JSON.
const (
	batchOpen  = `{"frames":[`
	batchClose = `]}`
)

// joins reports whether frames that leave together become one batch.
func (d dialect) joins() bool { return d == v1JSON || d == v1Proto }

// encode returns f as a complete WebSocket frame, or event, with a batch of its own. Plain has no
// such frames.
func (d dialect) encode(f *edge.ServerFrame) frame {
	switch d {
	case v1Events:
		return encodeEvent(f)
	case v1JSON:
		payload := appendJSON([]byte(batchOpen), f.ProtoReflect())
		return newFrame(opText, append(payload, batchClose...))
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(&edge.ServerBatch{Frames: []*edge.ServerFrame{f}})
	if err != nil {
		panic("httpapi: encode a frame: " + err.Error()) // Text that is not UTF-8: a bug, for all of ours is.
	}
	return newFrame(opBinary, payload)
}

// body returns what is a batch's own in a frame that encode made: batches are joined by
// putting their bodies one after the other, in JSON with commas between.
func (d dialect) body(f frame) []byte {
	payload := f.payload()
	if d == v1JSON {
		return payload[len(batchOpen) : len(payload)-len(batchClose)]
	}
	return payload
}

// join appends frames that encode made to b, as one frame with one batch.
func (d dialect) join(b []byte, frames []frame) []byte {
	size := 0
	for _, f := range frames {
		size += len(d.body(f))
	}
	if d == v1JSON {
		size += len(batchOpen) + len(frames) - 1 + len(batchClose)
	}
	b = appendHeader(b, d.opcode(), size)
	if d == v1JSON {
		b = append(b, batchOpen...)
	}
	for i, f := range frames {
		if d == v1JSON && i > 0 {
			b = append(b, ',')
		}
		b = append(b, d.body(f)...)
	}
	if d == v1JSON {
		b = append(b, batchClose...)
	}
	return b
}

// ping returns what says that the connection lives.
func (d dialect) ping() frame {
	if d == v1Events {
		return commentEvent
	}
	return pingFrame
}

// closing returns what ends a connection.
func (d dialect) closing(code int, reason string) frame {
	if d == v1Events {
		return closeEvent(code, reason)
	}
	return closeFrame(code, reason)
}

// decode reads what a client of v1 sent. Fields that are not known are ignored, so that newer
// clients are understood as far as possible. Text must be UTF-8.
func (d dialect) decode(data []byte) (*edge.ClientFrame, *errorBody) {
	f := new(edge.ClientFrame)
	var err error
	if d == v1JSON {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, f)
	} else {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, f)
	}
	switch {
	case err != nil && d == v1JSON:
		return nil, badFrame(`a frame is a JSON object such as {"ping":{}}: one edge.v1.ClientFrame, with fields of the right types`)
	case err != nil:
		return nil, badFrame("a frame is one edge.v1.ClientFrame")
	case f.GetFrame() == nil:
		return nil, badFrame("a frame is one of send, typing, history, activity, ping and renew; this one is none that is known here")
	}
	return f, nil
}
