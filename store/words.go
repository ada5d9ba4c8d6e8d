package store

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// maxWord bounds a word of the index, in runes; of a longer one its beginning is
// known.
const maxWord = 40

// word is a piece of a text that is found by search: a run of letters and digits, a
// symbol such as an emoji, or, of scripts that put no spaces between words, two
// characters that stand together.
type word struct {
	folded     string // without case, accents and forms of the same character; letters, digits and marks, or a symbol
	start, end int    // bytes of the text
	kind       kind
	joined     bool // nothing is between it and the word before
}

// kind is that of a word.
type kind int

const (
	letters kind = iota + 1 // of a script with spaces between words
	symbol
	pair   // two characters of a script without
	single // the last one of a run of such: no pair begins with it here
)

// words yields the words of text in order. Bytes that are not UTF-8 are between words.
//
// What it finds is what the index holds: a change here needs a migration like
// 00007_words_again.sql.
func words(text string) iter.Seq[word] {
	return func(yield func(word) bool) {
		joined := false
		for at := 0; at < len(text); {
			r, size := utf8.DecodeRuneInString(text[at:])
			class := classOf(r, size)
			end := at + size
			switch class {
			case ofLetters, spaceless:
				end = runEnd(text, end, class)
			case ofSymbols:
				// What changes its look (skin, colour) belongs to it, and is not looked for.
				end = skip(text, end, changesLook)
			}
			switch class {
			case ofLetters:
				if f := fold(text[at:end]); f != "" && !yield(word{f, at, end, letters, joined}) {
					return
				}
			case spaceless:
				if !yieldPairs(text, at, end, joined, yield) {
					return
				}
			case ofSymbols:
				if !yield(word{string(r), at, end, symbol, joined}) {
					return
				}
			}
			at, joined = end, class != between
		}
	}
}

// yieldPairs yields the characters from start to end two by two, each the first of one
// pair, and the last one alone: so one character is found too, as the beginning of a word.
func yieldPairs(text string, start, end int, joined bool, yield func(word) bool) bool {
	charEnd := func(at int) int {
		_, size := utf8.DecodeRuneInString(text[at:])
		return min(skip(text, at+size, belongs), end)
	}
	for next := charEnd(start); start < end; {
		w := word{start: start, end: next, kind: single, joined: joined}
		if next < end {
			w.end, w.kind = charEnd(next), pair
		}
		if w.folded = fold(text[w.start:w.end]); w.folded != "" && !yield(w) {
			return false
		}
		start, next, joined = next, w.end, true
	}
	return true
}

// class is what a character is to words.
type class int

const (
	between class = iota
	ofLetters
	spaceless
	ofSymbols
)

// spacelessScripts are written without spaces between words, or, as Korean, with words
// that grow at their end.
var spacelessScripts = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan,
}

// ignorable holds Unicode's default ignorable characters: soft hyphens, joiners, marks of
// direction, fillers. Readers do not see them, so they neither end a word nor belong to its form.
var ignorable = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x00AD, Hi: 0x00AD, Stride: 1}, {Lo: 0x034F, Hi: 0x034F, Stride: 1}, {Lo: 0x061C, Hi: 0x061C, Stride: 1},
		{Lo: 0x115F, Hi: 0x1160, Stride: 1}, {Lo: 0x17B4, Hi: 0x17B5, Stride: 1}, {Lo: 0x180B, Hi: 0x180F, Stride: 1},
		{Lo: 0x200B, Hi: 0x200F, Stride: 1}, {Lo: 0x202A, Hi: 0x202E, Stride: 1}, {Lo: 0x2060, Hi: 0x206F, Stride: 1},
		{Lo: 0x3164, Hi: 0x3164, Stride: 1}, {Lo: 0xFE00, Hi: 0xFE0F, Stride: 1}, {Lo: 0xFEFF, Hi: 0xFEFF, Stride: 1},
		{Lo: 0xFFA0, Hi: 0xFFA0, Stride: 1}, {Lo: 0xFFF0, Hi: 0xFFF8, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1BCA0, Hi: 0x1BCA3, Stride: 1}, {Lo: 0x1D173, Hi: 0x1D17A, Stride: 1}, {Lo: 0xE0000, Hi: 0xE0FFF, Stride: 1},
	},
	LatinOffset: 1,
}

