package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/httpapi"
)

// sentAt returns a message with an id of this time.
func sentAt(at time.Time, sender, toUser, content string) *chat.ChatMessage {
	u := uuid.Must(uuid.NewV7())
	ms := at.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	return &chat.ChatMessage{Id: u.String(), Sender: sender, ToUser: toUser, Content: content, SentAt: timestamppb.New(at.Truncate(time.Millisecond))}
}

// texts returns what messages say.
func texts(messages []*edge.Chat) (all []string) {
	for _, m := range messages {
		all = append(all, m.Content)
	}
	return all
}

// resume connects user with since and returns what they are told.
func (n *node) resume(t *testing.T, protocol, user, since string) (*edge.Welcome, []string) {
	t.Helper()
	welcome, messages, _ := n.dialV1(t, protocol, user, "?since="+since).hello()
	return welcome, texts(messages)
}

func TestResumeBringsWhatWasMissed(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) {
			c.History.Limit = 2
			c.History.ResumeOverlap = time.Second
			c.ArchivePrivate = true
		})
		now := time.Now()
		early := sentAt(now.Add(-10*time.Second), "bob", "", "early")
		n.Deliver(early)
		last := sentAt(now.Add(-5*time.Second), "bob", "", "last")
		n.Deliver(sentAt(now.Add(-5500*time.Millisecond), "bob", "", "within the overlap"))
		n.Deliver(last)
		n.Deliver(sentAt(now.Add(-4*time.Second), "carol", "bob", "of others"))
		n.Deliver(sentAt(now.Add(-3*time.Second), "bob", "alice", "to alice"))
		n.Deliver(sentAt(now.Add(-2*time.Second), "alice", "bob", "from alice"))
		for i := range 5 {
			n.Deliver(sentAt(now.Add(time.Duration(i)*time.Millisecond), "bob", "", fmt.Sprint(i)))
		}
		n.Deliver(sentAt(now.Add(-time.Hour), "bob", "", "late"))

		welcome, got := n.resume(t, protocol, "alice", last.Id)
		// All of these came here within a second, so that another node might have had them in another order.
		want := "[late early within the overlap to alice from alice 0 1 2 3 4]"
		if !welcome.Recovered || welcome.PrivateGap || fmt.Sprint(got) != want {
			t.Errorf("recovered %v, gap %v, got %q, want %s", welcome.Recovered, welcome.PrivateGap, got, want)
		}
		// Not asked, and plain: the usual.
		if welcome, got := n.resume(t, protocol, "alice", ""); welcome.Recovered || fmt.Sprint(got) != "[4 late]" {
			t.Errorf("recovered %v, got %q", welcome.Recovered, got)
		}
	})
}

func TestResumeGoesOnLive(t *testing.T) {
	n := start(t, nil)
	alice := n.joinV1(t, v1Proto, "alice")
	ack, _ := alice.acked(alice.say("last", ""))
	_ = alice.CloseNow()
	bob := n.joinV1(t, v1JSON, "bob")
	if _, before := bob.acked(bob.say("missed", "")); !slices.ContainsFunc(before, func(f *edge.ServerFrame) bool { return f.GetChat().GetContent() == "missed" }) {
		bob.hears("bob", "", "missed") // An ack may come before the delivery.
	}
	alice = n.dialV1(t, v1Proto, "alice", "?since="+strings.ToUpper(ack.Id))
	if welcome, messages, _ := alice.hello(); !welcome.Recovered || fmt.Sprint(texts(messages)) != "[missed]" {
		t.Errorf("recovered %v, got %q", welcome.Recovered, texts(messages))
	}
	bob.acked(bob.say("live", ""))
	alice.hears("bob", "", "live")
}

