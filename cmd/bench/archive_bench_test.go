package main

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BenchmarkArchive is the case of the archive's pace, for profiles.
func BenchmarkArchive(b *testing.B) {
	const messages = 20_000
	b.ReportAllocs()
	dir := b.TempDir()
	var ours, alone time.Duration
	turns := 0
	for b.Loop() {
		turns++
		ms := archiveTasks(messages)
		took, err := archivePace(b.Context(), filepath.Join(dir, "ours"+strconv.Itoa(turns)), ms)
		if err != nil {
			b.Fatal(err)
		}
		ours += took
		if took, err = insertPace(b.Context(), filepath.Join(dir, "alone"+strconv.Itoa(turns)), ms); err != nil {
			b.Fatal(err)
		}
		alone += took
	}
	n := float64(turns * messages)
	b.ReportMetric(0, "ns/op") // A turn is of no interest.
	b.ReportMetric(n/ours.Seconds(), "rows/s")
	b.ReportMetric(n/alone.Seconds(), "rows/s-alone")
	b.ReportMetric(alone.Seconds()/ours.Seconds(), "of-alone")
}
