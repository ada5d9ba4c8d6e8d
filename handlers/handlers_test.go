package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/presence"
	"burrow/gen/tasks"
	"burrow/handlers"
)

const someID = "01890a5d-ac96-774b-bcce-b302099a8057"

var someTime = timestamppb.New(time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC))

func brokerID(id string) func(context.Context) string {
	return func(context.Context) string { return id }
}

func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

func TestPermanentMarksAnError(t *testing.T) {
	cause := errors.New("no use")
	err := fmt.Errorf("archive: %w", handlers.Permanent(cause))
	if !isPermanent(err) || !errors.Is(err, cause) || err.Error() != "archive: no use" {
		t.Errorf("got %v, permanent %v", err, isPermanent(err))
	}
	if isPermanent(cause) {
		t.Error("an error without the mark is permanent")
	}
	if err := handlers.Permanent(nil); err != nil {
		t.Errorf("Permanent(nil) is %v", err)
	}
}

func TestRoute(t *testing.T) {
	for _, tt := range []struct {
		name    string
		msg     proto.Message
		id, key string
	}{
		{"to everyone", &chat.ChatMessage{Id: someID, Sender: "bob"}, someID, "global"},
		{"to everyone by name", &chat.ChatMessage{Id: someID, Sender: "bob", ToUser: "Global"}, someID, "global"},
		{"to one person", &chat.ChatMessage{Id: someID, Sender: "bob", ToUser: "alice"}, someID, "alice/bob"},
		{"the answer", &chat.ChatMessage{Sender: "alice", ToUser: "bob"}, "", "alice/bob"},
		{"to oneself", &chat.ChatMessage{Sender: "bob", ToUser: "bob"}, "", "bob/bob"},
		{"archive", &tasks.ArchiveMessage{Message: &chat.ChatMessage{Id: someID, Sender: "bob"}}, someID, ""},
		{"archive of nothing", &tasks.ArchiveMessage{}, "", ""},
		{"status", &chat.UserStatus{ClientId: "bob", Node: "n1"}, "", "n1"},
		{"typing", &chat.Typing{Sender: "bob", ToUser: "alice"}, "", "bob"},
		{"state", &presence.NodeState{Node: "n1"}, "", "n1"},
		{"request", &presence.StateRequest{Node: "n1"}, "", ""},
		{"dead letter", &tasks.DeadLetter{MessageId: someID}, "", ""},
		{"unknown", someTime, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if id, key := handlers.Route(tt.msg); id != tt.id || key != tt.key {
				t.Errorf("Route is %q, %q; want %q, %q", id, key, tt.id, tt.key)
			}
		})
	}
}

// room remembers what was delivered.
type room struct{ got []*chat.ChatMessage }

func (r *room) Deliver(msg *chat.ChatMessage) { r.got = append(r.got, msg) }