// Ids that say nothing get the usual history, and the truth.
func TestResumeWithWrongIDs(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.History.Limit = 2; c.History.Buffer = 5 })
		now := time.Now()
		var sent []*chat.ChatMessage
		for i := range 10 {
			sent = append(sent, sentAt(now.Add(time.Duration(i-100)*time.Second), "bob", "", fmt.Sprint(i)))
		}
		foreign := sentAt(now, "bob", "carol", "of others")
		older := uuid.NewString() // Of a program with ids of its own.
		for _, m := range append(sent, foreign, &chat.ChatMessage{Id: older, Sender: "bob", Content: "v4", SentAt: timestamppb.New(now)}) {
			n.Deliver(m)
		}
		for name, since := range map[string]string{
			"forgotten":            sent[0].Id,
			"at the edge":          sent[6].Id, // What came within the overlap before it is forgotten.
			"of others":            foreign.Id,
			"of the future":        sentAt(now.Add(time.Hour), "", "", "").Id,
			"never there":          sentAt(now, "", "", "").Id,
			"not of version 7":     older,
			"no id":                "hello",
			"no id, with brackets": "%7B" + sent[9].Id + "%7D",
			"longer than all ids":  strings.Repeat("x", 5000),
			"not UTF-8":            "%ff%00",
			"nil":                  uuid.Nil.String(),
			"max":                  uuid.Max.String(),
		} {
			welcome, got := n.resume(t, protocol, "alice", since)
			if welcome.Recovered || fmt.Sprint(got) != "[9 v4]" {
				t.Errorf("%s: recovered %v, got %q", name, welcome.Recovered, got)
			}
			// Where there is a way to what was missed, it is told.
			if u, err := uuid.Parse(since); (err == nil && u.Version() == 7) != (welcome.HistoryAfter != "") || err == nil && welcome.HistoryAfter >= since {
				t.Errorf("%s: history after %q", name, welcome.HistoryAfter)
			}
		}
	})
}

// A node that has just started knows from the archive what is complete, and what is not.
func TestResumeAfterARestart(t *testing.T) {
	for _, archived := range []bool{false, true} {
		now := time.Now().Add(-10 * time.Minute)
		old := &fakeArchive{}
		var sent []*chat.ChatMessage
		for i := range 10 {
			sent = append(sent, sentAt(now.Add(time.Duration(i)*10*time.Second), "bob", "", fmt.Sprint(i)))
		}
		old.add(sent...)
		if archived {
			old.add(sentAt(now.Add(85*time.Second), "bob", "alice", "psst"), sentAt(now.Add(86*time.Second), "bob", "carol", "no"))
		}
		n := start(t, func(c *httpapi.Config) {
			c.Archive, c.ArchivePrivate = old, archived
			c.History.Buffer, c.History.Limit, c.History.ResumeOverlap = 8, 3, 100*time.Millisecond
			c.Edge.MaxConnectionsPerUser = 0
		})
		n.Deliver(sentAt(time.Now(), "bob", "", "live"))
		welcome, got := n.resume(t, v1Proto, "alice", sent[7].Id)
		want := "[8 9 live]"
		if archived {
			want = "[8 psst 9 live]"
		}
		if !welcome.Recovered || fmt.Sprint(got) != want || welcome.PrivateGap == archived || welcome.PrivateNotArchived == archived {
			t.Errorf("private archived %v: recovered %v, gap %v, got %q, want %s", archived, welcome.Recovered, welcome.PrivateGap, got, want)
		}
		// The memory begins with the third one, and what is just before the fourth is known.
		if welcome, _ := n.resume(t, v1Proto, "alice", sent[1].Id); welcome.Recovered {
			t.Error("recovered from before the memory")
		}
		if welcome, got := n.resume(t, v1Proto, "alice", sent[5].Id); !welcome.Recovered || len(got) != len(strings.Fields(want))+2 {
			t.Errorf("private archived %v: recovered %v, got %q", archived, welcome.Recovered, got)
		}
		// What is said from now on is not lost either.
		last := sentAt(time.Now().Add(time.Second), "bob", "", "last")
		n.Deliver(last)
		if welcome, _ := n.resume(t, v1Proto, "alice", last.Id); !welcome.Recovered || welcome.PrivateGap {
			t.Errorf("recovered %v, gap %v", welcome.Recovered, welcome.PrivateGap)
		}
		// Events that passed the node by may have been private.
		n.Refill()
		eventually(t, "the gap is known", func() bool {
			welcome, _ := n.resume(t, v1Proto, "alice", sent[9].Id)
			return welcome.Recovered && welcome.PrivateGap != archived
		})
	}
}

