package httpapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/internal/content"
)

// Close codes, as docs/protocol.md lists them.
const (
	closeGoingAway       = 1001
	closeProtocol        = 1002
	closeUnsupportedData = 1003
	closeNoStatus        = 1005 // Never on the wire: a close frame without a code.
	closeInvalidText     = 1007
	closeTooBig          = 1009
	closeInternal        = 1011
	closeRestart         = 1012
	closeTryLater        = 1013
	closeExpired         = 4401
	closeRateLimited     = 4429
)

// Error codes of error frames. They never change; the messages beside them do.
const (
	codeBadFrame       = "bad_frame"
	codeEmptyContent   = "empty_content"
	codeContentTooLong = "content_too_long"
	codeInvalidUser    = "invalid_user"
	codeRateLimited    = "rate_limited"
	codeUnavailable    = "unavailable"
	codeInternal       = "internal"
)

// everyone is the reserved name that the original page sends for a global message.
const everyone = "global"

// chatFrame is a chat message as people see it: the plain protocol's frame and the
// element of a history page. It never changes once made.
type chatFrame struct {
	ID      string `json:"id"`
	Sender  string `json:"sender"`
	Content string `json:"content"`
	ToUser  string `json:"to_user"`
	SentAt  string `json:"sent_at"`

	ref string // The sender's; v1 only.
}

// statusFrame says that a user came online or went offline.
type statusFrame struct {
	ClientID string `json:"client_id"`
	Online   bool   `json:"online"`
}

// errorFrame says what was wrong with the last frame.
type errorFrame struct {
	Error errorBody `json:"error"`
}

// errorBody is the error of an error frame and of an HTTP error alike.
type errorBody struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// newChatFrame returns msg as people see it. A message without a time was said now.
func newChatFrame(msg *chat.ChatMessage, now time.Time) *chatFrame {
	at := now
	if msg.GetSentAt().IsValid() {
		at = msg.GetSentAt().AsTime()
	}
	to := msg.GetToUser()
	if to == everyone {
		to = ""
	}
	return &chatFrame{
		ID:      msg.GetId(),
		Sender:  msg.GetSender(),
		Content: msg.GetContent(),
		ToUser:  to,
		SentAt:  at.UTC().Format(timeFormat),
		ref:     msg.GetRef(),
	}
}

// incoming is what a client wants to say.
type incoming struct {
	content string
	toUser  string // Empty: everyone.
}

// chatMessage returns in as the message of sender.
func (in incoming) chatMessage(sender, id string, at time.Time) *chat.ChatMessage {
	return &chat.ChatMessage{
		Sender:  sender,
		Content: in.content,
		ToUser:  in.toUser,
		Id:      id,
		SentAt:  timestamppb.New(at),
	}
}

// decodeFrame reads a frame of the plain protocol: a JSON object with the string
// "content" and, if it is not for everyone, the string "to_user". Keys are taken
// as they are written, of a key given twice the last one counts, every other key
// is ignored. Data must be UTF-8.
//
// A "to_user" of another type is refused rather than taken for "everyone": what
// somebody means to say in private must not become public.
func decodeFrame(data []byte, maxContent int) (incoming, *errorBody) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil || keys == nil {
		return incoming{}, badFrame(`a frame is a JSON object such as {"content":"hello","to_user":""}`)
	}
	text, ok := jsonString(keys["content"])
	if !ok {
		return incoming{}, badFrame(`"content" must be there and be a string`)
	}
	toUser := ""
	if raw, given := keys["to_user"]; given {
		if toUser, ok = jsonString(raw); !ok {
			return incoming{}, badFrame(`"to_user" must be a string: a user's name, or "" for everyone`)
		}
	}
	return compose(text, toUser, maxContent)
}

// compose returns what a client wants to say. Line ends become \n. Control characters other
// than \n and \t are refused.
func compose(text, toUser string, maxContent int) (incoming, *errorBody) {
	in := incoming{content: content.Trim(text), toUser: toUser}
	switch {
	case !content.Visible(in.content):
		return incoming{}, &errorBody{Code: codeEmptyContent, Message: "the message is empty; write something"}
	case len(in.content) > maxContent:
		return incoming{}, &errorBody{Code: codeContentTooLong, Message: fmt.Sprintf("the message has %d bytes, at most %d are allowed; shorten or split it", len(in.content), maxContent)}
	case strings.ContainsFunc(in.content, content.Forbidden):
		return incoming{}, badFrame(`"content" holds a control character; only line breaks and tabs are allowed`)
	}

	if in.toUser == everyone {
		in.toUser = ""
	}
	if in.toUser != "" {
		name, err := auth.ValidName(in.toUser)
		if err != nil {
			return incoming{}, &errorBody{Code: codeInvalidUser, Message: `"to_user" is not a user's name; ` + nameRule}
		}
		in.toUser = name
	}
	return in, nil
}

// nameRule tells a person what a name may be.
const nameRule = `a name has 1 to 64 letters, digits, single spaces or _ - . @, starts and ends with a letter or digit, and is not "global"`

func badFrame(message string) *errorBody {
	return &errorBody{Code: codeBadFrame, Message: message}
}

// jsonString returns the string that raw, a valid JSON value or nothing, is.
func jsonString(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// frame is a complete server WebSocket frame, header and payload: made once, shared by
// all sessions that get it, never changed.
type frame []byte

const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
)

// pingFrame is the ping that every session gets.
var pingFrame = newFrame(opPing, nil)

// newFrame returns payload as one final, unmasked frame.
func newFrame(opcode byte, payload []byte) frame {
	f := appendHeader(make(frame, 0, 10+len(payload)), opcode, len(payload))
	return append(f, payload...)
}

// appendHeader appends the header of a final, unmasked frame with n bytes of payload.
func appendHeader(b []byte, opcode byte, n int) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
}

// payload returns f without its header.
func (f frame) payload() []byte {
	switch f[1] {
	case 126:
		return f[4:]
	case 127:
		return f[10:]
	default:
		return f[2:]
	}
}

// isData reports whether f holds a message, and does not control the connection.
func (f frame) isData() bool { return f[0]&0x0f < opClose }

// textFrame returns v as JSON in a text frame.
func textFrame(v any) frame { return newFrame(opText, encodeJSON(v)) }

// encodeJSON returns v as JSON without HTML escapes: content is text, and the
// page treats it as text. v is one of the types of this package, which always encode.
func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("httpapi: encode %T: %v", v, err)) // A type that JSON cannot hold: a bug.
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// closeFrame returns a close frame; code closeNoStatus has neither code nor reason.
func closeFrame(code int, reason string) frame {
	if code == closeNoStatus {
		return newFrame(opClose, nil)
	}
	reason = reason[:min(len(reason), 123)] // A control frame holds 125 bytes; ours are ASCII.
	return newFrame(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}
