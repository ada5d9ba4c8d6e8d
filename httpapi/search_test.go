package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"burrow/gen/chat"
	"burrow/httpapi"
)

// fakeSearcher finds what it is given.
type fakeSearcher func(ctx context.Context, q httpapi.SearchQuery) (httpapi.SearchHits, error)

func (f fakeSearcher) Search(ctx context.Context, q httpapi.SearchQuery) (httpapi.SearchHits, error) {
	return f(ctx, q)
}

// found is an answer of /api/search.
type found struct {
	Messages []struct {
		said
		Marks [][2]int `json:"marks"`
	} `json:"messages"`
	HasMore bool `json:"has_more"`
	Behind  int  `json:"behind"`
}

func TestSearchAsksForWhatOneMaySee(t *testing.T) {
	var mu sync.Mutex
	var asked []httpapi.SearchQuery
	n := start(t, func(c *httpapi.Config) {
		c.Search = fakeSearcher(func(_ context.Context, q httpapi.SearchQuery) (httpapi.SearchHits, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, q)
			return httpapi.SearchHits{}, nil
		})
	})
	check := func(query string, want httpapi.SearchQuery, headers ...string) {
		t.Helper()
		res, body := n.request(t, "GET", "/api/search"+query, "", headers...)
		if res.StatusCode != 200 || body != `{"messages":[],"has_more":false,"behind":0}` {
			t.Fatalf("search%s: %d %s", query, res.StatusCode, body)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := asked[len(asked)-1]; got != want {
			t.Errorf("search%s: asked for %+v, want %+v", query, got, want)
		}
	}
	check("?q=a", httpapi.SearchQuery{Text: "a", Limit: 50})
	check("?q=a+b&limit=7&before="+strings.ToUpper(id(9)), httpapi.SearchQuery{Text: "a b", Limit: 7, Before: id(9)})
	check("?q=a&client_id=alice", httpapi.SearchQuery{Text: "a", Limit: 50, User: "alice"})
	check("?q=a&client_id=alice&with=bob", httpapi.SearchQuery{Text: "a", Limit: 50, User: "alice", With: "bob"})
	check("?q=a&with=global", httpapi.SearchQuery{Text: "a", Limit: 50, Everyone: true})
	cookie := n.guest("alice")
	check("?q=a", httpapi.SearchQuery{Text: "a", Limit: 50, User: "alice"}, cookie)
	check("?q=a&client_id=alice", httpapi.SearchQuery{Text: "a", Limit: 50, User: "alice"}, cookie)

	for query, want := range map[string]string{
		"?q=a":                                "401 no_session",
		"?q=a&client_id=alice":                "401 no_session",
		"?q=a&client_id=bob " + cookie:        "403 forbidden",
		"?q=a&limit=0 " + cookie:              "400 bad_request",
		"?q=a&limit=101 " + cookie:            "400 bad_request",
		"?q=a&before=x " + cookie:             "400 bad_request",
		"?q=a&after=" + id(1) + " " + cookie:  "400 bad_request",
		"?q=a&around=" + id(1) + " " + cookie: "400 bad_request",
		"?q=%FF " + cookie:                    "400 bad_request",
		"?q=a&with=%3Cb%3E " + cookie:         "400 invalid_user",
	} {
		query, header, signedIn := strings.Cut(query, " ")
		headers := []string{header}
		if !signedIn {
			headers = nil
		}
		res, body := n.request(t, "GET", "/api/search"+query, "", headers...)
		if got := fmt.Sprint(res.StatusCode, " ", errorCode(t, body)); got != want {
			t.Errorf("search%s: %s, want %s", query, got, want)
		}
	}
}

// Marks count as scripts of a page do, and what is marked is text whatever it looks like.
func TestSearchMarksCountAsPagesDo(t *testing.T) {
	content := `<b>é🎉 word</b> "日本" word`
	var marks [][2]int
	for at := 0; ; {
		i := strings.Index(content[at:], "word")
		if i < 0 {
			break
		}
		marks = append(marks, [2]int{at + i, at + i + 4})
		at += i + 4
	}
	n := start(t, func(c *httpapi.Config) {
		c.Search = fakeSearcher(func(context.Context, httpapi.SearchQuery) (httpapi.SearchHits, error) {
			return httpapi.SearchHits{
				Messages: []*chat.ChatMessage{message(2, "bob", "alice", content), message(1, "bob", "", "none")},
				Marks:    [][][2]int{marks, nil}, HasMore: true, Behind: 3,
			}, nil
		})
	})
	res, body := n.request(t, "GET", "/api/search?q=word&client_id=alice", "")
	var got found
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 || len(got.Messages) != 2 {
		t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	if !got.HasMore || got.Behind != 3 || got.Messages[0].ToUser != "alice" || !reflect.DeepEqual(got.Messages[1].Marks, [][2]int{}) {
		t.Errorf("got %+v", got)
	}
	units := utf16.Encode([]rune(got.Messages[0].Content))
	for _, m := range got.Messages[0].Marks {
		if piece := string(utf16.Decode(units[m[0]:m[1]])); piece != "word" {
			t.Errorf("%v marks %q", m, piece)
		}
	}
	if len(got.Messages[0].Marks) != 2 {
		t.Errorf("marks %v", got.Messages[0].Marks)
	}
}

func TestSearchThatFails(t *testing.T) {
	var err error
	n := start(t, func(c *httpapi.Config) {
		c.Search = fakeSearcher(func(context.Context, httpapi.SearchQuery) (httpapi.SearchHits, error) {
			return httpapi.SearchHits{}, err
		})
	})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: too long", httpapi.ErrBadSearch), "400 bad_request"},
		{context.DeadlineExceeded, "503 unavailable"},
		{errors.New("disk"), "503 unavailable"},
	} {
		err = tt.err
		res, body := n.request(t, "GET", "/api/search?q=x", "")
		if got := fmt.Sprint(res.StatusCode, " ", errorCode(t, body)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.err, got, tt.want)
		}
	}
	none := start(t, nil)
	if res, body := none.request(t, "GET", "/api/search?q=x", ""); res.StatusCode != 503 {
		t.Errorf("without an archive: %d %s", res.StatusCode, body)
	}
}

