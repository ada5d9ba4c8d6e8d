package httpapi_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"

	"burrow/httpapi"
)

const hostileRef = "6f1c1a52-7d0e-4c1e-9c0f-3b6d5a8e2f01"

// hostile is what a stranger may send, and what becomes of it: the code of an error, a close
// code, "taken" if it is said, or "ignored" if it is neither said nor answered.
type hostile struct {
	name string
	data string
	want string
}

func hostileJSON() []hostile {
	send := func(content, more string) string {
		return fmt.Sprintf(`{"send":{"ref":"%s","content":%s%s}}`, hostileRef, content, more)
	}
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	return []hostile{
		{"nothing", ``, "bad_frame"},
		{"a space", ` `, "bad_frame"},
		{"null", `null`, "bad_frame"},
		{"a number", `1`, "bad_frame"},
		{"a text", `"send"`, "bad_frame"},
		{"a list", `[{"ping":{}}]`, "bad_frame"},
		{"an empty object", `{}`, "bad_frame"},
		{"half an object", `{"send":`, "bad_frame"},
		{"two objects", `{"ping":{}}{"ping":{}}`, "bad_frame"},
		{"something behind", `{"ping":{}} x`, "bad_frame"},
		{"a trailing comma", `{"ping":{},}`, "bad_frame"},
		{"a comment", `{"ping":{}/**/}`, "bad_frame"},
		{"single quotes", `{'ping':{}}`, "bad_frame"},
		{"a byte order mark", "\ufeff" + `{"ping":{}}`, "bad_frame"},
		{"not UTF-8", "{\"ping\":{\"x\":\"\xff\"}}", "1007"},
		{"an overlong slash", "{\"x\":\"\xc0\xaf\"}", "1007"},
		{"a surrogate as bytes", "{\"x\":\"\xed\xa0\x80\"}", "1007"},
		{"only a NUL", "\x00", "bad_frame"},
		{"an unknown frame", `{"shutdown":{}}`, "bad_frame"},
		{"a server's frame", `{"ack":{"ref":"x"}}`, "bad_frame"},
		{"a frame of plain", `{"content":"hello","to_user":""}`, "bad_frame"},
		{"a batch", `{"frames":[{"ping":{}}]}`, "bad_frame"},
		{"a frame that is null", `{"send":null}`, "bad_frame"},
		{"a frame that is a list", `{"send":[]}`, "bad_frame"},
		{"a frame that is a text", `{"send":"x"}`, "bad_frame"},
		{"two frames in one", `{"ping":{},"send":{}}`, "bad_frame"},
		{"a frame twice", `{"ping":{},"ping":{}}`, "bad_frame"},
		{"content that is a number", send(`1`, ""), "bad_frame"},
		{"content that is an object", send(`{}`, ""), "bad_frame"},
		{"content that is true", send(`true`, ""), "bad_frame"},
		{"content twice", send(`"a","content":"b"`, ""), "bad_frame"},
		{"half a surrogate", send(`"\ud800"`, ""), "bad_frame"},
		{"a bad escape", send(`"\x41"`, ""), "bad_frame"},
		{"a raw line break", send("\"a\nb\"", ""), "bad_frame"},
		{"to_user that is a number", send(`"x"`, `,"to_user":1`), "bad_frame"},
		{"to_user that is a list", send(`"x"`, `,"to_user":["bob"]`), "bad_frame"},
		{"10,000 brackets", strings.Repeat("[", 10_000), "bad_frame"},
		{"10,000 unknown brackets", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "bad_frame"},
		{"10,000 unknown keys", `{"x":{` + strings.TrimSuffix(strings.Repeat(`"k":0,`, 2000), ",") + `}}`, "bad_frame"},
		{"a limit below 0", `{"history":{"limit":-1}}`, "bad_frame"},
		{"a limit of 1e300", `{"history":{"limit":1e300}}`, "bad_frame"},
		{"a limit of half a page", `{"history":{"limit":0.5}}`, "bad_frame"},
		{"a limit that is NaN", `{"history":{"limit":"NaN"}}`, "bad_frame"},
		{"a limit over all bounds", `{"history":{"limit":4294967295}}`, "bad_frame"},
		{"a sender", send(`"x"`, `,"sender":"root","id":"1"`), "taken"},
		{"an escaped key", `{"\u0073end":{"ref":"` + hostileRef + `","content":"x"}}`, "taken"},
		{"markup", send(quoted(`<script>alert(1)</script><img src=x onerror=alert(1)>`), ""), "taken"},
		{"the end of a batch", send(quoted(`"}}]}{"frames":[]}`), ""), "taken"},
		{"line separators", send(quoted("a\u2028b\u2029c"), ""), "taken"},
		{"turned around", send(quoted("\u202egnp.exe"), ""), "taken"},
		{"an escaped surrogate pair", send(`"\ud83e\uddab"`, ""), "taken"},
		{"a noncharacter", send(quoted("\ufffe\uffff\U0010ffff"), ""), "taken"},
		{"zalgo", send(quoted("a"+strings.Repeat("\u0301", 500)), ""), "taken"},
		{"to_user global", send(`"x"`, `,"to_user":"global"`), "taken"},
	}
}

