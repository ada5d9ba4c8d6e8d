package dlq_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/dlq"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hostile = "\x1b]0;owned\x07\r\u202eevil\u2066\u200b\u009b31m\xff\U000e0041"

// desk returns a desk on a store of its own, with what it logs.
func desk(t *testing.T) (*dlq.Desk, *store.Store, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	types, err := dlq.NewTypes("burrow")
	if err != nil {
		t.Fatal(err)
	}
	return &dlq.Desk{Store: s, Types: types, Log: slog.New(slog.NewTextHandler(log, nil))}, s, log
}

func add(t *testing.T, s *store.Store, topic string, payload []byte) int64 {
	t.Helper()
	err := s.AddDeadLetter(t.Context(), &tasks.DeadLetter{
		MessageId: "m" + topic, Topic: topic, Function: "print", Error: "bad " + strings.ToValidUTF8(hostile, "?"), Attempts: 5, Payload: payload,
		FailedAt: timestamppb.Now(), Metadata: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	})
	if err != nil {
		t.Fatal(err)
	}
	letters, _, err := s.ListDeadLetters(t.Context(), store.LetterQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	return letters[0].ID
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReplayIsRefusedWhenTheMessageIsNotValidAnyMore(t *testing.T) {
	d, s, log := desk(t)
	kicks := 0
	d.Kick = func() { kicks++ }
	for topic, payload := range map[string][]byte{
		"burrow.chat.ChatMessage":     []byte("no message"),
		"burrow.tasks.ArchiveMessage": nil, // lacks what is required
		"burrow.chat.NoSuchMessage":   nil,
		"other.chat.ChatMessage":      nil,
	} {
		id := add(t, s, topic, payload)
		if _, err := d.Replay(t.Context(), id, "ada"); !errors.Is(err, dlq.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", topic, err)
		}
		l, err := d.Show(t.Context(), id)
		if err != nil || l.State != store.Waiting || l.Refused == "" || l.Replays != 0 {
			t.Errorf("%s: %+v, %v", topic, l, err)
		}
	}
	id := add(t, s, "burrow.chat.UserStatus", encode(t, &chat.UserStatus{ClientId: "ada", Node: "n"}))
	l, err := d.Replay(t.Context(), id, "ada")
	if err != nil || l.State != store.Replaying || kicks != 1 {
		t.Errorf("got %+v, %v, %d kicks", l, err, kicks)
	}
	if busy := new(dlq.NotWaitingError); !errors.As(second(d.Replay(t.Context(), id, "bob")), &busy) || busy.By != "ada" {
		t.Errorf("requested twice: %+v", busy)
	}
	if _, err := d.Drop(t.Context(), id, "bob"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{second(d.Drop(t.Context(), id, "bob")), second(d.Show(t.Context(), id)), second(d.Peek(t.Context(), id)), second(d.Replay(t.Context(), id, "bob"))} {
		if !errors.Is(err, dlq.ErrNoLetter) {
			t.Errorf("got %v, want ErrNoLetter", err)
		}
	}
	for _, want := range []string{`msg="a replay was refused"`, `msg="a replay was requested"`, "who=ada", `msg="a dead letter was dropped"`, "who=bob"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestShowDecodesWhatTheTopicSays(t *testing.T) {
	d, s, _ := desk(t)
	payload := encode(t, &chat.ChatMessage{Id: "0199aaaa-0000-7000-8000-000000000001", Sender: "ada", Content: "hello <b>\u202e"})
	l, err := d.Show(t.Context(), add(t, s, "burrow.chat.ChatMessage", payload))
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Sender, Content string }
	if err := json.Unmarshal(l.Payload, &content); err != nil || content.Sender != "ada" || content.Content != "hello <b>\u202e" {
		t.Errorf("the payload is %s, %v", l.Payload, err)
	}
	if l.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" || l.Bytes != len(payload) || l.PayloadBase64 != base64.StdEncoding.EncodeToString(payload) {
		t.Errorf("got %+v", l)
	}
	if at, err := time.Parse(time.RFC3339, l.FailedAt); err != nil || time.Since(at) > time.Minute {
		t.Errorf("failed at %q", l.FailedAt)
	}
	if l, err = d.Show(t.Context(), add(t, s, "burrow.chat.UserStatus", make([]byte, 2<<20))); err != nil || !l.Truncated || l.Payload != nil || len(l.PayloadBase64) > 3<<19 {
		t.Errorf("of a large payload %d bytes are shown, truncated %v, %v", len(l.PayloadBase64), l.Truncated, err)
	}
}

func TestNothingInALetterActsOnATerminal(t *testing.T) {
	l := &dlq.Letter{
		ID: 1, State: "waiting", Function: hostile, Topic: hostile, MessageID: hostile, TraceID: hostile, Error: hostile,
		RequestedAt: "2026-01-01T00:00:00.000Z", RequestedBy: hostile, Note: hostile, Refused: hostile,
		Metadata: map[string]string{hostile: hostile}, Actions: []dlq.Action{{Who: hostile, What: hostile, Note: hostile}},
	}
	var text bytes.Buffer
	if err := errors.Join(dlq.WriteLetter(&text, l), dlq.WriteTable(&text, &dlq.Page{Letters: []*dlq.Letter{l}})); err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(map[string]string{"content": strings.ToValidUTF8(hostile, "")})
	l.Payload = quoted
	if err := dlq.WriteLetter(&text, l); err != nil {
		t.Fatal(err)
	}
	text.Write(dlq.JSON(l))
	for _, r := range text.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U is shown:\n%q", r, text.String())
		}
	}
	for _, want := range []string{`\x1b]0;owned\x07`, `\u202eevil`, `\u009b31m\xff\U000e0041`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, text.String())
		}
	}
	var back dlq.Letter
	if err := json.Unmarshal(dlq.JSON(l), &back); err != nil || back.Error != strings.ToValidUTF8(hostile, "\ufffd") {
		t.Errorf("as JSON it is %q, %v", back.Error, err)
	}
}

func TestLongLettersAreCut(t *testing.T) {
	payload, _ := json.Marshal(strings.Repeat("x", 1<<20))
	l := &dlq.Letter{ID: 1, State: "waiting", Error: strings.Repeat("é", 4096), Payload: payload}
	var text bytes.Buffer
	if err := dlq.WriteLetter(&text, l); err != nil || text.Len() > 32<<10 || !strings.Contains(text.String(), "-json") {
		t.Errorf("%d bytes for a person, %v", text.Len(), err)
	}
	text.Reset()
	if err := dlq.WriteTable(&text, &dlq.Page{Letters: []*dlq.Letter{l}, HasMore: true}); err != nil || text.Len() > 400 || !strings.Contains(text.String(), "-before 1\n") {
		t.Errorf("the table is %q, %v", text.String(), err)
	}
	text.Reset()
	if err := dlq.WriteTable(&text, &dlq.Page{}); err != nil || text.String() != "no dead letters\n" {
		t.Errorf("an empty table is %q, %v", text.String(), err)
	}
}

func FuzzInert(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range dlq.Inert(s) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q shows %U", s, r)
			}
		}
		if b := dlq.JSON(map[string]string{"a": s}); !json.Valid(b) {
			t.Fatalf("%q becomes %q", s, b)
		}
	})
}
