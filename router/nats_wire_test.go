package router

import (
	"testing"

	wnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

// TestNATSWireIsWatermills compares with the stock marshaler, which knows no id for the server.
func TestNATSWireIsWatermills(t *testing.T) {
	msg := message.NewMessage("one", []byte("body\x00\xff"))
	msg.Metadata = message.Metadata{metaKey: "room", "trace": "t", "empty": ""}
	got := natsMessage("a.topic", msg)
	want, err := (&wnats.NATSMarshaler{}).Marshal("a.topic", msg)
	if err != nil {
		t.Fatal(err)
	}
	want.Header.Set(jetstream.MsgIDHeader, "a.topic one")
	if got.Subject != want.Subject || string(got.Data) != string(want.Data) || len(got.Header) != len(want.Header) {
		t.Errorf("got %v, want %v", got, want)
	}
	for key := range want.Header {
		if len(got.Header[key]) != 1 || got.Header.Get(key) != want.Header.Get(key) {
			t.Errorf("header %s: got %q, want %q", key, got.Header[key], want.Header[key])
		}
	}
	back, err := (&wnats.NATSMarshaler{}).Unmarshal(got)
	if err != nil || !back.Equals(msg) {
		t.Errorf("the stock marshaler reads %v (%v), want %v", back, err, msg)
	}
}
