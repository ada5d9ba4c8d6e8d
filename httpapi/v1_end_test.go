package httpapi_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"burrow/gen/edge"
	"burrow/httpapi"
)

// numbersV1 sends the numbers that messages begin with to out, until the connection ends, and
// returns the close code.
func numbersV1(t *testing.T, protocol string, c *rawConn, out chan<- int) int {
	for {
		first, payload, err := c.read()
		switch {
		case err != nil:
			return 0
		case first == 0x88:
			return int(payload[0])<<8 | int(payload[1])
		case first == 0x89:
			continue
		}
		b := new(edge.ServerBatch)
		if protocol == v1JSON {
			err = protojson.Unmarshal([]byte(payload), b)
		} else {
			err = proto.Unmarshal([]byte(payload), b)
		}
		if err != nil {
			t.Errorf("got a broken batch %.40q: %v", payload, err)
			return 0
		}
		if len(payload) > 80<<10 {
			t.Errorf("a batch has %d bytes", len(payload))
		}
		for _, f := range b.Frames {
			if m := f.GetChat(); m != nil {
				number, _, _ := strings.Cut(m.Content, " ")
				i, _ := strconv.Atoi(number)
				out <- i
			}
		}
	}
}

// A reader that takes nothing is closed with 1013; what it got is the stream without a hole; the
// others notice nothing; and it resumes where the stream broke off.
func TestV1SlowConsumer(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, func(c *httpapi.Config) { c.Edge.Queue = 64; c.Edge.SlowAfter = 100 * time.Millisecond })
		slow := n.rawDial(t, "slow", 64<<10, "Sec-WebSocket-Protocol: "+protocol)
		quick := n.rawDial(t, "quick", 0, "Sec-WebSocket-Protocol: "+protocol)
		filler := strings.Repeat("x", 8000)
		heard := make(chan int, 100000)
		var reading sync.WaitGroup
		reading.Go(func() { numbersV1(t, protocol, quick, heard) })
		defer reading.Wait()
		defer quick.Close()

		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		timeout := time.After(2 * patience)
		var ids []string
		var open time.Time // When slow was not closed yet.
		say := func() {
			t.Helper()
			m := sentAt(time.Now(), "bot", "", fmt.Sprint(len(ids), " ", filler))
			ids = append(ids, m.Id)
			n.Deliver(m)
			select {
			case got := <-heard:
				if got != len(ids)-1 {
					t.Fatalf("quick got %d, want %d", got, len(ids)-1)
				}
			case <-time.After(patience):
				t.Fatalf("quick did not get %d", len(ids)-1)
			}
		}
		for n.metric(t, "burrow_edge_closes_total", "1013") == 0 {
			open = time.Now()
			select {
			case <-pace.C:
			case <-timeout:
				t.Fatalf("not closed after %d messages", len(ids))
			}
			say()
		}
		numbers := make(chan int, 100000)
		late := time.Since(open) > closeTimeout
		if code := numbersV1(t, protocol, slow, numbers); code != 1013 && (code != 0 || !late) {
			t.Errorf("slow was closed with %d, want 1013", code)
		}
		close(numbers)
		got := 0
		for i := range numbers {
			if i != got {
				t.Fatalf("slow got message %d, want %d: a hole", i, got)
			}
			got++
		}
		if got == 0 || got >= len(ids) {
			t.Fatalf("slow got %d of %d messages", got, len(ids))
		}
		for range 20 {
			say()
		}
		back := n.dialV1(t, protocol, "slow", "?since="+ids[got-1])
		welcome, messages, _ := back.hello()
		seen := map[string]bool{}
		for _, m := range messages {
			seen[m.Id] = true
		}
		for _, id := range ids[got:] {
			if !seen[id] {
				t.Fatalf("%s was not resumed", id)
			}
		}
		if !welcome.Recovered {
			t.Error("not recovered")
		}
	})
}

// A server that stops confirms what is in flight, refuses what comes later, and sends everyone
// away with a time of their own.
func TestV1Drain(t *testing.T) {
	n := start(t, nil)
	const people = 20
	var clients []*v1
	for i := range people {
		protocol := v1JSON
		if i%2 == 0 {
			protocol = v1Proto
		}
		clients = append(clients, n.joinV1(t, protocol, fmt.Sprint("user", i)))
	}
	n.broker.mu.Lock()
	n.broker.hold, n.broker.held = make(chan struct{}), make(chan struct{}, 2)
	n.broker.mu.Unlock()
	inFlight := clients[0].say("in flight", "")
	<-n.broker.held

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(ctx) }()
	eventually(t, "not ready", func() bool {
		res, _ := n.request(t, "GET", "/readyz", "")
		return res.StatusCode == 503
	})
	eventually(t, "nobody is let in", func() bool { return !opens(t, n, upgrade) })
	for refused := false; !refused; {
		ref := clients[1].say("too late", "")
		for f := clients[1].nextTalk(); ; f = clients[1].nextTalk() {
			if e := f.GetError(); e != nil && e.Ref == ref && e.Code == "unavailable" {
				refused = true
				break
			}
		}
	}
	close(n.broker.hold)

	delays := map[string]bool{}
	for i, c := range clients {
		frames, reason := c.closed(1012)
		if !regexp.MustCompile(`^retry-ms=[0-9]{3,4}$`).MatchString(reason) {
			t.Fatalf("reason %q", reason)
		}
		delays[reason] = true
		heard, acked := false, false
		for _, f := range frames {
			heard = heard || f.GetChat().GetContent() == "in flight"
			acked = acked || f.GetAck().GetRef() == inFlight
		}
		if !heard || acked != (i == 0) {
			t.Errorf("client %d heard it: %v, got an ack: %v", i, heard, acked)
		}
	}
	if len(delays) < people/2 {
		t.Errorf("%d delays for %d clients", len(delays), people)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}
