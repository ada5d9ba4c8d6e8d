package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/client"
	"burrow/gen/chat"
	"burrow/httpapi"
)

func TestTalk(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%v", json), func(t *testing.T) {
			w := newWorld(t)
			address := "ws://" + w.start("guest", nil).Addr() + "/"
			speak := func(cfg *client.Config) { cfg.JSON = json }
			ada, bob := dial(t, address, "ada", speak), dial(t, address, "bob", speak)
			event(t, ada, func(e client.StatusChange) bool { return slices.Contains(e.Online, "bob") })
			if got := ada.Presence(); !slices.Equal(got.Users, []string{"ada", "bob"}) || got.Total != 2 {
				t.Errorf("ada sees %+v", got)
			}
			sent := say(t, ada, "", "hello <b>\u2028🦫")
			m := next(t, bob)
			if m.ID != sent.ID || m.Sender != "ada" || m.Ref != sent.Ref || !m.SentAt.Equal(sent.At) || m.Old || m.To != "" || m.Content != "hello <b>\u2028🦫" {
				t.Errorf("bob hears %+v, ada sent %+v", m, sent)
			}
			if m := next(t, ada); m.ID != sent.ID {
				t.Errorf("ada hears %+v of herself", m)
			}
			say(t, bob, "ada", "psst")
			if m := next(t, ada); m.To != "ada" || m.Content != "psst" {
				t.Errorf("ada hears %+v", m)
			}
			bob.Typing("ada")
			if e := event[client.Typing](t, ada, nil); e != (client.Typing{User: "bob", To: "ada"}) {
				t.Errorf("ada is told %+v", e)
			}

			late := dial(t, address, "late", speak)
			if m := next(t, late); !m.Old || m.ID != sent.ID {
				t.Errorf("a newcomer hears %+v", m)
			}
			say(t, ada, "", "and on")
			if m := next(t, late); m.Old || m.Content != "and on" {
				t.Errorf("a newcomer hears %+v", m)
			}
			page, err := late.History(t.Context(), client.HistoryQuery{Limit: 1})
			if err != nil || !page.More || len(page.Messages) != 1 || page.Messages[0].Content != "and on" {
				t.Errorf("the history is %+v, %v", page, err)
			}
			if page, err = late.History(t.Context(), client.HistoryQuery{Before: page.Messages[0].ID}); err != nil || page.More || page.Messages[0].ID != sent.ID {
				t.Errorf("the history before is %+v, %v", page, err)
			}
			if page, err = bob.History(t.Context(), client.HistoryQuery{With: "ada"}); err != nil || len(page.Messages) != 1 || page.Messages[0].Content != "psst" {
				t.Errorf("the private history is %+v, %v", page, err)
			}

			if err := bob.Close(); err != nil || !errors.Is(bob.Err(), client.ErrClosed) {
				t.Errorf("Close: %v, %v", err, bob.Err())
			}
			if _, err := bob.Send(t.Context(), "", "from the grave"); !errors.Is(err, client.ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
			for range bob.Messages() {
			}
			event(t, ada, func(e client.StatusChange) bool { return slices.Contains(e.Offline, "bob") })
		})
	}
}

