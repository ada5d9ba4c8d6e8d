package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"burrow/store"
)

// Indexed waits until everything that is archived is found by search.
func Indexed(t testing.TB, s *store.Store) {
	t.Helper()
	for {
		hits, err := s.Search(t.Context(), store.SearchQuery{Text: "x", Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if hits.Behind == 0 {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended before the index had everything")
		}
	}
}

// find returns the contents that are found, newest first.
func find(t *testing.T, s *store.Store, q store.SearchQuery) (found []string) {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	hits, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatalf("%q: %v", q.Text, err)
	}
	for _, h := range hits.Hits {
		found = append(found, h.Message.GetContent())
	}
	return found
}

func searchFinds(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	said := []string{
		"Good morning, Vietnam", "the morning after", "good evening", "Caffè e cornetti", "naïve café owners",
		"STRASSE und Straße", "今日は日本語を勉強します", "東京タワーに行きました", "ｶﾀｶﾅとひらがな", "안녕하세요 여러분",
		"สวัสดีชาวโลก", "party 🎉🎉 tonight", "👩‍💻 at work", "👍🏽 agreed", "see https://example.com/a?b=c#d",
		"x = a AND b OR NOT c*", "it costs €5", "Привет, Ёлка", "שָׁלוֹם לכם", "tab\tand\nline", "e-mail me at a.b@example.com",
		"<b>bold</b> & <script>", "ﬁne ﬁsh", "1234567890", strings.Repeat("long", 100) + "word", "v1.2.3", "c++", "nul\x00byte",
	}
	for _, text := range said {
		must(t, s.Append(t.Context(), NewMessage("alice", "", text)))
	}
	Indexed(t, s)
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"morning", []string{"the morning after", "Good morning, Vietnam"}},
		{"GOOD", []string{"good evening", "Good morning, Vietnam"}},
		{"vietnam good", []string{"Good morning, Vietnam"}},
		{`"good morning"`, []string{"Good morning, Vietnam"}},
		{`"morning good"`, nil},
		{`"good morn`, []string{"Good morning, Vietnam"}},
		{"good morn", []string{"Good morning, Vietnam"}},
		{"morn good", nil},  // Only the last word may be half of one.
		{"good morn ", nil}, // And it is over now.
		{"orning", nil},
		{"g", nil},
		{"c", []string{"c++", "x = a AND b OR NOT c*", "see https://example.com/a?b=c#d"}}, // One letter is a whole word.
		{"cafe", []string{"naïve café owners"}},
		{"CAFFE", []string{"Caffè e cornetti"}},
		{"strasse", []string{"STRASSE und Straße"}},
		{"елка", []string{"Привет, Ёлка"}},
		{"שלום", []string{"שָׁלוֹם לכם"}},
		{"fine", []string{"ﬁne ﬁsh"}},
		{"日本", []string{"今日は日本語を勉強します"}},
		{"日本語", []string{"今日は日本語を勉強します"}},
		{"日語", nil},
		{"勉強 今日", []string{"今日は日本語を勉強します"}},
		{"語", []string{"今日は日本語を勉強します"}},
		{"す", []string{"今日は日本語を勉強します"}},
		{"タワー", []string{"東京タワーに行きました"}},
		{"カタカナ", []string{"ｶﾀｶﾅとひらがな"}},
		{"하세", []string{"안녕하세요 여러분"}},
		{"ชาว", []string{"สวัสดีชาวโลก"}},
		{"🎉", []string{"party 🎉🎉 tonight"}},
		{"🎉🎉🎉", nil},
		{"👩", []string{"👩‍💻 at work"}},
		{"👩‍💻", []string{"👩‍💻 at work"}},
		{"👍", []string{"👍🏽 agreed"}},
		{"👍🏿", []string{"👍🏽 agreed"}},
		{"€5", []string{"it costs €5"}},
		{"example.com", []string{"e-mail me at a.b@example.com", "see https://example.com/a?b=c#d"}},
		{"a AND b", []string{"x = a AND b OR NOT c*"}},
		{"NOT c*", []string{"x = a AND b OR NOT c*"}},
		{"NEAR(a b)", nil},
		{"words:bold", nil},
		{"<script>", []string{"<b>bold</b> & <script>"}},
		{"tab and line", []string{"tab\tand\nline"}},
		{"nul", []string{"nul\x00byte"}},
		{"nul\x00byte", []string{"nul\x00byte"}},
		{"12345", []string{"1234567890"}},
		{strings.Repeat("long", 100) + "word", []string{strings.Repeat("long", 100) + "word"}},
		{`"" good """evening`, []string{"good evening"}},
	} {
		if got := find(t, s, store.SearchQuery{Text: tt.text}); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	for _, text := range []string{"", " ", `"`, `""`, "*", "***", "-- ;", "\x00", "\xff\xfe", strings.Repeat("a", 10<<10), strings.Repeat("a ", 40)} {
		_, err := s.Search(t.Context(), store.SearchQuery{Text: text, Limit: 1})
		wantErr(t, err, store.ErrInvalid)
	}
	for _, q := range []store.SearchQuery{{Text: "x"}, {Text: "x", Limit: 1, Before: "x"}, {Text: "x", Limit: 1, User: "a", With: "b", Everyone: true}, {Text: "x", Limit: 1, With: "b"}} {
		_, err := s.Search(t.Context(), q)
		wantErr(t, err, store.ErrInvalid)
	}
}

