package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRowsCompareWithTheGoalAndTheRival(t *testing.T) {
	tc := testCase{name: "n", goals: []goal{
		cpuEach(6.5, 0.5),
		{"deliveries", "deliveries_per_second", "%.0f/s", 100, true, 3},
		{"memory", "nobody_measures_it", "%.1f KiB", 1, false, 0},
	}}
	m := measured{
		Samples: []sample{
			{"cpu_us_per_delivery": 9, "deliveries_per_second": 99},
			{"cpu_us_per_delivery": 1, "deliveries_per_second": 1000},
			{"cpu_us_per_delivery": 6.5, "deliveries_per_second": 50},
		},
		Rival:  []sample{{"cpu_us_per_delivery": 10, "deliveries_per_second": 20}},
		Broken: "one lost\ntwo | lost",
	}
	want := "| n | CPU per delivery | 6.50 µs | ≤ 6.50 µs | met | 10.00 µs | 0.65 | ≤ 0.50 | **missed** |\n" +
		"| n | deliveries | 99/s | ≥ 100/s | **missed** | 20/s | 4.95 | ≥ 3.00 | met |\n" +
		"| n | memory | not measured | | | | | | |\n" +
		"| n | **not as promised** | one lost; two / lost | | | | | | |\n"
	if got := rows(tc, m); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestDocumentsKeepWhatWasNotMeasuredAgain measures two cases one after the other.
func TestDocumentsKeepWhatWasNotMeasuredAgain(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "performance.md")
	text := "# Page\n"
	for _, name := range []string{"about", "goals", "sizes", "nodes"} {
		text += "<!-- bench " + name + " -->\nold " + name + "\n<!-- end of " + name + " -->\nwritten by hand\n"
	}
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	memory := goal{name: "memory", key: "memory", format: "%.0f KiB", limit: 10}
	all := []testCase{
		{name: "first", goals: []goal{memory}}, {name: "second", goals: []goal{memory}}, {name: sizePrefix + "1 connection"},
	}
	for _, m := range []measured{
		{Name: "second", At: "2026-11-01 10:00 UTC", Samples: []sample{{"memory": 1}}},
		{Name: "first", At: "2026-11-02 10:00 UTC", Samples: []sample{{"memory": 20}}},
		{Name: sizePrefix + "1 connection", At: "2026-11-02 10:00 UTC", Samples: []sample{{"cpu_us_per_delivery": 3}}},
	} {
		if err := updateDocs(dir, report{Machine: "a machine", Command: "make bench", Cases: []measured{m}}, all); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2026-11-01, 2026-11-02: a machine, with `make bench`",
		"| first | memory | 20 KiB | ≤ 10 KiB | **missed** | | | | |\n| second | memory | 1 KiB | ≤ 10 KiB | met |",
		"| 1 connection | 0 | 3.00 |",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the page does not say %q:\n%s", want, got)
		}
	}
	if n := strings.Count(string(got), "written by hand"); n != 4 || strings.Contains(string(got), "old ") {
		t.Errorf("%d of 4 parts written by hand are left, and what stood between the markers is not gone:\n%s", n, got)
	}
	if _, err := fillPage([]byte("no markers"), &report{}, nil); err == nil {
		t.Error("a page without markers was filled")
	}
}

func TestEveryCaseHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, tc := range cases("plain") {
		if seen[tc.name] || tc.run == nil {
			t.Errorf("%q stands twice, or cannot be run", tc.name)
		}
		seen[tc.name] = true
	}
}

// TestBrokenSamplesAreKept runs a case that finds something and complains.
func TestBrokenSamplesAreKept(t *testing.T) {
	b := &bench{opts: options{repeats: 2}}
	tc := testCase{name: "n", run: wrong}
	m, err := b.runCase(t.Context(), tc)
	if !errors.Is(err, errBroken) || len(m.Samples) != 2 || m.Broken == "" {
		t.Errorf("%v, %+v", err, m)
	}
}