// A crowd that searches waits for its turn, two at a time, and those who search all the
// time are told to wait.
func TestSearchesAreFew(t *testing.T) {
	begun, end := make(chan int, 1000), make(chan struct{})
	var mu sync.Mutex
	running, most := 0, 0
	count := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		running += by
		most = max(most, running)
	}
	n := start(t, func(c *httpapi.Config) {
		c.Search = fakeSearcher(func(ctx context.Context, _ httpapi.SearchQuery) (httpapi.SearchHits, error) {
			count(1)
			defer count(-1)
			begun <- 1
			select {
			case <-end:
			case <-ctx.Done():
			}
			return httpapi.SearchHits{}, ctx.Err()
		})
	})
	httpapi.SetSearchBurst(n.Server, 200)
	statuses := make(chan int, 10)
	for range cap(statuses) {
		go func() {
			res, _ := n.request(t, "GET", "/api/search?q=x", "")
			statuses <- res.StatusCode
		}()
	}
	<-begun
	<-begun
	close(end)
	for range cap(statuses) {
		if status := <-statuses; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if most != 2 {
		t.Errorf("%d at the same time, want 2", most)
	}
	limited := 0
	for range 500 {
		res, _ := n.request(t, "GET", "/api/search?q=x", "")
		if res.StatusCode == 429 && res.Header.Get("Retry-After") != "" {
			limited++
			break
		}
	}
	if limited == 0 || n.metric(t, "burrow_edge_limited_total", "searches") == 0 {
		t.Error("nobody was told to wait")
	}
}

// A page without messages is a list all the same, as scripts expect.
func TestHistoryAroundNothing(t *testing.T) {
	n := start(t, nil)
	for _, query := range []string{"", "?around=" + id(1), "?after=" + id(1), "?client_id=alice&with=bob&around=" + id(1)} {
		if res, body := n.request(t, "GET", "/api/history"+query, ""); res.StatusCode != 200 || !strings.HasPrefix(body, `{"messages":[],"has_more":false`) {
			t.Errorf("history%s: %d %s", query, res.StatusCode, body)
		}
	}
}

func TestHistoryAroundAMessage(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.History.Buffer = 10 })
	for i := range 100 {
		m := message(i+1, "bot", "", fmt.Sprint(i+1))
		if i < 95 {
			n.archive.add(m)
		}
		if i >= 85 {
			n.Deliver(m)
		}
	}
	for _, tt := range []struct {
		query        string
		from, to     int
		older, newer bool
	}{
		{"?limit=5&around=" + id(50), 48, 52, true, true},
		{"?limit=4&around=" + id(50), 48, 51, true, true},
		{"?limit=1&around=" + id(50), 50, 50, true, true},
		{"?limit=5&around=" + id(1), 1, 5, false, true},
		{"?limit=5&around=" + id(2), 1, 5, false, true},
		{"?limit=5&around=" + id(100), 96, 100, true, false},
		{"?limit=5&around=" + id(99), 96, 100, true, false},
		{"?limit=6&around=" + id(93), 90, 95, true, true},
		{"?limit=4&around=" + strings.ToUpper(id(500)), 97, 100, true, false},
		{"?limit=100&around=" + id(50), 1, 100, false, false},
	} {
		res, body := n.request(t, "GET", "/api/history"+tt.query, "")
		var p struct {
			page
			HasNewer *bool `json:"has_newer"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode != 200 || p.HasNewer == nil {
			t.Errorf("history%s: %d %s: %v", tt.query, res.StatusCode, body, err)
			continue
		}
		var got []string
		for _, m := range p.Messages {
			got = append(got, m.Content)
		}
		if want := numbers(tt.from, tt.to); !slices.Equal(got, want) || p.HasMore != tt.older || *p.HasNewer != tt.newer {
			t.Errorf("history%s: got %v, older %v, newer %v; want %v", tt.query, got, p.HasMore, *p.HasNewer, tt)
		}
	}
	if got, more := contents(t, n, "?limit=3&after="+id(50)); !slices.Equal(got, numbers(51, 53)) || !more {
		t.Errorf("after: got %v, more %v", got, more)
	}
	if got, more := contents(t, n, "?limit=3&after="+id(98)); !slices.Equal(got, numbers(99, 100)) || more {
		t.Errorf("after: got %v, more %v", got, more)
	}
	for _, q := range []url.Values{{"before": {id(1)}, "after": {id(1)}}, {"around": {id(1)}, "after": {id(1)}}, {"around": {"x"}}, {"after": {"x"}}} {
		if res, body := n.request(t, "GET", "/api/history?"+q.Encode(), ""); res.StatusCode != 400 || errorCode(t, body) != "bad_request" {
			t.Errorf("%v: %d %s", q, res.StatusCode, body)
		}
	}
}
