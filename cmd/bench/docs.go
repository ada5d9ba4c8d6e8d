package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// updateDocs puts what was measured into performance.json and the tables of performance.md. Cases
// that were not measured this time keep what was found before.
func updateDocs(dir string, now report, all []testCase) error {
	path := filepath.Join(dir, "performance.json")
	kept := report{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	merged := merge(kept, now, all)
	if text, err = json.MarshalIndent(merged, "", "\t"); err != nil {
		return err
	}
	page := filepath.Join(dir, "performance.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	updated, err := fillPage(old, &merged, all)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return errors.Join(os.WriteFile(path, append(text, '\n'), 0o644), os.WriteFile(page, updated, 0o644))
}

// merge returns what was found last in each case, in the order of the cases.
func merge(kept, now report, all []testCase) report {
	merged := report{Machine: now.Machine, Command: now.Command}
	for _, tc := range all {
		m, found := now.find(tc.name)
		if !found {
			m, found = kept.find(tc.name)
		}
		if found {
			merged.Cases = append(merged.Cases, m)
		}
	}
	return merged
}

// fillPage replaces what stands between the markers of a page.
func fillPage(page []byte, r *report, all []testCase) ([]byte, error) {
	var days []string
	for _, m := range r.Cases {
		if day, _, _ := strings.Cut(m.At, " "); !slices.Contains(days, day) {
			days = append(days, day)
		}
	}
	slices.Sort(days)
	for name, text := range map[string]string{
		"about": fmt.Sprintf("Measured on %s: %s, with `%s`.\n", strings.Join(days, ", "), r.Machine, r.Command),
		"goals": goalRows(r, all),
		"sizes": sizeRows(r, all, sizePrefix),
		"nodes": sizeRows(r, all, nodePrefix),
	} {
		begin, end := []byte("<!-- bench "+name+" -->\n"), []byte("<!-- end of "+name+" -->")
		from, to := bytes.Index(page, begin), bytes.Index(page, end)
		if from < 0 || to < from {
			return nil, fmt.Errorf("there is no place for %q: %s… %s", name, bytes.TrimSpace(begin), end)
		}
		page = slices.Concat(page[:from+len(begin)], []byte("\n"+text+"\n"), page[to:])
	}
	return page, nil
}

// machine says what this one is.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
