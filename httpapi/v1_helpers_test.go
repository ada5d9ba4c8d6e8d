package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

const (
	v1JSON  = "burrow.v1.json"
	v1Proto = "burrow.v1.proto"
)

// eachEncoding runs a test in both encodings of v1.
func eachEncoding(t *testing.T, run func(t *testing.T, protocol string)) {
	for _, protocol := range []string{v1JSON, v1Proto} {
		t.Run(protocol, func(t *testing.T) { run(t, protocol) })
	}
}

// v1 is a user's WebSocket that speaks v1.
type v1 struct {
	*client
	protocol string
	waiting  []*edge.ServerFrame // What is left of the last batch.
	batches  int                 // That were read.
}

// dialV1 connects user with a query, who must be let in.
func (n *node) dialV1(t *testing.T, protocol, user, query string, headers ...string) *v1 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	conn, res, err := websocket.Dial(ctx, "ws://"+n.Addr()+"/ws/"+url.PathEscape(user)+query, &websocket.DialOptions{
		HTTPHeader: h, Subprotocols: []string{"other", protocol},
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	if err != nil {
		t.Fatalf("connect %s: %v", user, err)
	}
	if got := res.Header.Get("Sec-WebSocket-Protocol"); got != protocol || conn.Subprotocol() != protocol {
		t.Fatalf("the server chose %q, want %q", got, protocol)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &v1{client: &client{t, conn}, protocol: protocol}
}

// joinV1 connects user and reads what is there at first.
func (n *node) joinV1(t *testing.T, protocol, user string, headers ...string) *v1 {
	t.Helper()
	c := n.dialV1(t, protocol, user, "", headers...)
	c.hello()
	return c
}

// hello reads up to the presence frame.
func (c *v1) hello() (welcome *edge.Welcome, messages []*edge.Chat, presence *edge.Presence) {
	c.t.Helper()
	if welcome = c.next().GetWelcome(); welcome == nil {
		c.t.Fatal("the first frame is no welcome")
	}
	for {
		f := c.next()
		if p := f.GetPresence(); p != nil {
			return welcome, messages, p
		}
		m := f.GetChat()
		if m == nil {
			c.t.Fatalf("got %v between welcome and presence", f)
		}
		messages = append(messages, m)
	}
}

// batch reads one batch; err is the end of the connection.
func (c *v1) batch() (*edge.ServerBatch, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, data, err := c.Read(ctx)
	if err != nil {
		return nil, err
	}
	b := new(edge.ServerBatch)
	if c.protocol == v1JSON {
		err = protojson.Unmarshal(data, b)
	} else {
		err = proto.Unmarshal(data, b)
	}
	if err != nil || (kind == websocket.MessageText) != (c.protocol == v1JSON) || len(b.Frames) == 0 {
		c.t.Fatalf("got %v %q: %v", kind, data, err)
	}
	c.batches++
	return b, nil
}

// next returns the next frame.
func (c *v1) next() *edge.ServerFrame {
	c.t.Helper()
	for len(c.waiting) == 0 {
		b, err := c.batch()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		c.waiting = b.Frames
	}
	f := c.waiting[0]
	c.waiting = c.waiting[1:]
	return f
}

// nextTalk returns the next frame that is no status.
func (c *v1) nextTalk() *edge.ServerFrame {
	c.t.Helper()
	for {
		if f := c.next(); f.GetStatus() == nil {
			return f
		}
	}
}

// hears reads up to the next chat frame, which must be this one.
func (c *v1) hears(sender, toUser, content string) *edge.Chat {
	c.t.Helper()
	f := c.nextTalk()
	m := f.GetChat()
	if m == nil || m.Sender != sender || m.ToUser != toUser || m.Content != content {
		c.t.Fatalf("got %v, want %q from %s to %q", f, content, sender, toUser)
	}
	return m
}

// acked reads up to the ack of ref, and returns what else came before.
func (c *v1) acked(ref string) (ack *edge.Ack, before []*edge.ServerFrame) {
	c.t.Helper()
	for {
		f := c.nextTalk()
		if ack := f.GetAck(); ack != nil {
			if ack.Ref != ref {
				c.t.Fatalf("got %v, want the ack of %s", f, ref)
			}
			return ack, before
		}
		before = append(before, f)
	}
}

// fails reads up to the next error, which must have this code and ref. Only messages may come before it:
// those that were acked need not have come yet.
func (c *v1) fails(code, ref string) *edge.Error {
	c.t.Helper()
	f := c.nextTalk()
	for f.GetChat() != nil {
		f = c.nextTalk()
	}
	e := f.GetError()
	if e == nil || e.Code != code || e.Ref != ref || e.Message == "" {
		c.t.Fatalf("got %v, want error %s of %q", f, code, ref)
	}
	return e
}

// sendFrame sends f.
func (c *v1) sendFrame(f *edge.ClientFrame) {
	c.t.Helper()
	var data []byte
	var err error
	if c.protocol == v1JSON {
		data, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(f)
	} else {
		data, err = proto.Marshal(f)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendBytes(data)
}

// sendBytes sends data in a frame of the right kind.
func (c *v1) sendBytes(data []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind := websocket.MessageText
	if c.protocol == v1Proto {
		kind = websocket.MessageBinary
	}
	if err := c.Write(ctx, kind, data); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// say sends content with a new ref.
func (c *v1) say(content, toUser string) (ref string) {
	c.t.Helper()
	ref = uuid.NewString()
	c.sendFrame(sendOf(ref, content, toUser))
	return ref
}

func sendOf(ref, content, toUser string) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: ref, Content: content, ToUser: toUser}}}
}

func historyOf(r *edge.HistoryRequest) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_History{History: r}}
}

var ping = &edge.ClientFrame{Frame: &edge.ClientFrame_Ping{Ping: &edge.Ping{}}}

// ponged asks for a pong and returns what came before it: everything that was due.
func (c *v1) ponged() (before []*edge.ServerFrame) {
	c.t.Helper()
	c.sendFrame(ping)
	for {
		f := c.next()
		if f.GetPong() != nil {
			return before
		}
		before = append(before, f)
	}
}

// closed reads to the end, which must be a close with this code, and returns the frames before it.
func (c *v1) closed(code int) (frames []*edge.ServerFrame, reason string) {
	c.t.Helper()
	frames, c.waiting = c.waiting, nil
	for {
		b, err := c.batch()
		if err == nil {
			frames = append(frames, b.Frames...)
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || int(ce.Code) != code {
			c.t.Fatalf("got end %v, want close code %d", err, code)
		}
		return frames, ce.Reason
	}
}