// What is refused was not sent, and says why.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	address := "http://" + w.start("guest", nil).Addr()
	ada := dial(t, address, "ada", nil)
	for content, code := range map[string]string{
		" \n ":                     "empty_content",
		strings.Repeat("x", 4097):  "content_too_long",
		strings.Repeat("x", 50000): "content_too_long",
		"\x1b[2J":                  "bad_frame",
	} {
		_, err := ada.Send(t.Context(), "", content)
		if refused := (*client.Error)(nil); !errors.As(err, &refused) || refused.Code != code || refused.Message == "" {
			t.Errorf("%.10q: got %v, want %s", content, err, code)
		}
	}
	if _, err := ada.Send(t.Context(), "", "\xff"); err == nil {
		t.Error("text that is not UTF-8 was sent")
	}
	if _, err := ada.Send(t.Context(), "-", "hi"); err == nil || !strings.Contains(err.Error(), "invalid_user") {
		t.Errorf("to nobody's name: %v", err)
	}
	if _, err := ada.SendRef(t.Context(), "my ref", "", "hi"); err == nil {
		t.Error("took a ref that is no UUID")
	}
	if _, err := ada.History(t.Context(), client.HistoryQuery{Before: "x"}); err == nil || !strings.Contains(err.Error(), "bad_frame") {
		t.Errorf("history before x: %v", err)
	}
	if _, err := ada.History(t.Context(), client.HistoryQuery{Limit: 101}); err == nil {
		t.Error("took a limit of 101")
	}
	say(t, ada, "", "still here")
	hears(t, ada, "still here")

	for name, cfg := range map[string]client.Config{
		"taken":   {URL: address, Name: "ada"},
		"invalid": {URL: address, Name: "global"},
		"scheme":  {URL: "ftp://localhost", Name: "ada"},
		"nobody":  {URL: address},
		"where":   {URL: "", Name: "ada"},
	} {
		if c, err := client.Dial(t.Context(), cfg); err == nil {
			t.Errorf("%s: was let in", name)
			_ = c.Close()
		}
	}
	// With the cookie the name is one's own.
	again := dial(t, address, "ada", func(cfg *client.Config) { cfg.Cookie = ada.Cookie() })
	hears(t, again, "still here")
}

// Through cuts, and a node that is another one each time, nothing is lost or comes twice, and
// what is sent is sent once.
func TestCuts(t *testing.T) {
	w := newWorld(t)
	nodes := []*httpapi.Server{w.start("guest", nil), w.start("guest", nil)}
	d := newDoor(t, nodes[0].Addr())
	ada, bob := dial(t, d.url(), "ada", nil), dial(t, d.url(), "bob", nil)
	const n = 60
	var talking sync.WaitGroup
	talking.Go(func() {
		for i := range n {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if _, err := ada.Send(ctx, "", fmt.Sprint(i)); err != nil {
				t.Errorf("send %d: %v", i, err)
			}
			cancel()
		}
	})
	for i := range n {
		hears(t, bob, fmt.Sprint(i))
		hears(t, ada, fmt.Sprint(i))
		if i%6 == 5 {
			d.leadTo(nodes[i/6%2].Addr())
		}
	}
	talking.Wait()
	if w.archived != n {
		t.Errorf("%d messages are archived, want %d", w.archived, n)
	}
	select {
	case m := <-bob.Messages():
		t.Errorf("bob hears %q too much", m.Content)
	default:
	}
	if e := event(t, bob, func(e client.Connected) bool { return e.Again }); e.Fallback {
		t.Error("it fell back")
	}
}

// A ref is one message, by whomever and whenever it is sent.
func TestRefIsOneMessage(t *testing.T) {
	w := newWorld(t)
	address := "http://" + w.start("open", nil).Addr()
	other := "http://" + w.start("open", nil).Addr()
	ref := uuid.NewString()
	first := dial(t, address, "ada", nil)
	a, err := first.SendRef(t.Context(), ref, "", "once")
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	second := dial(t, other, "ada", nil)
	b, err := second.SendRef(t.Context(), ref, "", "once")
	if err != nil || a != b {
		t.Errorf("got %+v %v, want %+v", b, err, a)
	}
	say(t, second, "", "then")
	hears(t, second, "once", "then")
	if w.archived != 2 {
		t.Errorf("%d messages are archived, want 2", w.archived)
	}
}

