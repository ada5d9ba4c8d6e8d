package routertest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Main is TestMain of a binary with the suite. It runs the tests, more of them at
// the same time than Go does by itself, since most wait, and writes the table where
// the flags say. It is also the main of the processes that the suite kills.
func Main(m *testing.M, brokers ...Broker) int {
	if os.Getenv(childEnv) != "" {
		return childMain()
	}
	matrix := flag.String("matrix", "", "write the table of brokers and promises to this file")
	update := flag.String("update", "", "put the table into this file, between its marks")
	parallel := os.Getenv("BURROW_CONFORMANCE_PARALLEL")
	if parallel == "" {
		parallel = "32"
	}
	if err := flag.Set("test.parallel", parallel); err != nil { // the command line overrides it
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	flag.Parse()
	status := m.Run()
	table := Table(brokers...)
	if *matrix != "" {
		if err := os.WriteFile(*matrix, []byte(table), 0o666); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	if *update != "" && status == 0 {
		if err := updateDocs(*update, table); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	return status
}

// Cells of the table.
const (
	kept     = "✓"
	declared = "–"
	failed   = "✗ FAILED"
	absent   = "no broker"
	notRun   = "not run"
)

type resultKey struct{ broker, promise string }

var results = resultLog{cells: make(map[resultKey]string)}

type resultLog struct {
	mu    sync.Mutex
	cells map[resultKey]string
}

// record notes how the test t of p on b ends.
func (l *resultLog) record(t *testing.T, b Broker, p Promise) {
	t.Cleanup(func() {
		cell := kept
		switch {
		case t.Failed():
			cell = failed
		case t.Skipped() && b.lacks(p) != "":
			cell = declared
		case t.Skipped():
			cell = absent
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cells[resultKey{b.Name, p.Name}] = cell
	})
}

func (l *resultLog) cell(b Broker, p Promise) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cell := l.cells[resultKey{b.Name, p.Name}]; cell != "" {
		return cell
	}
	return notRun
}

// Table returns the results so far in Markdown, with the reasons for what brokers
// do not promise below.
func Table(brokers ...Broker) string {
	var out strings.Builder
	var reasons []string
	out.WriteString("| |")
	for _, b := range brokers {
		out.WriteString(" " + b.Name + " |")
	}
	out.WriteString("\n| --- |" + strings.Repeat(" --- |", len(brokers)) + "\n")
	heading := ""
	for _, p := range Promises() {
		if p.Group != heading {
			heading = p.Group
			out.WriteString("| **" + heading + "** |" + strings.Repeat(" |", len(brokers)) + "\n")
		}
		out.WriteString("| " + p.Name + " |")
		for _, b := range brokers {
			cell := results.cell(b, p)
			if cell == declared {
				reason := b.lacks(p)
				if !slices.Contains(reasons, reason) {
					reasons = append(reasons, reason)
				}
				cell = fmt.Sprintf("%s (%d)", declared, slices.Index(reasons, reason)+1)
			}
			out.WriteString(" " + cell + " |")
		}
		out.WriteString("\n")
	}
	for i, reason := range reasons {
		if i == 0 {
			out.WriteString("\nNot promised, because:\n\n")
		}
		fmt.Fprintf(&out, "%d. %s\n", i+1, reason)
	}
	return out.String()
}

// The table in the documentation stands between these.
const (
	tableBegin = "<!-- conformance: written by make conformance-docs -->\n"
	tableEnd   = "<!-- end of conformance -->\n"
)

// cutTable returns what is before, between and after the marks.
func cutTable(file []byte) (before, table, after []byte, err error) {
	before, rest, begins := bytes.Cut(file, []byte(tableBegin))
	table, after, ends := bytes.Cut(rest, []byte(tableEnd))
	if !begins || !ends {
		return nil, nil, nil, fmt.Errorf("there is no pair of lines %q and %q", tableBegin, tableEnd)
	}
	return before, table, after, nil
}

// updateDocs puts table into a file. One with gaps or failures is for no document.
func updateDocs(name, table string) error {
	for _, cell := range []string{failed, absent, notRun} {
		if strings.Contains(table, "| "+cell+" |") {
			return fmt.Errorf("%s is not changed: the table has cells with %q", name, cell)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, _, after, err := cutTable(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, slices.Concat(before, []byte(tableBegin+"\n"+table+"\n"+tableEnd), after), 0o666)
}

// CheckDocs returns an error if the table in a file has not these promises, or not
// these gaps. Whether they are kept the tests tell.
func CheckDocs(file []byte, brokers ...Broker) error {
	_, table, _, err := cutTable(file)
	if err != nil {
		return err
	}
	var want, have []string
	for _, p := range Promises() {
		row := p.Name + ":"
		for _, b := range brokers {
			row += " " + mark(b.lacks(p) != "")
		}
		want = append(want, row)
	}
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != len(brokers)+1 || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| | ") {
			continue // a heading, or text
		}
		row := strings.TrimPrefix(cells[0], "| ") + ":"
		for _, cell := range cells[1:] {
			row += " " + mark(strings.HasPrefix(cell, declared))
		}
		have = append(have, row)
	}
	var errs []error
	for _, row := range want {
		if !slices.Contains(have, row) {
			errs = append(errs, fmt.Errorf("the document does not say: %s", row))
		}
	}
	for _, row := range have {
		if !slices.Contains(want, row) {
			errs = append(errs, fmt.Errorf("the document says, and the suite does not: %s", row))
		}
	}
	return errors.Join(errs...)
}

// mark is a cell as far as the suite knows it without running.
func mark(lacks bool) string {
	if lacks {
		return declared
	}
	return kept
}
