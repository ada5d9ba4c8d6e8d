package httpapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"burrow/auth"
	"burrow/gen/edge"
	"burrow/httpapi"
)

func TestV1SaysHelloInOneBatch(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) {
			c.Node, c.ListLimit, c.History.Limit = "node-7", 3, 2
			c.Edge.MaxContentBytes, c.Edge.PingInterval = 1234, 7*time.Second
		})
		for i := range 3 {
			n.Deliver(message(i, "bob", "", fmt.Sprint(i)))
		}
		n.Deliver(message(3, "bob", "carol", "not for alice, and no history"))
		for _, user := range []string{"d", "c", "b", "a"} {
			n.Status(user, true)
		}
		// The list is what was told last, and names come with the next status.
		watch := n.joinV1(t, protocol, "watch")
		for total := uint32(0); total < 5; {
			total = watch.next().GetStatus().GetTotal()
		}
		before := time.Now().Truncate(time.Millisecond)
		alice := n.dialV1(t, protocol, "alice", "")
		welcome, messages, presence := alice.hello()
		if alice.batches != 1 {
			t.Errorf("the hello came in %d batches", alice.batches)
		}
		if welcome.ClientId != "alice" || welcome.Node != "node-7" || welcome.MaxContentBytes != 1234 || welcome.Recovered ||
			welcome.Epoch == "" || welcome.PingIntervalMs != 7000 || welcome.ExpiresAt != nil {
			t.Errorf("welcome is %v", welcome)
		}
		if at := welcome.ServerTime.AsTime(); at.Before(before) || at.After(time.Now()) {
			t.Errorf("server_time is %v", at)
		}
		alice.ponged()
		if len(messages) != 2 || messages[0].Content != "1" || messages[1].Content != "2" || messages[1].Id != id(2) ||
			!messages[1].SentAt.AsTime().Equal(message(2, "", "", "").SentAt.AsTime()) {
			t.Errorf("history is %v", messages)
		}
		if fmt.Sprint(presence.Users) != "[a b c]" || presence.Total != 5 {
			t.Errorf("presence is %v", presence)
		}
		// Their own name is on the list if it is known, beyond the limit too.
		for !slices.Contains(alice.next().GetStatus().GetOnline(), "alice") {
		}
		n.Status("aa", true)
		for watch.next().GetStatus().GetTotal() < 7 {
		}
		if _, _, presence = n.dialV1(t, protocol, "d", "").hello(); fmt.Sprint(presence.Users) != "[a aa d]" || presence.Total != 7 {
			t.Errorf("presence is %v", presence)
		}
		if other := start(t, nil).dialV1(t, protocol, "alice", "").next().GetWelcome(); other.Epoch == welcome.Epoch {
			t.Error("two nodes have the same epoch")
		}
	})
}

func TestV1SaysWhenTheSessionEnds(t *testing.T) {
	n := start(t, nil)
	cookie := n.guest("alice")
	want := n.auth.cookies["cookie-of-alice"].Expires
	welcome, _, _ := n.dialV1(t, v1JSON, "alice", "", cookie).hello()
	if got := welcome.ExpiresAt.AsTime(); got.Sub(want).Abs() > time.Millisecond {
		t.Errorf("expires_at is %v, want %v", got, want)
	}
}

// People of all three dialects are in one talk.
func TestV1PeopleTalk(t *testing.T) {
	n := start(t, nil)
	old, text := n.join(t, "old"), n.joinV1(t, v1JSON, "text")
	old.want(online("text"))
	binary := n.joinV1(t, v1Proto, "binary")
	old.want(online("binary"))

	ref := text.say(" hello <b> \r\n", "")
	heard := binary.hears("text", "", "hello <b>")
	ack, _ := text.acked(ref)
	if heard.Ref != ref || ack.Id != heard.Id || !ack.SentAt.AsTime().Equal(heard.SentAt.AsTime()) {
		t.Errorf("ack is %v, the message %v", ack, heard)
	}
	if plainly := old.hears("text", "", "hello <b>"); plainly.ID != heard.Id || plainly.SentAt != heard.SentAt.AsTime().Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("plain got %+v, v1 %v", plainly, heard)
	}
	old.send(`{"content":"hi"}`)
	if m := text.hears("old", "", "hi"); m.Ref != "" || m.Id <= heard.Id {
		t.Errorf("got %v", m)
	}
	binary.hears("old", "", "hi")
	old.hears("old", "", "hi")

	ref = binary.say("psst", "text")
	binary.acked(ref)
	if m := text.hears("binary", "text", "psst"); m.Ref != ref {
		t.Errorf("got %v", m)
	}
	n.Deliver(message(1, "old", "", "after"))
	old.hears("old", "", "after")
	if got := n.broker.published(); fmt.Sprint(got) != "[task event task event event]" {
		t.Errorf("published %q", got)
	}
}

