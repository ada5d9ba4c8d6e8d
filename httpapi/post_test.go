package httpapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/httpapi"
)

// mostSends is how many messages of one session may be on their way.
const mostSends = 16

// holdPublishes has publishes wait until the returned function is called.
func (n *node) holdPublishes() (release func()) {
	n.broker.hold, n.broker.held = make(chan struct{}), make(chan struct{}, 100)
	return func() { close(n.broker.hold) }
}

// wantTogether checks that the first message went to the broker alone, and those that were on
// their way meanwhile in few calls.
func (n *node) wantTogether(t *testing.T) {
	t.Helper()
	if calls := n.broker.published(); calls[0] != "task event" || len(calls) > 6 {
		t.Errorf("published %q", calls)
	}
}

func TestPlainMessagesThatComeTogetherArePublishedTogether(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	release := n.holdPublishes()
	for i := range 20 {
		alice.send(fmt.Sprintf(`{"content":"%d"}`, i))
		if i == 0 {
			<-n.broker.held
		}
	}
	eventually(t, "messages are on their way", func() bool { return httpapi.Sends(n.Server) == mostSends })
	release()
	for i := range 20 {
		alice.hears("alice", "", fmt.Sprint(i))
	}
	n.wantTogether(t)
	// Once the first one is out of the way another one may come just in time.
	got := n.broker.published()[1]
	count := strings.Count(got, "task")
	together := strings.Repeat("task ", count) + strings.TrimSpace(strings.Repeat("event ", count))
	if got != together || count < mostSends-1 {
		t.Errorf("published %q after the first one, want %d tasks and their events, or more", got, mostSends-1)
	}
}

func TestV1MessagesThatComeTogetherArePublishedTogether(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, nil)
		alice := n.joinV1(t, protocol, "alice")
		release := n.holdPublishes()
		var refs, heard, acked []string
		for i := range 20 {
			refs = append(refs, alice.say(fmt.Sprint(i), ""))
			if i == 0 {
				<-n.broker.held
			}
		}
		eventually(t, "messages are on their way", func() bool { return httpapi.Sends(n.Server) == mostSends })
		release()
		for len(heard) < 20 || len(acked) < 20 {
			switch f := alice.nextTalk().GetFrame().(type) {
			case *edge.ServerFrame_Chat:
				heard = append(heard, f.Chat.GetRef())
			case *edge.ServerFrame_Ack:
				acked = append(acked, f.Ack.GetRef())
			default:
				t.Fatalf("got %v", f)
			}
		}
		if !slices.Equal(heard, refs) || !slices.Equal(acked, refs) {
			t.Errorf("sent %q, heard %q, acknowledged %q", refs, heard, acked)
		}
		n.wantTogether(t)
	})
}

// TestAnswersHaveTheOrderOfTheFrames: what can be answered at once waits for what is on its way.
func TestAnswersHaveTheOrderOfTheFrames(t *testing.T) {
	n := start(t, nil)
	bob, alice := n.join(t, "bob"), n.joinV1(t, v1JSON, "alice")
	bob.want(online("alice"))
	release := n.holdPublishes()
	n.broker.fail(errors.New("away"))
	first := alice.say("one", "")
	<-n.broker.held
	second, bad := alice.say("two", ""), alice.say("", "")
	alice.sendFrame(ping)
	bob.send(`{"content":"one"}`)
	bob.send(`{"content":"two"}`)
	bob.send(`{"content":" "}`)
	eventually(t, "four messages are on their way", func() bool { return httpapi.Sends(n.Server) == 4 })
	release()
	alice.fails("unavailable", first)
	alice.fails("unavailable", second)
	alice.fails("empty_content", bad)
	if f := alice.nextTalk(); f.GetPong() == nil {
		t.Errorf("got %v, want the pong last", f)
	}
	bob.fails("unavailable")
	bob.fails("unavailable")
	bob.fails("empty_content")
}

// TestARefusedMessageDoesNotKeepOthers: of several in one call the broker takes none because of
// one, and each of the others alone.
func TestARefusedMessageDoesNotKeepOthers(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	release := n.holdPublishes()
	n.broker.refuses(func(m proto.Message) bool {
		c, ok := m.(*chat.ChatMessage)
		return ok && c.GetContent() == "3"
	})
	for i := range 6 {
		alice.send(fmt.Sprintf(`{"content":"%d"}`, i))
		if i == 0 {
			<-n.broker.held
		}
	}
	eventually(t, "messages are on their way", func() bool { return httpapi.Sends(n.Server) == 6 })
	release()
	var refused int
	for i := 0; i < 6; {
		frame := alice.next()
		switch {
		case strings.Contains(frame, `"unavailable"`):
			refused++
		case i == 3:
			i++
			fallthrough
		default:
			if !strings.Contains(frame, fmt.Sprintf(`"content":"%d"`, i)) {
				t.Fatalf("got %s, want message %d", frame, i)
			}
			i++
		}
	}
	alice.send(`{"content":"end"}`)
	for {
		if frame := alice.next(); strings.Contains(frame, `"unavailable"`) {
			refused++
		} else if strings.Contains(frame, `"end"`) {
			break
		}
	}
	if refused != 1 {
		t.Errorf("%d errors, want one", refused)
	}
}

func TestAPanicInThePublisherEndsTheSessionsOnly(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	n.broker.refuses(func(proto.Message) bool { panic("a bug") })
	alice.send(`{"content":"hello"}`)
	alice.closed(1011)
	n.broker.refuses(nil)
	bob := n.dial(t, "bob")
	bob.send(`{"content":"still here"}`)
	for !strings.Contains(bob.next(), "still here") {
	}
	if got := n.metric(t, "burrow_edge_panics_total"); got != 1 {
		t.Errorf("counted %v panics", got)
	}
}
