package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"burrow/store"
	"burrow/store/storetest"
)

// Each text is found by each of the queries, with one mark.
func TestWords_FoundWithoutWhatReadersDoNotTypeOrSee(t *testing.T) {
	s := open(t, store.Config{DataDir: t.TempDir()})
	texts := map[string][]string{
		"co\u00adoperate":         {"cooperate", "COOP", "co\u00adoperate", "\"cooperate\"", "co\u00ad\u200boperate"},
		"un\u200bbreak\u2060able": {"unbreakable", "unbreak"},
		"zero\ufeffwidth":         {"zerowidth"},
		"emo\ufe0fji\u200eword":   {"emojiword"},
		"می\u200cخواهم":           {"میخواهم", "می\u200cخواهم"},
		"हिन्\u200dदी":            {"हिन्दी"},
		"filler\u3164ed":          {"fillered"},
		"ការ\u200bងារ":            {"ការងារ"},
		"東\u200b京":                {"東京"},
		"tag\U000e0041ged":        {"tagged"},
		"Łódź":                    {"lodz", "łódź", "LODZ", "Łodz"},
		"Tromsø":                  {"tromso", "TROMSØ"},
		"Đakovo":                  {"dakovo", "đak"},
		"Ħamrun":                  {"hamrun"},
		"Ŧana":                    {"tana"},
		"Ⱥxel Ƀeta Ƶeta":          {"axel", "beta", "zeta"},
		"Ærøskøbing":              {"aeroskobing", "ærøsk"},
		"Œuvre":                   {"oeuvre"},
		"Straße":                  {"strasse"},
		"Þingvellir":              {"thingvellir"},
		"Diyarbakır İzmir":        {"diyarbakir", "izmir", "IZMIR"},
		"ǿre":                     {"ore"},
		"Ұлттық":                  {"улттық"},
		"Ångström":                {"angstrom"},
		"\u202eturned\u202c":      {"turned"},
		"e" + fmt.Sprintf("%0200d", 0)[:30] + "\u00ad": {"e0"},
	}
	for text := range texts {
		if err := s.Append(t.Context(), storetest.NewMessage("alice", "", text)); err != nil {
			t.Fatal(err)
		}
	}
	storetest.Indexed(t, s)
	for text, queries := range texts {
		for _, q := range queries {
			found, err := s.Search(t.Context(), store.SearchQuery{Text: q, Limit: 10})
			if err != nil || len(found.Hits) != 1 || found.Hits[0].Message.GetContent() != text || len(found.Hits[0].Marks) != 1 {
				t.Errorf("%q does not find %q alone: %+v, %v", q, text, found.Hits, err)
			}
		}
	}
	for _, q := range []string{"operate", "width", "\u00ad"} {
		if found, err := s.Search(t.Context(), store.SearchQuery{Text: q, Limit: 10}); err == nil && len(found.Hits) > 0 {
			t.Errorf("%q finds %+v", q, found.Hits)
		}
	}
}

// What an index of earlier rules held is found by the present ones, and nothing twice.
func TestIndex_RebuiltAfterAChangeOfRules(t *testing.T) {
	dir := t.TempDir()
	db := sqlite(t, filepath.Join(dir, "burrow.db"))
	earlier, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := earlier.UpTo(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	const shift = 1 << 15 // placeBits
	for i := range 600 {
		exec1(t, db, fmt.Sprintf(`INSERT INTO messages (id, sender, recipient, content, sent_at) VALUES ('%08x-0000-7000-8000-000000000000', 'alice', '%s', 'Łódź %d', %d)`,
			i+1, []string{"", "bob"}[i%2], i, i))
		place := (i + 1) << 16 * shift
		exec1(t, db, fmt.Sprintf("INSERT INTO search_rows (place, seq) VALUES (%d, %d)", place, i+1))
		if i%2 == 0 {
			exec1(t, db, fmt.Sprintf("INSERT INTO search_everyone (rowid, words) VALUES (%d, 'łodz gone%d ')", place, i))
		} else {
			exec1(t, db, fmt.Sprintf("INSERT INTO search_private (rowid, words, people) VALUES (%d, 'łodz gone%d ', '616c696365 626f62')", place, i))
		}
	}
	exec1(t, db, "UPDATE search_progress SET seq = 600")
	s := open(t, store.Config{DataDir: dir})
	if _, err := db.Exec("UPDATE search_progress SET seq = 600"); err == nil {
		t.Error("a process of an earlier version goes on to fill the index")
	}
	storetest.Indexed(t, s)
	for text, want := range map[string]int{"lodz": 600, `"lodz 599"`: 1, "gone4": 0, "gone5": 0} {
		found := map[string]bool{}
		for q, more := (store.SearchQuery{Text: text, User: "bob", Limit: 100}), true; more; {
			page, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, hit := range page.Hits {
				if q.Before = hit.Message.GetId(); found[q.Before] {
					t.Errorf("%q finds %s twice", text, q.Before)
				}
				found[q.Before] = true
			}
			more = page.HasMore
		}
		if len(found) != want {
			t.Errorf("%q finds %d messages, want %d", text, len(found), want)
		}
	}
}
