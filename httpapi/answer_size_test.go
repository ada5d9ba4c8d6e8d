package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"burrow/gen/chat"
	"burrow/httpapi"
)

// TestHistory_Bytes pages through messages that double in JSON: a page is bounded in bytes, has_more is
// true, and paging finds every message, backwards, forwards and around one.
func TestHistory_Bytes(t *testing.T) {
	const messages = 105
	quotes := strings.Repeat(`"`, 4090)
	n := start(t, nil)
	for i := range messages {
		n.Deliver(message(i, "bot", "", quotes))
	}
	page := func(query string) (ids []string, more bool) {
		t.Helper()
		res, body := n.request(t, http.MethodGet, "/api/history?limit=100"+query, "")
		if res.StatusCode != 200 || len(body) > 64<<10 {
			t.Fatalf("%s: %d, %d bytes", query, res.StatusCode, len(body))
		}
		var p struct {
			Messages []said
			HasMore  bool `json:"has_more"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Messages {
			ids = append(ids, m.ID)
		}
		return ids, p.HasMore
	}
	for _, way := range []string{"before", "after"} {
		bound, found := "", map[string]bool{}
		if way == "after" {
			bound = "&after=" + id(0)
			found[id(0)] = true
		}
		for more := true; more; {
			var ids []string
			ids, more = page(bound)
			if len(ids) == 0 {
				t.Fatalf("%s: an empty page", way)
			}
			for _, id := range ids {
				found[id] = true
			}
			bound = "&before=" + ids[0]
			if way == "after" {
				bound = "&after=" + ids[len(ids)-1]
			}
		}
		if len(found) != messages {
			t.Errorf("%s: %d messages were found, want %d", way, len(found), messages)
		}
	}
	ids, more := page("&around=" + id(50))
	if !strings.Contains(strings.Join(ids, " "), id(50)) || !more {
		t.Errorf("around: %q, has_more %v", ids, more)
	}
}

// TestHistory_LargeAnswersCount counts a large page as several for the limit of an address.
func TestHistory_LargeAnswersCount(t *testing.T) {
	answered := map[int]int{}
	for _, size := range []int{10, 4000} {
		n := start(t, nil)
		httpapi.SetHistoryBurst(n.Server, 20)
		for i := range 100 {
			var msg *chat.ChatMessage = message(i, "bot", "", strings.Repeat("x", size))
			n.Deliver(msg)
		}
		for {
			res, body := n.request(t, http.MethodGet, fmt.Sprint("/api/history?limit=", min(100, 40000/size)), "")
			if res.StatusCode == 429 {
				break
			}
			if res.StatusCode != 200 || answered[size] > 20 {
				t.Fatalf("%d %.100s", res.StatusCode, body)
			}
			answered[size]++
		}
	}
	if answered[4000] >= answered[10] || answered[4000] > 5 {
		t.Errorf("pages answered by size of a message: %v", answered)
	}
}
