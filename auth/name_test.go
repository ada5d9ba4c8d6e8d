package auth_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"golang.org/x/text/unicode/norm"

	"burrow/auth"
	"burrow/gen/chat"
	"burrow/internal/names"
)

// nameCase is a case of testdata/names.json, which the tests of the page read too.
type nameCase struct {
	Raw    string
	Name   string // Empty: refused.
	Script string // Empty: none in particular.
}

func nameCases(t testing.TB) []nameCase {
	t.Helper()
	data, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []nameCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestValidName(t *testing.T) {
	scripts := 0
	for _, tt := range append(nameCases(t), // and what JSON cannot hold
		nameCase{Raw: "al\xffice"},
		nameCase{Raw: "\xed\xa0\x80"},
		nameCase{Raw: strings.Repeat("x", 1<<20)},
	) {
		agree(t, tt.Raw)
		if tt.Script != "" {
			scripts++
		}
		got, err := auth.ValidName(tt.Raw)
		if tt.Name == "" {
			if !errors.Is(err, auth.ErrInvalidName) || got != "" || !strings.Contains(err.Error(), "1 to 64 letters, digits") {
				t.Errorf("%.80q: %q, %v; want it refused with the rule", tt.Raw, got, err)
			}
			continue
		}
		if err != nil || got != tt.Name {
			t.Errorf("%.80q: %q, %v; want %q", tt.Raw, got, err, tt.Name)
		}
	}
	if scripts < 30 {
		t.Errorf("names of %d scripts, want at least 30", scripts)
	}
}

// agree checks that what ValidName lets through is what the schema does.
func agree(t testing.TB, raw string) {
	t.Helper()
	name, err := auth.ValidName(raw)
	if err == nil {
		if again, err := auth.ValidName(name); err != nil || again != name {
			t.Errorf("%q became %q, which becomes %q, %v", raw, name, again, err)
		}
		for _, msg := range []*chat.ChatMessage{
			{Sender: name, Content: "x"},
			{Sender: "x", Content: "x", ToUser: name},
		} {
			if err := protovalidate.Validate(msg); err != nil {
				t.Errorf("the schema refuses %q: %v", name, err)
			}
		}
		if err := protovalidate.Validate(&chat.UserStatus{ClientId: name}); err != nil {
			t.Errorf("the schema refuses %q: %v", name, err)
		}
		return
	}
	// The schema knows neither normal forms, nor who is global, nor what names look like.
	reserved := names.Alike(raw, "global")
	if !utf8.ValidString(raw) || !norm.NFC.IsNormalString(raw) || reserved || strings.Contains(raw, "  ") || strings.ContainsFunc(raw, unseen) {
		return
	}
	if protovalidate.Validate(&chat.UserStatus{ClientId: raw}) == nil {
		t.Errorf("the schema takes %q: %v", raw, err)
	}
}

// unseen reports whether r is a letter or mark without a visible shape.
func unseen(r rune) bool {
	return slices.Contains([]rune{0x115f, 0x1160, 0x3164, 0xffa0}, r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func TestNamesAgreeWithTheSchema(t *testing.T) {
	for r := rune(0); r <= 0x2ffff; r++ {
		if r >= 0x3400 && r < 0xd7a0 && r%97 != 0 || r > 0x1ffff && r%97 != 0 {
			continue // thousands of letters that are alike
		}
		if unseen(r) {
			continue
		}
		_, err := auth.ValidName("a" + string(r) + "b")
		// NFC replaces some letters by others.
		c := norm.NFC.String("a" + string(r) + "b")
		schema := protovalidate.Validate(&chat.UserStatus{ClientId: c})
		if (err == nil) != (schema == nil) {
			t.Errorf("%U inside: %v, and the schema: %v", r, err, schema)
		}
	}
	for _, raw := range []string{"a\n", "a.", strings.Repeat("é", 64)} {
		agree(t, raw)
	}
}

func FuzzValidName(f *testing.F) {
	for _, c := range nameCases(f) {
		f.Add(c.Raw)
	}
	f.Add("a\xff")
	f.Fuzz(func(t *testing.T, raw string) { agree(t, raw) })
}
