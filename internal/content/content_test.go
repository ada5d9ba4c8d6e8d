package content_test

import (
	"strings"
	"testing"

	"burrow/internal/content"
)

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"hello":                   "hello",
		" a\r\nb\rc\td \n":        "a\nb\nc\td",
		"\x1b[31mred\x1b[0m":      "[31mred[0m",
		"\x00\u009b":              "",
		"a \x07 ":                 "a",
		"\u202eleft\u202c, 好 👩‍🚀": "\u202eleft\u202c, 好 👩‍🚀", // as people write it
	} {
		got := content.Clean(text)
		if got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
		if strings.ContainsFunc(got, content.Forbidden) || content.Clean(got) != got {
			t.Errorf("%q is not clean", got)
		}
	}
}

func TestVisible(t *testing.T) {
	for text, want := range map[string]bool{
		"a": true, " . ": true, "👩": true, "": false, " \n\t": false, "\u200b\u2060": false, "\u2800": false, "\ufe0f": false, "\u3164": false,
	} {
		if content.Visible(text) != want {
			t.Errorf("%q is visible: %v", text, !want)
		}
	}
}
