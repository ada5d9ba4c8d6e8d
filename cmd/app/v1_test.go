package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// v1 is a WebSocket that speaks burrow.v1.proto. It reads all the time and keeps everything it got.
type v1 struct {
	t    testing.TB
	conn *websocket.Conn
	done chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	frames []*edge.ServerFrame
	more   chan struct{} // closed and replaced when a batch comes
}

// dialV1 connects p to the node at addr, as somebody who has seen the message since.
func (p *person) dialV1(addr, since string) *v1 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address := "ws://" + addr + "/ws/" + url.PathEscape(p.name) + "?since=" + since
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: p.upgrader(), Subprotocols: []string{"burrow.v1.proto"}})
	if err != nil {
		p.t.Fatalf("connect %s: %v", p.name, err)
	}
	conn.SetReadLimit(1 << 20)
	c := &v1{t: p.t, conn: conn, done: make(chan struct{}), more: make(chan struct{})}
	go c.read()
	p.t.Cleanup(c.cut)
	return c
}

func (c *v1) read() {
	defer close(c.done)
	for {
		_, data, err := c.conn.Read(context.Background()) // ends with the connection
		if err != nil {
			return
		}
		b := new(edge.ServerBatch)
		if err := proto.Unmarshal(data, b); err != nil {
			c.t.Errorf("a batch: %v", err)
			return
		}
		c.mu.Lock()
		c.frames = append(c.frames, b.Frames...)
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
	}
}

// cut ends the connection without a word.
func (c *v1) cut() {
	_ = c.conn.CloseNow()
	<-c.done
}

// await returns the first frame that ok accepts.
func (c *v1) await(what string, ok func(*edge.ServerFrame) bool) *edge.ServerFrame {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		at, more := slices.IndexFunc(c.frames, ok), c.more
		var found *edge.ServerFrame
		if at >= 0 {
			found = c.frames[at]
		}
		c.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-more:
		case <-c.done:
			c.t.Fatalf("the connection ended before %s", what)
		case <-timeout:
			c.t.Fatalf("%s did not come", what)
		}
	}
}

// welcome returns what the connection began with, and the messages before the list of users.
func (c *v1) welcome() (w *edge.Welcome, said []string) {
	c.t.Helper()
	c.await("who is online", func(f *edge.ServerFrame) bool { return f.GetPresence() != nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames[1:] {
		if f.GetPresence() != nil {
			break
		}
		said = append(said, f.GetChat().GetContent())
	}
	return c.frames[0].GetWelcome(), said
}

// heard returns how often content came.
func (c *v1) heard(content string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if f.GetChat().GetContent() == content {
			n++
		}
	}
	return n
}

func (c *v1) hears(content string) *edge.Chat {
	c.t.Helper()
	return c.await(content, func(f *edge.ServerFrame) bool { return f.GetChat().GetContent() == content }).GetChat()
}

func (c *v1) send(f *edge.ClientFrame) {
	c.t.Helper()
	data, err := proto.Marshal(f)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageBinary, data); err != nil {
		c.t.Fatal(err)
	}
}

// say sends content under ref, and returns the ack.
func (c *v1) say(ref, content, toUser string) *edge.Ack {
	c.t.Helper()
	c.mu.Lock()
	from := len(c.frames)
	c.mu.Unlock()
	c.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: ref, Content: content, ToUser: toUser}}})
	seen := 0
	return c.await("the ack of "+content, func(f *edge.ServerFrame) bool {
		seen++
		return seen > from && f.GetAck().GetRef() == ref
	}).GetAck()
}

