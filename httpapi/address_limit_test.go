package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"burrow/httpapi"
)

// floodNames is how many names one address has in these tests.
const floodNames = 60

// few lets the users of one address send 20 messages, and no more during the test.
func few(c *httpapi.Config) { c.Edge.AddressRate, c.Edge.AddressBurst = 0.001, 20 }

// TestAddressLimit_Messages floods with 60 names of one address in each dialect and over HTTP: what is
// published is the burst of the address, and another address is not affected.
func TestAddressLimit_Messages(t *testing.T) {
	frames := map[string]func(i int) string{
		"plain": func(i int) string { return fmt.Sprintf(`{"content":"message %d"}`, i) },
		v1JSON:  func(i int) string { return fmt.Sprintf(`{"send":{"ref":%q,"content":"message %d"}}`, ref(i), i) },
	}
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			n := start(t, few)
			var header []string
			if name != "plain" {
				header = []string{"Sec-WebSocket-Protocol: " + name}
			}
			var all sync.WaitGroup
			for i := range floodNames {
				c := n.rawDial(t, fmt.Sprint("flood", i), 0, header...)
				c.write(0x81, frame(i))
				all.Go(func() { // Until it has its answer.
					for {
						_, payload, err := c.read()
						if err != nil || strings.Contains(payload, "rate_limited") || strings.Contains(payload, `"ack"`) || strings.Contains(payload, fmt.Sprintf(`"sender":"flood%d"`, i)) {
							return
						}
					}
				})
			}
			all.Wait()
			eventually(t, "every frame has its result", func() bool {
				return n.metric(t, "burrow_edge_frames_received_total", "ok")+n.metric(t, "burrow_edge_frames_received_total", "rate_limited") == floodNames
			})
			if got := n.metric(t, "burrow_edge_frames_received_total", "ok"); got != 20 {
				t.Errorf("%v messages were accepted, want 20", got)
			}
			if got := n.metric(t, "burrow_edge_limited_total", "messages"); got != floodNames-20 {
				t.Errorf("%v refusals are counted, want %d", got, floodNames-20)
			}
			other := n.join(t, "bob", "X-Forwarded-For: 203.0.113.9")
			other.send(`{"content":"from elsewhere"}`)
			for !strings.Contains(other.next(), `"from elsewhere"`) {
			}
		})
	}
	t.Run("http", func(t *testing.T) {
		n := start(t, few)
		taken := 0
		for i := range floodNames {
			res, body := n.request(t, http.MethodPost, fmt.Sprint("/api/messages?client_id=flood", i), posted(ref(i), "x", ""), jsonBody)
			switch {
			case res.StatusCode == 200:
				taken++
			case res.StatusCode != 429 || errorCode(t, body) != "rate_limited" || res.Header.Get("Retry-After") == "":
				t.Errorf("got %d %s", res.StatusCode, body)
			}
		}
		if taken != 20 {
			t.Errorf("%d messages were accepted, want 20", taken)
		}
		// IPv6: one /64 is one address.
		for i := range 21 {
			from := fmt.Sprintf("X-Forwarded-For: 2001:db8::%x", i+1)
			res, _ := n.request(t, http.MethodPost, fmt.Sprint("/api/messages?client_id=six", i), posted(ref(i), "x", ""), jsonBody, from)
			if want := map[bool]int{true: 200, false: 429}[i < 20]; res.StatusCode != want {
				t.Errorf("message %d of one /64: got %d, want %d", i, res.StatusCode, want)
			}
		}
	})
	t.Run("typing", func(t *testing.T) {
		n := start(t, few)
		for i := range floodNames {
			n.request(t, http.MethodPost, fmt.Sprint("/api/typing?client_id=flood", i), `{}`, jsonBody)
		}
		if got := len(n.broker.published()); got != 20 {
			t.Errorf("%d typing events were published, want 20", got)
		}
	})
}

// TestAddressLimit_History asks for pages of history over WebSockets with many names.
func TestAddressLimit_History(t *testing.T) {
	n := start(t, nil)
	httpapi.SetHistoryBurst(n.Server, 20)
	refused := 0
	for i := range 30 {
		c := n.joinV1(t, v1JSON, fmt.Sprint("flood", i))
		c.sendBytes([]byte(`{"history":{"limit":100,"ref":"page"}}`))
		f := c.nextTalk()
		for f.GetHistory() == nil && f.GetError() == nil {
			f = c.nextTalk()
		}
		if e := f.GetError(); e != nil {
			if e.GetCode() != "rate_limited" || e.GetRef() != "page" || e.GetRetryAfterMs() == 0 {
				t.Errorf("got %v", e)
			}
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d pages were refused, want 10", refused)
	}
}

// TestAddressLimit_Bytes reads no faster from all connections of an address together than
// edge.address_bytes, however many names it has.
func TestAddressLimit_Bytes(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.AddressBytes, c.Edge.MaxFrameBytes = 1024, 4096 })
	const each = 2 << 20 // More than two sockets hold unread.
	chunk := []byte(strings.Repeat(string(rawFrame(0x81, `{"nothing":"`+strings.Repeat("x", 1000)+`"}`)), 64))
	for i := range 3 {
		c := n.rawDial(t, fmt.Sprint("flood", i), 4096)
		_ = c.Conn.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(4096)
		sent := 0
		for sent < each {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			m, err := c.Conn.Write(chunk)
			sent += m
			if err != nil {
				break
			}
		}
		if sent >= each {
			t.Errorf("connection %d: %d bytes were read at once", i, sent)
		}
	}
	// Requests of the address are refused meanwhile, and those of another one are not.
	res, body := n.request(t, http.MethodPost, "/api/messages?client_id=flood9", posted(ref(1), "x", ""), jsonBody)
	if res.StatusCode != 429 || errorCode(t, body) != "rate_limited" {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, body := n.request(t, http.MethodPost, "/api/messages?client_id=bob", posted(ref(2), "x", ""), jsonBody, "X-Forwarded-For: 203.0.113.9"); res.StatusCode != 200 {
		t.Errorf("another address got %d %s", res.StatusCode, body)
	}
}

// TestAddressLimit_SignIns bounds the sign-ins of one address at once.
func TestAddressLimit_SignIns(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.SignInRate, c.Edge.SignInBurst = 0.001, 5 })
	n.auth.mode = "guest"
	for i := range 7 {
		res, _ := n.request(t, http.MethodPost, "/api/session", fmt.Sprintf(`{"name":"user%d"}`, i), jsonBody)
		if want := map[bool]int{true: 200, false: 429}[i < 5]; res.StatusCode != want {
			t.Errorf("sign-in %d: got %d, want %d", i, res.StatusCode, want)
		}
	}
}