func classOf(r rune, size int) class {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return ofLetters
		}
		return between
	}
	switch {
	case r == utf8.RuneError && size == 1, unicode.Is(unicode.Sk, r), unicode.Is(ignorable, r):
		return between
	case unicode.IsLetter(r), unicode.IsNumber(r):
		if r >= 0x0E00 && (unicode.In(r, spacelessScripts...) || r == 'ー' || r == 'ｰ') {
			return spaceless
		}
		return ofLetters
	case unicode.IsSymbol(r):
		return ofSymbols
	}
	return between
}

// runEnd returns where a run of one kind ends that has begun before at; marks and ignorable
// characters belong to it.
func runEnd(text string, at int, c class) int {
	for at < len(text) {
		r, size := utf8.DecodeRuneInString(text[at:])
		if classOf(r, size) != c && !belongs(r) {
			break
		}
		at += size
	}
	return at
}

func skip(text string, at int, is func(rune) bool) int {
	for at < len(text) {
		r, size := utf8.DecodeRuneInString(text[at:])
		if !is(r) {
			break
		}
		at += size
	}
	return at
}

// belongs reports whether r belongs to the character before it.
func belongs(r rune) bool {
	return isMark(r) || r >= utf8.RuneSelf && unicode.Is(ignorable, r)
}

// isMark also knows the marks of half-width Katakana.
func isMark(r rune) bool {
	return r >= 0x300 && (unicode.IsMark(r) || r == 0xFF9E || r == 0xFF9F)
}

// changesLook knows variation selectors, the joiner of emoji and skin colours.
func changesLook(r rune) bool {
	return belongs(r) || r >= utf8.RuneSelf && unicode.Is(unicode.Sk, r)
}

var folder = cases.Fold() // keeps no state

// fold returns the one form in which a word is looked for.
func fold(text string) string {
	ascii, lower := true, true
	for i := range len(text) {
		c := text[i]
		ascii = ascii && c < utf8.RuneSelf
		lower = lower && (c < 'A' || c > 'Z')
	}
	if ascii {
		if len(text) > maxWord {
			text = text[:maxWord]
		}
		if lower {
			return text
		}
		return strings.ToLower(text)
	}
	text = clipRunes(strings.Map(visible, text), 4*maxWord)
	text = strings.Map(plainRune, norm.NFKD.String(folder.String(norm.NFKC.String(text))))
	return clipRunes(norm.NFC.String(plainLetters.Replace(text)), maxWord)
}

// visible drops ignorable characters.
func visible(r rune) rune {
	if r >= utf8.RuneSelf && unicode.Is(ignorable, r) {
		return -1
	}
	return r
}

// plainLetters replaces the letters that Unicode does not take apart, as those with a stroke, by what
// is typed where a keyboard has none.
var plainLetters = strings.NewReplacer(
	"ⱥ", "a", "ƀ", "b", "ƃ", "b", "ɓ", "b", "ȼ", "c", "ƈ", "c", "đ", "d", "ɖ", "d", "ɗ", "d", "ð", "d", "ɇ", "e",
	"ǥ", "g", "ɠ", "g", "ħ", "h", "ⱨ", "h", "ı", "i", "ɨ", "i", "ɉ", "j", "ȷ", "j", "ƙ", "k", "ⱪ", "k", "ꝁ", "k",
	"ł", "l", "ƚ", "l", "ⱡ", "l", "ɫ", "l", "ŋ", "n", "ɲ", "n", "ɵ", "o", "ø", "o", "ᵽ", "p", "ƥ", "p", "ɍ", "r", "ɽ", "r",
	"ȿ", "s", "ŧ", "t", "ⱦ", "t", "ƭ", "t", "ʈ", "t", "ʉ", "u", "ʋ", "v", "ⱳ", "w", "ɏ", "y", "ƴ", "y", "ƶ", "z", "ȥ", "z", "ⱬ", "z",
	"æ", "ae", "œ", "oe", "þ", "th",
	"ғ", "г", "ҝ", "к", "ҟ", "к", "ө", "о", "ұ", "у", "ӿ", "х", "ҹ", "ч",
)

// plainRune drops what readers leave out when they write in haste: accents of Latin,
// Greek and Cyrillic, and the points of Hebrew and Arabic. The marks of other scripts
// make another letter. It also drops the brackets and the like that some characters are
// short for: SQLite would take them for the end of the word.
func plainRune(r rune) rune {
	switch {
	case r < utf8.RuneSelf && classOf(r, 1) == between:
		return -1
	case 0x300 <= r && r <= 0x36F, 0x591 <= r && r <= 0x5C7, 0x64B <= r && r <= 0x65F, r == 0x670, r == 0x640:
		return -1
	}
	return r
}

// clipRunes returns at most n runes of text.
func clipRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}
