package main

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"burrow/router"
)

// TestEndToEnd talks through the whole program, on every broker, over two nodes
// where the broker can be shared.
func TestEndToEnd(t *testing.T) {
	for _, b := range []*broker{memory, embedded, external, onRedis, onAMQP} {
		t.Run(b.String(), func(t *testing.T) {
			in := install(t, b, "BURROW_STORE_ARCHIVE_PRIVATE=false")
			nodes := in.startAll(t, b.nodes)
			here, there := nodes[0].addr, nodes[b.nodes-1].addr

			said := talk(t, in, here, there)

			// Nothing is lost between the last words and the stop, where the broker
			// keeps what was not archived yet.
			alice := signIn(t, here, "late")
			c := alice.dial(here)
			if b != memory {
				c.send("", "last words")
				c.await("its own last words", says("late", "last words"))
				said = append(said, "last words")
			}
			for _, n := range nodes {
				n.stop()
			}
			if code := c.ended().Code; code != 1012 {
				t.Errorf("close code at the stop: got %d, want 1012", code)
			}
			if b == memory {
				in.memory = router.NewMemory() // the other one ended with its process
			}
			again(t, in, in.startAll(t, b.nodes), alice, said)
		})
	}
}

// talk has people talk on two nodes and returns what they said to everyone.
func talk(t *testing.T, in *installation, here, there string) (said []string) {
	t.Helper()
	// A name that was taken here holds there, and so does the cookie.
	alice, bob, carol := signIn(t, here, "alice"), signIn(t, there, "Bob Ω"), signIn(t, here, "carol")
	a, b := alice.dial(here), bob.dial(there)
	c1, c2 := carol.dial(here), carol.dial(there)
	clients := []*client{a, b, c1, c2}
	for _, c := range clients {
		for _, name := range []string{"alice", "Bob Ω", "carol"} {
			c.await(name+" is online", isOnline(name, true))
		}
	}

	say := func(from *client, content string) {
		t.Helper()
		from.send("", content)
		said = append(said, content)
		for _, to := range clients {
			f := to.await(content, says(from.name, content))
			if f.ToUser != "" || f.SentAt.IsZero() {
				t.Errorf("%s got %+v, want a global message with its time", to.name, f)
			}
		}
	}
	say(a, "hello from here")
	say(b, "hello from there")
	say(c2, `<b>&"quoted"</b> – 🦡`)
	whisper := func(from, to *client, content string) {
		t.Helper()
		from.send(to.name, content)
		for _, c := range []*client{from, to} {
			if f := c.await(content, says(from.name, content)); f.ToUser != to.name {
				t.Errorf("%s got %+v, want to_user %q", c.name, f, to.name)
			}
		}
	}
	whisper(a, b, "between us")
	whisper(b, a, "so it is")
	say(a, "back to everyone")

	for _, c := range clients {
		for _, f := range c.chats() {
			if n := c.count(func(o frame) bool { return o.ID == f.ID }); n != 1 {
				t.Errorf("%s got %q %d times, want once", c.name, f.Content, n)
			}
			if f.ToUser != "" && c.name == "carol" {
				t.Errorf("carol got the private message %+v", f)
			}
		}
		for _, name := range []string{"alice", "Bob Ω", "carol"} {
			if n := c.count(func(f frame) bool { return f.ClientID == name }); n != 1 {
				t.Errorf("%s got %d statuses of %s, want one", c.name, n, name)
			}
		}
	}

	in.archive(t).comesToHold(said...)
	newcomer(t, here, "dave", said)
	newcomer(t, there, "erin", said)
	names(t, alice, here, there)

	// Carol stays online with the connection that is left. Bob goes.
	c2.leave()
	b.leave()
	a.await("Bob is offline", isOnline("Bob Ω", false))
	c1.await("Bob is offline", isOnline("Bob Ω", false))
	if n := a.count(isOnline("carol", false)); n != 0 {
		t.Error("carol went offline, with a connection open")
	}
	c1.leave()
	a.await("carol is offline", isOnline("carol", false))
	a.leave()
	return said
}

// newcomer checks what somebody sees on arrival: what was said, then who is online.
func newcomer(t *testing.T, addr, name string, said []string) {
	t.Helper()
	p := signIn(t, addr, name)
	c := p.dial(addr)
	c.await("its own status", isOnline(name, true))
	for _, other := range []string{"alice", "Bob Ω", "carol"} {
		c.await(other+" is online", isOnline(other, true))
	}
	var got []string
	for _, f := range c.all()[:len(said)] {
		got = append(got, f.Content)
	}
	if !slices.Equal(got, said) {
		t.Errorf("%s got first %q, want %q", name, got, said)
	}
	if n := len(c.chats()); n != len(said) {
		t.Errorf("%s got %d messages, want %d: no private ones, none twice", name, n, len(said))
	}
	archived(t, p, addr, said)
	c.leave()
}

// archived checks the newest page of the archive over HTTP.
func archived(t *testing.T, p *person, addr string, said []string) {
	t.Helper()
	var got []string
	for _, f := range p.history(addr, "") {
		got = append(got, f.Content)
	}
	if !slices.Equal(got, said) {
		t.Errorf("history: got %q, want %q", got, said)
	}
}

// names checks that nobody can be somebody else.
func names(t *testing.T, alice *person, addrs ...string) {
	t.Helper()
	for i, addr := range addrs {
		if i > 0 && addr == addrs[0] {
			continue
		}
		mallory := newPerson(t, "mallory")
		for _, name := range []string{"alice", "ALICE", "ａｌｉｃｅ"} {
			if status, code := mallory.take(addr, name); status != http.StatusConflict || code != "name_taken" {
				t.Errorf("mallory takes %s: got %d %s, want 409 name_taken", name, status, code)
			}
		}
		if status, code := mallory.refused(addr, "alice"); status != http.StatusUnauthorized || code != "no_session" {
			t.Errorf("connect without a cookie: got %d %s, want 401 no_session", status, code)
		}
		if status, code := alice.refused(addr, "Bob Ω"); status != http.StatusForbidden || code != "forbidden" {
			t.Errorf("connect as somebody else: got %d %s, want 403 forbidden", status, code)
		}
	}
}

// again checks that after a restart everything is there, each message once, and
// that people go on with the names they have.
func again(t *testing.T, in *installation, nodes []*process, late *person, said []string) {
	t.Helper()
	archive := in.archive(t)
	archive.comesToHold(said...)
	for i, n := range nodes {
		archived(t, late, n.addr, said)
		c := late.dial(n.addr) // with the cookie of before
		content := fmt.Sprintf("here again, %d", i)
		c.send("", content)
		c.await(content, says("late", content))
		said = append(said, content)
		// The last words may have been archived while the node started: they come a little later.
		eventually(t, patience, "everything that was said is shown", func() bool { return len(c.chats()) >= len(said) })
		var got []string
		for _, f := range c.chats() {
			got = append(got, f.Content)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(said))) {
			t.Errorf("node %d after the restart: got %q, want %q", i, got, said)
		}
		if i+1 < len(nodes) {
			// The next node may hear of it later than this one.
			eventually(t, patience, "the other node has it", func() bool { return len(late.history(nodes[i+1].addr, "")) == len(said) })
		}
	}
	archive.comesToHold(said...)
	for _, n := range nodes {
		n.stop()
	}
}