func TestV1HistoryPages(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.History.Limit = 0; c.History.Buffer = 10 })
		for i := range 60 {
			n.archive.add(message(i, "bob", "", fmt.Sprint(i)))
		}
		for i := 55; i < 70; i++ {
			n.Deliver(message(i, "bob", "", fmt.Sprint(i)))
		}
		n.archive.add(message(100, "alice", "bob", "psst"), message(101, "bob", "carol", "not for alice"))
		alice := n.joinV1(t, protocol, "alice")
		for _, tt := range []struct {
			ask      *edge.HistoryRequest
			from, to int
			more     bool
		}{
			{&edge.HistoryRequest{}, 20, 70, true}, // 60 to 69 are in the memory only.
			{&edge.HistoryRequest{Limit: 5, Ref: "a page"}, 65, 70, true},
			{&edge.HistoryRequest{Limit: 100, Before: id(5)}, 0, 5, false},
			{&edge.HistoryRequest{Limit: 3, Before: id(63)}, 60, 63, true},
			{&edge.HistoryRequest{Limit: 7, After: id(57)}, 58, 65, true},
			{&edge.HistoryRequest{Limit: 50, After: id(40), WithUser: "global"}, 41, 70, false},
			{&edge.HistoryRequest{After: id(69)}, 70, 70, false},
		} {
			alice.sendFrame(historyOf(tt.ask))
			h := alice.nextTalk().GetHistory()
			var got []string
			for _, m := range h.GetMessages() {
				got = append(got, m.Content)
			}
			if fmt.Sprint(got) != fmt.Sprint(numbers(tt.from, tt.to-1)) || h.GetHasMore() != tt.more || h.GetRef() != tt.ask.Ref || h.GetWithUser() != "" {
				t.Errorf("%v: got %q, more %v, ref %q", tt.ask, got, h.GetHasMore(), h.GetRef())
			}
		}
		alice.sendFrame(historyOf(&edge.HistoryRequest{WithUser: "bob"}))
		if h := alice.nextTalk().GetHistory(); len(h.GetMessages()) != 1 || h.Messages[0].Content != "psst" || h.WithUser != "bob" {
			t.Errorf("private talk is %v", h)
		}
		alice.sendFrame(historyOf(&edge.HistoryRequest{WithUser: "carol"}))
		if h := alice.nextTalk().GetHistory(); h == nil || len(h.GetMessages()) != 0 {
			t.Errorf("talk of others is %v", h)
		}
		n.archive.mu.Lock()
		n.archive.err = errors.New("no disk")
		n.archive.mu.Unlock()
		alice.sendFrame(historyOf(&edge.HistoryRequest{Ref: "r"}))
		alice.fails("unavailable", "r")
	})
}

// A page of large messages is cut so that one frame has room for it, and says that there is more.
func TestV1HistoryFrameIsBounded(t *testing.T) {
	n := prepare(t, func(c *httpapi.Config) { c.History.Limit = 0 })
	httpapi.SetReseedAfter(n.Server, time.Hour)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		n.archive.add(message(i, "bob", "", fmt.Sprint(i, strings.Repeat("x", 10_000))))
	}
	alice := n.joinV1(t, v1JSON, "alice")
	var got []string
	more := true
	for before := ""; more; {
		alice.sendFrame(historyOf(&edge.HistoryRequest{Limit: 100, Before: before}))
		h := alice.nextTalk().GetHistory()
		if len(h.Messages) == 0 || len(h.Messages) > 5 {
			t.Fatalf("a page has %d messages", len(h.Messages))
		}
		for _, m := range slices.Backward(h.Messages) {
			got = append(got, strings.TrimRight(m.Content, "x "))
		}
		before, more = h.Messages[0].Id, h.HasMore
	}
	if slices.Reverse(got); fmt.Sprint(got) != fmt.Sprint(numbers(0, 29)) {
		t.Errorf("got %q", got)
	}
}

func TestV1Pong(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, nil)
		alice := n.joinV1(t, protocol, "alice")
		alice.sendFrame(ping)
		pong := alice.nextTalk().GetPong()
		if at := pong.GetServerTime().AsTime(); time.Since(at).Abs() > patience {
			t.Errorf("server_time is %v", at)
		}
		alice.ponged()
	})
}

func TestV1Closes(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.Edge.MaxFrameBytes = 1000 })
		alice := n.joinV1(t, protocol, "alice")
		wrong := websocket.MessageBinary
		if protocol == v1Proto {
			wrong = websocket.MessageText
		}
		_ = alice.Write(t.Context(), wrong, []byte(`{"ping":{}}`))
		alice.closed(1003)
		alice = n.joinV1(t, protocol, "alice")
		alice.sendBytes(make([]byte, 1001))
		alice.closed(1009)
		if protocol == v1JSON {
			alice = n.joinV1(t, protocol, "alice")
			alice.sendBytes([]byte("{\"ping\":{},\"x\":\"\xff\"}"))
			alice.closed(1007)
		}
	})
}

func TestV1RateLimit(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.01, 2 })
		alice := n.joinV1(t, protocol, "alice")
		alice.acked(alice.say("1", ""))
		alice.acked(alice.say("2", ""))
		ref := alice.say("3", "")
		if e := alice.fails("rate_limited", ref); e.RetryAfterMs == 0 {
			t.Error("does not say when to come back")
		}
		for range 4 {
			alice.say("4", "")
		}
		if _, reason := alice.closed(4429); reason == "" {
			t.Error("no reason")
		}
		if got := len(n.broker.published()); got != 2 {
			t.Errorf("published %d messages, want 2", got)
		}
	})
}

