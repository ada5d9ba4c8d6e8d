// Package content has the rules for the text of messages. The edge applies them to what clients send,
// the event functions to what programs publish.
package content

import (
	"strings"
	"unicode"
)

// Trim returns text with \n for each line end, and without space at its ends.
func Trim(text string) string {
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	return strings.TrimSpace(text)
}

// Clean is Trim, and removes forbidden characters.
func Clean(text string) string {
	text = Trim(text)
	if !strings.ContainsFunc(text, Forbidden) {
		return text
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if Forbidden(r) {
			return -1
		}
		return r
	}, text))
}

// Visible reports whether there is something to see in text: not only spaces, format
// characters such as a zero-width space, and letters and marks that show nothing by themselves.
func Visible(text string) bool { return strings.ContainsFunc(text, visible) }

func visible(r rune) bool {
	return !unicode.IsSpace(r) && !unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) &&
		r != '\u2800' // Braille without a dot.
}

// Forbidden reports whether r is a control character other than \n and \t: no page can show it, some
// databases cannot store it, and a terminal client would obey it.
func Forbidden(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