func hostileProto() []hostile {
	field := func(n protowire.Number, payload string) string {
		return string(protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), []byte(payload)))
	}
	send := func(content, more string) string {
		return field(1, field(1, hostileRef)+field(2, content)+more)
	}
	nested := ""
	for range 3000 {
		nested = string(protowire.AppendTag(nil, 99, protowire.StartGroupType)) + nested + string(protowire.AppendTag(nil, 99, protowire.EndGroupType))
	}
	long := string(binary.AppendUvarint([]byte{0x0a}, 1<<62))
	return []hostile{
		{"nothing", "", "bad_frame"},
		{"JSON", `{"ping":{}}`, "bad_frame"},
		{"a tag of nothing", "\x00\x00", "bad_frame"},
		{"half a tag", "\x80", "bad_frame"},
		{"half a field", "\x0a\x7f", "bad_frame"},
		{"a length of 2^62", long, "bad_frame"},
		{"a length that never ends", strings.Repeat("\xff", 40), "bad_frame"},
		{"an unknown frame", field(15, "x"), "bad_frame"},
		{"a frame that is a number", "\x08\x01", "bad_frame"},
		{"a group that does not end", "\x0b", "bad_frame"},
		{"a group that ends but does not begin", "\x0c", "bad_frame"},
		{"3,000 groups in each other", nested, "bad_frame"},
		{"a server's batch", field(1, field(5, "")), "bad_frame"},
		{"content that is not UTF-8", send("\xff\xfe", ""), "bad_frame"},
		{"a name that is not UTF-8", send("x", field(3, "\xc3\x28")), "bad_frame"},
		{"a ref of bytes", field(1, field(1, "\x00\x01\x02")+field(2, "x")), "bad_frame"},
		{"a ref in braces", field(1, field(1, "{"+hostileRef+"}")+field(2, "x")), "bad_frame"},
		{"a ref as a URN", field(1, field(1, "urn:uuid:"+hostileRef)+field(2, "x")), "bad_frame"},
		{"a NUL", send("a\x00b", ""), "bad_frame"},
		{"an escape sequence", send("\x1b[2J", ""), "bad_frame"},
		{"nothing to see", send("\u200b\u2060\ufeff \n\t", ""), "empty_content"},
		{"4097 bytes", send(strings.Repeat("x", 4097), ""), "content_too_long"},
		{"a name of 65 letters", send("x", field(3, strings.Repeat("a", 65))), "invalid_user"},
		{"a name of a path", send("x", field(3, "../bob")), "invalid_user"},
		{"a name of markup", send("x", field(3, "<b>")), "invalid_user"},
		{"two frames: the last one counts", field(4, "") + send("x", ""), "taken"},
		{"content twice: the last one counts", send("x", field(2, "y")), "taken"},
		{"unknown fields", send("x", field(90, strings.Repeat("x", 5000))), "taken"},
		{"a long way of writing a length", "\x0a" + string(append(binary.AppendUvarint(nil, 0)[:0], 0xab, 0x80, 0x00)) + field(1, hostileRef) + field(2, "xyz"), "taken"},
	}
}

