package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"burrow/gen/chat"
	"burrow/httpapi"
)

type fakeTalker func(ctx context.Context, user, privateFrom string, limit int) ([]*chat.ChatMessage, int, error)

func (f fakeTalker) Talks(ctx context.Context, user, privateFrom string, limit int) ([]*chat.ChatMessage, int, error) {
	return f(ctx, user, privateFrom, limit)
}

func TestConversationsAreOnesOwn(t *testing.T) {
	asked, limits := []string{}, []int{}
	var broken error
	n := start(t, func(c *httpapi.Config) {
		c.Talks = fakeTalker(func(ctx context.Context, user, privateFrom string, limit int) ([]*chat.ChatMessage, int, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the archive may take as long as it likes")
			}
			asked, limits = append(asked, user), append(limits, limit)
			return []*chat.ChatMessage{
				{Id: id(3), Sender: "bob", ToUser: user, Content: "<b>hi</b>"}, {Id: id(2), Sender: user, ToUser: "carol", Content: "you?"},
				{Id: id(1), Sender: user, ToUser: user, Content: "a note"},
			}, 5, broken
		})
	})
	cookie := n.guest("alice", "bob")
	ask := func(query string, status int, headers ...string) (page struct {
		Conversations []struct {
			With    string
			Message struct{ ID, Content string }
		}
		Behind int
	}) {
		t.Helper()
		res, body := n.request(t, "GET", "/api/conversations"+query, "", headers...)
		if err := json.Unmarshal([]byte(body), &page); err != nil || res.StatusCode != status {
			t.Fatalf("%s: got %d %s, want %d", query, res.StatusCode, body, status)
		}
		return page
	}
	page := ask("", 200, cookie)
	if c := page.Conversations; page.Behind != 5 || len(c) != 3 || c[0].With != "bob" || c[1].With != "carol" || c[2].With != "alice" || c[0].Message.ID != id(3) || c[0].Message.Content != "<b>hi</b>" {
		t.Errorf("got %+v", c)
	}
	ask("?client_id=alice&limit=7", 200, cookie)
	if len(asked) != 2 || asked[0] != "alice" || asked[1] != "alice" || limits[0] != 50 || limits[1] != 7 {
		t.Errorf("asked for %q, %v", asked, limits)
	}
	ask("", 401)
	ask("?client_id=alice", 401)
	ask("?client_id=bob", 403, cookie)
	ask("?limit=0", 400, cookie)
	ask("?limit=101", 400, cookie)
	ask("?limit=x", 400, cookie)
	if len(asked) != 2 {
		t.Errorf("the archive was asked for %q", asked)
	}
	broken = errors.New("disk")
	ask("", 503, cookie)

	open := start(t, nil)
	if res, body := open.request(t, "GET", "/api/conversations", ""); res.StatusCode != 400 {
		t.Errorf("nobody in particular: got %d %s", res.StatusCode, body)
	}
	if res, body := open.request(t, "GET", "/api/conversations?client_id=alice", ""); res.StatusCode != 503 {
		t.Errorf("without an archive: got %d %s", res.StatusCode, body)
	}
}

// TestConversations_UnreadAnswers has clients that read none of their large answers, and more of them than
// may search at once: another one is answered meanwhile.
func TestConversations_UnreadAnswers(t *testing.T) {
	content := strings.Repeat(`"`, 4090)
	asked := make(chan struct{}, 100)
	n := start(t, func(c *httpapi.Config) {
		c.Talks = fakeTalker(func(_ context.Context, user, _ string, limit int) (last []*chat.ChatMessage, _ int, _ error) {
			asked <- struct{}{}
			if user == "reader" {
				limit = 1
			}
			for i := range limit {
				last = append(last, message(i, "bot", user, content))
			}
			return last, 0, nil
		})
	})
	for i := range 4 {
		conn, err := net.DialTimeout("tcp", n.Addr(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /api/conversations?client_id=idle&limit=100 HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 203.0.113.%d\r\n\r\n", n.Addr(), i)
	}
	for range 4 { // The first two cannot be written.
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("unread answers keep others from searching")
		}
	}
	if res, body := n.request(t, "GET", "/api/conversations?client_id=reader", ""); res.StatusCode != 200 {
		t.Errorf("got %d %.200s", res.StatusCode, body)
	}
}