func searchMarks(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	tests := []struct{ said, text, want string }{
		{"The cat sat on the mat", "the", "[The] cat sat on [the] mat"},
		{"Fools are foolish", "fool", "[Fools] are [foolish]"},
		{"new york, New York and york", `"new york"`, "[new york], [New York] and york"},
		{"CAFÉ crème", "cafe", "[CAFÉ] crème"},
		{"日本語の日本", "日本", "[日本]語の[日本]"},
		{"日本語", "日本語", "[日本語]"},
		{"🎉x🎉🎉", "🎉", "[🎉]x[🎉🎉]"},
		{"<b>&amp;</b>", "amp b", "<[b]>&[amp];</[b]>"},
		{"ab a abc", "a ab", "[ab] [a] [abc]"},
	}
	for _, tt := range tests {
		must(t, s.Append(t.Context(), NewMessage("alice", "", tt.said)))
	}
	Indexed(t, s)
	for _, tt := range tests {
		hits, err := s.Search(t.Context(), store.SearchQuery{Text: tt.text, Limit: 10})
		must(t, err)
		i := slices.IndexFunc(hits.Hits, func(h store.Hit) bool { return h.Message.GetContent() == tt.said })
		if i < 0 {
			t.Errorf("%q does not find %q", tt.text, tt.said)
			continue
		}
		got, at := "", 0
		for _, m := range hits.Hits[i].Marks {
			got += tt.said[at:m.Start] + "[" + tt.said[m.Start:m.End] + "]"
			at = m.End
		}
		if got += tt.said[at:]; got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// Ids of one millisecond are in no order when they come, and some messages come late.
func searchPages(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	var want []string
	begin := time.Now().Add(-time.Hour)
	for i := range 200 {
		msg := NewMessage("alice", []string{"", "bob"}[i%2], fmt.Sprintf("needle %d", i))
		id := uuid.MustParse(NewID(0))
		at := uint64(begin.Add(time.Duration(i*7919%40) * time.Millisecond).UnixMilli())
		for b := range 6 {
			id[b] = byte(at >> (40 - 8*b))
		}
		msg.Id = id.String()
		must(t, s.Append(t.Context(), msg))
		must(t, s.Append(t.Context(), NewMessage("alice", "", "hay")))
		want = append(want, msg.GetId())
	}
	Indexed(t, s)
	slices.Sort(want)
	slices.Reverse(want)
	for _, limit := range []int{1, 3, 7, 99, 1000} {
		var got []string
		q := store.SearchQuery{Text: "needle", Limit: limit, User: "alice"}
		for more := true; more; {
			hits, err := s.Search(t.Context(), q)
			must(t, err)
			if max := min(limit, store.MaxHits); len(hits.Hits) > max || hits.HasMore && len(hits.Hits) != max {
				t.Fatalf("limit %d: %d hits, more %v", limit, len(hits.Hits), hits.HasMore)
			}
			for _, h := range hits.Hits {
				got = append(got, h.Message.GetId())
				q.Before = h.Message.GetId()
			}
			more = hits.HasMore
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %d hits, want %d, all once and in order", limit, len(got), len(want))
		}
	}
}

func searchPrivate(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	ids := map[string]string{}
	for _, m := range [][3]string{
		{"alice", "", "secret for all"}, {"alice", "bob", "secret for bob"}, {"bob", "alice", "secret for alice"},
		{"bob", "carol", "secret for carol"}, {"carol", "alice", "secret of carol"}, {"alice", "alice", "secret for myself"},
		{"alic", "bo", "secret of alic"}, {"bob", "", "all of bob"},
	} {
		msg := NewMessage(m[0], m[1], m[2])
		ids[m[2]] = msg.GetId()
		must(t, s.Append(t.Context(), msg))
	}
	Indexed(t, s)
	for _, tt := range []struct {
		q    store.SearchQuery
		want []string
	}{
		{store.SearchQuery{}, []string{"secret for all"}},
		{store.SearchQuery{User: "alice"}, []string{"secret for myself", "secret of carol", "secret for alice", "secret for bob", "secret for all"}},
		{store.SearchQuery{User: "bob"}, []string{"secret for carol", "secret for alice", "secret for bob", "secret for all"}},
		{store.SearchQuery{User: "dave"}, []string{"secret for all"}},
		{store.SearchQuery{User: "ALICE"}, []string{"secret for all"}},
		{store.SearchQuery{User: "alice", Everyone: true}, []string{"secret for all"}},
		{store.SearchQuery{User: "alice", With: "bob"}, []string{"secret for alice", "secret for bob"}},
		{store.SearchQuery{User: "alice", With: "alice"}, []string{"secret for myself"}},
		{store.SearchQuery{User: "alice", PrivateFrom: ids["secret of carol"]}, []string{"secret for myself", "secret of carol", "secret for all"}},
		{store.SearchQuery{User: "alice", PrivateFrom: strings.ToUpper(ids["all of bob"])}, []string{"secret for all"}},
		{store.SearchQuery{User: "alice", PrivateFrom: ids["secret of carol"], With: "bob"}, nil},
		{store.SearchQuery{User: "alice", PrivateFrom: ids["secret for alice"], With: "bob"}, []string{"secret for alice"}},
		{store.SearchQuery{User: "carol", With: "dave"}, nil},
		{store.SearchQuery{User: "dave", With: "dave"}, nil},
	} {
		tt.q.Text = "secret"
		if got := find(t, s, tt.q); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %q, want %q", tt.q, got, tt.want)
		}
	}
	// Nor does a name get into a search as its language.
	for _, user := range []string{`" OR words : "secret`, "*", "x00", "a b"} {
		if got := find(t, s, store.SearchQuery{Text: "secret", User: user}); !slices.Equal(got, []string{"secret for all"}) {
			t.Errorf("%q sees %q", user, got)
		}
	}
}

func searchAnything(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	for _, text := range Texts {
		must(t, s.Append(t.Context(), NewMessage("alice", "", strings.ToValidUTF8(text, "")+".")))
	}
	Indexed(t, s)
	for _, text := range Texts {
		hits, err := s.Search(t.Context(), store.SearchQuery{Text: text, Limit: 50, User: "alice"})
		if err != nil {
			if !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if valid := strings.ToValidUTF8(text, "") + "."; !slices.ContainsFunc(hits.Hits, func(h store.Hit) bool { return h.Message.GetContent() == valid }) {
			t.Errorf("%q does not find itself among %d hits", text, len(hits.Hits))
		}
	}
}

// Texts are what a search must answer, or refuse as not valid.
var Texts = []string{
	"", " ", `"`, `""`, `"""`, `a"b`, `"a" b "c`, "*", "a*", "*a", "a**b", "^a", "a AND", "OR", "NOT x", "NEAR", "NEAR(a b, 2)",
	"words:a", "{words people} : a", "people:616c", "- a", "-a", "+a", "a + b", "(a", "a)", "(((", "'", "a'b", "'; DROP TABLE messages; --",
	"\\", "%", "_", "a\x00b", "\x00", "\xff", "a\xc3", "\xed\xa0\x80", "\ufeffa", "\u202ea", "\u200d", "🎉", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "©®™", "日", "日本", "日本語です",
	"한국어", "ภาษาไทย", "ﷺ", "½ ⑴ ⒈ ㈱ ℃ Ⅳ ²", "ß", "İı", "ǅ", "ﬃ", "e\u0301", "\u0301", "ｶﾞｷﾞ", "ﾞ", "ー", "a\u0301\u0302\u0303\u0304", "אֿ", "ـ", "ـا",
	strings.Repeat("a", 1024), strings.Repeat("é", 512), strings.Repeat("日", 30), strings.Repeat("日", 341), strings.Repeat("🎉", 256), strings.Repeat(`"`, 1024),
	strings.Repeat("(", 1024), strings.Repeat("a ", 32), strings.Repeat("a ", 512), strings.Repeat("x", 10<<10), strings.Repeat("🎉", 2560),
}

func talks(t *testing.T, open Open) {
	s := start(t, open, t.TempDir())
	var party string
	for _, m := range [][3]string{
		{"alice", "", "to all"}, {"bob", "alice", "first"}, {"alice", "carol", "1"}, {"carol", "bob", "of others"},
		{"alice", "alice", "a note"}, {"al", "ice", "…"}, {"carol", "alice", "🎉"}, {"dave", "alice", "..."}, {"alice", "bob", "latest"},
		{"alice bob", "alice\" NOT", "hostile"},
	} {
		msg := NewMessage(m[0], m[1], m[2])
		if m[2] == "🎉" {
			party = msg.GetId()
		}
		if err := s.Append(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	Indexed(t, s)
	for user, want := range map[string][]string{
		"alice":       {"latest", "...", "🎉", "a note"},
		"bob":         {"latest", "of others"},
		"carol":       {"🎉", "of others"},
		"alice\" NOT": {"hostile"},
		"Alice":       nil, // Names are what they are.
		"nobody":      nil,
	} {
		for _, limit := range []int{100, 2, 1} {
			last, behind, err := s.Talks(t.Context(), user, "", limit)
			if err != nil || behind != 0 {
				t.Fatal(behind, err)
			}
			var got []string
			for _, m := range last {
				got = append(got, m.GetContent())
			}
			if want := want[:min(limit, len(want))]; !slices.Equal(got, want) {
				t.Errorf("%d talks of %s: got %q, want %q", limit, user, got, want)
			}
		}
	}
	for i := range store.MaxTalks + 20 {
		if err := s.Append(t.Context(), NewMessage(fmt.Sprint("guest ", i), "erin", "hello")); err != nil {
			t.Fatal(err)
		}
	}
	Indexed(t, s)
	last, _, err := s.Talks(t.Context(), "erin", "", 1000)
	if err != nil || len(last) != store.MaxTalks {
		t.Errorf("got %d talks, %v, want %d", len(last), err, store.MaxTalks)
	}
	for _, limit := range []int{0, -1} {
		_, _, err := s.Talks(t.Context(), "alice", "", limit)
		wantErr(t, err, store.ErrInvalid)
	}
	_, _, err = s.Talks(t.Context(), "", "", 1)
	wantErr(t, err, store.ErrInvalid)
	_, _, err = s.Talks(t.Context(), "alice", "x", 1)
	wantErr(t, err, store.ErrInvalid)

	last, _, err = s.Talks(t.Context(), "alice", party, 100)
	if err != nil || len(last) != 3 || last[2].GetContent() != "🎉" {
		t.Errorf("from the party on: got %v, %v, want three talks", last, err)
	}
}
