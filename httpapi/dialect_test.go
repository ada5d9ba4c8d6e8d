package httpapi

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/edge"
	"burrow/internal/content"
)

var at = timestamppb.New(time.Date(2026, 1, 31, 12, 0, 0, 120_000_000, time.UTC))

const (
	aRef = "6f1c1a52-7d0e-4c1e-9c0f-3b6d5a8e2f01"
	anID = "019c1000-0000-7000-8000-000000000001"
)

var aChat = &edge.Chat{Id: anID, Sender: "alice", Content: "<b>\"hé\\llo\"</b> & \n\t\u2028 🦫", SentAt: at, Ref: aRef}

// serverFrames has one of each kind, and of those that differ.
var serverFrames = map[string]*edge.ServerFrame{
	"welcome": {Frame: &edge.ServerFrame_Welcome{Welcome: &edge.Welcome{
		ClientId: "alice", Node: "node-1", ServerTime: at, MaxContentBytes: 4096, Epoch: "E", PingIntervalMs: 25000,
		HistoryAfter: "019c0fff-f830-0000-0000-000000000000",
	}}},
	"welcome_back": {Frame: &edge.ServerFrame_Welcome{Welcome: &edge.Welcome{
		ClientId: "alice", Node: "node-1", ServerTime: at, MaxContentBytes: 4096, Recovered: true, Epoch: "E", PingIntervalMs: 25000, PrivateGap: true,
		ExpiresAt: timestamppb.New(at.AsTime().Add(time.Hour).Truncate(time.Second)),
	}}},
	"chat":         {Frame: &edge.ServerFrame_Chat{Chat: aChat}},
	"chat_private": {Frame: &edge.ServerFrame_Chat{Chat: &edge.Chat{Id: anID, Sender: "alice", Content: "psst", ToUser: "Zoë M", SentAt: at}}},
	"status":       {Frame: &edge.ServerFrame_Status{Status: &edge.Status{Online: []string{"alice", "bob"}, Offline: []string{"Zoë M"}, Total: 2}}},
	"presence":     {Frame: &edge.ServerFrame_Presence{Presence: &edge.Presence{Users: []string{"alice", "bob"}, Total: 1000}}},
	"status_away": {Frame: &edge.ServerFrame_Status{Status: &edge.Status{
		Online: []string{"bob"}, Total: 2, Away: []string{"bob"}, Back: []string{"alice"},
	}}},
	"presence_away": {Frame: &edge.ServerFrame_Presence{Presence: &edge.Presence{Users: []string{"alice", "bob"}, Total: 2, Away: []string{"bob"}}}},
	"presence_0":    {Frame: &edge.ServerFrame_Presence{Presence: &edge.Presence{}}},
	"ack":           {Frame: &edge.ServerFrame_Ack{Ack: &edge.Ack{Ref: aRef, Id: anID, SentAt: at}}},
	"error":         errorV1(&errorBody{Code: codeRateLimited, Message: "slow down", RetryAfterMS: 48}, aRef),
	"error_no_ref":  errorV1(badFrame("mend it"), ""),
	"typing":        {Frame: &edge.ServerFrame_Typing{Typing: &edge.Typing{ClientId: "alice", ToUser: "bob"}}},
	"history": {Frame: &edge.ServerFrame_History{History: &edge.History{
		Messages: []*edge.Chat{aChat, {Id: anID, Sender: "bob", Content: "2", SentAt: at}}, HasMore: true, Ref: "page 1", WithUser: "",
	}}},
	"history_0": {Frame: &edge.ServerFrame_History{History: &edge.History{WithUser: "bob"}}},
	"renewed":   {Frame: &edge.ServerFrame_Renewed{Renewed: &edge.Renewed{ExpiresAt: at}}},
	"pong":      {Frame: &edge.ServerFrame_Pong{Pong: &edge.Pong{ServerTime: at}}},
}

var clientFrames = map[string]*edge.ClientFrame{
	"send":    {Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: aRef, Content: "hello", ToUser: "bob"}}},
	"typing":  {Frame: &edge.ClientFrame_Typing{Typing: &edge.Typing{ToUser: "bob"}}},
	"history": {Frame: &edge.ClientFrame_History{History: &edge.HistoryRequest{Before: anID, Limit: 20, WithUser: "bob", Ref: "page 1"}}},
	"after":   {Frame: &edge.ClientFrame_History{History: &edge.HistoryRequest{After: anID}}},
	"ping":    {Frame: &edge.ClientFrame_Ping{Ping: &edge.Ping{}}},
	"away":    {Frame: &edge.ClientFrame_Activity{Activity: &edge.Activity{Away: true}}},
	"renew":   {Frame: &edge.ClientFrame_Renew{Renew: &edge.Renew{Token: "a.b.c"}}},
}