// Whatever somebody sends, they get an answer that is true, and nobody else notices.
func TestHostileInput(t *testing.T) {
	count := 0
	for protocol, cases := range map[string][]hostile{v1JSON: hostileJSON(), v1Proto: hostileProto()} {
		n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnectionsPerUser, c.Edge.Rate = 0, 0 })
		bob := n.joinV1(t, v1Proto, "bob")
		for i, tt := range cases {
			count++
			t.Run(protocol+"/"+tt.name, func(t *testing.T) {
				mallory := n.dialV1(t, protocol, fmt.Sprintf("mallory%d", i), "")
				mallory.hello()
				mallory.sendBytes([]byte(tt.data))
				if strings.HasPrefix(tt.want, "10") {
					var code int
					_, _ = fmt.Sscan(tt.want, &code)
					mallory.closed(code)
				} else if f := mallory.nextTalk(); tt.want == "taken" {
					for f.GetChat() != nil {
						f = mallory.nextTalk()
					}
					if f.GetAck() == nil {
						t.Fatalf("got %v, want an ack", f)
					}
				} else {
					if e := f.GetError(); e.GetCode() != tt.want || e.GetMessage() == "" {
						t.Fatalf("got %v, want %s", f, tt.want)
					}
					// The connection is as good as before.
					mallory.ponged()
				}
				if tt.want == "taken" {
					if m := bob.nextTalk().GetChat(); m.GetSender() != fmt.Sprintf("mallory%d", i) || m.GetContent() == "" {
						t.Fatalf("bob got %v", m)
					}
				}
			})
		}
		bob.ponged()
		if got := n.metric(t, "burrow_edge_panics_total"); got != 0 {
			t.Errorf("%v panics", got)
		}
	}
	if count < 60 {
		t.Errorf("%d hostile inputs, want 60 or more", count)
	}
}

// Some are hostile to the connection itself: raw WebSocket frames on v1.
func TestHostileFrames(t *testing.T) {
	ok := `{"ping":{}}`
	for name, tt := range map[string]struct {
		data []byte
		code int
	}{
		"binary on JSON":            {rawFrame(0x82, ok), 1003},
		"a reserved bit":            {rawFrame(0xC1, ok), 1002},
		"an unknown opcode":         {rawFrame(0x83, ok), 1002},
		"a continuation of nothing": {rawFrame(0x80, ok), 1002},
		"a ping in pieces":          {rawFrame(0x09, "x"), 1002},
		"a length of 2^62":          {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009},
		"too large in pieces":       {append(rawFrame(0x01, strings.Repeat(" ", 10000)), rawFrame(0x80, strings.Repeat(" ", 10000))...), 1009},
		"pieces that are not UTF-8": {append(rawFrame(0x01, `{"x":"`+"\xc3"), rawFrame(0x80, `("}`)...), 1007},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, nil)
			c := n.rawDial(t, "alice", 0, "Sec-WebSocket-Protocol: "+v1JSON)
			if _, err := c.Conn.Write(tt.data); err != nil {
				t.Fatal(err)
			}
			if got := c.readClose(); got != tt.code {
				t.Errorf("closed with %d, want %d", got, tt.code)
			}
		})
	}
}

// Frames that are refused again and again end the connection, in v1 as in plain.
func TestV1RepeatedBadFramesAreClosed(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 1000, 5 })
		mallory := n.joinV1(t, protocol, "mallory")
		kind := websocket.MessageText
		if protocol == v1Proto {
			kind = websocket.MessageBinary
		}
		go func() {
			for range 5000 { // Until the server has closed; what does not get out is not needed.
				if mallory.Write(t.Context(), kind, []byte("?")) != nil {
					return
				}
			}
		}()
		mallory.closed(4429)
	})
}
