package httpapi_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"burrow/gen/edge"
	"burrow/httpapi"
)

// send returns the body of a POST.
func posted(ref, content, more string) string {
	return fmt.Sprintf(`{"ref":%q,"content":%q%s}`, ref, content, more)
}

func TestPostIsRefused(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.Edge.Rate = 0 })
	listener := n.listen(t, "?client_id=listener")
	long := strings.Repeat("x", 4097)
	for _, tt := range []struct {
		name, body, query string
		headers           []string
		status            int
		code              string
	}{
		{"nothing", "", "", nil, 400, "bad_frame"},
		{"null", "null", "", nil, 400, "bad_frame"},
		{"a list", "[]", "", nil, 400, "bad_frame"},
		{"half of it", `{"ref":`, "", nil, 400, "bad_frame"},
		{"two", posted(ref(1), "x", "") + posted(ref(1), "x", ""), "", nil, 400, "bad_frame"},
		{"brackets", strings.Repeat("[", 10_000), "", nil, 400, "bad_frame"},
		{"not UTF-8", "{\"ref\":\"" + ref(1) + "\",\"content\":\"\xff\"}", "", nil, 400, "bad_frame"},
		{"a frame", `{"send":` + posted(ref(1), "x", "") + `}`, "", nil, 400, "bad_frame"},
		{"no ref", `{"content":"x"}`, "", nil, 400, "bad_frame"},
		{"a ref that is none", posted("1", "x", ""), "", nil, 400, "bad_frame"},
		{"content that is a number", `{"ref":"` + ref(1) + `","content":1}`, "", nil, 400, "bad_frame"},
		{"content twice", `{"ref":"` + ref(1) + `","content":"a","content":"b"}`, "", nil, 400, "bad_frame"},
		{"to_user that is a list", posted(ref(1), "x", `,"to_user":["bob"]`), "", nil, 400, "bad_frame"},
		{"control characters", posted(ref(1), "a\x1b[2J", ""), "", nil, 400, "bad_frame"},
		{"nothing to see", posted(ref(1), " \u200b\n", ""), "", nil, 400, "empty_content"},
		{"too long", posted(ref(1), long, ""), "", nil, 413, "content_too_long"},
		{"far too long", posted(ref(1), strings.Repeat(long, 10), ""), "", nil, 413, "too_large"},
		{"to nobody's name", posted(ref(1), "x", `,"to_user":"-"`), "", nil, 400, "invalid_user"},
		{"as nobody", posted(ref(1), "x", ""), "?", nil, 400, "invalid_client_id"},
		{"as nobody's name", posted(ref(1), "x", ""), "?client_id=-", nil, 400, "invalid_client_id"},
		{"a form", posted(ref(1), "x", ""), "", []string{"Content-Type: text/plain"}, 415, "not_json"},
		{"no type", posted(ref(1), "x", ""), "", []string{}, 415, "not_json"},
		{"two types", posted(ref(1), "x", ""), "", []string{"Content-Type: text/plain, application/json"}, 415, "not_json"},
		{"another site", posted(ref(1), "x", ""), "", []string{jsonBody, "Origin: https://evil.example"}, 403, "foreign_origin"},
		{"a hidden site", posted(ref(1), "x", ""), "", []string{jsonBody, "Origin: null"}, 403, "foreign_origin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.query == "" {
				tt.query = "?client_id=alice"
			}
			if tt.headers == nil {
				tt.headers = []string{jsonBody}
			}
			for _, path := range []string{"/api/messages", "/api/typing"} {
				res, body := n.request(t, http.MethodPost, path+tt.query, tt.body, tt.headers...)
				if path == "/api/typing" && res.StatusCode == http.StatusOK {
					continue // It has fewer fields.
				}
				if res.StatusCode != tt.status || errorCode(t, body) != tt.code {
					t.Errorf("%s: got %d %s, want %d %s", path, res.StatusCode, body, tt.status, tt.code)
				}
			}
		})
	}
	if published := n.broker.published(); strings.Contains(strings.Join(published, " "), "Archive") {
		t.Errorf("published %q", published)
	}
	n.post(t, "alice", ref(2), "fine")
	listener.hears("fine")

	guest := start(t, nil)
	cookie := guest.guest("alice", "bob")
	for _, headers := range [][]string{{jsonBody}, {jsonBody, "Cookie: burrow_session=made-up"}} {
		if res, body := guest.request(t, http.MethodPost, "/api/messages?client_id=alice", posted(ref(1), "x", ""), headers...); res.StatusCode != 401 {
			t.Errorf("%q: got %d %s", headers, res.StatusCode, body)
		}
	}
	// A page of alice whose cookie is that of bob by now, who has signed in in another tab.
	for _, path := range []string{"/api/messages", "/api/typing"} {
		res, body := guest.request(t, http.MethodPost, path+"?client_id=alice", posted(ref(1), "x", ""), jsonBody, "Cookie: burrow_session=cookie-of-bob")
		if res.StatusCode != 403 || errorCode(t, body) != "forbidden" {
			t.Errorf("%s with the cookie of another one: got %d %s", path, res.StatusCode, body)
		}
	}
	bob := guest.listen(t, "", "Cookie: burrow_session=cookie-of-bob")
	if res, body := guest.request(t, http.MethodPost, "/api/messages?client_id=alice", posted(ref(1), "it is me", `,"sender":"bob"`), jsonBody, cookie); res.StatusCode != 200 {
		t.Errorf("alice is refused: %d %s", res.StatusCode, body)
	}
	if c := bob.hears("it is me"); c.GetSender() != "alice" {
		t.Errorf("it was said by %s", c.GetSender())
	}
}

