package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/presence"
	"burrow/gen/tasks"
	"burrow/handlers"
)

type rooms struct{ got []*chat.ChatMessage }

func (r *rooms) Deliver(m *chat.ChatMessage) { r.got = append(r.got, m) }

func TestBroadcastDelivers(t *testing.T) {
	r := &rooms{}
	msg := &chat.ChatMessage{Sender: "alice", Content: "hello"}
	if err := (&handlers.Broadcast{Rooms: r}).Handle(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if len(r.got) != 1 || r.got[0] != msg {
		t.Errorf("got %v, want the message once", r.got)
	}
}

type leases struct{ got []string }

func (l *leases) ApplyStatus(user string, online bool, node string, incarnation, version uint64) {
	l.got = append(l.got, fmt.Sprint("status ", user, online, node, incarnation, version))
}

func (l *leases) ApplyState(node string, incarnation, version uint64, users []string, leaving bool, part, parts uint32) {
	l.got = append(l.got, fmt.Sprint("state ", node, incarnation, version, users, leaving, part, parts))
}

func (l *leases) ApplyRequest(node string) { l.got = append(l.got, "request "+node) }

func TestPresencePassesEverythingOn(t *testing.T) {
	l := &leases{}
	p := &handlers.Presence{Leases: l}
	err := errors.Join(
		p.Status(t.Context(), &chat.UserStatus{ClientId: "alice", Online: true, Node: "n", Incarnation: 7, Version: 8}),
		p.State(t.Context(), &presence.NodeState{Node: "n", Incarnation: 7, Version: 9, Users: []string{"a", "b"}, Leaving: true, Part: 1, Parts: 2}),
		p.Request(t.Context(), &presence.StateRequest{Node: "m"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprint("status ", "alice", true, "n", 7, 8),
		fmt.Sprint("state ", "n", 7, 9, []string{"a", "b"}, true, 1, 2),
		"request m",
	}
	if fmt.Sprint(l.got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", l.got, want)
	}
}

type appender struct {
	got []*chat.ChatMessage
	err error
}

func (a *appender) Append(_ context.Context, m *chat.ChatMessage) error {
	a.got = append(a.got, m)
	return a.err
}

func TestArchive(t *testing.T) {
	const id = "0190b0e0-0000-7000-8000-000000000001"
	now := timestamppb.Now()
	full := &chat.ChatMessage{Sender: "a", Content: "c", Id: id, SentAt: now}
	private := &chat.ChatMessage{Sender: "a", Content: "c", ToUser: "b", Id: id, SentAt: now}
	tests := []struct {
		name    string
		msg     *chat.ChatMessage
		private bool
		broker  string
		want    *chat.ChatMessage // nil: nothing is stored
		fails   bool
	}{
		{"a full message is stored as it is", full, false, "x", full, false},
		{"a private message is not stored", private, false, "x", nil, false},
		{"unless the operator wants it", private, true, "x", private, false},
		{"global means everyone", &chat.ChatMessage{Sender: "a", Content: "c", ToUser: "global", Id: id, SentAt: now}, false, "x", full, false},
		{"the broker's id stands in", &chat.ChatMessage{Sender: "a", Content: "c", SentAt: now}, false, id, full, false},
		{"no id at all is given up", &chat.ChatMessage{Sender: "a", Content: "c", SentAt: now}, false, "", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := &appender{}
			a := &handlers.Archive{Messages: store, Private: tt.private, MessageID: func(context.Context) string { return tt.broker }}
			err := a.Handle(t.Context(), &tasks.ArchiveMessage{Message: tt.msg})
			var p interface{ Permanent() bool }
			if gave := errors.As(err, &p) && p.Permanent(); gave != tt.fails {
				t.Fatalf("error %v, want a permanent one: %v", err, tt.fails)
			}
			switch {
			case tt.want == nil && len(store.got) > 0:
				t.Errorf("stored %v", store.got)
			case tt.want != nil && (len(store.got) != 1 || !proto.Equal(store.got[0], tt.want)):
				t.Errorf("got %v, want %v", store.got, tt.want)
			}
		})
	}
}

func TestArchiveWithoutIDIsTheSameMessageEachTime(t *testing.T) {
	store := &appender{err: errors.New("disk full")}
	a := &handlers.Archive{Messages: store, MessageID: func(context.Context) string { return "STREAM-12" }}
	msg := &chat.ChatMessage{Sender: "a", Content: "c"}
	for range 2 {
		if err := a.Handle(t.Context(), &tasks.ArchiveMessage{Message: msg}); !errors.Is(err, store.err) {
			t.Fatalf("got %v, want the error of the store, to be tried again", err)
		}
	}
	if x, y := store.got[0], store.got[1]; x.GetId() == "" || x.GetId() != y.GetId() || x.GetSentAt() == nil {
		t.Errorf("got %v and %v, want one id and a time", x, y)
	}
	if msg.GetId() != "" {
		t.Error("the message of the router was changed")
	}
}

type keeper struct{ got []*tasks.DeadLetter }

func (k *keeper) AddDeadLetter(_ context.Context, l *tasks.DeadLetter) error {
	k.got = append(k.got, l)
	return nil
}

func TestDeadLettersAreKept(t *testing.T) {
	k := &keeper{}
	letter := &tasks.DeadLetter{Topic: "t", Function: "f"}
	if err := (&handlers.DeadLetters{Letters: k}).Handle(t.Context(), letter); err != nil || len(k.got) != 1 || k.got[0] != letter {
		t.Errorf("got %v, %v", k.got, err)
	}
}

func TestRoute(t *testing.T) {
	tests := []struct {
		name    string
		msg     proto.Message
		id, key string
	}{
		{"global talk is one conversation", &chat.ChatMessage{Id: "1", Sender: "a"}, "1", "global"},
		{"also by its other name", &chat.ChatMessage{Id: "1", Sender: "a", ToUser: "global"}, "1", "global"},
		{"a private talk", &chat.ChatMessage{Id: "2", Sender: "b", ToUser: "a"}, "2", "a\nb"},
		{"and its answers", &chat.ChatMessage{Id: "3", Sender: "a", ToUser: "b"}, "3", "a\nb"},
		{"the archive needs no order", &tasks.ArchiveMessage{Message: &chat.ChatMessage{Id: "4"}}, "4", ""},
		{"presence is in order by node", &chat.UserStatus{ClientId: "a", Node: "n"}, "", "n"},
		{"its states too", &presence.NodeState{Node: "n"}, "", "n"},
		{"anything else", &tasks.DeadLetter{}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if id, key := handlers.Route(tt.msg); id != tt.id || key != tt.key {
				t.Errorf("got %q, %q, want %q, %q", id, key, tt.id, tt.key)
			}
		})
	}
}

func TestPermanent(t *testing.T) {
	cause := errors.New("cause")
	if err := handlers.Permanent(cause); !errors.Is(err, cause) || err.Error() != "cause" {
		t.Errorf("got %v", err)
	}
	if handlers.Permanent(nil) != nil {
		t.Error("Permanent(nil) is an error")
	}
}