func TestV1ErrorsNameTheFrame(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.Edge.MaxContentBytes, c.Edge.Rate = 10, 0 })
		alice := n.joinV1(t, protocol, "alice")
		ref := uuid.NewString()
		long := strings.Repeat("x", 65)
		for _, tt := range []struct {
			frame     *edge.ClientFrame
			code, ref string
		}{
			{sendOf(ref, "", ""), "empty_content", ref},
			{sendOf(ref, " \u200b\n", ""), "empty_content", ref},
			{sendOf(ref, "01234567890", ""), "content_too_long", ref},
			{sendOf(ref, "a\x00b", ""), "bad_frame", ref},
			{sendOf(ref, "x", "-"), "invalid_user", ref},
			{sendOf("", "x", ""), "bad_frame", ""},
			{sendOf("not a UUID", "x", ""), "bad_frame", "not a UUID"},
			{sendOf(long, "x", ""), "bad_frame", ""},
			{historyOf(&edge.HistoryRequest{Ref: "r", Limit: 101}), "bad_frame", "r"},
			{historyOf(&edge.HistoryRequest{Ref: "r", Before: "1"}), "bad_frame", "r"},
			{historyOf(&edge.HistoryRequest{Ref: "r", After: "1"}), "bad_frame", "r"},
			{historyOf(&edge.HistoryRequest{Ref: "r", After: id(1), Before: id(2)}), "bad_frame", "r"},
			{historyOf(&edge.HistoryRequest{Ref: "r", WithUser: "-"}), "invalid_user", "r"},
			{historyOf(&edge.HistoryRequest{Ref: long}), "bad_frame", ""},
			{&edge.ClientFrame{}, "bad_frame", ""},
		} {
			alice.sendFrame(tt.frame)
			alice.fails(tt.code, tt.ref)
		}
		if got := n.broker.published(); len(got) > 0 {
			t.Errorf("published %q", got)
		}
		alice.acked(alice.say("well", ""))
	})
}

// The same ref is the same message: it has one id, is published once if that certainly worked,
// and again if it did not.
func TestV1RefTwiceIsOneMessage(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, nil)
		alice, bob := n.joinV1(t, protocol, "alice"), n.joinV1(t, protocol, "bob")
		ref := alice.say("once", "")
		first, _ := alice.acked(ref)
		bob.hears("alice", "", "once")
		alice.sendFrame(sendOf(strings.ToUpper(ref), "once\n", ""))
		again, _ := alice.acked(strings.ToUpper(ref))
		if again.Id != first.Id || !again.SentAt.AsTime().Equal(first.SentAt.AsTime()) {
			t.Errorf("the same ref is %v, then %v", first, again)
		}
		other := n.joinV1(t, protocol, "alice")
		other.sendFrame(sendOf(ref, "once", ""))
		if again, _ := other.acked(ref); again.Id != first.Id {
			t.Errorf("on another connection the same ref is %v, was %v", again, first)
		}
		if got := len(n.broker.published()); got != 1 {
			t.Errorf("published %d times", got)
		}

		// Another sender's ref, and another text, are other messages.
		bob.sendFrame(sendOf(ref, "once", ""))
		if b, _ := bob.acked(ref); b.Id == first.Id {
			t.Error("two senders share a message")
		}
		alice.sendFrame(sendOf(ref, "twice", ""))
		if b, _ := alice.acked(ref); b.Id == first.Id {
			t.Error("two texts share an id")
		}

		// What the broker did not confirm is published again, as the same message.
		ref = uuid.NewString()
		n.broker.fail(errors.New("away"))
		bob.sendFrame(sendOf(ref, "late", ""))
		for f := bob.nextTalk(); ; f = bob.nextTalk() {
			if e := f.GetError(); e != nil {
				if e.Code != "unavailable" || e.Ref != ref {
					t.Fatalf("got %v", e)
				}
				break
			}
		}
		n.broker.fail(nil)
		published := len(n.broker.published())
		bob.sendFrame(sendOf(ref, "late", ""))
		ack, _ := bob.acked(ref)
		if got := len(n.broker.published()); got != published+1 {
			t.Errorf("published %d times after a failure, want 1", got-published)
		}
		if at, want := ack.SentAt.AsTime(), timeOfID(t, ack.Id); !at.Equal(want) {
			t.Errorf("sent_at is %v, the id of %v", at, want)
		}
	})
}

// timeOfID returns the time in a UUIDv7.
func timeOfID(t *testing.T, id string) time.Time {
	t.Helper()
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		t.Fatalf("%q is no UUIDv7: %v", id, err)
	}
	ms := int64(0)
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

func TestV1Modes(t *testing.T) {
	n := start(t, nil)
	n.auth.mode = auth.ModeGuest
	if _, _, err := n.tryDial(t, "alice", "Sec-WebSocket-Protocol: "+v1JSON); err == nil {
		t.Error("v1 lets in who has no session")
	}
}
