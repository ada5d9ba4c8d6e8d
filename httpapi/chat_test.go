package httpapi_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/httpapi"
)

func TestPeopleTalk(t *testing.T) {
	n := start(t, nil)
	alice := n.dial(t, "alice")
	alice.want(online("alice"))
	bob := n.dial(t, "bob")
	bob.want(online("alice"))
	bob.want(online("bob"))
	alice.want(online("bob"))

	before := time.Now().Truncate(time.Millisecond)
	alice.send(`{"content":"  <b>hello</b> & goodbye\r\n","to_user":"global","sender":"bob","unknown":[1]}`)
	m := alice.hears("alice", "", "<b>hello</b> & goodbye")
	if got := bob.hears("alice", "", "<b>hello</b> & goodbye"); got != m {
		t.Errorf("bob got %v, alice %v", got, m)
	}
	if id, err := uuid.Parse(m.ID); err != nil || id.Version() != 7 {
		t.Errorf("id %q is not a UUIDv7", m.ID)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", m.SentAt)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("sent_at %q, want now in UTC milliseconds", m.SentAt)
	}
	if got := n.broker.published(); !slices.Equal(got, []string{"task event"}) {
		t.Errorf("published %q, want the task before the event in one call", got)
	}
}

func TestPrivateMessagesReachTheTwoUsersOnly(t *testing.T) {
	n := start(t, nil)
	alice := n.dial(t, "alice")
	alice.want(online("alice"))
	alice2 := n.dial(t, "alice")
	alice2.want(online("alice"))
	bob := n.join(t, "bob")
	bob2 := n.dial(t, "bob")
	bob2.want(online("alice"))
	bob2.want(online("bob"))
	carol := n.join(t, "carol")
	for _, c := range []*client{alice, alice2} {
		c.want(online("bob"))
		c.want(online("carol"))
	}
	bob.want(online("carol"))
	bob2.want(online("carol"))

	alice.send(`{"content":"psst","to_user":"bob"}`)
	for _, c := range []*client{alice, alice2, bob, bob2} {
		c.hears("alice", "bob", "psst")
	}
	bob.send(`{"content":"to myself","to_user":"bob"}`)
	for _, c := range []*client{bob, bob2} {
		c.hears("bob", "bob", "to myself")
	}
	bob.send(`{"content":"into the void","to_user":"nobody"}`)
	bob.hears("bob", "nobody", "into the void")
	bob2.hears("bob", "nobody", "into the void")
	carol.send(`{"content":"end"}`)
	for _, c := range []*client{alice, alice2, bob, bob2, carol} {
		c.hears("carol", "", "end")
	}
	// Not even those of one's own are in a newcomer's history.
	dave := n.dial(t, "dave")
	dave.hears("carol", "", "end")
	dave.want(online("alice"))

	if got, want := n.broker.published(), []string{"event", "event", "event", "task event"}; !slices.Equal(got, want) {
		t.Errorf("published %q, want %q: private talk is not archived", got, want)
	}
}

func TestPrivateMessagesAreArchivedWhenAsked(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.ArchivePrivate = true })
	alice := n.join(t, "alice")
	alice.send(`{"content":"psst","to_user":"bob"}`)
	alice.hears("alice", "bob", "psst")
	if got := n.broker.published(); !slices.Equal(got, []string{"task event"}) {
		t.Errorf("published %q", got)
	}
}

func TestOneStatusForEachChange(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	first, second := n.join(t, "bob"), n.dial(t, "bob")
	alice.want(online("bob"))
	second.want(online("alice"))
	second.want(online("bob"))
	_ = first.Close(1000, "")
	eventually(t, "one session of bob", func() bool { return n.metric(t, "burrow_edge_sessions") == 2 })
	n.Status("alice", true) // No change: nobody hears of it.
	_ = second.Close(1001, "")
	alice.want(offline("bob"))
	if got := n.metric(t, "burrow_edge_closes_total", "1000"); got != 1 {
		t.Errorf("counted %v closes with 1000", got)
	}
}

func TestRepeatedDeliveriesAreShownOnce(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	for range 3 {
		n.Deliver(message(1, "bob", "", "once"))
	}
	n.Deliver(message(2, "bob", "global", "twice"))
	noID := message(3, "bob", "", "no id")
	noID.Id, noID.SentAt = "", nil
	n.Deliver(noID)
	alice.want(`{"id":"` + id(1) + `","sender":"bob","content":"once","to_user":"","sent_at":"2026-01-31T12:00:00.124Z"}`)
	alice.hears("bob", "", "twice")
	if m := alice.hears("bob", "", "no id"); m.ID == "" || m.SentAt == "" {
		t.Errorf("got %+v, want an id and a time", m)
	}
}

