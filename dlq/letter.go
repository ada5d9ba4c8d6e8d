package dlq

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"burrow/store"
)

// maxPayload bounds the payload in an answer, in bytes; of a longer one it is the
// beginning.
const maxPayload = 1 << 20

// Page is an answer to List. Its JSON is the same from the command and over HTTP.
type Page struct {
	Letters []*Letter `json:"letters"`
	HasMore bool      `json:"has_more"` // ask again with before = the last id
}

// Letter is a dead letter for people and programs. Its JSON is the same from the
// command and over HTTP; times are RFC 3339 in UTC.
type Letter struct {
	ID          int64             `json:"id"`
	State       string            `json:"state"` // waiting, replaying or replayed
	Since       string            `json:"since"` // of the state
	Function    string            `json:"function"`
	Topic       string            `json:"topic"`
	MessageID   string            `json:"message_id"`
	TraceID     string            `json:"trace_id,omitempty"`
	Error       string            `json:"error"`
	Attempts    uint32            `json:"attempts"` // of all failures together
	FailedAt    string            `json:"failed_at"`
	Replays     int               `json:"replays"`
	RequestedAt string            `json:"requested_at,omitempty"` // the last replay
	RequestedBy string            `json:"requested_by,omitempty"`
	Note        string            `json:"note,omitempty"` // why the last replay was not sent, or not yet
	Bytes       int               `json:"bytes"`          // of the payload
	Metadata    map[string]string `json:"metadata,omitempty"`

	// What follows is not in a list.

	Payload       json.RawMessage `json:"payload,omitempty"` // as protobuf's JSON, if it can be read
	PayloadBase64 string          `json:"payload_base64,omitempty"`
	Truncated     bool            `json:"truncated,omitempty"` // payload_base64 is the first MiB, and there is no payload
	Refused       string          `json:"refused,omitempty"`   // why a replay would be refused
	Actions       []Action        `json:"actions,omitempty"`   // the latest twenty, oldest first
}

// Action is what somebody did with a letter.
type Action struct {
	At   string `json:"at"`
	Who  string `json:"who"`
	What string `json:"what"` // replay requested, sent, not sent, failed again, dropped
	Note string `json:"note,omitempty"`
}

func newLetter(l *store.DeadLetter) *Letter {
	return &Letter{
		ID: l.ID, State: l.State, Since: stamp(l.Since), Function: l.Function, Topic: l.Topic, MessageID: l.MessageID,
		TraceID: traceID(l.Metadata), Error: l.Error, Attempts: l.Attempts, FailedAt: stamp(l.FailedAt),
		Replays: l.Replays, RequestedAt: stamp(l.RequestedAt), RequestedBy: l.RequestedBy, Note: l.Note,
		Bytes: l.Bytes, Metadata: l.Metadata,
	}
}

// addContent adds what a list leaves out.
func (l *Letter) addContent(types *Types, kept *store.DeadLetter) {
	m, err := types.decode(kept.Topic, kept.Payload)
	if err != nil {
		l.Refused = err.Error()
	}
	if len(kept.Payload) > maxPayload {
		l.PayloadBase64 = base64.StdEncoding.EncodeToString(kept.Payload[:maxPayload])
		l.Truncated = true
		return
	}
	l.PayloadBase64 = base64.StdEncoding.EncodeToString(kept.Payload)
	if m == nil {
		return
	}
	if text, err := toJSON(m); err == nil {
		l.Payload = text
	}
}

// stamp returns t for people and programs, or "" for no time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// traceID returns the id of the trace in a W3C traceparent, or "".
func traceID(metadata map[string]string) string {
	if parts := strings.Split(metadata["traceparent"], "-"); len(parts) >= 4 && len(parts[1]) == 32 {
		return parts[1]
	}
	return ""
}
