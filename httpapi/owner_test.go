package httpapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"burrow/gen/chat"
	"burrow/gen/edge"
	"burrow/httpapi"
)

// takes makes the name of the cookie one that its owner took at the time since.
func (n *node) takes(cookie string, since time.Time) {
	n.auth.mu.Lock()
	defer n.auth.mu.Unlock()
	_, cookie, _ = strings.Cut(cookie, "=")
	s := n.auth.cookies[cookie]
	s.Since = since
	n.auth.cookies[cookie] = s
}

// TestPrivateTalkStaysWithItsOwner: whoever takes a name that was somebody else's reads nothing of
// what was said with it in private before, on no way; and all that is said to everyone.
func TestPrivateTalkStaysWithItsOwner(t *testing.T) {
	var asked httpapi.SearchQuery
	var talksFrom string
	n := prepare(t, func(c *httpapi.Config) {
		c.ArchivePrivate, c.History.ResumeOverlap = true, 50*time.Millisecond
		c.Search = fakeSearcher(func(_ context.Context, q httpapi.SearchQuery) (httpapi.SearchHits, error) {
			asked = q
			return httpapi.SearchHits{}, nil
		})
		c.Talks = fakeTalker(func(_ context.Context, _, from string, _ int) ([]*chat.ChatMessage, int, error) {
			talksFrom = from
			return nil, 0, nil
		})
	})
	httpapi.SetReseedAfter(n.Server, time.Hour)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s-60) * time.Second) }
	archived := sentAt(at(1), "alice", "bob", "archived of before")
	secret := sentAt(at(3), "bob", "alice", "remembered of before")
	public := sentAt(at(2), "bob", "", "for all")
	mine := sentAt(at(30), "bob", "alice", "archived of mine")
	n.archive.add(archived, public, mine)
	for _, m := range []string{"old", "new"} {
		n.Deliver(sentAt(at(4), "bob", "", m))
	}
	n.Deliver(public)
	n.Deliver(secret)
	n.Deliver(sentAt(at(40), "alice", "bob", "remembered of mine"))
	cookie := n.guest("alice", "bob")
	n.takes(cookie, at(20))

	const with = "?with=bob"
	want := []string{"archived of mine", "remembered of mine"}
	for _, query := range []string{with, with + "&around=" + secret.Id, with + "&after=" + archived.Id, with + "&limit=2"} {
		if got, more := contents(t, n, query, cookie); !slices.Equal(got, want) || more {
			t.Errorf("history%s: got %q, more %v; want %q", query, got, more, want)
		}
	}
	if got, more := contents(t, n, with+"&before="+mine.Id, cookie); len(got) > 0 || more {
		t.Errorf("before the first one that is alice's: got %q, more %v", got, more)
	}
	if got, more := contents(t, n, with+"&limit=1", cookie); !slices.Equal(got, want[1:]) || !more {
		t.Errorf("the latest one: got %q, more %v", got, more)
	}
	bob := strings.ReplaceAll(cookie, "alice", "bob")
	if got, _ := contents(t, n, "?with=alice", bob); len(got) != 4 {
		t.Errorf("bob, who has had his name all the time, sees %q", got)
	}
	n.request(t, "GET", "/api/search?q=a", "", cookie)
	if asked.User != "alice" || asked.PrivateFrom <= secret.Id || asked.PrivateFrom >= mine.Id {
		t.Errorf("a search asked for %+v", asked)
	}

	n.request(t, "GET", "/api/conversations", "", cookie)
	if talksFrom <= secret.Id || talksFrom >= mine.Id {
		t.Errorf("the talks were asked for from %q on", talksFrom)
	}

	// What the node remembers and what comes late.
	const everything = "[old new remembered of mine]"
	ada := n.dialV1(t, v1JSON, "alice", "?since="+public.Id, cookie)
	welcome, messages, _ := ada.hello()
	if got := texts(messages); !welcome.Recovered || !sameTexts(got, everything) {
		t.Errorf("resumed %v: got %q, want %s", welcome.Recovered, got, everything)
	}
	welcome, messages, _ = n.dialV1(t, v1JSON, "alice", "?since="+secret.Id, cookie).hello()
	if got := texts(messages); welcome.Recovered || slices.Contains(got, "remembered of before") {
		t.Errorf("resumed from a message of others: %v, %q", welcome.Recovered, got)
	}
	var events []string
	s := n.listen(t, "?since="+public.Id, cookie)
	for len(events) == 0 || !strings.Contains(events[len(events)-1], `"presence"`) {
		_, data := s.event()
		events = append(events, data)
	}
	if all := strings.Join(events, " "); strings.Contains(all, "of before") || !strings.Contains(all, "remembered of mine") {
		t.Errorf("events brought %s", all)
	}
	n.Deliver(sentAt(at(5), "bob", "alice", "late, of before"))
	n.archive.add(sentAt(at(6), "bob", "alice", "archived late, of before"))
	n.Deliver(sentAt(now, "bob", "alice", "live"))
	ask, _ := protojson.Marshal(&edge.ClientFrame{Frame: &edge.ClientFrame_History{History: &edge.HistoryRequest{WithUser: "bob"}}})
	for {
		f := ada.next()
		if f.GetChat() == nil {
			continue
		}
		if got := f.GetChat().GetContent(); got != "live" {
			t.Errorf("live: got %q", got)
		}
		break
	}
	ada.send(string(ask))
	for {
		if h := ada.next().GetHistory(); h != nil {
			if got := texts(h.GetMessages()); fmt.Sprint(got) != "[archived of mine remembered of mine live]" {
				t.Errorf("history on v1: got %q", got)
			}
			break
		}
	}

	// The connection of before does not become one of the new owner.
	n.takes(cookie, now)
	ada.send(`{"renew":{"token":"cookie-of-alice"}}`)
	for {
		if f := ada.next(); f.GetError() != nil {
			break
		} else if f.GetRenewed() != nil {
			t.Fatal("a connection went on with a proof of the name's next owner")
		}
	}
}

// sameTexts reports whether got has the texts of want, in whatever order.
func sameTexts(got []string, want string) bool {
	joined := fmt.Sprint(got)
	a, b := strings.Split(strings.Trim(joined, "[]"), " "), strings.Split(strings.Trim(want, "[]"), " ")
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// TestLateArchivedPrivateTalkStaysWithItsOwner: nor does a merge of the archive bring any.
func TestLateArchivedPrivateTalkStaysWithItsOwner(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.ArchivePrivate = true })
	cookie := n.guest("alice")
	n.takes(cookie, time.Now().Add(-time.Minute))
	alice := n.dialV1(t, v1JSON, "alice", "", cookie)
	alice.hello()
	n.archive.add(sentAt(time.Now().Add(-time.Hour), "bob", "alice", "of before"), sentAt(time.Now(), "bob", "alice", "of mine"))
	n.Refill()
	for {
		if c := alice.next().GetChat(); c != nil {
			if c.GetContent() != "of mine" {
				t.Errorf("got %q", c.GetContent())
			}
			return
		}
	}
}
