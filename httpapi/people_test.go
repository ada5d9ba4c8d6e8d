package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"burrow/gen/edge"
	"burrow/httpapi"
)

func activity(away bool) *edge.ClientFrame {
	return &edge.ClientFrame{Frame: &edge.ClientFrame_Activity{Activity: &edge.Activity{Away: away}}}
}

// awaitStatus reads until a status frame has what is asked for.
func (c *v1) awaitStatus(has func(*edge.Status) bool) *edge.Status {
	c.t.Helper()
	for {
		if s := c.next().GetStatus(); s != nil && has(s) {
			return s
		}
	}
}

// A user is away when all their connections are; v1 is told, newcomers too, and plain knows
// nothing of it.
func TestAwayIsTold(t *testing.T) {
	eachEncoding(t, func(t *testing.T, protocol string) {
		n := start(t, nil)
		watch := n.joinV1(t, protocol, "watch")
		plain := n.join(t, "plain")
		one, two := n.joinV1(t, protocol, "alice"), n.joinV1(t, protocol, "alice")
		watch.awaitStatus(func(s *edge.Status) bool { return slices.Contains(s.Online, "alice") })
		one.sendFrame(activity(true))
		one.sendFrame(activity(true)) // Said twice, counted once.
		one.sendFrame(activity(false))
		one.sendFrame(activity(true))
		two.sendFrame(activity(true))
		s := watch.awaitStatus(func(s *edge.Status) bool { return len(s.Away)+len(s.Back) > 0 })
		if !slices.Equal(s.Away, []string{"alice"}) || len(s.Online)+len(s.Offline)+len(s.Back) > 0 || s.Total != 3 {
			t.Errorf("got %v", s)
		}
		_, _, presence := n.dialV1(t, protocol, "late", "").hello()
		if !slices.Equal(presence.Away, []string{"alice"}) || !slices.Contains(presence.Users, "alice") {
			t.Errorf("presence is %v", presence)
		}
		two.sendFrame(activity(false))
		s = watch.awaitStatus(func(s *edge.Status) bool { return len(s.Away)+len(s.Back) > 0 })
		if !slices.Equal(s.Back, []string{"alice"}) || len(s.Away) > 0 {
			t.Errorf("got %v", s)
		}
		// The one that is there ends, and the other is away.
		_ = two.CloseNow()
		watch.awaitStatus(func(s *edge.Status) bool { return slices.Equal(s.Away, []string{"alice"}) })
		_ = one.CloseNow()
		watch.awaitStatus(func(s *edge.Status) bool { return slices.Equal(s.Offline, []string{"alice"}) })
		comes, goes := 0, 0
		for goes == 0 {
			switch plain.next() {
			case `{"client_id":"alice","online":true}`:
				comes++
			case `{"client_id":"alice","online":false}`:
				goes++
			}
		}
		if comes != 1 {
			t.Errorf("plain was told %d times that alice came", comes)
		}
	})
}

func TestUsersAreFoundByName(t *testing.T) {
	n := start(t, func(c *httpapi.Config) { c.ListLimit = 3 })
	watch := n.joinV1(t, v1JSON, "watch")
	names := []string{"Ann", "anna Lee", "Leanne", "Lee-Ann", "Zoë", "STRASSE", "李明", "bob.ann"}
	for _, name := range names {
		n.Status(name, true)
	}
	n.Server.Away("Leanne")
	for i := range 300 {
		n.Status(fmt.Sprintf("user%03d", i), true)
	}
	watch.awaitStatus(func(s *edge.Status) bool { return s.Total == uint32(len(names)+301) })
	type answer struct {
		Users []struct {
			Name string
			Away bool
		}
		Found, Total int
	}
	ask := func(query string) (a answer) {
		t.Helper()
		res, body := n.request(t, "GET", "/api/users"+query, "")
		if err := json.Unmarshal([]byte(body), &a); err != nil || res.StatusCode != 200 || a.Users == nil {
			t.Fatalf("users%s: %d %s: %v", query, res.StatusCode, body, err)
		}
		return a
	}
	for _, tt := range []struct {
		text  string
		found int
		want  []string
	}{
		{"ann", 5, []string{"Ann", "anna Lee", "Lee-Ann", "bob.ann", "Leanne"}},
		{"LEE", 2, []string{"Lee-Ann", "anna Lee"}},
		{"zoë", 1, []string{"Zoë"}},
		{"Zoe\u0308", 1, []string{"Zoë"}},
		{"straße", 1, []string{"STRASSE"}},
		{"明", 1, []string{"李明"}},
		{"r299", 1, []string{"user299"}},
		{"user", 300, []string{"user000", "user001", "user002", "user003", "user004"}},
		{"", len(names) + 301, []string{"Ann", "Leanne", "Lee-Ann", "STRASSE", "Zoë"}},
		{"nobody", 0, nil},
		{"%_*\x00\"'", 0, nil},
	} {
		got := ask("?limit=5&q=" + url.QueryEscape(tt.text))
		var users []string
		for _, u := range got.Users {
			users = append(users, u.Name)
			if u.Away != (u.Name == "Leanne") {
				t.Errorf("%q: %+v", tt.text, u)
			}
		}
		if !slices.Equal(users, tt.want) || got.Found != tt.found || got.Total != len(names)+301 {
			t.Errorf("%q: got %q, %d of %d, want %q, %d", tt.text, users, got.Found, got.Total, tt.want, tt.found)
		}
	}
	if got := len(ask("?q=user").Users); got != 20 {
		t.Errorf("%d without a limit, want 20", got)
	}
	// Who went is not found any more, and who came is.
	n.Status("Ann", false)
	n.Status("Hannes", true)
	watch.awaitStatus(func(s *edge.Status) bool { return slices.Contains(s.Online, "Hannes") })
	if got := ask("?q=ann"); got.Found != 5 || got.Users[4].Name != "Leanne" {
		t.Errorf("got %+v", got)
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?q=%FF", "?q=" + strings.Repeat("a", 600)} {
		if res, body := n.request(t, "GET", "/api/users"+query, ""); res.StatusCode != 400 || errorCode(t, body) != "bad_request" {
			t.Errorf("users%s: %d %s", query, res.StatusCode, body)
		}
	}
	cookie := n.guest("alice")
	if res, body := n.request(t, "GET", "/api/users?q=a", ""); res.StatusCode != 401 {
		t.Errorf("without a session: %d %s", res.StatusCode, body)
	}
	if res, body := n.request(t, "GET", "/api/users?q=a", "", cookie); res.StatusCode != 200 {
		t.Errorf("with a session: %d %s", res.StatusCode, body)
	}
}
