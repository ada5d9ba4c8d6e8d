package auth

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Reserved is the name that nobody can have: some programs write it into to_user
// when they mean everyone.
const Reserved = "global"

// maxName is the most characters of a name.
const maxName = 64

// ValidName returns name in Unicode NFC, or an ErrInvalidName: 1 to 64 characters
// of letters, digits, space, "_", "-", "." and "@", with a letter or digit at both
// ends, and not "global". messages/chat.proto has the same rule.
func ValidName(name string) (string, error) {
	if len(name) > 16*maxName || !utf8.ValidString(name) {
		return "", invalid("it is too long or not text")
	}
	name = norm.NFC.String(name)
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return "", invalid("it is empty")
	case n > maxName:
		return "", invalid(fmt.Sprintf("it has %d characters", n))
	}
	for _, r := range name {
		if !letterOrDigit(r) && !strings.ContainsRune(" _-.@", r) {
			return "", invalid(fmt.Sprintf("it has the character %q", r))
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if !letterOrDigit(first) || !letterOrDigit(last) {
		return "", invalid("it does not start and end with a letter or digit")
	}
	if strings.EqualFold(name, Reserved) {
		return "", fmt.Errorf("%w: %q means everyone; choose another name", ErrInvalidName, name)
	}
	return name, nil
}

func letterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func invalid(why string) error {
	return fmt.Errorf("%w: %s; use 1 to %d letters, digits, spaces, \"_\", \"-\", \".\" or \"@\", with a letter or digit at both ends", ErrInvalidName, why, maxName)
}
