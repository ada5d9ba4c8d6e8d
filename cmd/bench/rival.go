package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"burrow/cmd/bench/wire"
)

// Centrifugo is measured by its documented client protocol in JSON: commands and pushes are
// objects, a newline between them; everybody subscribes to one channel and publishes there.
const (
	rivalName = "centrifugo"
	rivalPath = "/connection/websocket"
	rivalRoom = "bench"
)

var rivalProtocol = protocol{
	op: wire.OpText, send: sendRival, acks: func([]byte) int { return 0 },
	errors: func(payload []byte) int { return bytes.Count(payload, []byte(`"error":{`)) },
	path:   func(string) string { return rivalPath },
	hello:  []byte(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"` + rivalRoom + `"}}`),
	// Its pings are messages, and are answered in kind.
	beat: []byte(`{}`),
}

func sendRival(b, content []byte) []byte {
	b = append(b, `{"id":3,"publish":{"channel":"`+rivalRoom+`","data":{"content":"`...)
	b = append(b, content...)
	return append(b, `"}}}`...)
}

// rivalSettings are those of Centrifugo as it is quickest: in memory, without checks, logs and
// history, its write buffers pooled.
var rivalSettings = []string{
	"CENTRIFUGO_CLIENT_INSECURE=true",
	"CENTRIFUGO_LOG_LEVEL=error",
	"CENTRIFUGO_WEBSOCKET_USE_WRITE_BUFFER_POOL=true",
	"CENTRIFUGO_HTTP_SERVER_ADDRESS=127.0.0.1",
}

// startRival starts a Centrifugo and waits until it listens.
func startRival(ctx context.Context, binary string, pin bool, log io.Writer) (_ *server, err error) {
	if binary, err = filepath.Abs(binary); err != nil { // It runs elsewhere.
		return nil, err
	}
	s := &server{done: make(chan struct{})}
	if s.dir, err = os.MkdirTemp("", "burrow-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(s.dir)
		}
	}()
	if s.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary)
	s.cmd.Dir, s.cmd.Stderr, s.cmd.Stdout = s.dir, log, log
	for _, set := range os.Environ() {
		if !strings.HasPrefix(set, "CENTRIFUGO_") {
			s.cmd.Env = append(s.cmd.Env, set)
		}
	}
	s.cmd.Env = append(append(s.cmd.Env, rivalSettings...), "CENTRIFUGO_HTTP_SERVER_PORT="+port)
	if err := s.start(pin); err != nil {
		return nil, err
	}
	go func() { s.err = s.cmd.Wait(); close(s.done) }()
	if err := s.awaitListening(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// awaitListening waits until somebody may connect.
func (s *server) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended: %w", s.err)
		case <-ctx.Done():
			return fmt.Errorf("the server did not open: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// rivalAddress returns host and port of what -target says.
func rivalAddress(text string) (string, error) {
	name, address, _ := strings.Cut(text, "=")
	u, err := url.Parse(address)
	if err != nil || name != rivalName || u.Scheme != "ws" || u.Host == "" || u.Path != rivalPath {
		return "", fmt.Errorf("bench: -target: %q is not %s=ws://host:port%s", text, rivalName, rivalPath)
	}
	return u.Host, nil
}

// freeAddress returns a loopback address on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
}