// Clients of others read and write these: a change here is a change of the protocol.
func TestV1FramesAreGolden(t *testing.T) {
	for name, f := range serverFrames {
		golden(t, "v1/"+name+".json", v1JSON.encode(f).payload())
		golden(t, "v1/"+name+".proto", v1Proto.encode(f).payload())
	}
	for _, name := range []string{"welcome", "chat", "presence", "status", "typing"} {
		golden(t, "v1/"+name+".events", v1Events.encode(serverFrames[name]))
	}
	golden(t, "v1/close_restart.events", v1Events.closing(closeRestart, "retry-ms=1234"))
	golden(t, "v1/close_slow.events", v1Events.closing(closeTryLater, reasonSlow))
	golden(t, "v1/ping.events", v1Events.ping())
	batch := []frame{v1JSON.encode(serverFrames["ack"]), v1JSON.encode(serverFrames["pong"])}
	golden(t, "v1/batch.json", frame(v1JSON.join(nil, batch)).payload())
	batch = []frame{v1Proto.encode(serverFrames["ack"]), v1Proto.encode(serverFrames["pong"])}
	golden(t, "v1/batch.proto", frame(v1Proto.join(nil, batch)).payload())
	for name, want := range clientFrames {
		text := appendJSON(nil, want.ProtoReflect())
		binary, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "v1/client_"+name+".json", text)
		golden(t, "v1/client_"+name+".proto", binary)
		for d, data := range map[dialect][]byte{v1JSON: text, v1Proto: binary} {
			if got, bad := d.decode(data); bad != nil || !proto.Equal(got, want) {
				t.Errorf("%s: decoded %v %v, want %v", data, got, bad, want)
			}
		}
	}
}

// There is a golden frame for every kind of frame.
func TestEveryFrameIsGolden(t *testing.T) {
	for _, tt := range []struct {
		oneof protoreflect.OneofDescriptor
		has   func(protoreflect.FieldDescriptor) bool
	}{
		{new(edge.ServerFrame).ProtoReflect().Descriptor().Oneofs().Get(0), func(field protoreflect.FieldDescriptor) bool {
			for _, f := range serverFrames {
				if f.ProtoReflect().Has(field) {
					return true
				}
			}
			return false
		}},
		{new(edge.ClientFrame).ProtoReflect().Descriptor().Oneofs().Get(0), func(field protoreflect.FieldDescriptor) bool {
			for _, f := range clientFrames {
				if f.ProtoReflect().Has(field) {
					return true
				}
			}
			return false
		}},
	} {
		for i := range tt.oneof.Fields().Len() {
			if field := tt.oneof.Fields().Get(i); !tt.has(field) {
				t.Errorf("there is no golden %s", field.FullName())
			}
		}
	}
}

// Any number of frames that are joined is the batch of all of them, for both encodings; and
// what protojson reads is what was written.
func TestJoinedFramesAreOneBatch(t *testing.T) {
	var all []*edge.ServerFrame
	for _, f := range serverFrames {
		all = append(all, f)
	}
	for range 200 {
		want := new(edge.ServerBatch)
		b := map[dialect]*batch{v1JSON: {dialect: v1JSON}, v1Proto: {dialect: v1Proto}}
		for range 1 + rand.IntN(8) {
			f := all[rand.IntN(len(all))]
			if rand.IntN(4) == 0 {
				f = errorV1(badFrame(strings.Repeat("long ", rand.IntN(20_000))), "")
			}
			want.Frames = append(want.Frames, f)
			for d, b := range b {
				b.add(d.encode(f))
			}
		}
		for d, b := range b {
			got := new(edge.ServerBatch)
			payload := readOne(t, d, b.bytes())
			var err error
			if d == v1JSON {
				err = protojson.Unmarshal(payload, got)
			} else {
				err = proto.Unmarshal(payload, got)
			}
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("%d frames became %v: %v", len(want.Frames), got, err)
			}
		}
	}
}

