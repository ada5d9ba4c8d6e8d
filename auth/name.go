package auth

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"burrow/internal/names"
)

const (
	// maxName is how many characters (code points) a name may have.
	maxName = 64
	// maxRawName bounds what is brought into normal form at all, in bytes: no name
	// takes more, whichever form it is in.
	maxRawName = 1024
	// maxMarks is how many combining marks may follow one letter. Burmese needs five.
	maxMarks = 6
)

// ValidName returns the one form in which a user's name is known: in Unicode
// normal form C. The error is ErrInvalidName and says in one sentence, for the
// person who chose it, what is allowed. Percent-encoding is for the caller to
// undo.
func ValidName(raw string) (string, error) {
	if len(raw) > maxRawName {
		return "", invalid("this name is too long")
	}
	if !utf8.ValidString(raw) {
		return "", invalid("this name is not valid UTF-8")
	}
	name := norm.NFC.String(raw)
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return "", invalid("this name is empty")
	case n > maxName:
		return "", invalid("this name is too long")
	}
	marks := maxMarks // no letter precedes the first character
	for _, r := range name {
		if mark(r) {
			if marks++; marks > maxMarks {
				return "", invalid(fmt.Sprintf("%q needs a letter before it, and a letter has at most %d marks", r, maxMarks))
			}
			continue
		}
		marks = maxMarks
		if alphanumeric(r) {
			marks = 0
		}
		if !alphanumeric(r) && !strings.ContainsRune(" _-.@", r) {
			return "", invalid(fmt.Sprintf("%q cannot be in a name", r))
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if !alphanumeric(first) || !alphanumeric(last) && !mark(last) {
		return "", invalid("a name starts and ends with a letter or digit")
	}
	if strings.Contains(name, "  ") {
		return "", invalid("a page shows two spaces together as one")
	}
	// Programs write global for everyone. No name may look like it.
	if likeGlobal(name) {
		return "", invalid("global stands for everyone, and this name looks like it")
	}
	return name, nil
}

var global = sync.OnceValue(func() names.Look { return names.LookOf("global") })

// likeGlobal reports whether name looks like global. It is asked for each of thousands of users in a
// state of the presence: a name with more letters than global needs no closer look.
func likeGlobal(name string) bool {
	return names.Letters(name) <= len("global") && names.LookOf(name).Like(global())
}

// alphanumeric says what \p{L} and \p{Nd} do in the schema of the messages, but for letters
// that nobody can see (the fillers of Hangul): with one more of them anybody would look like
// somebody else.
func alphanumeric(r rune) bool {
	return (unicode.IsLetter(r) || unicode.IsDigit(r)) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// mark reports whether r is a visible combining mark (\p{Mn}, \p{Mc}), as many
// scripts write their vowels.
func mark(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Mc) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func invalid(why string) error {
	return fmt.Errorf(`%w: %s; use 1 to 64 letters, digits, single spaces or _ - . @, with a letter or digit at both ends, and not "global"`, ErrInvalidName, why)
}
