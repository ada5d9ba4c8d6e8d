package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

func wrong(context.Context, *bench) (sample, error) { return sample{"x": 1}, errBroken }

// fakeCentrifugo speaks as much of its protocol as the load does.
type fakeCentrifugo struct {
	mu          sync.Mutex
	subscribers map[*websocket.Conn]bool
	beats       int
}

func (f *fakeCentrifugo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var upgrader websocket.Upgrader
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		_, frame, err := conn.ReadMessage()
		f.mu.Lock()
		if err != nil {
			delete(f.subscribers, conn)
			f.mu.Unlock()
			return
		}
		for line := range bytes.Lines(frame) {
			f.command(conn, line)
		}
		f.mu.Unlock()
	}
}

func (f *fakeCentrifugo) command(conn *websocket.Conn, line []byte) {
	var in struct {
		ID        int
		Connect   *struct{}
		Subscribe *struct{ Channel string }
		Publish   *struct {
			Channel string
			Data    json.RawMessage
		}
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return
	}
	switch {
	case in.Connect != nil:
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"ping":25,"pong":true}}`))
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{}`))
	case in.Subscribe != nil:
		f.subscribers[conn] = true
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"id":2,"subscribe":{}}`))
	case in.Publish != nil:
		for to := range f.subscribers {
			push := `{"push":{"channel":"` + in.Publish.Channel + `","pub":{"data":` + string(in.Publish.Data) + `}}}`
			_ = to.WriteMessage(websocket.TextMessage, []byte(push+"\n"+`{"id":3,"publish":{}}`))
		}
	default:
		f.beats++
	}
}

func TestATargetIsLoadedByItsOwnProtocol(t *testing.T) {
	fake := &fakeCentrifugo{subscribers: map[*websocket.Conn]bool{}}
	mux := http.NewServeMux()
	mux.Handle(rivalPath, fake)
	server := httptest.NewServer(mux)
	defer server.Close()

	var stdout, stderr bytes.Buffer
	target := "centrifugo=ws" + strings.TrimPrefix(server.URL, "http") + rivalPath
	args := append(strings.Fields("-conns 4 -pubs 2 -inflight 2 -size 64 -warmup 0s -duration 100ms -json - -target"), target)
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	var results []result
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil || len(results) != 1 {
		t.Fatalf("%v in %s", err, &stdout)
	}
	if r := results[0]; r.Deliveries == 0 || r.Lost+r.Doubled+r.Reordered != 0 {
		t.Errorf("%+v", r)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if fake.beats != 4 {
		t.Errorf("%d of 4 pings were answered", fake.beats)
	}
}

func TestTargetsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "centrifugo=", "other=ws://x:1" + rivalPath, "centrifugo=http://x:1" + rivalPath, "centrifugo=ws://x:1/", "centrifugo=ws:///connection"} {
		if addr, err := rivalAddress(bad); err == nil {
			t.Errorf("%q is taken for %q", bad, addr)
		}
	}
}
