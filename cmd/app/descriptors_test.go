//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"burrow/gen/edge"
)

// TestDescriptors opens more idle connections than the process can have files: it goes on storing
// messages, is ready, and logs neither errors of the broker nor of the store.
func TestDescriptors(t *testing.T) {
	in := install(t, embedded, "BURROW_AUTH_MODE=open", "BURROW_LOG_LEVEL=info")
	in.files = 256
	node := in.spawn(t, "burrow is open")
	speaker, err := dialLean(node.addr(), "speaker", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(speaker.close)
	var texts []string
	say := func() {
		t.Helper()
		text := fmt.Sprint("message ", len(texts))
		texts = append(texts, text)
		ref := fmt.Sprintf("6f1c1a52-7d0e-4c1e-9c0f-%012d", len(texts))
		if err := speaker.send(&edge.ClientFrame{Frame: &edge.ClientFrame_Send{Send: &edge.Send{Ref: ref, Content: text}}}); err != nil {
			t.Fatal(err)
		}
		for {
			frames, err := speaker.frames()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if f.GetAck().GetRef() == ref {
					return
				}
				if f.GetError() != nil {
					t.Fatalf("message %q: %v", text, f.GetError())
				}
			}
		}
	}
	say()
	for i := range 400 {
		conn, err := net.DialTimeout("tcp", node.addr(), patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 0 { // The others never send anything.
			_ = conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: burrow\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("connection %d: %v, %v", i, res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if i%40 == 0 {
			say()
		}
	}
	res, err := http.Get("http://" + node.addr() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != 200 {
		t.Errorf("/readyz: %d %s", res.StatusCode, body)
	}
	if code := node.interrupt(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if log := node.log.String(); strings.Contains(log, "level=ERROR") {
		t.Error("errors are logged") // The log is printed.
	}
	in.archive(t).comesToHold(texts...)
}