func TestPostHasItsLimits(t *testing.T) {
	// Tokens do not come back during the test.
	n := start(t, func(c *httpapi.Config) {
		c.Edge.Rate, c.Edge.Burst, c.Edge.UpgradeRate, c.Edge.UpgradeBurst = 0.001, 3, 0.001, 4
	})
	post := func(user, content string) (int, string, string) {
		t.Helper()
		res, body := n.request(t, http.MethodPost, "/api/messages?client_id="+user, posted(ref(1), content, ""), jsonBody)
		if res.StatusCode == 200 {
			return 200, "", ""
		}
		return res.StatusCode, errorCode(t, body), res.Header.Get("Retry-After")
	}
	for i := range 3 {
		if status, code, _ := post("alice", fmt.Sprint(i)); status != 200 {
			t.Fatalf("message %d: %d %s", i, status, code)
		}
	}
	if status, code, retry := post("alice", "3"); status != 429 || code != "rate_limited" || retry == "" {
		t.Errorf("over the rate: %d %s, Retry-After %q", status, code, retry)
	}
	// Other names, where one has any name one likes, are other connections of the address.
	for i := range 3 {
		if status, code, _ := post(fmt.Sprintf("alice%d", i), "x"); status != 200 {
			t.Errorf("user %d: %d %s", i, status, code)
		}
	}
	if status, code, _ := post("alice4", "x"); status != 429 || code != "rate_limited" {
		t.Errorf("one name too many: %d %s", status, code)
	}

	// Whoever sends nonsense is not read for long.
	clumsy := start(t, func(c *httpapi.Config) { c.Edge.Rate, c.Edge.Burst = 0.001, 1000 })
	read := 0
	for range 3000 {
		res, body := clumsy.request(t, http.MethodPost, "/api/messages?client_id=alice", "{", jsonBody)
		if res.StatusCode == 429 {
			break
		}
		if read++; errorCode(t, body) != "bad_frame" {
			t.Fatalf("got %s", body)
		}
		if read > 1500 {
			t.Fatal("nonsense is read without end")
		}
	}
}

// A broker that is away, a server that stops and a client that goes are answered, and change nothing.
func TestPostInBadTimes(t *testing.T) {
	n := start(t, nil)
	n.broker.fail(errors.New("away"))
	res, body := n.request(t, http.MethodPost, "/api/messages?client_id=alice", posted(ref(1), "x", ""), jsonBody)
	if res.StatusCode != 503 || errorCode(t, body) != "unavailable" {
		t.Errorf("without a broker: %d %s", res.StatusCode, body)
	}
	n.broker.fail(nil)
	n.broker.mu.Lock()
	n.broker.hold, n.broker.held = make(chan struct{}), make(chan struct{}, 100)
	n.broker.mu.Unlock()
	var waiting sync.WaitGroup
	for i := range 4 {
		waiting.Go(func() { n.post(t, "alice", ref(10+i), "slow") })
	}
	eventually(t, "four are waiting", func() bool { return httpapi.Posting(n.Server, "alice") == 4 })
	<-n.broker.held
	if res, body := n.request(t, http.MethodPost, "/api/messages?client_id=alice", posted(ref(20), "x", ""), jsonBody); res.StatusCode != 429 {
		t.Errorf("too many at once: %d %s", res.StatusCode, body)
	}
	close(n.broker.hold)
	waiting.Wait()
}