func TestAnswersHaveGreaterIDs(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	ahead := uuid.Must(uuid.NewV7())
	ms := time.Now().Add(30 * time.Second).UnixMilli()
	for i := range 6 {
		ahead[i] = byte(ms >> (40 - 8*i))
	}
	question := message(1, "bob", "", "question")
	question.Id = ahead.String()
	n.Deliver(question)
	alice.hears("bob", "", "question")
	alice.send(`{"content":"answer"}`)
	if m := alice.hears("alice", "", "answer"); m.ID <= question.Id {
		t.Errorf("answer has id %s, not greater than %s", m.ID, question.Id)
	}
}

// With 300 users online, one more joins while messages arrive: 20 of history, 200 statuses, then
// live; nothing missing, doubled or out of order.
func TestJoinIsAtomicWithDelivery(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Queue = 65536; c.Edge.MaxConnectionsPerUser = 0 })
	for i := range 300 {
		n.Status(fmt.Sprintf("user%03d", i), true)
	}
	for i := range 20 {
		n.Deliver(message(i, "bot", "", strconv.Itoa(i)))
	}
	var stop atomic.Bool
	var talking sync.WaitGroup
	talking.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := 20; !stop.Load(); i++ {
			n.Deliver(message(i, "bot", "", strconv.Itoa(i)))
			if i%16 == 0 {
				n.Status("zz", i%32 == 0) // After all names of the list.
				<-pace.C
			}
		}
	})
	defer talking.Wait()
	defer stop.Store(true)

	var joining sync.WaitGroup
	for w := range 4 {
		joining.Go(func() {
			for round := range 15 {
				if !checkJoin(n, t, fmt.Sprintf("zoe%d-%d", w, round)) {
					return
				}
			}
		})
	}
	joining.Wait()
}

func checkJoin(n *node, t *testing.T, user string) bool {
	c, _, err := n.tryDial(t, user)
	if err != nil {
		t.Error(err)
		return false
	}
	defer c.CloseNow()
	number := func(frame string) int {
		var m said
		if err := json.Unmarshal([]byte(frame), &m); err != nil || m.Content == "" {
			return -1
		}
		i, _ := strconv.Atoi(m.Content)
		return i
	}
	last := -1
	for i := range 20 {
		frame := c.next()
		if got := number(frame); got < 0 || last >= 0 && got != last+1 {
			t.Errorf("%s: frame %d is %s after message %d", user, i, frame, last)
			return false
		} else {
			last = got
		}
	}
	for i := range 200 {
		if got, want := c.next(), online(fmt.Sprintf("user%03d", i)); got != want {
			t.Errorf("%s: status %d is %s, want %s", user, i, got, want)
			return false
		}
	}
	own := 0
	for live := 0; live < 100; {
		frame := c.next()
		if frame == online(user) {
			own++
		}
		if !strings.Contains(frame, `"content"`) {
			continue
		}
		if got := number(frame); got != last+1 {
			t.Errorf("%s: live message %d after %d", user, got, last)
			return false
		}
		last++
		live++
	}
	if own != 1 {
		// It may come after the hundredth message, never twice.
		for own == 0 {
			if c.next() == online(user) {
				own++
			}
		}
		if own > 1 {
			t.Errorf("%s: own status came %d times", user, own)
		}
	}
	return true
}

func TestNewcomerSeesTheirOwnStatusBeyondTheLimit(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.ListLimit = 2 })
	for _, u := range []string{"a", "b", "c", "zoe"} {
		n.Status(u, true)
	}
	zoe := n.dial(t, "zoe")
	zoe.want(online("a"))
	zoe.want(online("zoe"))
}

