package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// errBroken is what a measurement ends with that was not delivered as promised.
var errBroken = errors.New("not everything arrived once and in order")

// runOne measures the load of the flags.
func (b *bench) runOne(ctx context.Context, stdout io.Writer) error {
	var results []result
	for range b.opts.repeats {
		r, err := b.measure(ctx, b.opts.load)
		if err != nil {
			return err
		}
		results = append(results, r)
		if b.opts.json != "-" {
			if err := writeResult(stdout, &r); err != nil {
				return err
			}
		}
	}
	return errors.Join(b.writeJSON(stdout, results), broken(results))
}

// runCases measures the cases, prints what they found beside the goals, as Markdown, and brings
// the documents up to date.
func (b *bench) runCases(ctx context.Context, stdout io.Writer) error {
	report := newReport(b.opts.rival != "")
	var errs []error
	all := cases(b.opts.load.Protocol)
	if b.opts.json != "-" {
		fmt.Fprint(stdout, tableHead)
	}
	for _, tc := range all {
		if !b.opts.only.MatchString(tc.name) {
			continue
		}
		found, err := b.runCase(ctx, tc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", tc.name, err))
		}
		if ctx.Err() != nil {
			return errors.Join(errs...)
		}
		if len(found.Samples) == 0 {
			continue
		}
		report.Cases = append(report.Cases, found)
		if b.opts.json != "-" {
			fmt.Fprint(stdout, rows(tc, found))
		}
	}
	if b.opts.docs != "" {
		errs = append(errs, updateDocs(b.opts.docs, report, all))
	}
	return errors.Join(append(errs, b.writeJSON(stdout, report))...)
}

// runCase measures tc as often as -repeat says, in turns with the rival. An error is that it
// could not always be measured, or that not everything arrived as promised.
func (b *bench) runCase(ctx context.Context, tc testCase) (measured, error) {
	found := measured{Name: tc.name, At: time.Now().UTC().Format("2006-01-02 15:04 MST")}
	var errs []error
	repeats := b.opts.repeats
	if tc.once {
		repeats = 1
	}
	for range repeats {
		got, err := tc.run(ctx, b)
		if err != nil {
			errs = append(errs, err)
		}
		if got == nil {
			break // It cannot be measured, and will not be the next time.
		}
		found.Samples = append(found.Samples, got)
		if tc.rival == nil || b.opts.rival == "" {
			continue
		}
		// What the rival loses is its own affair, but is told.
		got, err = tc.rival(ctx, b)
		if err != nil {
			fmt.Fprintf(b.log, "bench: %s: %s: %v\n", rivalName, tc.name, err)
		}
		if got != nil {
			found.Rival = append(found.Rival, got)
		}
	}
	if err := errors.Join(errs...); err != nil {
		found.Broken = err.Error()
		return found, err
	}
	return found, nil
}

// median returns the middle of values, of which there is at least one.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

func broken(results []result) error {
	var errs []error
	for i := range results {
		if what := results[i].broken(); what != "" {
			errs = append(errs, fmt.Errorf("%w: %s", errBroken, what))
		}
	}
	return errors.Join(errs...)
}

// writeJSON writes results where -json says.
func (b *bench) writeJSON(stdout io.Writer, results any) error {
	if b.opts.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if b.opts.json == "-" {
		_, err = stdout.Write(text)
		return err
	}
	return os.WriteFile(b.opts.json, text, 0o644)
}

// writeResult prints r for people.
func writeResult(w io.Writer, r *result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	line("connections", "%d in %.2f s, %.2f ms of CPU each", r.Connected, r.ConnectWall, r.ConnectCPU)
	line("memory", "%.1f KiB each when idle (%.1f MiB before, %.1f MiB at most)", r.BytesEach/1024, mib(r.RSSBefore), mib(r.RSSPeak))
	if r.Load.Newcomers > 0 {
		line("newcomers", "%.2f ms of CPU for each of %d", r.NewcomerCPU, r.Load.Newcomers)
	}
	if r.Load.Idle > 0 {
		line("idle", "%.1f %% of a core", r.IdleCPU)
	}
	if r.Load.Publishers > 0 {
		line("deliveries", "%.0f/s, %d in %.1f s", r.DeliveryRate, r.Deliveries, r.Measured)
		line("accepted", "%.0f/s, %d in all, %d refused, %d confirmed", r.AcceptedRate, r.Accepted, r.Refused, r.Acked)
		line("CPU", "%.2f µs per delivery, %.0f %% of a core; the load used %.0f %% of its CPUs", r.CPUEach, r.CPUPercent, r.LoadPercent)
		line("latency", "p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
		line("promises", "%d lost, %d doubled, %d out of order, %d connections ended by the server", r.Lost, r.Doubled, r.Reordered, r.Closed)
	}
	if r.Load.Archive {
		line("archive", "%.0f/s, %d rows, %d missing, %d twice", r.ArchivedRate, r.Archived, r.ArchiveLost, r.ArchivedTwice)
	}
	fmt.Fprintln(t)
	return t.Flush()
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