// The limits of the server only make it slow, and so does a broker that is away.
func TestLimitsAndOutages(t *testing.T) {
	w := newWorld(t)
	address := "http://" + w.start("open", func(cfg *httpapi.Config) { cfg.Edge.Rate, cfg.Edge.Burst = 100, 5 }).Addr()
	ada := dial(t, address, "ada", nil)
	var sending sync.WaitGroup
	w.failing(errBroker)
	for i := range 50 {
		sending.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if _, err := ada.Send(ctx, "", fmt.Sprint(i)); err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := ada.Send(ctx, "", "while it is away"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("sent without a broker: %v", err)
	}
	w.failing(nil)
	sending.Wait()
	heard := map[string]int{}
	for range 50 {
		heard[next(t, ada).Content]++
	}
	if len(heard) != 50 {
		t.Errorf("heard %d different messages", len(heard))
	}
	select {
	case e := <-ada.Events():
		for ; e != nil; e = nil {
			if lost, is := e.(client.Disconnected); is {
				t.Errorf("it was closed: %v", lost.Err)
			}
		}
	default:
	}
}

// Whoever takes nothing for long gets all of it in the end, by resuming and from the archive, and
// can send meanwhile.
func TestSlowProgram(t *testing.T) {
	w := newWorld(t)
	address := "http://" + w.start("open", func(cfg *httpapi.Config) {
		cfg.Edge.Rate, cfg.Edge.UpgradeRate, cfg.History.Buffer = 0, 0, 40
	}).Addr()
	slow := dial(t, address, "slow", func(cfg *client.Config) { cfg.Queue = 7 })
	fast := dial(t, address, "fast", nil)
	var want []string
	for i := range 150 {
		if i%15 == 14 {
			say(t, slow, "", fmt.Sprint(i))
		} else {
			say(t, fast, "", fmt.Sprint(i))
		}
		want = append(want, fmt.Sprint(i))
	}
	hears(t, fast, want...)
	hears(t, slow, want...)
	say(t, fast, "slow", "the end")
	hears(t, slow, "the end")
}

// After a time that no node remembers the archive has the rest: everyone's talk, and private talk.
func TestCatchUp(t *testing.T) {
	w := newWorld(t)
	small := func(cfg *httpapi.Config) {
		cfg.Edge.Rate, cfg.History.Buffer, cfg.ArchivePrivate = 0, 10, true
	}
	first := w.start("open", small)
	d := newDoor(t, first.Addr())
	ada := dial(t, d.url(), "ada", nil)
	bob := dial(t, "http://"+w.start("open", small).Addr(), "bob", nil)
	say(t, bob, "ada", "hello")
	hears(t, ada, "hello")

	d.leadTo("")
	event[client.Disconnected](t, ada, nil)
	var public, private []string
	for i := range 230 {
		say(t, bob, "", fmt.Sprint(i))
		public = append(public, fmt.Sprint(i))
		if i%2 == 0 {
			say(t, bob, "ada", fmt.Sprint("psst ", i))
			private = append(private, fmt.Sprint("psst ", i))
		}
	}
	d.leadTo(first.Addr())
	event(t, ada, func(e client.Connected) bool { return e.Again })
	say(t, bob, "", "live")
	public = append(public, "live")
	var gotPublic, gotPrivate []string
	for range len(public) + len(private) {
		if m := next(t, ada); m.To == "" {
			gotPublic = append(gotPublic, m.Content)
		} else {
			gotPrivate = append(gotPrivate, m.Content)
		}
	}
	if !slices.Equal(gotPublic, public) || !slices.Equal(gotPrivate, private) {
		t.Errorf("got %d and %d messages, want %d and %d\n%q\n%q", len(gotPublic), len(gotPrivate), len(public), len(private), gotPublic, gotPrivate)
	}
	select {
	case m := <-ada.Messages():
		t.Errorf("%q came too much", m.Content)
	default:
	}
}

// A program that was stopped goes on with the last message it knows; what is more than it wants
// is a Gap.
func TestSince(t *testing.T) {
	w := newWorld(t)
	address := "http://" + w.start("open", func(cfg *httpapi.Config) { cfg.Edge.Rate, cfg.History.Buffer = 0, 10 }).Addr()
	ada := dial(t, address, "ada", nil)
	say(t, ada, "", "before")
	say(t, ada, "", "since")
	w.mu.Lock()
	for _, m := range w.archive { // These were said long ago.
		m.Id = early(m)
	}
	w.mu.Unlock()
	since := w.archive[1].GetId()
	for i := range 50 {
		say(t, ada, "", fmt.Sprint(i))
	}
	again := dial(t, address, "again", func(cfg *client.Config) { cfg.Since = since })
	m := next(t, again)
	for m.Content != "0" { // The overlap brings what was just before.
		m = next(t, again)
	}
	for i := range 49 {
		hears(t, again, fmt.Sprint(i+1))
	}
	if m.Old {
		t.Error("what was missed is called old")
	}
	little := dial(t, address, "little", func(cfg *client.Config) { cfg.Since, cfg.CatchUp = since, 10 })
	if e := event[client.Gap](t, little, func(e client.Gap) bool { return !e.Private }); e.Private {
		t.Error("the gap is private")
	}
	nonsense := dial(t, address, "nonsense", func(cfg *client.Config) { cfg.Since = "nonsense" })
	event[client.Gap](t, nonsense, nil)
}

// early returns the id of m, moved into the past.
func early(m *chat.ChatMessage) string {
	id := uuid.MustParse(m.GetId())
	id[0]--
	return id.String()
}

// A server that stops says when to come back, and that is when one comes back.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	first := w.start("guest", nil)
	d := newDoor(t, first.Addr())
	ada := dial(t, d.url(), "ada", func(cfg *client.Config) { cfg.MinRetry, cfg.MaxRetry = time.Minute, time.Minute })
	say(t, ada, "", "one")
	d.turnTo(w.start("guest", nil).Addr()) // By now: there is one attempt in a minute.
	w.stop(first)
	lost := event[client.Disconnected](t, ada, nil)
	closed := new(client.CloseError)
	if !errors.As(lost.Err, &closed) || closed.Code != 1012 || !strings.HasSuffix(closed.Reason, fmt.Sprint("=", lost.Retry.Milliseconds())) {
		t.Errorf("disconnected by %v, retry after %s", lost.Err, lost.Retry)
	}
	event(t, ada, func(e client.Connected) bool { return e.Again })
	say(t, ada, "", "two")
	hears(t, ada, "one", "two")
}

