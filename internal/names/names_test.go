package names_test

import (
	"encoding/json"
	"os"
	"testing"
	"unicode/utf8"

	"burrow/internal/names"
)

func TestAlike_NamesThatLookTheSame(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"viewer", "v\u0456ewer"},
		{"ada", "\u0430da"},
		{"ada", "ad\u1d00"},
		{"ada", "ada\u02c8"},
		{"Global", "Gl\u043ebal"},
		{"ada", "ADA"},
		{"Ada", "Ａda"},
		{"alice", "aIice"},
		{"Alice", "A\u04c0ice"},
		{"alice", "a1ice"},
		{"alice", "al\u0131ce"},
		{"bob", "b0b"},
		{"BOB", "b\u043eb"},
		{"modern", "rnodern"},
		{"Nina", "\u039dina"}, // Greek Ν, whose small form is ν
		{"Bob", "\u0412ob"},   // Cyrillic В
		{"hina", "\u041dina"}, // Cyrillic Н
		{"paypal", "\u0440\u0430\u0443\u0440\u0430l"},
		{"scope", "\u0455\u0441\u043e\u0440\u0435"},
		{"ada", "\U0001d41a\U0001d41d\U0001d41a"}, // mathematical bold
		{"gala", "\u0261ala"},
		{"Ada", "\u13aada"}, // Cherokee
		{"oslo", "\u0585slo"},
		{"ada", "a\u0640da"},
		{"Jos\u00e9", "Jose\u0301"},
		{"Hawaii", "Hawai\u02bbi"},
		{"Ian", "lan"},
		{"user 10", "user lO"},
	} {
		if !names.Alike(tt.a, tt.b) || !names.Alike(tt.b, tt.a) {
			t.Errorf("%q (%+q) and %q (%+q) do not look alike", tt.a, names.LookOf(tt.a), tt.b, names.LookOf(tt.b))
		}
	}
}

func TestAlike_NamesThatDiffer(t *testing.T) {
	for _, tt := range [][2]string{
		{"alice", "alicia"}, {"Ava", "Ana"}, {"ada", "adam"}, {"ada", "\u00e1da"}, {"\u02c8", "\u02b9"}, {"ian", "lan"}, {"мила", "мама"}, {"ruby", "ray"},
		{"ビル", "ビール"}, {"佐々木", "佐木"}, {"a.b", "a-b"}, {"a b", "ab"}, {"ﬁn", "fun"}, {"Ольга", "Олег"}, {"Νίκος", "Νίκη"},
	} {
		if names.Alike(tt[0], tt[1]) {
			t.Errorf("%q and %q look alike: %+q, %+q", tt[0], tt[1], names.LookOf(tt[0]), names.LookOf(tt[1]))
		}
	}
}

// Every name looks like its spellings, a look is stable, and no two of many scripts look alike.
func TestLookOf_ManyScripts(t *testing.T) {
	data, err := os.ReadFile("../../auth/testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Name, Script string }
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, c := range cases {
		if c.Name == "" {
			continue
		}
		if key := names.Key(c.Name); !names.Alike(c.Name, key) || names.Key(key) != key {
			t.Errorf("%q does not look like its key %q", c.Name, key)
		}
		for _, look := range names.LookOf(c.Name) {
			if look == "" {
				t.Errorf("%q has no look", c.Name)
			}
			if again := names.LookOf(look)[1]; again != look {
				t.Errorf("%q looks like %+q, which looks like %+q", c.Name, look, again)
			}
			if c.Script == "" {
				continue
			}
			if other, ok := seen[look]; ok && other != c.Name {
				t.Errorf("%q looks like %q", c.Name, other)
			}
			seen[look] = c.Name
		}
	}
	if len(seen) < 30 {
		t.Fatalf("looks of %d names, want at least 30", len(seen))
	}
}

func FuzzLookOf(f *testing.F) {
	for _, name := range []string{"Ada", "v\u0456ewer", "\u039dina", "مُحَمَّد", "ﷺ", "\u0640", "a\u0345"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !names.Alike(name, names.Key(name)) {
			t.Errorf("%q does not look like its key", name)
		}
		for _, look := range names.LookOf(name) {
			if again := names.LookOf(look); again[0] != look || again[1] != look {
				t.Errorf("%q looks like %+q, which looks like %+q", name, look, again)
			}
			if n := utf8.RuneCountInString(look); n < names.Letters(name) {
				t.Errorf("%q has a look of %d characters, less than its %d letters", name, n, names.Letters(name))
			}
			if len(look) > 64*(len(name)+1) {
				t.Errorf("a name of %d bytes has a look of %d", len(name), len(look))
			}
		}
	})
}
