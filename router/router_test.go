package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/tasks"
)

// What holds on every broker is tested in routertest.

// waitFor polls, for what no channel tells.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 45 s for %s", what)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
}

func TestPublishRefusesWhatBreaksTheRules(t *testing.T) {
	r, err := New(t.Context(), testConfig(t, "gochannel"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for name, msg := range map[string]proto.Message{
		"no sender":            &chat.ChatMessage{Content: "x"},
		"a name that is none":  &chat.ChatMessage{Sender: "<script>", Content: "x"},
		"no content":           &chat.ChatMessage{Sender: "a"},
		"an id that is none":   &chat.ChatMessage{Sender: "a", Content: "x", Id: "7"},
		"no message in a task": &tasks.ArchiveMessage{},
	} {
		if err := r.Publish(t.Context(), msg); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestHandleRefusesWhatCannotWork(t *testing.T) {
	r, err := New(t.Context(), testConfig(t, "gochannel"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	fn := func(context.Context, *chat.ChatMessage) error { return nil }
	if err := Handle(r, "Bad Name", fn); err == nil {
		t.Error("a bad name was taken")
	}
	if err := Handle(r, "work", fn); err != nil {
		t.Error(err)
	}
	if err := Handle(r, "work", fn); err == nil {
		t.Error("the same function was taken twice")
	}
	if err := Handle(r, "work", func(context.Context, *tasks.ArchiveMessage) error { return nil }); err != nil {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	<-r.Running()
	if err := Handle(r, "late", fn); err == nil {
		t.Error("a function was taken after Run")
	}
	if got := r.Functions(); !slices.Equal(got, []string{"work"}) {
		t.Errorf("got %v", got)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeliveryFollowsThePackage(t *testing.T) {
	if got := DeliveryOf(&tasks.ArchiveMessage{}); got != Task {
		t.Errorf("got %v, want a task", got)
	}
	if got := DeliveryOf(&chat.ChatMessage{}); got != Event {
		t.Errorf("got %v, want an event", got)
	}
	if got := Topic("burrow", &tasks.ArchiveMessage{}); got != "burrow.tasks.ArchiveMessage" {
		t.Errorf("got %q", got)
	}
}

func TestOneProcessHasADataDirectory(t *testing.T) {
	cfg := testConfig(t, "nats")
	openTestDriver(t, cfg)
	_, err := New(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
}
