package store

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxSearchText bounds what is looked for, in bytes.
	maxSearchText = 1024
	// maxSearchWords bounds the words in it: each is another list to read.
	maxSearchWords = 32
	// minBeginning is how many letters a word must have to be taken for the beginning of
	// one: one letter begins a good part of everything.
	minBeginning = 2
)

// phrase is words that must stand together in this order.
type phrase struct {
	words  []string // folded
	prefix bool     // the last one is the beginning of a word
}

// parseSearch reads what somebody looks for. Whatever is between words has no meaning,
// except double quotes, so that no text is wrong but one without a word and one that is
// too long.
func parseSearch(text string) ([]phrase, error) {
	if len(text) > maxSearchText {
		return nil, fmt.Errorf("%w: the text has more than %d bytes", ErrInvalid, maxSearchText)
	}
	var phrases []phrase
	count := 0
	parts := strings.Split(text, `"`)
	for i, part := range parts {
		var together []word
		for w := range words(part) {
			if quoted := i%2 == 1; len(together) > 0 && !quoted && !w.joined {
				phrases = append(phrases, newPhrase(together, false))
				together = nil
			}
			together = append(together, w)
			count++
		}
		if len(together) > 0 {
			last := i == len(parts)-1 && together[len(together)-1].end == len(part)
			phrases = append(phrases, newPhrase(together, last))
		}
	}
	switch {
	case count == 0:
		return nil, fmt.Errorf("%w: the text has no letter, digit or symbol", ErrInvalid)
	case count > maxSearchWords:
		return nil, fmt.Errorf("%w: the text has more than %d words", ErrInvalid, maxSearchWords)
	}
	return phrases, nil
}

// newPhrase returns the phrase of the words of a query; last says that the query ends with it,
// so that somebody may still be writing its last word.
func newPhrase(together []word, last bool) phrase {
	end := together[len(together)-1]
	p := phrase{prefix: end.kind == single}
	switch {
	case end.kind == single && len(together) > 1 && together[len(together)-2].kind == pair:
		// The pair before has it already, and what follows it in a text may be anything.
		together, p.prefix = together[:len(together)-1], false
	case end.kind == letters && last:
		p.prefix = utf8.RuneCountInString(end.folded) >= minBeginning
	}
	for _, w := range together {
		p.words = append(p.words, w.folded)
	}
	return p
}

// matchAll returns phrases in the language of FTS5. Between quotes nothing but quotes has a
// meaning there, and no word has one.
func matchAll(phrases []phrase) string {
	var b strings.Builder
	for i, p := range phrases {
		if i > 0 {
			b.WriteString(" AND ")
		}
		b.WriteString(`"` + strings.ReplaceAll(strings.Join(p.words, " "), `"`, "") + `"`)
		if p.prefix {
			b.WriteString(" *")
		}
	}
	return b.String()
}

// matchPeople narrows text to talks in which all the people are.
func matchPeople(text string, people ...string) string {
	match := "words : (" + text + ")"
	for _, name := range people {
		match += ` AND people : "` + personWord(name) + `"`
	}
	return match
}

// personWord stands for a user in the index: exactly this one, whatever is in the name.
func personWord(name string) string { return hex.EncodeToString([]byte(name)) }

// findMarks returns where the phrases are in text.
func findMarks(text string, phrases []phrase) []Mark {
	all := slices.Collect(words(text))
	var marks []Mark
	for i := range all {
		for _, p := range phrases {
			if p.matches(all[i:]) {
				marks = append(marks, Mark{all[i].start, all[i+len(p.words)-1].end})
			}
		}
	}
	slices.SortStableFunc(marks, func(a, b Mark) int { return cmp.Compare(a.Start, b.Start) })
	apart := marks[:0]
	for _, m := range marks {
		if n := len(apart); n > 0 && m.Start <= apart[n-1].End {
			apart[n-1].End = max(apart[n-1].End, m.End)
			continue
		}
		apart = append(apart, m)
	}
	return apart
}

// matches reports whether text begins with p.
func (p phrase) matches(text []word) bool {
	if len(text) < len(p.words) {
		return false
	}
	for i, w := range p.words {
		got := text[i].folded
		if got != w && !(p.prefix && i == len(p.words)-1 && strings.HasPrefix(got, w)) {
			return false
		}
	}
	return true
}
