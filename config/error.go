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