func TestBroadcastDelivers(t *testing.T) {
	r := &room{}
	b := handlers.Broadcast{Rooms: r}
	msg := &chat.ChatMessage{Id: someID, Sender: "bob", Content: "hi", ToUser: "alice", SentAt: someTime}
	if err := b.Handle(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if len(r.got) != 1 || r.got[0] != msg {
		t.Errorf("delivered %v, want the message itself", r.got)
	}
}

func TestBroadcastCompletesWhatOtherProgramsLeaveOut(t *testing.T) {
	r := &room{}
	b := handlers.Broadcast{Rooms: r, MessageID: brokerID("stream-17")}
	msg := &chat.ChatMessage{Sender: "bob", Content: "hi", ToUser: "global"}
	before := proto.Clone(msg)
	for range 2 {
		if err := b.Handle(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.got[0]; got.GetToUser() != "" || got.GetSentAt() == nil || got.GetContent() != "hi" {
		t.Errorf("delivered %v", got)
	}
	if a, b := r.got[0].GetId(), r.got[1].GetId(); a == "" || a != b {
		t.Errorf("the ids are %q and %q, want the same twice", a, b)
	}
	if !proto.Equal(msg, before) {
		t.Errorf("the message was changed to %v", msg)
	}
	if err := (&handlers.Broadcast{Rooms: r}).Handle(t.Context(), msg); err != nil || r.got[2].GetId() != "" {
		t.Errorf("without a broker id: %v, id %q", err, r.got[2].GetId())
	}
}

// leases writes down how it is called.
type leases struct{ calls []string }

func (l *leases) ApplyStatus(user string, online, away bool, node string, incarnation, version uint64) {
	l.calls = append(l.calls, fmt.Sprint("status ", user, online, away, node, incarnation, " ", version))
}

func (l *leases) ApplyState(node string, incarnation, version uint64, users, away []string, leaving bool, part, parts uint32) {
	l.calls = append(l.calls, fmt.Sprint("state ", node, incarnation, " ", version, users, away, leaving, part, " ", parts))
}

func (l *leases) ApplyRequest(node string) { l.calls = append(l.calls, "request "+node) }

func (l *leases) Behind(node, last string) { l.calls = append(l.calls, "behind "+node+" "+last) }

func TestPresenceHandsEverythingOn(t *testing.T) {
	l := &leases{}
	p := handlers.Presence{Leases: l, Talk: l}
	err := errors.Join(
		p.Status(t.Context(), &chat.UserStatus{ClientId: "bob", Online: true, Away: true, Node: "n", Incarnation: 1, Version: 2}),
		p.State(t.Context(), &presence.NodeState{Node: "n", Incarnation: 1, Version: 3, Users: []string{"ann", "bob"}, Away: []string{"bob"}, Leaving: true, Part: 4, Parts: 5}),
		p.Request(t.Context(), &presence.StateRequest{Node: "n", Behind: "m"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"status bobtrue truen1 2", "state n1 3 [ann bob] [bob] true 4 5", "behind n m", "request n"}
	if !slices.Equal(l.calls, want) {
		t.Errorf("got %q, want %q", l.calls, want)
	}
}

// archive stores in memory, or fails.
type archive struct {
	got []*chat.ChatMessage
	err error
}

func (a *archive) Append(_ context.Context, msg *chat.ChatMessage) error {
	if a.err == nil {
		a.got = append(a.got, msg)
	}
	return a.err
}

func TestArchive(t *testing.T) {
	for _, tt := range []struct {
		name    string
		private bool
		broker  string
		msg     *chat.ChatMessage
		stored  bool
		refused bool
	}{
		{name: "stores what was said to everyone", msg: &chat.ChatMessage{Id: someID, Sender: "bob"}, stored: true},
		{name: "takes global for everyone", msg: &chat.ChatMessage{Id: someID, Sender: "bob", ToUser: "GLOBAL"}, stored: true},
		{name: "drops private messages", msg: &chat.ChatMessage{Id: someID, Sender: "bob", ToUser: "alice"}},
		{name: "drops private messages even without id", msg: &chat.ChatMessage{Sender: "bob", ToUser: "alice"}},
		{name: "stores private messages when asked to", private: true, msg: &chat.ChatMessage{Id: someID, Sender: "bob", ToUser: "alice"}, stored: true},
		{name: "makes an id of the broker's", broker: "17-0", msg: &chat.ChatMessage{Sender: "bob"}, stored: true},
		{name: "refuses what has no id anywhere", msg: &chat.ChatMessage{Sender: "bob"}, refused: true},
		{name: "refuses nothing", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &archive{}
			a := handlers.Archive{Messages: store, Private: tt.private, MessageID: brokerID(tt.broker)}
			err := a.Handle(t.Context(), &tasks.ArchiveMessage{Message: tt.msg})
			if isPermanent(err) != tt.refused || !tt.refused && err != nil {
				t.Errorf("Handle: %v", err)
			}
			if stored := len(store.got) == 1; stored != tt.stored {
				t.Fatalf("stored %v", store.got)
			}
			for _, msg := range store.got {
				if msg.GetId() == "" || msg.GetSentAt() == nil || strings.EqualFold(msg.GetToUser(), "global") {
					t.Errorf("stored %v", msg)
				}
			}
		})
	}
}

func TestArchivePassesOnWhatTheStoreSays(t *testing.T) {
	for _, cause := range []error{errors.New("the disk is full"), handlers.Permanent(errors.New("not valid"))} {
		a := handlers.Archive{Messages: &archive{err: cause}}
		err := a.Handle(t.Context(), &tasks.ArchiveMessage{Message: &chat.ChatMessage{Id: someID, Sender: "bob"}})
		if !errors.Is(err, cause) || isPermanent(err) != isPermanent(cause) {
			t.Errorf("Handle: %v (permanent: %v), want %v", err, isPermanent(err), cause)
		}
	}
}

func TestIDOfAMessageThatHasNone(t *testing.T) {
	store := &archive{}
	id := func(broker string, msg *chat.ChatMessage) string {
		t.Helper()
		a := handlers.Archive{Messages: store, MessageID: brokerID(broker)}
		if err := a.Handle(t.Context(), &tasks.ArchiveMessage{Message: msg}); err != nil {
			t.Fatal(err)
		}
		return store.got[len(store.got)-1].GetId()
	}
	// Golden: ids that are stored must not change with the code.
	for _, tt := range []struct {
		name, broker string
		sentAt       *timestamppb.Timestamp
		want         string
	}{
		{"the name of the broker's id", "17-0", nil, goldenName},
		{"the same at the time of the message", "17-0", someTime, goldenTime},
	} {
		for range 2 {
			if got := id(tt.broker, &chat.ChatMessage{Sender: "bob", SentAt: tt.sentAt}); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	if id("17-1", &chat.ChatMessage{Sender: "bob"}) == id("17-0", &chat.ChatMessage{Sender: "bob"}) {
		t.Error("two messages have the same id")
	}
	if got := id("", &chat.ChatMessage{Id: strings.ToUpper(someID), Sender: "bob"}); got != someID {
		t.Errorf("an id in capitals became %s, want %s", got, someID)
	}
	for broker, taken := range map[string]bool{
		someID:                                 true,
		"01890a5d-ac96-474b-bcce-b302099a8057": false, // version 4: no time in it
		"01890a5d-ac96-774b-0cce-b302099a8057": false,
		"01890a5d-ac96-774b-bcce-b302099a805x": false,
		"01890a5d-ac96-774b-bcce-b302099a-057": false,
	} {
		if got := id(broker, &chat.ChatMessage{Sender: "bob"}); (got == broker) != taken || len(got) != 36 {
			t.Errorf("the id %s on the broker became %s", broker, got)
		}
	}
	before := &timestamppb.Timestamp{Seconds: -1}
	if got := id("17-0", &chat.ChatMessage{Sender: "bob", SentAt: before}); got != goldenName {
		t.Errorf("with a time that no UUID can hold: %s, want %s", got, goldenName)
	}
}

const (
	goldenName = "00000000-0000-7f6a-bc94-8fa4e543c02b"
	goldenTime = "019c13ec-9e7b-7f6a-bc94-8fa4e543c02b"
)

// letters keeps dead letters, or fails.
type letters struct {
	got []*tasks.DeadLetter
	err error
}

func (l *letters) AddDeadLetter(_ context.Context, letter *tasks.DeadLetter) error {
	l.got = append(l.got, letter)
	return l.err
}

func TestDeadLettersAreStored(t *testing.T) {
	l := &letters{}
	letter := &tasks.DeadLetter{MessageId: "1", Topic: "burrow.tasks.ArchiveMessage", Function: "archive"}
	if err := (&handlers.DeadLetters{Letters: l}).Handle(t.Context(), letter); err != nil || len(l.got) != 1 || l.got[0] != letter {
		t.Errorf("stored %v, %v", l.got, err)
	}
	l.err = handlers.Permanent(errors.New("not valid"))
	if err := (&handlers.DeadLetters{Letters: l}).Handle(t.Context(), letter); !isPermanent(err) {
		t.Errorf("the store refused it: %v", err)
	}
}

// What a program publishes is shown as if it had come through the edge, or not at all.
func TestBroadcast_RulesOfTheEdge(t *testing.T) {
	for _, tt := range []struct {
		name string
		msg  *chat.ChatMessage
		want string // sender, recipient and content; empty: refused
	}{
		{"as it is", &chat.ChatMessage{Sender: "bob", ToUser: "Ada", Content: "hi"}, "bob>Ada: hi"},
		{"other normal forms", &chat.ChatMessage{Sender: "Ame\u0301lie", ToUser: "Zoe\u0308", Content: "e\u0301"}, "Am\u00e9lie>Zo\u00eb: e\u0301"},
		{"global", &chat.ChatMessage{Sender: "bob", ToUser: "Global", Content: "hi"}, "bob>: hi"},
		{"a sender called global", &chat.ChatMessage{Sender: "GLOBAL", Content: "hi"}, ""},
		{"a sender that looks like global", &chat.ChatMessage{Sender: "gl\u043ebal", Content: "hi"}, ""},
		{"a recipient that looks like global", &chat.ChatMessage{Sender: "bob", ToUser: "g1obal", Content: "hi"}, ""},
		{"an invisible letter", &chat.ChatMessage{Sender: "bob\u3164", Content: "hi"}, ""},
		{"a bidi mark in a name", &chat.ChatMessage{Sender: "\u202ebob", Content: "hi"}, ""},
		{"two spaces", &chat.ChatMessage{Sender: "bob  b", Content: "hi"}, ""},
		{"a control character in a name", &chat.ChatMessage{Sender: "bob", ToUser: "a\x1bda", Content: "hi"}, ""},
		{"control characters", &chat.ChatMessage{Sender: "bob", Content: " \x1b[31mred\x00\u009b\r\nnext\ttab\n"}, "bob>: [31mred\nnext\ttab"},
		{"nothing to see", &chat.ChatMessage{Sender: "bob", Content: "\x07\u200b "}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.msg.Id, tt.msg.SentAt = someID, someTime
			before := proto.CloneOf(tt.msg)
			shownTo, store := &room{}, &archive{}
			b := handlers.Broadcast{Rooms: shownTo}
			a := handlers.Archive{Messages: store, Private: true}
			shown, stored := b.Handle(t.Context(), tt.msg), a.Handle(t.Context(), &tasks.ArchiveMessage{Message: tt.msg})
			if !proto.Equal(tt.msg, before) {
				t.Errorf("the message was changed to %v", tt.msg)
			}
			for what, got := range map[string][]*chat.ChatMessage{"shown": shownTo.got, "stored": store.got} {
				switch {
				case tt.want == "" && (len(got) > 0 || !isPermanent(shown) || !isPermanent(stored)):
					t.Errorf("%s %v: %v, %v; want it refused", what, got, shown, stored)
				case tt.want != "" && (len(got) != 1 || got[0].GetSender()+">"+got[0].GetToUser()+": "+got[0].GetContent() != tt.want):
					t.Errorf("%s %v (%v, %v), want %q", what, got, shown, stored, tt.want)
				}
			}
		})
	}
}

type typist []*chat.Typing

func (t *typist) Typing(msg *chat.Typing) { *t = append(*t, msg) }

func TestTyping_RulesOfTheEdge(t *testing.T) {
	shown := &typist{}
	f := handlers.Typing{Rooms: shown}
	for _, msg := range []*chat.Typing{{Sender: "global"}, {Sender: "bob\u200e"}, {Sender: "bob", ToUser: "gl\u043ebal"}} {
		if err := f.Handle(t.Context(), msg); !isPermanent(err) {
			t.Errorf("%v: %v", msg, err)
		}
	}
	for _, to := range []string{"GLOBAL", "Zoe\u0308"} {
		if err := f.Handle(t.Context(), &chat.Typing{Sender: "bob", ToUser: to}); err != nil {
			t.Error(err)
		}
	}
	if len(*shown) != 2 || (*shown)[0].GetToUser() != "" || (*shown)[1].GetToUser() != "Zo\u00eb" {
		t.Errorf("shown %v", *shown)
	}
}

func TestPresence_RulesOfTheEdge(t *testing.T) {
	l := &leases{}
	p := handlers.Presence{Leases: l, Talk: l}
	for _, name := range []string{"global", "gl\u043ebal", "bob\u3164", "\u202ebob", "b\x1bob", ""} {
		if err := p.Status(t.Context(), &chat.UserStatus{ClientId: name, Online: true, Node: "n"}); !isPermanent(err) || len(l.calls) > 0 {
			t.Errorf("%q: %v, %v", name, err, l.calls)
		}
	}
	users := []string{"alice", "global", "Gl\u043ebal", "bob\u3164", "\u202ebob", "b\x1bob", "", "e\u0301a", "b  ob", "हिन्दी"}
	before := slices.Clone(users)
	if err := p.State(t.Context(), &presence.NodeState{Node: "n", Incarnation: 1, Version: 1, Users: users, Away: users[1:3]}); err != nil {
		t.Fatal(err)
	}
	if want := "[alice हिन्दी] []"; len(l.calls) != 1 || !strings.Contains(l.calls[0], want) {
		t.Errorf("got %q, want the users %s", l.calls, want)
	}
	if !slices.Equal(users, before) {
		t.Error("the message was changed")
	}
}