func TestRefusedFrames(t *testing.T) {
	long := strings.Repeat("é", 2048)
	for name, tt := range map[string]struct{ frame, code string }{
		"not JSON":                      {`hello`, "bad_frame"},
		"nothing":                       {``, "bad_frame"},
		"cut off":                       {`{"content":"x"`, "bad_frame"},
		"two objects":                   {`{"content":"x"}{"content":"y"}`, "bad_frame"},
		"an array":                      {`["content"]`, "bad_frame"},
		"null":                          {`null`, "bad_frame"},
		"a number":                      {`1e999`, "bad_frame"},
		"no content":                    {`{"to_user":"bob"}`, "bad_frame"},
		"content is null":               {`{"content":null}`, "bad_frame"},
		"content is a number":           {`{"content":7}`, "bad_frame"},
		"content is an object":          {`{"content":{"a":1}}`, "bad_frame"},
		"keys are case-sensitive":       {`{"Content":"x"}`, "bad_frame"},
		"to_user is null":               {`{"content":"x","to_user":null}`, "bad_frame"},
		"to_user is a list":             {`{"content":"x","to_user":["bob"]}`, "bad_frame"},
		"the last of two keys counts":   {`{"content":"x","content":1}`, "bad_frame"},
		"very deep":                     {strings.Repeat("[", 12000), "bad_frame"},
		"deep in a key nobody asks for": {`{"content":" ","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "empty_content"},
		"NUL":                           {`{"content":"a\u0000b"}`, "bad_frame"},
		"escape":                        {`{"content":"a\u001b[2Jb"}`, "bad_frame"},
		"C1 control":                    {`{"content":"a\u0085b"}`, "bad_frame"},
		"empty":                         {`{"content":""}`, "empty_content"},
		"Unicode space":                 {`{"content":" \u3000\u00a0\n\t "}`, "empty_content"},
		"nothing visible":               {`{"content":"\u200b\u2060"}`, "empty_content"},
		"letters that show nothing":     {`{"content":"\u3164\u115f\u2800\ufe0f\u034f"}`, "empty_content"},
		"too long by a byte":            {`{"content":"` + long + `x"}`, "content_too_long"},
		"an impossible name":            {`{"content":"x","to_user":"<b>"}`, "invalid_user"},
		"a name of spaces":              {`{"content":"x","to_user":" "}`, "invalid_user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, nil)
			alice := n.join(t, "alice")
			alice.send(tt.frame)
			alice.fails(tt.code)
			alice.send(`{"content":"` + long + ` \n"}`) // Just fits, after trimming; and we are still there.
			alice.hears("alice", "", long)
		})
	}
}

func TestUnavailableBroker(t *testing.T) {
	n := start(t, nil)
	alice := n.join(t, "alice")
	n.broker.fail(fmt.Errorf("no broker at 10.0.0.1"))
	alice.send(`{"content":"lost?"}`)
	if frame := alice.fails("unavailable"); strings.Contains(frame, "10.0.0.1") {
		t.Errorf("%s tells about the inside", frame)
	}
	n.broker.fail(nil)
	alice.send(`{"content":"found"}`)
	alice.hears("alice", "", "found")
}

func TestRateLimit(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.01, 2 })
	alice := n.join(t, "alice")
	alice.send(`{"content":"1"}`)
	alice.send(`{"content":"2"}`)
	alice.send(`{"content":"3"}`)
	alice.hears("alice", "", "1")
	alice.hears("alice", "", "2")
	frame := alice.fails("rate_limited")
	found := regexp.MustCompile(`"retry_after_ms":(\d+)`).FindStringSubmatch(frame)
	if found == nil {
		t.Fatalf("%s has no retry_after_ms", frame)
	}
	if ms, _ := strconv.Atoi(found[1]); ms < 1 || ms > 100_000 {
		t.Errorf("retry_after_ms is %d, want at most 100 seconds", ms)
	}
	// Whoever goes on all the same is closed.
	for range 5 {
		alice.send(`{"content":"more"}`)
	}
	if frames, _ := alice.closed(4429); len(frames) < 4 {
		t.Errorf("got %d errors before the close, want all that were due", len(frames))
	}
}

func TestRepeatedBadFramesAreClosed(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.01, 3 })
	alice := n.join(t, "alice")
	for range 7 {
		alice.send(`?`)
	}
	frames, _ := alice.closed(4429)
	if len(frames) != 7 || !strings.Contains(frames[0], "bad_frame") || !strings.Contains(frames[6], "rate_limited") {
		t.Errorf("got %q", frames)
	}
}

func TestNoRateLimit(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0, 1 })
	alice := n.join(t, "alice")
	for i := range 200 {
		alice.send(fmt.Sprintf(`{"content":"%d"}`, i))
		alice.hears("alice", "", strconv.Itoa(i))
	}
}