// What the archive has only later, who has resumed gets live.
func TestResumeBeforeTheSecondSeed(t *testing.T) {
	t.Parallel()
	n := prepare(t, nil)
	httpapi.SetReseedAfter(n.Server, 4*time.Second)
	now := time.Now().Add(-time.Minute)
	first, second := sentAt(now, "bob", "", "first"), sentAt(now.Add(time.Second), "bob", "", "second")
	n.archive.add(first)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice := n.dialV1(t, v1JSON, "alice", "?since="+first.Id)
	if welcome, messages, _ := alice.hello(); !welcome.Recovered || len(messages) != 0 {
		t.Errorf("recovered %v, got %q", welcome.Recovered, texts(messages))
	}
	n.archive.add(second)
	alice.hears("bob", "", "second")
}

// Without an archive nothing is known of the time before the start.
func TestResumeWithoutAnArchive(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Archive = nil; c.History.ResumeOverlap = 10 * time.Millisecond })
	early, late := sentAt(time.Now().Add(-time.Second), "bob", "", "early"), sentAt(time.Now().Add(time.Second), "bob", "", "late")
	n.Deliver(early)
	n.Deliver(late)
	if welcome, _ := n.resume(t, v1JSON, "alice", early.Id); welcome.Recovered || !welcome.PrivateGap {
		t.Errorf("recovered %v, gap %v", welcome.Recovered, welcome.PrivateGap)
	}
	if welcome, _ := n.resume(t, v1JSON, "alice", late.Id); !welcome.Recovered || welcome.PrivateGap {
		t.Errorf("recovered %v, gap %v", welcome.Recovered, welcome.PrivateGap)
	}
}

// A burst of all that the memory holds is not what makes a session slow.
func TestResumeOfALargeMemory(t *testing.T) {
	n := start(t, func(c *httpapi.Config) {
		c.Edge.Queue, c.Edge.SlowAfter = 1, time.Millisecond
	})
	filler := strings.Repeat("x", 4000)
	first := sentAt(time.Now(), "bob", "", "first")
	n.Deliver(first)
	var want []string
	for i := range 900 {
		n.Deliver(sentAt(time.Now().Add(time.Duration(i)*time.Millisecond), "bob", "", fmt.Sprint(i, " ", filler)))
		want = append(want, fmt.Sprint(i, " ", filler))
	}
	alice := n.dialV1(t, v1Proto, "alice", "?since="+first.Id)
	welcome, messages, _ := alice.hello()
	got := texts(messages)
	if !welcome.Recovered || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("recovered %v, got %d messages, want %d", welcome.Recovered, len(got), len(want))
	}
	if alice.batches < 10 {
		t.Errorf("%d messages of 4000 bytes came in %d batches", len(got), alice.batches)
	}
}

func TestPlainIgnoresSince(t *testing.T) {
	n := start(t, nil)
	n.Deliver(message(1, "bob", "", "old"))
	n.Deliver(message(2, "bob", "", "new"))
	c := n.rawDial(t, "alice?since="+id(1), 0)
	for _, want := range []string{"old", "new"} {
		if _, frame, err := c.read(); err != nil || !strings.Contains(frame, `"content":"`+want+`"`) {
			t.Errorf("got %s %v, want %q", frame, err, want)
		}
	}
}