func TestPostTyping(t *testing.T) {
	n := start(t, nil)
	bob := n.listen(t, "?client_id=bob")
	bob.next()
	if res, body := n.request(t, http.MethodPost, "/api/typing?client_id=alice", `{"to_user":"bob"}`, jsonBody); res.StatusCode != 200 || body != "{}" {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	for {
		if typing := bob.next().GetTyping(); typing != nil {
			if typing.GetClientId() != "alice" || typing.GetToUser() != "bob" {
				t.Errorf("bob is told %v", typing)
			}
			return
		}
	}
}

// foundUsers is the answer of /api/users.
type foundUsers struct {
	Users []struct {
		Name string
		Away bool
	}
	Found int
}

// people asks who is online and has q in the name.
func (n *node) people(t *testing.T, q string) (found foundUsers) {
	t.Helper()
	res, body := n.request(t, http.MethodGet, "/api/users?q="+q, "")
	if err := json.Unmarshal([]byte(body), &found); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s: %v", res.StatusCode, body, err)
	}
	return found
}

func TestPostActivity(t *testing.T) {
	n := start(t, nil)
	bob := n.listen(t, "?client_id=bob")
	bob.next()
	one := n.listen(t, "?client_id=alice&stream="+ref(1))
	other := n.listen(t, "?client_id=alice&stream="+strings.ToUpper(ref(2)))
	one.next()
	other.next()
	post := func(query, body string) (int, string) {
		t.Helper()
		res, answer := n.request(t, http.MethodPost, "/api/activity?"+query, body, jsonBody)
		return res.StatusCode, answer
	}
	say := func(stream string, away bool) {
		t.Helper()
		eventually(t, "the stream is there", func() bool {
			code, body := post("client_id=alice&stream="+stream, fmt.Sprintf(`{"away":%t}`, away))
			if code != 200 && code != 503 {
				t.Fatalf("got %d %s", code, body)
			}
			return code == 200
		})
	}
	told := func(list func(*edge.Status) []string) {
		t.Helper()
		for !slices.Contains(list(bob.next().GetStatus()), "alice") {
		}
	}
	away := func() bool { u := n.people(t, "alice").Users; return len(u) == 1 && u[0].Away }
	told((*edge.Status).GetOnline)
	say(ref(1), true)
	if away() {
		t.Error("alice is away although one of her streams is not")
	}
	say(ref(2), true)
	told((*edge.Status).GetAway)
	say(ref(1), false)
	told((*edge.Status).GetBack)

	// Of others, and of nobody.
	for query, want := range map[string]int{
		"client_id=bob&stream=" + ref(1):   503,
		"client_id=alice&stream=" + ref(9): 503,
		"client_id=alice&stream=x":         400,
		"client_id=alice":                  400,
		"stream=" + ref(1):                 400,
	} {
		if code, body := post(query, `{"away":true}`); code != want {
			t.Errorf("%s: got %d %s, want %d", query, code, body, want)
		}
	}
	if res, body := n.request(t, http.MethodGet, "/events?client_id=alice&stream=x", ""); res.StatusCode != 400 {
		t.Errorf("a stream called x: got %d %s", res.StatusCode, body)
	}
	if away() {
		t.Error("alice is away by the word of somebody else")
	}

	// A stream that ends while it is away is not away any more.
	other.cancel()
	one.cancel()
	told((*edge.Status).GetOffline)
	n.listen(t, "?client_id=alice&stream="+ref(1)).next()
	told((*edge.Status).GetOnline)
	if away() {
		t.Error("alice is away because an earlier stream was")
	}
}

// The time that the body of a request takes is part of its bound: its answer would come when nobody can
// write it any more.
func TestSlowBodiesAreAnsweredInTime(t *testing.T) {
	t.Parallel()
	const bound, late = 12 * time.Second, 10 * time.Second
	n := prepare(t, nil)
	httpapi.SetPostTimeout(n.Server, bound)
	n.run(t)
	if err := n.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.holdPublishes()()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := posted(ref(1), "slow", "")
	began := time.Now()
	fmt.Fprintf(conn, "POST /api/messages?client_id=alice HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	eventually(t, "it is being read", func() bool { return httpapi.Posting(n.Server, "alice") == 1 })
	<-time.After(late) // What takes time is what is tested.
	fmt.Fprint(conn, body)
	_ = conn.SetReadDeadline(began.Add(patience))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	// A bound that began after the body would end later than both together, on any machine.
	if took := time.Since(began); res.StatusCode != 503 || took >= bound+late {
		t.Errorf("%d after %s, want 503 after %s", res.StatusCode, took, bound)
	}
}
