package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"burrow/httpapi"
)

// polled asks for the events of a stream, and returns the status and the events.
func (n *node) polled(t *testing.T, stream, query string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.Addr()+"/events?client_id=ada&stream="+stream+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.ContentLength != int64(len(body)) {
		t.Errorf("a proxy cannot know the end: length %d of %d", res.ContentLength, len(body))
	}
	return res.StatusCode, string(body)
}

// until polls until the events so far have text, and returns them.
func (n *node) until(t *testing.T, stream, query, text string) string {
	t.Helper()
	var all string
	eventually(t, "the events have "+text, func() bool {
		status, events := n.polled(t, stream, query)
		if status != 200 || !strings.HasSuffix(events, "\n\n") {
			t.Fatalf("%d %s", status, events)
		}
		all += events
		return strings.Contains(all, text)
	})
	return all
}

func TestPoll(t *testing.T) {
	n := start(t, nil)
	stream := uuid.NewString()
	all := n.until(t, stream, "&poll=0", `"presence"`)
	if strings.Count(all, `"welcome"`) != 1 {
		t.Errorf("the session begins with %s", all)
	}
	var writer sync.WaitGroup
	writer.Go(func() { n.Deliver(message(1, "bob", "", "while it waits")) })
	all = n.until(t, stream, "&poll=20000", "while it waits")
	writer.Wait()
	n.Deliver(message(2, "bob", "", "between two polls"))
	all += n.until(t, stream, "&poll=0", "between two polls")
	if strings.Contains(all, `"welcome"`) || strings.Count(all, "id: ") != 2 {
		t.Errorf("the session went on with %s", all)
	}
	if got := n.metric(t, "burrow_edge_sessions"); got > 1 {
		t.Errorf("%v sessions", got)
	}
	if status, events := n.polled(t, stream, "&poll=0"); status != 200 || events != ":\n\n" {
		t.Errorf("nothing new: %d %q", status, events)
	}
	for query, want := range map[string]int{"&poll=": 400, "&poll=-1": 400, "&poll=x": 400, "&poll=99999999999": 400} {
		if status, _ := n.polled(t, stream, query); status != want {
			t.Errorf("%s: %d, want %d", query, status, want)
		}
	}
	if status, _ := n.polled(t, "", "&poll=0"); status != 400 {
		t.Errorf("without a stream: %d", status)
	}
}

// TestPoll_Resume polls at another node, which does not have the session.
func TestPoll_Resume(t *testing.T) {
	one, two := start(t, nil), start(t, nil)
	stream := uuid.NewString()
	first := message(1, "bob", "", "seen")
	for _, n := range []*node{one, two} {
		n.Deliver(first)
	}
	one.until(t, stream, "&poll=0", `"presence"`)
	two.Deliver(message(2, "bob", "", "missed"))
	all := two.until(t, stream, "&poll=0&since="+first.Id, `"presence"`)
	if !strings.Contains(all, "missed") || !strings.Contains(all, `"recovered":true`) {
		t.Errorf("the other node says %s", all)
	}
}

// TestPoll_Shutdown ends sessions without a request, and refuses one too many.
func TestPoll_Shutdown(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.MaxConnectionsPerUser = 2 })
	idle, waiting := uuid.NewString(), uuid.NewString()
	n.until(t, idle, "&poll=0", `"presence"`)
	n.until(t, waiting, "&poll=0", `"presence"`)
	if all := n.until(t, uuid.NewString(), "&poll=0", "event: close"); !strings.Contains(all, "1013") {
		t.Errorf("over the limit: %s", all)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPoll_PerAddress(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.HTTP.MaxConnectionsPerAddress, c.Edge.MaxConnectionsPerUser = 8, 0 })
	for range 8 {
		n.until(t, uuid.NewString(), "&poll=0", `"presence"`)
	}
	if status, _ := n.polled(t, uuid.NewString(), "&poll=0"); status != 429 {
		t.Errorf("over the limit: %d", status)
	}
}

// TestPoll_LostAnswer sends a request again, as a browser does if the answer was lost on the way.
func TestPoll_LostAnswer(t *testing.T) {
	n := start(t, nil)
	stream := uuid.NewString()
	n.Deliver(message(1, "bob", "", "seen"))
	n.until(t, stream, "&poll=0", `"presence"`)
	n.Deliver(message(2, "bob", "", "lost"))
	n.until(t, stream, "&poll=20000&number=7&since="+id(1), "lost")
	again := n.until(t, stream, "&poll=20000&number=7&since="+id(1), `"presence"`)
	if !strings.Contains(again, "lost") || !strings.Contains(again, `"recovered":true`) {
		t.Errorf("the request again gets %s", again)
	}
	n.Deliver(message(3, "bob", "", "next"))
	if all := n.until(t, stream, "&poll=20000&number=8&since="+id(2), "next"); strings.Contains(all, `"welcome"`) {
		t.Errorf("the next request gets %s", all)
	}
	eventually(t, "one session is left", func() bool { return n.metric(t, "burrow_edge_sessions") == 1 })
}

// TestPoll_LongEvent polls for an event longer than what a session may keep.
func TestPoll_LongEvent(t *testing.T) {
	n := start(t, nil)
	stream := uuid.NewString()
	n.until(t, stream, "&poll=0", `"presence"`)
	long := strings.Repeat("x", 300<<10)
	n.Deliver(message(1, "bob", "", long))
	n.until(t, stream, "&poll=20000", long)
}

// TestPoll_Leave ends a session at once, of the user who asks for it.
func TestPoll_Leave(t *testing.T) {
	n := start(t, nil)
	stream := uuid.NewString()
	n.until(t, stream, "&poll=0", `"presence"`)
	leave := func(user, stream string) int {
		res, _ := n.request(t, "POST", "/api/activity?leave=1&client_id="+user+"&stream="+stream, `{"away":true}`, "Content-Type: application/json")
		return res.StatusCode
	}
	if status := leave("mallory", stream); status != 503 || n.metric(t, "burrow_edge_sessions") != 1 {
		t.Errorf("another user: %d", status)
	}
	if status := leave("ada", uuid.NewString()); status != 503 {
		t.Errorf("another stream: %d", status)
	}
	if status := leave("ada", stream); status != 200 {
		t.Errorf("leave: %d", status)
	}
	eventually(t, "the session has ended", func() bool { return n.metric(t, "burrow_edge_sessions") == 0 })
}
