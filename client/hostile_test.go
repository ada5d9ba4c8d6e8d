package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/client"
	"burrow/gen/edge"
)

// fake is a server that does to each WebSocket what a test wants.
func fake(t testing.TB, serve func(context.Context, *websocket.Conn, *http.Request)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/session" {
			_ = json.NewEncoder(w).Encode(map[string]string{"mode": "open", "name": ""})
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"burrow.v1.proto"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		serve(ctx, conn, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// tell writes one batch; a client that has gone is no news.
func tell(ctx context.Context, conn *websocket.Conn, frames ...*edge.ServerFrame) {
	data, err := proto.Marshal(&edge.ServerBatch{Frames: frames})
	if err != nil {
		panic(err)
	}
	_ = conn.Write(ctx, websocket.MessageBinary, data)
}

func welcome(w *edge.Welcome) *edge.ServerFrame {
	return &edge.ServerFrame{Frame: &edge.ServerFrame_Welcome{Welcome: w}}
}

func chatOf(id, content string) *edge.ServerFrame {
	return &edge.ServerFrame{Frame: &edge.ServerFrame_Chat{Chat: &edge.Chat{Id: id, Content: content, SentAt: timestamppb.Now()}}}
}

// until waits for the end of the connection.
func until(ctx context.Context, conn *websocket.Conn) {
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return
		}
	}
}

// A server that speaks nonsense does no harm: the connection is made again, and good ones go on.
func TestHostileServer(t *testing.T) {
	nonsense := map[string]func(context.Context, *websocket.Conn){
		"garbage": func(ctx context.Context, c *websocket.Conn) {
			_ = c.Write(ctx, websocket.MessageBinary, []byte("\xff\xff\xff"))
		},
		"text":       func(ctx context.Context, c *websocket.Conn) { _ = c.Write(ctx, websocket.MessageText, []byte("{}")) },
		"close":      func(_ context.Context, c *websocket.Conn) { _ = c.Close(websocket.StatusTryAgainLater, "busy") },
		"wrong hint": func(_ context.Context, c *websocket.Conn) { _ = c.Close(websocket.StatusServiceRestart, "retry-ms=-5") },
		"expired":    func(_ context.Context, c *websocket.Conn) { _ = c.Close(4401, "the session has expired") },
		"a cut":      func(_ context.Context, c *websocket.Conn) { _ = c.CloseNow() },
		"many notices": func(ctx context.Context, c *websocket.Conn) {
			for range 1000 {
				tell(ctx, c, &edge.ServerFrame{Frame: &edge.ServerFrame_Typing{Typing: &edge.Typing{ClientId: "x"}}})
			}
			_ = c.CloseNow()
		},
		"other frames": func(ctx context.Context, c *websocket.Conn) {
			tell(ctx, c) // An empty batch.
			tell(ctx, c, &edge.ServerFrame{}, &edge.ServerFrame{Frame: &edge.ServerFrame_Ack{Ack: &edge.Ack{Ref: "unknown"}}},
				&edge.ServerFrame{Frame: &edge.ServerFrame_Error{Error: &edge.Error{Code: "new_code", RetryAfterMs: 1 << 31}}},
				&edge.ServerFrame{Frame: &edge.ServerFrame_History{History: &edge.History{HasMore: true}}},
				&edge.ServerFrame{Frame: &edge.ServerFrame_Renewed{Renewed: &edge.Renewed{}}}, chatOf("no id", "x"), chatOf("", "y"))
			_ = c.CloseNow()
		},
	}
	for name, do := range nonsense {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var times atomic.Int32
			first, last := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
			url := fake(t, func(ctx context.Context, conn *websocket.Conn, r *http.Request) {
				tell(ctx, conn, welcome(&edge.Welcome{ClientId: "ada", Recovered: times.Load() > 0, PingIntervalMs: 1 << 31}))
				tell(ctx, conn, chatOf(first, "first"))
				if times.Add(1) < 3 {
					do(ctx, conn)
				} else {
					if got := r.URL.Query().Get("since"); got != first {
						t.Errorf("came back with since=%s, want %s", got, first)
					}
					tell(ctx, conn, chatOf(last, "last"))
				}
				until(ctx, conn)
			})
			ada := dial(t, url, "ada", nil)
			hears(t, ada, "first", "last")
			if n := times.Load(); n != 3 {
				t.Errorf("%d connections were made, want 3", n)
			}
		})
	}
}

// What a client has done wrong is not done again and again.
func TestFatalEnds(t *testing.T) {
	for _, code := range []websocket.StatusCode{websocket.StatusProtocolError, websocket.StatusUnsupportedData, websocket.StatusInvalidFramePayloadData} {
		url := fake(t, func(ctx context.Context, conn *websocket.Conn, _ *http.Request) {
			tell(ctx, conn, welcome(&edge.Welcome{ClientId: "ada"}))
			_ = conn.Close(code, "mend it")
		})
		ada := dial(t, url, "ada", nil)
		for range ada.Messages() {
		}
		closed := new(client.CloseError)
		if !errors.As(ada.Err(), &closed) || closed.Code != int(code) || closed.Reason != "mend it" {
			t.Errorf("%d: it ended with %v", code, ada.Err())
		}
	}
	// 1009 is for one frame; the others go on.
	var times atomic.Int32
	url := fake(t, func(ctx context.Context, conn *websocket.Conn, _ *http.Request) {
		tell(ctx, conn, welcome(&edge.Welcome{ClientId: "ada"}))
		for {
			_, data, err := conn.Read(ctx)
			if err != nil {
				return
			}
			f := new(edge.ClientFrame)
			if err := proto.Unmarshal(data, f); err != nil {
				t.Error(err)
			}
			if len(data) > 1000 {
				times.Add(1)
				_ = conn.Close(websocket.StatusMessageTooBig, "")
				return
			}
			tell(ctx, conn, &edge.ServerFrame{Frame: &edge.ServerFrame_Ack{Ack: &edge.Ack{Ref: f.GetSend().GetRef(), Id: "x"}}})
		}
	})
	ada := dial(t, url, "ada", nil)
	if _, err := ada.Send(t.Context(), "", strings.Repeat("x", 2000)); err == nil || !strings.Contains(err.Error(), "content_too_long") {
		t.Errorf("too much was sent: %v", err)
	}
	say(t, ada, "", "x")
	if times.Load() != 1 {
		t.Errorf("too much was sent %d times", times.Load())
	}
}

// A server that never answers does not keep Dial, and Send ends with its context.
func TestWaitsAreBounded(t *testing.T) {
	url := fake(t, func(ctx context.Context, conn *websocket.Conn, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/talks") {
			tell(ctx, conn, welcome(&edge.Welcome{ClientId: "talks"}))
		}
		until(ctx, conn)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := client.Dial(ctx, client.Config{URL: url, Name: "silent"}); err == nil {
		_ = c.Close()
		t.Error("connected to a server that says nothing")
	}
	talks := dial(t, url, "talks", func(cfg *client.Config) { cfg.SendTimeout = 50 * time.Millisecond })
	for i := range 3 {
		if _, err := talks.SendRef(context.Background(), uuid.NewString(), "", fmt.Sprint(i)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sent to a server that says nothing: %v", err)
		}
	}
	sending := make(chan error)
	go func() {
		_, err := talks.Send(ctx, "", "x")
		sending <- err
	}()
	_ = talks.Close()
	if err := <-sending; err == nil {
		t.Error("sent after the end")
	}
}
