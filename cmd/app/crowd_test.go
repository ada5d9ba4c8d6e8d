package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestJoinCrowd has people join while 300 others are online and some of them talk:
// each gets the latest messages, then who is online, then everything that is said,
// without a gap or a repetition.
func TestJoinCrowd(t *testing.T) {
	const (
		crowd     = 300
		speakers  = 4
		newcomers = 4
		history   = 20  // history.limit
		list      = 200 // presence.list_limit
		live      = 60  // messages that each newcomer hears before the next one joins
	)
	// Sign-ins of one address are limited, so here people are who they say.
	in := install(t, embedded, "BURROW_AUTH_MODE=open", "BURROW_EDGE_RATE=0", "BURROW_PRESENCE_LEASE=30s")
	server := in.start(t)
	people := make([]*client, crowd)
	for i := range people {
		people[i] = newPerson(t, fmt.Sprintf("user %03d", i)).dial(server.addr)
	}
	everyone := people[0]
	for _, c := range people {
		everyone.await(c.name+" is online", isOnline(c.name, true))
	}

	// Each speaker waits for its own words, so that it does not run away.
	stop := make(chan struct{})
	var talking sync.WaitGroup
	said := make([]int, speakers)
	quiet := sync.OnceFunc(func() { close(stop); talking.Wait() })
	t.Cleanup(quiet)
	for i := range speakers {
		c := people[i*50]
		talking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				content := fmt.Sprintf("%d", said[i])
				from := len(c.all())
				if err := c.write("", content); err != nil {
					t.Errorf("%s: %v", c.name, err)
					return
				}
				said[i]++
				if _, err := c.find(from, says(c.name, content)); err != nil {
					t.Errorf("%s waited for its own words; %v", c.name, err)
					return
				}
			}
		})
	}
	everyone.awaitMessages(2 * history)
	var joined []*client
	for i := range newcomers {
		c := newPerson(t, fmt.Sprintf("newcomer %d", i)).dial(server.addr)
		c.awaitMessages(history + live)
		joined = append(joined, c)
	}
	quiet()
	everyone.send("", "the end")
	for _, c := range append(joined, people...) {
		c.await("the end", says(everyone.name, "the end"))
	}

	all := everyone.chats()
	total := 1
	for i, n := range said {
		total += n
		var got []string
		for _, f := range all {
			if f.Sender == people[i*50].name && f.Content != "the end" {
				got = append(got, f.Content)
			}
		}
		for want, content := range got {
			if content != fmt.Sprintf("%d", want) {
				t.Fatalf("%s said %q as number %d", people[i*50].name, content, want)
			}
		}
	}
	if len(all) != total {
		t.Errorf("%d messages came, %d were sent", len(all), total)
	}
	for _, c := range joined {
		joinedWell(t, c, all, history, list)
	}
	for _, c := range people {
		if !slices.Equal(ids(c.chats()), ids(all)) {
			t.Errorf("%s got other messages than %s, or in another order", c.name, everyone.name)
		}
	}
	server.stop()
}

// joinedWell checks what c got on arrival and later, where all is everything that
// was said, in the order in which the others got it.
func joinedWell(t *testing.T, c *client, all []frame, history, list int) {
	t.Helper()
	frames := c.all()
	for i, f := range frames[:history] {
		if f.ID == "" {
			t.Fatalf("%s: frame %d is %+v, want a message: %d of them come first", c.name, i, f, history)
		}
	}
	online := map[string]bool{}
	for i, f := range frames[history : history+list] {
		if f.ClientID == "" || !f.Online || online[f.ClientID] {
			t.Fatalf("%s: frame %d is %+v, want the status of one more person", c.name, history+i, f)
		}
		online[f.ClientID] = true
	}
	for i, f := range frames[history+list:] {
		if f.ClientID != "" && f.Online && online[f.ClientID] {
			t.Errorf("%s: frame %d says again that %s is online", c.name, history+list+i, f.ClientID)
		}
	}
	if !online[c.name] && c.count(isOnline(c.name, true)) != 1 {
		t.Errorf("%s did not hear of itself once", c.name)
	}
	got := ids(c.chats())
	want := ids(all)
	from := slices.Index(want, got[0])
	if from < 0 || !slices.Equal(got, want[from:]) {
		t.Errorf("%s got %d messages, want the %d from its first one on, in the same order", c.name, len(got), len(want)-from)
	}
}

func ids(frames []frame) (ids []string) {
	for _, f := range frames {
		ids = append(ids, f.ID)
	}
	return ids
}
