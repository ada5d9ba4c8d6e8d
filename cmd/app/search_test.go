package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"burrow/store/storetest"
)

// search looks for text and returns what was said, newest first, and how many messages are not
// searched yet.
func (p *person) search(addr, text, with string) (found []string, behind int) {
	p.t.Helper()
	res, err := p.http.Get("http://" + addr + "/api/search?" + url.Values{"q": {text}, "with": {with}, "client_id": {p.name}}.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var page struct {
		Messages []frame
		Behind   int
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("search: status %d, %v", res.StatusCode, err)
	}
	for _, m := range page.Messages {
		found = append(found, m.Content)
	}
	return found, page.Behind
}

// TestSearch looks for what was said through the whole program: who sees what, and that no
// text of anybody is more than a text.
func TestSearch(t *testing.T) {
	in := install(t, embedded, "BURROW_STORE_ARCHIVE_PRIVATE=true")
	addr := in.start(t).addr
	alice, bob, carol := signIn(t, addr, "alice"), signIn(t, addr, "bob"), signIn(t, addr, "carol")
	a, b := alice.dial(addr), bob.dial(addr)
	said := []string{"the badger digs for all", "a badger for bob", "a badger for alice"}
	a.send("", said[0])
	a.send("bob", said[1])
	b.send("alice", said[2])
	in.archive(t).comesToHold(said...)
	eventually(t, patience, "everything is found", func() bool {
		_, behind := alice.search(addr, "x", "")
		return behind == 0
	})
	for _, tt := range []struct {
		who        *person
		text, with string
		want       []string
	}{
		{alice, "badger", "", said},
		{bob, "BADGER", "", said},
		{carol, "badger", "", said[:1]},
		{alice, "badger", "global", said[:1]},
		{bob, "badger", "alice", said[1:]},
		{carol, "badger", "alice", nil},
		{bob, `"badger for"`, "", said[1:]},
		{bob, "dig", "", said[:1]},
	} {
		got, _ := tt.who.search(addr, tt.text, tt.with)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(tt.want))
		if !slices.Equal(got, want) {
			t.Errorf("%s looks for %q with %q: got %q, want %q", tt.who.name, tt.text, tt.with, got, want)
		}
	}
	for _, text := range append(storetest.Texts, strings.Repeat("🎉", 10<<8), strings.Repeat("%", 10<<10)) {
		res, err := alice.http.Get("http://" + addr + "/api/search?q=" + url.QueryEscape(text))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusBadRequest {
			t.Errorf("%.40q: status %d, %s, %v", text, res.StatusCode, body, err)
		}
	}
}
