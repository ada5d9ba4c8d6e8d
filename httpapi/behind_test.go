package httpapi

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
)

// Whoever has seen a message last at a node that did not know what was said before it gets that from
// another one, however long that node was deaf; and no more than that once it has caught up.
func TestResumeFromANodeThatWasBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := hubOf(t, nil), hubOf(t, nil)
		for _, s := range []*Server{a, b} {
			if err := s.Seed(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ids := newIDClock(time.Now)
		say := func(content string, nodes ...*Server) string {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			id, now := ids.next()
			for _, s := range nodes {
				s.Deliver(&chat.ChatMessage{Id: id, Sender: "bob", Content: content, SentAt: timestamppb.New(now)})
			}
			return id
		}
		resumed := func(since string) (got []string) {
			t.Helper()
			for i, f := range a.listen(t, "alice", since).drain() {
				if w := f.GetWelcome(); i == 0 && (!w.GetRecovered() || w.GetPrivateGap()) {
					t.Fatalf("got %v", w)
				}
				if m := f.GetChat(); m != nil {
					got = append(got, m.Content)
				}
			}
			return got
		}
		a.hub.keepsPrivate, a.hub.cover.lost = true, 0
		time.Sleep(time.Minute)
		say("long ago", a, b)
		time.Sleep(time.Minute)
		if got := resumed(say("a while later", a, b)); len(got) > 0 {
			t.Errorf("got %q, and nobody has said that there is more", got)
		}
		say("known", a, b)
		say("missed", a)
		time.Sleep(time.Hour)
		b.Refill() // The router calls it before it hands on what comes then.
		a.Behind(b.cfg.Node, b.BehindSince())
		last := say("last", a, b)
		time.Sleep(10 * time.Second)
		if got := resumed(last); fmt.Sprint(got) != "[a while later known missed]" {
			t.Errorf("got %q, want what was said since a little before b knew no more", got)
		}
		time.Sleep(time.Minute)
		if got := resumed(say("later", a, b)); len(got) > 0 || b.BehindSince() != "" {
			t.Errorf("got %q after b has caught up, and b says it is behind %q", got, b.BehindSince())
		}
	})
}

// Of a node that has missed more than its memory holds everybody who can resume does, and gets all of it
// from the history.
func TestGapLargerThanTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := &shelf{}
		s := hubOf(t, func(c *Config) {
			c.Archive, c.ArchivePrivate = archive, true
			c.History.Buffer, c.History.ResumeOverlap = 20, testOverlap
		})
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		go s.keepFilled()
		ids := newIDClock(time.Now)
		say := func(heard bool) string {
			time.Sleep(time.Second)
			id, now := ids.next()
			m := &chat.ChatMessage{Id: id, Sender: "bob", SentAt: timestamppb.New(now)}
			archive.add(m)
			if heard {
				s.Deliver(m)
			}
			return id
		}
		for range 30 {
			say(true)
		}
		alice := s.listen(t, "alice", "")
		for _, missed := range []int{15, 50} {
			want := missed > 20
			var all []string
			for range missed {
				all = append(all, say(false))
			}
			s.Refill()
			time.Sleep(2 * refillLast)
			alice.mu.Lock()
			closing := alice.closing
			alice.mu.Unlock()
			if closing != want {
				t.Fatalf("after %d missed messages the session is closed: %v, want %v", missed, closing, want)
			}
			welcome := s.listen(t, "carol", all[missed-1]).drain()[0].GetWelcome()
			if welcome.GetRecovered() == want || want && welcome.GetHistoryAfter() >= all[0] {
				t.Errorf("after %d missed messages: got %v, the first was %s", missed, welcome, all[0])
			}
		}
		s.cancel()
	})
}

// Who is shown something live before what was said while the node was deaf, is cut, and resumes at a
// node that has just started, which knows nothing of that, would never get it.
func TestWhatADeafNodeMissedComesBeforeWhatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := &shelf{}
		s := hubOf(t, func(c *Config) { c.Archive, c.ArchivePrivate = archive, true })
		defer s.cancel()
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		go s.keepFilled()
		ids := newIDClock(time.Now)
		say := func(content string, heard bool) {
			id, now := ids.next()
			m := &chat.ChatMessage{Id: id, Sender: "bob", Content: content, SentAt: timestamppb.New(now)}
			archive.add(m)
			if heard {
				s.Deliver(m)
			}
		}
		alice := s.listen(t, "alice", "")
		time.Sleep(time.Minute)
		say("heard", true)
		time.Sleep(time.Second)
		say("missed", false)
		time.Sleep(time.Minute)
		s.Refill()
		synctest.Wait()
		say("live", true)
		synctest.Wait()
		var got []string
		for _, f := range alice.drain() {
			if m := f.GetChat(); m != nil {
				got = append(got, m.Content)
			}
		}
		if fmt.Sprint(got) != "[heard missed live]" {
			t.Errorf("got %q, want what was missed before what follows", got)
		}
	})
}

