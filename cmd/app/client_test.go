package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// person is somebody with a browser, as far as HTTP goes.
type person struct {
	t    testing.TB
	name string
	http *http.Client
}

func newPerson(t testing.TB, name string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &person{t, name, &http.Client{Transport: transport, Jar: jar, Timeout: patience}}
}

// signIn returns a person who has taken name on the node at addr.
func signIn(t testing.TB, addr, name string) *person {
	t.Helper()
	p := newPerson(t, name)
	if status, code := p.take(addr, name); status != http.StatusOK {
		t.Fatalf("sign in as %s: %d %s", name, status, code)
	}
	return p
}

// take asks for a name, and returns the status and the error code.
func (p *person) take(addr, name string) (status int, code string) {
	p.t.Helper()
	body, _ := json.Marshal(map[string]string{"name": name})
	res, err := p.http.Post("http://"+addr+"/api/session", "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, errorCode(p.t, res)
}

// errorCode closes an answer and returns its error code, "" if it is none.
func errorCode(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	var answer frame
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatalf("the answer with status %d: %v", res.StatusCode, err)
	}
	if answer.Error == nil {
		return ""
	}
	return answer.Error.Code
}

// history returns the newest page of the archive, of the talk with a user or, with
// "", of everyone.
func (p *person) history(addr, with string) []frame {
	p.t.Helper()
	res, err := p.http.Get("http://" + addr + "/api/history?limit=100&with=" + url.QueryEscape(with))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var page struct {
		Messages []frame
		HasMore  bool `json:"has_more"`
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("history: status %d, %v", res.StatusCode, err)
	}
	if page.HasMore {
		p.t.Error("history: has_more is true, want all on one page")
	}
	return page.Messages
}

// refused tries to connect as user, who must not be let in.
func (p *person) refused(addr, user string) (status int, code string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "ws://"+addr+"/ws/"+url.PathEscape(user), &websocket.DialOptions{HTTPClient: p.upgrader()})
	if err == nil {
		_ = conn.CloseNow()
		p.t.Fatalf("%s was let in as %s", p.name, user)
	}
	if res == nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, errorCode(p.t, res)
}

// upgrader is the person's client without the time limit, which would end the
// connection that it opens.
func (p *person) upgrader() *http.Client {
	return &http.Client{Transport: p.http.Transport, Jar: p.http.Jar}
}

// frame is any frame of the plain protocol.
type frame struct {
	ID      string    `json:"id"`
	Sender  string    `json:"sender"`
	Content string    `json:"content"`
	ToUser  string    `json:"to_user"`
	SentAt  time.Time `json:"sent_at"`

	ClientID string `json:"client_id"`
	Online   bool   `json:"online"`

	Error *struct{ Code, Message string } `json:"error"`
}

// says matches a message.
func says(sender, content string) func(frame) bool {
	return func(f frame) bool { return f.ID != "" && f.Sender == sender && f.Content == content }
}

// isOnline matches the status that user came or went.
func isOnline(user string, online bool) func(frame) bool {
	return func(f frame) bool { return f.ClientID == user && f.Online == online }
}

// client is one WebSocket. It reads all the time and keeps everything it got.
type client struct {
	t    testing.TB
	name string
	conn *websocket.Conn
	done chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	frames []frame
	more   chan struct{} // closed and replaced when a frame comes
	err    error         // why it ended
}

// dial connects p to the node at addr.
func (p *person) dial(addr string) *client {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws/"+url.PathEscape(p.name), &websocket.DialOptions{HTTPClient: p.upgrader()})
	if err != nil {
		p.t.Fatalf("connect %s: %v", p.name, err)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{t: p.t, name: p.name, conn: conn, done: make(chan struct{}), more: make(chan struct{})}
	go c.read()
	p.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-c.done
	})
	return c
}

func (c *client) read() {
	defer close(c.done)
	for {
		_, data, err := c.conn.Read(context.Background()) // ends with the connection
		var f frame
		if err == nil {
			err = json.Unmarshal(data, &f)
		}
		c.mu.Lock()
		if err == nil {
			c.frames = append(c.frames, f)
		} else {
			c.err = err
		}
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// all returns what came until now.
func (c *client) all() []frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}

// await returns the first frame that matches, of all that came or will come.
func (c *client) await(what string, match func(frame) bool) frame {
	c.t.Helper()
	f, err := c.find(0, match)
	if err != nil {
		c.t.Fatalf("%s waited for: %s; %v", c.name, what, err)
	}
	return f
}

// awaitMessages waits until n messages have come.
func (c *client) awaitMessages(n int) {
	c.t.Helper()
	left := n
	_, err := c.find(0, func(f frame) bool {
		if f.ID != "" {
			left--
		}
		return left == 0
	})
	if err != nil {
		c.t.Fatalf("%s waited for %d messages; %v", c.name, n, err)
	}
}

// find waits for a frame that matches, leaving out the first n. It looks at each
// frame once, in order. It may be called in goroutines of the test.
func (c *client) find(n int, match func(frame) bool) (frame, error) {
	return c.findWithin(patience, n, match)
}

func (c *client) findWithin(bound time.Duration, n int, match func(frame) bool) (frame, error) {
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		fresh, more, err := c.frames[n:], c.more, c.err
		c.mu.Unlock()
		if i := slices.IndexFunc(fresh, match); i >= 0 {
			return fresh[i], nil
		}
		n += len(fresh)
		if err != nil {
			return frame{}, fmt.Errorf("the connection ended: %w", err)
		}
		select {
		case <-more:
		case <-deadline.C:
			return frame{}, fmt.Errorf("it got %d frames, at last %s", n, tail(c.all()))
		}
	}
}

// tail shows the last frames for an error message.
func tail(frames []frame) string {
	return fmt.Sprintf("%+v", frames[max(0, len(frames)-5):])
}

// count returns how many frames match, of those that came.
func (c *client) count(match func(frame) bool) (n int) {
	for _, f := range c.all() {
		if match(f) {
			n++
		}
	}
	return n
}

// chats returns the messages that came, in their order.
func (c *client) chats() []frame {
	return slices.DeleteFunc(c.all(), func(f frame) bool { return f.ID == "" })
}

// send says content, to everyone if to is empty.
func (c *client) send(to, content string) {
	c.t.Helper()
	if err := c.write(to, content); err != nil {
		c.t.Fatalf("%s sends %q: %v", c.name, content, err)
	}
}

// write is send for goroutines that must not end the test.
func (c *client) write(to, content string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, _ := json.Marshal(map[string]string{"content": content, "to_user": to})
	return c.conn.Write(ctx, websocket.MessageText, data)
}

// leave closes the connection as a page that is closed does.
func (c *client) leave() {
	c.t.Helper()
	if err := c.conn.Close(websocket.StatusGoingAway, ""); err != nil && !errors.Is(err, io.EOF) {
		c.t.Logf("%s leaves: %v", c.name, err)
	}
	c.ended()
}

// ended waits for the end of the connection and returns its close code and reason.
func (c *client) ended() websocket.CloseError {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.t.Fatalf("the connection of %s did not end", c.name)
	}
	var closed websocket.CloseError
	errors.As(c.err, &closed) // not: it ended without a close frame, which is code 0
	return closed
}
