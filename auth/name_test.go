package auth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"golang.org/x/text/unicode/norm"

	"burrow/auth"
	"burrow/gen/chat"
)

func TestValidName(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"a", "a"},
		{"Alice", "Alice"},
		{"alice.b_c-d@e f", "alice.b_c-d@e f"},
		{"7of9", "7of9"},
		{"Ame\u0301lie", "Am\u00e9lie"},
		{"Łukasz", "Łukasz"},
		{"李雷", "李雷"},
		{"\u0663", "\u0663"}, // a digit too
		{"globalist", "globalist"},
		{strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("e\u0301", 64), strings.Repeat("\u00e9", 64)},
		{strings.Repeat("李", 64), strings.Repeat("李", 64)},
		{"", ""},
		{" ", ""},
		{" alice", ""},
		{"alice ", ""},
		{".", ""},
		{"alice-", ""},
		{"@alice", ""},
		{"al/ice", ""},
		{"al%20ice", ""},
		{"al\tice", ""},
		{"al\nice", ""},
		{"alice\n", ""},
		{"al\u00a0ice", ""},
		{"al\u200bice", ""}, // zero width
		{"al\u202eice", ""}, // right to left
		{"al\x00ice", ""},
		{"<b>alice</b>", ""},
		{"alice🙂", ""},
		{"alice\u3164", ""}, // letters that nobody sees
		{"al\u115fice", ""},
		{"\u1160", ""},
		{"glob\uffa0al", ""},
		{"alice  smith", ""}, // shown as alice smith
		{"Ⅳ", ""},            // a number, but no digit
		{"e\u0301\u0301", ""},
		{"al\xffice", ""},
		{"\xed\xa0\x80", ""},
		{"global", ""},
		{"Global", ""},
		{"GLOBAL", ""},
		{"ｇｌｏｂａｌ", ""}, // full width: the same name to the store
		{strings.Repeat("x", 65), ""},
		{strings.Repeat("x", 1<<20), ""},
	} {
		got, err := auth.ValidName(tt.raw)
		if tt.want == "" {
			if !errors.Is(err, auth.ErrInvalidName) || got != "" || !strings.Contains(err.Error(), "1 to 64 letters, digits") {
				t.Errorf("%.80q: %q, %v; want it refused with the rule", tt.raw, got, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%.80q: %q, %v; want %q", tt.raw, got, err, tt.want)
		}
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
	reserved := strings.EqualFold(norm.NFKC.String(raw), "global")
	if !utf8.ValidString(raw) || !norm.NFC.IsNormalString(raw) || reserved || strings.Contains(raw, "  ") || strings.ContainsFunc(raw, unseen) {
		return
	}
	if protovalidate.Validate(&chat.UserStatus{ClientId: raw}) == nil {
		t.Errorf("the schema takes %q: %v", raw, err)
	}
}

// unseen reports whether r is a letter that no font shows.
func unseen(r rune) bool { return slices.Contains([]rune{0x115f, 0x1160, 0x3164, 0xffa0}, r) }

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
	for _, raw := range []string{"", " ", "a", "a ", " a", "a\n", "-a", "a.", strings.Repeat("é", 64), strings.Repeat("é", 65), "a  b", "e\u0301"} {
		agree(t, raw)
	}
}

func FuzzValidName(f *testing.F) {
	for _, raw := range []string{"alice", "Ame\u0301lie", "global", " a", "a\xff", "ｇｌｏｂａｌ", "a\u0301\u0301", strings.Repeat("é", 65)} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) { agree(t, raw) })
}