// What another node saw last before it was deaf may have come here long after it came there.
func TestBehindSinceAMessageThatCameLateHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := hubOf(t, nil)
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.hub.keepsPrivate, s.hub.cover.lost = true, 0
		time.Sleep(time.Hour)
		ids := newIDClock(time.Now)
		say := func() *chat.ChatMessage {
			time.Sleep(10 * time.Second)
			id, now := ids.next()
			return &chat.ChatMessage{Id: id, Sender: "bob", SentAt: timestamppb.New(now)}
		}
		last, missed := say(), say()
		s.Deliver(missed)
		live := say()
		s.Deliver(live)
		time.Sleep(30 * time.Second)
		s.Deliver(last) // As from the archive.
		s.Behind("other", last.GetId())
		var got []string
		for i, f := range s.listen(t, "alice", live.GetId()).drain() {
			if w := f.GetWelcome(); i == 0 && !w.GetRecovered() {
				t.Fatalf("got %v", w)
			}
			if m := f.GetChat(); m != nil {
				got = append(got, m.Id)
			}
		}
		if !slices.Contains(got, missed.GetId()) {
			t.Errorf("got %q, which is not what the other node has missed", got)
		}
	})
}

// The archive may have the second message of somebody before it has the first, and before either has
// come; and more may be lost at once than it finds a moment later among what came since.
func TestAMergeOvertakesNothingAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := &shelf{}
		s := hubOf(t, func(c *Config) { c.Archive, c.ArchivePrivate, c.History.Buffer = archive, true, 20 })
		defer s.cancel()
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		go s.keepFilled()
		ids := newIDClock(time.Now)
		say := func(content string) *chat.ChatMessage {
			id, now := ids.next()
			return &chat.ChatMessage{Id: id, Sender: "bob", Content: content, SentAt: timestamppb.New(now)}
		}
		alice := s.listen(t, "alice", "")
		heard := func() (got []string) {
			for _, f := range alice.drain() {
				if m := f.GetChat(); m != nil {
					got = append(got, m.Content)
				}
			}
			return got
		}
		time.Sleep(time.Minute)
		for range 20 {
			s.Deliver(say("long ago"))
		}
		heard()

		missed, first, second := say("missed"), say("first"), say("second")
		archive.add(missed)
		archive.add(second)
		s.Refill()
		time.Sleep(underway / 2)
		s.Deliver(first)
		s.Deliver(second)
		archive.add(first)
		time.Sleep(time.Minute)
		if got := fmt.Sprint(heard()); got != "[first second missed]" {
			t.Errorf("got %s, want what came by itself first, in order, and then what did not", got)
		}

		var lost []string
		for i := range 15 {
			lost = append(lost, fmt.Sprint("lost ", i))
			archive.add(say(lost[i]))
		}
		s.Refill()
		for range 500 { // Far more than the memory holds, before it is filled once more.
			time.Sleep(10 * time.Millisecond)
			m := say("live")
			archive.add(m)
			s.Deliver(m)
		}
		time.Sleep(time.Minute)
		var got []string
		for _, text := range heard() {
			if text != "live" {
				got = append(got, text)
			}
		}
		if !slices.Equal(got, lost) {
			t.Errorf("got %q of what was lost, want each once", got)
		}
	})
}

// A message that was sent again stands among the first of what somebody missed, and is among the last in
// the memory. Who was cut after it has not seen what came before it and is forgotten by now.
func TestResumeFromAMessageThatCameLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := hubOf(t, func(c *Config) {
			c.Archive, c.ArchivePrivate = &shelf{}, true
			c.History.Buffer, c.History.ResumeOverlap = 20, testOverlap
		})
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids := newIDClock(time.Now)
		next := func() *chat.ChatMessage {
			time.Sleep(time.Minute)
			id, now := ids.next()
			return &chat.ChatMessage{Id: id, Sender: "bob", SentAt: timestamppb.New(now)}
		}
		seen := next()
		s.Deliver(seen)
		late := next()
		missed := next()
		s.Deliver(missed)
		for range 10 {
			s.Deliver(next())
		}
		s.Deliver(late)
		hello := s.listen(t, "alice", seen.GetId()).drain()
		if first := hello[1].GetChat().GetId(); first != late.GetId() {
			t.Fatalf("what alice has missed begins with %s, want %s", first, late.GetId())
		}
		for range 15 {
			s.Deliver(next())
		}
		welcome := s.listen(t, "alice", late.GetId()).drain()[0].GetWelcome()
		if welcome.GetRecovered() || welcome.GetHistoryAfter() >= missed.GetId() {
			t.Errorf("got %v, but %s is forgotten", welcome, missed.GetId())
		}
	})
}

// What another program says of nodes that are behind costs nobody more than a day's history.
func TestBehindIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := hubOf(t, func(c *Config) { c.Archive = &shelf{} })
		if err := a.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		id, now := newIDClock(time.Now).next()
		a.Deliver(&chat.ChatMessage{Id: id, Sender: "bob", SentAt: timestamppb.New(now)})
		for i, last := range []string{"", "x", "00000000-0000-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"} {
			for range 100 {
				a.Behind(fmt.Sprint("node", i), last)
			}
			after := a.listen(t, "alice", id).drain()[0].GetWelcome().GetHistoryAfter()
			if after != "" && time.Since(timeOf(after)) > maxBehind+time.Minute {
				t.Errorf("%q: the history begins %s ago", last, time.Since(timeOf(after)))
			}
			if n := len(a.hub.cover.doubts); n > maxDoubts {
				t.Errorf("%d doubts", n)
			}
		}
		a.Behind(a.cfg.Node, "")
	})
}
