package httpapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/internal/content"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%q\nwant\n%q", name, got, want)
	}
}

// Clients of others read these: a change here is a change of the protocol.
func TestFramesAreGolden(t *testing.T) {
	msg := &chat.ChatMessage{
		Id: "019c1000-0000-7000-8000-000000000001", Sender: "alice", Content: "<b>\"hé\\llo\"</b> & \n\t\u2028 🦫",
		SentAt: timestamppb.New(time.Date(2026, 1, 31, 13, 0, 0, 120_999_999, time.FixedZone("", 3600))),
	}
	frames := map[string]frame{
		"chat_global":        textFrame(newChatFrame(msg, time.Time{})),
		"status_online":      textFrame(statusFrame{"alice", true}),
		"status_offline":     textFrame(statusFrame{"Zoë M", false}),
		"ping":               pingFrame,
		"pong":               newFrame(opPong, []byte("data")),
		"close_restart":      closeFrame(closeRestart, "retry-ms=1234"),
		"close_slow":         closeFrame(closeTryLater, reasonSlow),
		"close_full":         closeFrame(closeTryLater, reasonFull),
		"close_expired":      closeFrame(closeExpired, reasonExpired),
		"close_rate":         closeFrame(closeRateLimited, reasonRate),
		"close_no_status":    closeFrame(closeNoStatus, "ignored"),
		"error_rate_limited": textFrame(errorFrame{errorBody{Code: codeRateLimited, Message: "slow down", RetryAfterMS: 48}}),
	}
	msg.ToUser = "bob"
	frames["chat_private"] = textFrame(newChatFrame(msg, time.Time{}))
	for name, f := range frames {
		golden(t, name, f)
	}
	for name, raw := range map[string]string{
		"error_bad_frame":        `?`,
		"error_no_content":       `{}`,
		"error_to_user":          `{"content":"x","to_user":1}`,
		"error_control":          `{"content":"\u0000"}`,
		"error_empty_content":    `{"content":" "}`,
		"error_content_too_long": `{"content":"too long"}`,
		"error_invalid_user":     `{"content":"x","to_user":"-"}`,
	} {
		_, bad := decodeFrame([]byte(raw), 5)
		if bad == nil {
			t.Fatalf("%s: %s was taken", name, raw)
		}
		golden(t, name, textFrame(errorFrame{*bad}))
	}
}

func TestFrameHeaders(t *testing.T) {
	for size, header := range map[int]string{
		0:     "\x81\x00",
		125:   "\x81\x7d",
		126:   "\x81\x7e\x00\x7e",
		65535: "\x81\x7e\xff\xff",
		65536: "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
	} {
		payload := bytes.Repeat([]byte("x"), size)
		if got, want := newFrame(opText, payload), append([]byte(header), payload...); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: header %x, want %x", size, got[:min(len(got), 10)], header)
		}
	}
}

func TestDecodeFrame(t *testing.T) {
	for raw, want := range map[string]incoming{
		`{"content":"hello"}`: {"hello", ""},
		` {"to_user" : "bob", "content":"hello", "sender":{}} `: {"hello", "bob"},
		`{"content":"hello","to_user":""}`:                      {"hello", ""},
		`{"content":"hello","to_user":"global"}`:                {"hello", ""},
		`{"content":"a","content":"b"}`:                         {"b", ""},
		`{"content":"\r\n a\r\nb\rc\t \n"}`:                     {"a\nb\nc", ""},
		`{"content":"x","to_user":"Zoe\u0308"}`:                 {"x", "Zoë"},
		`{"content":"\ud83e\uddab \ud800"}`:                     {"🦫 \ufffd", ""},
		`{"content":"👩‍👩‍👧"}`:                                   {"👩‍👩‍👧", ""},
	} {
		got, bad := decodeFrame([]byte(raw), 100)
		if bad != nil || got != want {
			t.Errorf("%s: got %q %v, want %q", raw, got, bad, want)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, seed := range []string{
		`{"content":"hello","to_user":"bob"}`, `{"content":" \u0000"}`, `[]`, `null`, `{"content":"\ud800"}`,
		`{"content":"x","to_user":"global"}`, `{"content":"\u200b"}`, strings.Repeat(`{"a":`, 50), "{\"content\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	const limit = 64
	f.Fuzz(func(t *testing.T, data []byte) {
		in, bad := decodeFrame(data, limit)
		if bad != nil {
			if bad.Code == "" || bad.Message == "" || in != (incoming{}) {
				t.Errorf("refused with %+v, and %+v", bad, in)
			}
			return
		}
		if in.content == "" || len(in.content) > limit || !utf8.ValidString(in.content) || strings.TrimSpace(in.content) != in.content ||
			strings.ContainsFunc(in.content, content.Forbidden) {
			t.Errorf("took content %q", in.content)
		}
		if name, err := auth.ValidName(in.toUser); in.toUser != "" && (err != nil || name != in.toUser) {
			t.Errorf("took to_user %q", in.toUser)
		}
		// What people get is one text frame that says what was said.
		c := newChatFrame(in.chatMessage("alice", "id", time.Now()), time.Now())
		var back chatFrame
		if err := json.Unmarshal(encodeJSON(c), &back); err != nil || back != *c || back.Content != in.content {
			t.Errorf("%+v became %+v: %v", c, back, err)
		}
	})
}