// readOne returns the payload of data, which must be one whole frame.
func readOne(t *testing.T, d dialect, data []byte) []byte {
	t.Helper()
	f := frame(data)
	if f[0] != 0x80|d.opcode() || !bytes.Equal(newFrame(d.opcode(), f.payload()), f) {
		t.Fatalf("%.20x is not one frame of dialect %d", data, d)
	}
	return f.payload()
}

func TestControlFramesStandBetweenBatches(t *testing.T) {
	a, c := v1JSON.encode(serverFrames["ack"]), closeFrame(closeRestart, "x")
	b := &batch{dialect: v1JSON}
	for _, f := range []frame{pingFrame, a, a, c} {
		b.add(f)
	}
	if got, want := b.bytes(), bytes.Join([][]byte{pingFrame, v1JSON.join(nil, []frame{a, a}), c}, nil); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What appendString writes is what was to be said, whatever it is.
func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é\u2028\u2029\ufffd🦫", "\xff\xc3\x28\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		data := appendString(nil, s)
		if err := json.Unmarshal(data, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q became %s, which is %q: %v", s, data, back, err)
		}
		if !utf8.Valid(data) || bytes.ContainsAny(data, "\n\u2028\u2029") {
			t.Errorf("%q became %q", s, data)
		}
	})
}

func TestNegotiation(t *testing.T) {
	for _, tt := range []struct {
		offered []string
		name    string
		d       dialect
	}{
		{nil, "", plain},
		{[]string{""}, "", plain},
		{[]string{"chat, burrow.v2.json"}, "", plain},
		{[]string{"BURROW.V1.JSON"}, "", plain}, // Subprotocols are told apart by case.
		{[]string{"burrow.v1.json"}, "burrow.v1.json", v1JSON},
		{[]string{"burrow.v1.proto"}, "burrow.v1.proto", v1Proto},
		{[]string{"chat,burrow.v1.proto , burrow.v1.json"}, "burrow.v1.proto", v1Proto}, // The client's order counts.
		{[]string{"chat", "burrow.v1.json"}, "burrow.v1.json", v1JSON},
	} {
		if name, d := negotiate(http.Header{"Sec-Websocket-Protocol": tt.offered}); name != tt.name || d != tt.d {
			t.Errorf("%q: got %q, dialect %d", tt.offered, name, d)
		}
	}
}

// fuzzDecode feeds d with what a stranger may send: it is refused with an answer, or understood.
func fuzzDecode(f *testing.F, d dialect) {
	for _, frame := range clientFrames {
		data, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		if d == v1JSON {
			data = appendJSON(nil, frame.ProtoReflect())
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"send":null}`, `{"send":{"content":1}}`, `{"send":{},"ping":{}}`, `{"ping":{"x":[[[[]]]]}}`,
		`{"history":{"limit":-1}}`, `{"history":{"limit":1e9}}`, "\x0a\x00", "\x0a\xff\xff\xff\xff\x0f", "\x0b\x0c", "\x12\x02\x0a\x01\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, bad := d.decode(data)
		if bad != nil {
			if bad.Code == "" || bad.Message == "" || got != nil {
				t.Errorf("refused with %+v and %v", bad, got)
			}
			return
		}
		if send := got.GetSend(); send != nil {
			in, bad := compose(send.GetContent(), send.GetToUser(), 64)
			if bad == nil && (in.content == "" || len(in.content) > 64 || !utf8.ValidString(in.content) || strings.ContainsFunc(in.content, content.Forbidden)) {
				t.Errorf("took content %q", in.content)
			}
			if id, ok := parseID(send.GetRef()); ok && len(id) != 36 {
				t.Errorf("took ref %q", send.GetRef())
			}
		}
		if r := got.GetHistory(); r != nil {
			q, bad := historyQuery(r, "alice", "")
			if bad == nil && (q.limit < 1 || q.limit > maxPage || q.before != "" && q.after != "") {
				t.Errorf("%v became %+v", r, q)
			}
		}
		// What was understood can be sent again and is the same.
		again := appendJSON(nil, got.ProtoReflect())
		back, bad := v1JSON.decode(again)
		if bad != nil || !proto.Equal(back, got) {
			t.Errorf("%v became %s, which is %v %v", got, again, back, bad)
		}
	})
}

func FuzzDecodeV1JSON(f *testing.F)  { fuzzDecode(f, v1JSON) }
func FuzzDecodeV1Proto(f *testing.F) { fuzzDecode(f, v1Proto) }
