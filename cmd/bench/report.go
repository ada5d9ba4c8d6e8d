package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
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

// runCases measures the cases and prints what they found beside the goals, as Markdown.
func (b *bench) runCases(ctx context.Context, stdout io.Writer) error {
	var all []result
	var errs []error
	if b.opts.json != "-" {
		fmt.Fprint(stdout, "| case | | measured | goal | |\n| --- | --- | ---: | ---: | --- |\n")
	}
	for _, tc := range cases(b.opts.load.Protocol) {
		if !b.opts.only.MatchString(tc.name) {
			continue
		}
		var results []result
		for range b.opts.repeats {
			r, err := b.measure(ctx, tc.load)
			if err != nil {
				return fmt.Errorf("%s: %w", tc.name, err)
			}
			results = append(results, r)
		}
		all = append(all, results...)
		if b.opts.json != "-" {
			fmt.Fprint(stdout, rows(tc, results))
		}
		if err := broken(results); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", tc.name, err))
		}
	}
	return errors.Join(append(errs, b.writeJSON(stdout, all))...)
}

// rows returns the rows of a case in the table: the median of each number.
func rows(tc testCase, results []result) string {
	var out strings.Builder
	for _, g := range tc.goals {
		values := make([]float64, len(results))
		for i := range results {
			values[i] = g.value(&results[i])
		}
		value := median(values)
		sign, verdict := "≤", "met"
		if g.atLeast {
			sign = "≥"
		}
		if !g.met(value) {
			verdict = "missed"
		}
		fmt.Fprintf(&out, "| %s | %s | "+g.format+" | %s "+g.format+" | %s |\n", tc.name, g.name, value, sign, g.limit, verdict)
	}
	return out.String()
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
func (b *bench) writeJSON(stdout io.Writer, results []result) error {
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
	if r.Load.Idle > 0 {
		line("idle", "%.1f %% of a core", r.IdleCPU)
	}
	if r.Load.Publishers > 0 {
		line("deliveries", "%.0f/s, %d in %.1f s", r.DeliveryRate, r.Deliveries, r.Measured)
		line("accepted", "%.0f/s, %d in all, %d refused", r.AcceptedRate, r.Accepted, r.Refused)
		line("CPU", "%.2f µs per delivery, %.0f %% of a core", r.CPUEach, r.CPUPercent)
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
