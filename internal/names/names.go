// Package names compares the names of users: which of them are one name, and which look like
// each other. docs/decisions/names.md has the reasons.
package names

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

//go:generate go run generate.go -version 13.0.0

//go:embed confusables.txt
var table string

// Version counts the changes of what LookOf returns. Looks that were stored by another version
// must be computed again.
const Version = 1

// maxRounds bounds how often a name is folded. FuzzLookOf finds that it settles earlier.
const maxRounds = 8

var (
	folder      = cases.Fold() // Keeps no state.
	confusables = sync.OnceValue(func() map[rune]string { return parse(table) })
)

// Key returns what the spellings of one name have in common: its Unicode NFKC_Casefold, so that
// case and compatibility forms such as full width do not count. Two names with one key are one user.
func Key(name string) string {
	// Folding can undo the normal form and the other way round; Unicode's own
	// NFKC_Casefold goes round twice for the same reason.
	for range 2 {
		name = norm.NFKC.String(folder.String(norm.NFKC.String(name)))
	}
	return name
}

// Look is what a name looks like: its skeletons (UTS #39) as it is written, and without case. There
// are two because case changes what a letter looks like: I looks like l and i does not, the Greek Ν
// looks like N and ν like v.
type Look [2]string

// LookOf returns the look of name.
func LookOf(name string) Look {
	return Look{skeleton(norm.NFKC.String(name)), skeleton(Key(name))}
}

// Like reports whether names with the looks l and m look alike: they have a skeleton in common.
func (l Look) Like(m Look) bool {
	return l[0] == m[0] || l[0] == m[1] || l[1] == m[0] || l[1] == m[1]
}

// Letters returns how many letters and digits of name leave a trace in its look: a name with more of
// them than another one has characters does not look like it.
func Letters(name string) int {
	n := 0
	for _, r := range name {
		if unicode.In(r, unicode.L, unicode.Nd) && !unicode.Is(unicode.Hangul, r) && !ornament(r) {
			n++
		}
	}
	return n
}

// Alike reports whether a and b look alike.
func Alike(a, b string) bool { return LookOf(a).Like(LookOf(b)) }

// skeleton replaces each character of name by the one that it looks like, and then drops case,
// until nothing changes. A name of ornaments alone is its own skeleton.
func skeleton(name string) string {
	look := name
	for range maxRounds {
		next := norm.NFD.String(folder.String(norm.NFKC.String(replace(look))))
		if next == look {
			break
		}
		look = next
	}
	if look == "" {
		return name
	}
	return look
}

func replace(name string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(name) {
		switch to, ok := similar[r]; {
		case ok:
			b.WriteString(to)
			continue
		case ornament(r):
			continue
		}
		if to, ok := confusables()[r]; ok {
			b.WriteString(to)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ornament reports whether r is a letter by its category and a sign by its look, such as ʹ, ˈ, ʼ, ˬ
// and the Arabic kashida: beside other letters it is hardly seen.
func ornament(r rune) bool {
	return r >= 0x2b0 && r <= 0x2ff && unicode.Is(unicode.Lm, r) || // Spacing Modifier Letters
		r >= 0xa700 && r <= 0xa721 && unicode.Is(unicode.Lm, r) || // Modifier Tone Letters
		r == 0xa788 || r == 0xa78a || r == 0xa78b || r == 0xa78c || r == 0x640 || r == 0x7fa
}

// parse reads a table of lines such as "00430 0061".
func parse(table string) map[rune]string {
	m := make(map[rune]string, strings.Count(table, "\n"))
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var to strings.Builder
		fields := strings.Fields(line)
		for _, f := range fields[1:] {
			to.WriteRune(char(f))
		}
		m[char(fields[0])] = to.String()
	}
	return m
}

func char(hex string) rune {
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		panic(fmt.Sprintf("names: confusables.txt: %v", err)) // The file is embedded: a bug.
	}
	return rune(n)
}

// similar is what Unicode's list lacks: small capitals, which differ from capitals in size only, and a
// few letters that fonts draw alike.
var similar = map[rune]string{
	'ᴀ': "a", 'ʙ': "b", 'ᴄ': "c", 'ᴅ': "d", 'ᴇ': "e", 'ꜰ': "f", 'ɢ': "g", 'ʜ': "h", 'ɪ': "i", 'ᴊ': "j",
	'ᴋ': "k", 'ʟ': "l", 'ᴍ': "m", 'ɴ': "n", 'ᴏ': "o", 'ᴘ': "p", 'ꞯ': "q", 'ʀ': "r", 'ꜱ': "s", 'ᴛ': "t",
	'ᴜ': "u", 'ᴠ': "v", 'ᴡ': "w", 'ʏ': "y", 'ᴢ': "z",
	'ĸ': "k", // The form of к and κ.
	'ʍ': "m", // The form of м.
	'ӏ': "l", // As Unicode has it since version 15.
	'ш': "w",
}