// What cannot be mended by trying again ends it.
func TestEnd(t *testing.T) {
	w := newWorld(t)
	node := w.start("guest", nil)
	d := newDoor(t, node.Addr())
	ada := dial(t, d.url(), "ada", nil)
	say(t, ada, "", "one")
	w.mu.Lock()
	w.owners["ada"] = "somebody else"
	w.mu.Unlock()
	d.leadTo(node.Addr())
	hears(t, ada, "one")
	for range ada.Messages() {
	}
	refused := new(client.Error)
	if err := ada.Err(); !errors.As(err, &refused) || refused.Code != "name_taken" {
		t.Errorf("it ended with %v", err)
	}
	if _, err := ada.Send(t.Context(), "", "two"); !errors.As(err, &refused) {
		t.Errorf("Send after the end: %v", err)
	}
}

// A peer that says nothing any more is left, and one that says nonsense too.
func TestSilentServer(t *testing.T) {
	w := newWorld(t)
	node := w.start("open", func(cfg *httpapi.Config) { cfg.Edge.PingInterval = time.Second })
	d := newDoor(t, node.Addr())
	ada := dial(t, d.url(), "ada", nil)
	say(t, ada, "", "one")
	d.stall()
	lost := event[client.Disconnected](t, ada, nil)
	if !strings.Contains(lost.Err.Error(), "nothing came") {
		t.Errorf("it was left for %v", lost.Err)
	}
	d.resume()
	say(t, ada, "", "two")
	hears(t, ada, "one", "two")
}
