package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems bounds a report: a file with more is most likely no configuration of ours.
const maxProblems = 50

// Problem is one thing wrong with the configuration, and how to mend it. It never
// holds the value of a secret.
type Problem struct {
	File         string // the configuration file, or empty
	Line, Column int    // where in File, both from 1; the column counts characters
	Env          string // or the environment variable
	Key          string // the full key, as "edge.queue"; empty where there is none to tell
	Message      string
}

// Error returns "config.toml:12:9: edge.queue: message" or "BURROW_EDGE_QUEUE: message".
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Env != "":
		b.WriteString(p.Env + ": ")
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Key != "" && p.Env == "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Error is everything wrong with the configuration: the file from top to bottom,
// then the environment by name. errors.As finds each *Problem too.
type Error struct{ Problems []*Problem }

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

func sortProblems(ps []*Problem) {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Env, b.Env), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest returns the candidate that word was most likely meant to be, or "".
func nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	best, least := "", max(2, len(word)/4)+1
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	for _, c := range candidates {
		if d := distance(word, strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return ", did you mean " + word + "?"
}

// distance counts the typing mistakes between a and b: letters missing, added,
// changed, or swapped with their neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			if i == 0 || j == 0 {
				rows[i][j] = i + j
				continue
			}
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