// TestV1 talks over v1 through the whole program: resuming at another node and after a restart,
// and who is writing.
func TestV1(t *testing.T) {
	for _, b := range []*broker{memory, embedded, onRedis} {
		t.Run(b.String(), func(t *testing.T) {
			// What came so long before the nodes' start is not known: it is to be short.
			in := install(t, b, "BURROW_HISTORY_RESUME_OVERLAP=10ms", "BURROW_STORE_ARCHIVE_PRIVATE=false")
			nodes := in.startAll(t, b.nodes)
			here, there := nodes[0].addr, nodes[b.nodes-1].addr
			alice, bob := signIn(t, here, "alice"), signIn(t, there, "bob")
			a, c := alice.dialV1(here, ""), bob.dialV1(there, "")
			if w, _ := a.welcome(); w.GetRecovered() || w.GetExpiresAt() == nil {
				t.Errorf("welcome is %v", w)
			}
			c.welcome()
			a.await("that bob is there", func(f *edge.ServerFrame) bool {
				return slices.Contains(append(f.GetStatus().GetOnline(), f.GetPresence().GetUsers()...), "bob")
			})

			ack := a.say(uuid.NewString(), "hello", "")
			// What is sent again has the same id, also at another node, and is shown once.
			if again := alice.dialV1(there, "").say(ack.GetRef(), "hello", ""); again.GetId() != ack.GetId() || !again.GetSentAt().AsTime().Equal(ack.GetSentAt().AsTime()) {
				t.Errorf("sent again: got %v, want %v", again, ack)
			}
			if heard := c.hears("hello"); heard.GetId() != ack.GetId() || !heard.GetSentAt().AsTime().Equal(ack.GetSentAt().AsTime()) || heard.GetRef() != ack.GetRef() {
				t.Errorf("bob got %v, the ack is %v", heard, ack)
			}
			a.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Typing{Typing: &edge.Typing{ToUser: "bob"}}})
			c.await("that alice writes", func(f *edge.ServerFrame) bool { return f.GetTyping().GetClientId() == "alice" })

			// Bob is cut, and goes on at the other node.
			c.cut()
			for i := range 30 {
				a.say(uuid.NewString(), fmt.Sprint("number ", i), "")
			}
			a.say(uuid.NewString(), "psst", "bob")
			a.hears("number 29") // What is private has a key of its own, and may overtake.
			a.hears("psst")      // The node has all of it now: it is confirmed before it comes.
			c = bob.dialV1(here, ack.GetId())
			w, said := c.welcome()
			if !w.GetRecovered() || w.GetPrivateGap() {
				t.Errorf("recovered %v, gap %v", w.GetRecovered(), w.GetPrivateGap())
			}
			for i := range 30 {
				content := fmt.Sprint("number ", i)
				if c.hears(content); c.heard(content) != 1 {
					t.Errorf("bob got %q %d times", content, c.heard(content))
				}
			}
			if c.hears("psst"); len(said) < 31 {
				t.Errorf("bob was told of %d messages at first", len(said))
			}

			// All nodes stop. What was said is in the archive, but private talk is not.
			end := a.say(uuid.NewString(), "the end", "")
			c.hears("the end")
			for _, n := range nodes {
				n.stop()
			}
			if b == memory {
				return // What was not archived yet is gone with it.
			}
			nodes = in.startAll(t, b.nodes)
			// Messages may be archived after the start only.
			in.archive(t).comesToHold(append(numbered(30), "hello", "the end")...)
			first := alice.dialV1(nodes[0].addr, "")
			if again := first.say(ack.GetRef(), "hello", ""); again.GetId() != ack.GetId() {
				t.Errorf("sent again after a restart: got the id %s, want %s", again.GetId(), ack.GetId())
			}
			first.say(uuid.NewString(), "after", "")
			first.hears("after")
			if n := first.heard("hello"); n > 1 {
				t.Errorf("hello was shown %d times", n)
			}
			eventually(t, patience, "the node knows the end", func() bool {
				late := bob.dialV1(nodes[b.nodes-1].addr, end.GetId())
				defer late.cut() // The 17th of one user would be refused.
				w, said := late.welcome()
				return w.GetRecovered() && w.GetPrivateGap() && slices.Contains(said, "after")
			})
		})
	}
}

func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("number ", i))
	}
	return all
}
