package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// usage is what a process has used so far, by /proc. Zero is a process that is not known.
type usage struct {
	cpu  time.Duration
	rss  int64 // Bytes.
	peak int64
}

// readUsage asks the system about the process pid; 0 is nobody.
func readUsage(pid int) (usage, error) {
	if pid == 0 {
		return usage{}, nil
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, fmt.Errorf("what the server uses cannot be read: %w", err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, fmt.Errorf("what the server uses cannot be read: %w", err)
	}
	return parseUsage(stat, status)
}

// tick is the unit of times in /proc; Linux has it at 100 a second for every program.
const tick = 10 * time.Millisecond

func parseUsage(stat, status []byte) (usage, error) {
	// The name stands in parentheses and may hold anything; then state, and 10 fields before
	// the user time.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("/proc: this is no stat: %q", stat)
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return usage{}, fmt.Errorf("/proc: this is no stat: %q", stat)
	}
	u := usage{cpu: time.Duration(user+system) * tick}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		var to *int64
		switch string(name) {
		case "VmRSS":
			to = &u.rss
		case "VmHWM":
			to = &u.peak
		default:
			continue
		}
		kb, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("/proc: this is no status: %q", line)
		}
		*to = kb << 10
	}
	if u.rss == 0 {
		return usage{}, fmt.Errorf("/proc: the process has ended")
	}
	return u, nil
}
