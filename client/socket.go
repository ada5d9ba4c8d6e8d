package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
)

// maxBatch bounds one WebSocket message: a batch is 64 KiB, but a list of all who are online can be
// more.
const maxBatch = 8 << 20

// socket is a WebSocket that speaks v1.
type socket struct {
	conn *websocket.Conn
	json bool
	ping atomic.Pointer[func()] // What a ping calls.
}

// dialSocket connects as the user of w, as somebody who has seen the message since.
func dialSocket(ctx context.Context, w *web, since string, json bool) (*socket, error) {
	s := &socket{json: json}
	query := url.Values{}
	if since != "" {
		query.Set("since", since)
	}
	protocol := "burrow.v1.proto"
	if json {
		protocol = "burrow.v1.json"
	}
	conn, res, err := websocket.Dial(ctx, w.url("/ws/"+url.PathEscape(w.user()), query), &websocket.DialOptions{
		HTTPClient:   w.client,
		HTTPHeader:   w.header(),
		Subprotocols: []string{protocol},
		OnPingReceived: func(context.Context, []byte) bool {
			if heard := s.ping.Load(); heard != nil {
				(*heard)()
			}
			return true
		},
	})
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			return nil, refusal(res)
		}
		return nil, err
	}
	if conn.Subprotocol() != protocol {
		_ = conn.Close(websocket.StatusProtocolError, "")
		return nil, fmt.Errorf("the server does not speak %s", protocol)
	}
	conn.SetReadLimit(maxBatch)
	s.conn = conn
	return s, nil
}

func (s *socket) read(heard func()) (*edge.ServerBatch, error) {
	s.ping.Store(&heard)
	// Not bounded here: whoever waits for too long closes it.
	kind, data, err := s.conn.Read(context.Background())
	if err != nil {
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return nil, &CloseError{int(closed.Code), closed.Reason}
		}
		return nil, err
	}
	b := new(edge.ServerBatch)
	switch {
	case (kind == websocket.MessageText) != s.json:
		err = errors.New("a frame of the other kind")
	case s.json:
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, b)
	default:
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, b)
	}
	if err != nil {
		return nil, fmt.Errorf("the server does not speak v1: %w", err)
	}
	return b, nil
}

func (s *socket) write(ctx context.Context, f *edge.ClientFrame) error {
	data, err := s.encode(f)
	if err != nil {
		return errUnencodable
	}
	kind := websocket.MessageBinary
	if s.json {
		kind = websocket.MessageText
	}
	return s.conn.Write(ctx, kind, data)
}

func (s *socket) encode(f *edge.ClientFrame) ([]byte, error) {
	if s.json {
		return protojson.MarshalOptions{UseProtoNames: true}.Marshal(f)
	}
	return proto.Marshal(f)
}

// close says goodbye; the library waits 5 s for the answer, and 5 s before for the way out.
func (s *socket) close() {
	if err := s.conn.Close(closeNormal, ""); err != nil && !errors.Is(err, io.EOF) {
		_ = s.conn.CloseNow()
	}
}

func (s *socket) abort() { _ = s.conn.CloseNow() }

func (s *socket) size(f *edge.ClientFrame) int {
	data, _ := s.encode(f) // It was encoded before.
	return len(data)
}

func (s *socket) fallback() bool { return false }
