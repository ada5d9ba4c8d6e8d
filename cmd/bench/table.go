package main

import (
	"fmt"
	"strings"
)

// measured is what was found in one case.
type measured struct {
	Name    string   `json:"name"`
	At      string   `json:"at"`
	Samples []sample `json:"samples"`
	Rival   []sample `json:"centrifugo,omitempty"`
	Broken  string   `json:"broken,omitempty"` // What was not as promised.
}

// report is what docs/performance.json holds.
type report struct {
	Machine string     `json:"machine"`
	Command string     `json:"command"`
	Cases   []measured `json:"cases"`
}

func newReport(rival bool) report {
	command := "make bench"
	if rival {
		command += " CENTRIFUGO=/path/to/centrifugo"
	}
	return report{Machine: machine(), Command: command}
}

// find returns what was found in the case with a name.
func (r *report) find(name string) (measured, bool) {
	for _, m := range r.Cases {
		if m.Name == name {
			return m, true
		}
	}
	return measured{}, false
}

// middle returns the median of a number; false: nobody measured it.
func middle(samples []sample, key string) (float64, bool) {
	var values []float64
	for _, s := range samples {
		if value, ok := s[key]; ok {
			values = append(values, value)
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	return median(values), true
}

const tableHead = "| case | | Burrow | goal | | Centrifugo | of it | goal | |\n" +
	"| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |\n"

// rows returns the rows of a case in the table of goals: the median of each number.
func rows(tc testCase, m measured) string {
	var out strings.Builder
	for _, g := range tc.goals {
		value, ok := middle(m.Samples, g.key)
		if !ok {
			fmt.Fprintf(&out, "| %s | %s | not measured | | | | | | |\n", tc.name, g.name)
			continue
		}
		fmt.Fprintf(&out, "| %s | %s | "+g.format+" | %s | %s | ", tc.name, g.name, value, g.bound(g.format, g.limit), verdict(g.met(value)))
		rival, known := middle(m.Rival, g.key)
		if g.ratio == 0 || !known || rival == 0 {
			fmt.Fprint(&out, "| | | |\n")
			continue
		}
		fmt.Fprintf(&out, g.format+" | %.2f | %s | %s |\n", rival, value/rival, g.bound("%.2f", g.ratio), verdict(g.within(value/rival, g.ratio)))
	}
	if used, _ := middle(m.Samples, "load_cpu_percent"); used >= loadLimit {
		fmt.Fprintf(&out, "| %s | *the load was the limit* | %.0f %% of its CPUs | | | | | | |\n", tc.name, used)
	}
	if m.Broken != "" {
		fmt.Fprintf(&out, "| %s | **not as promised** | %s | | | | | | |\n", tc.name, oneLine(m.Broken))
	}
	return out.String()
}

// bound returns a limit as people write it.
func (g goal) bound(format string, limit float64) string {
	sign := "≤ "
	if g.atLeast {
		sign = "≥ "
	}
	return sign + fmt.Sprintf(format, limit)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// oneLine keeps text within a cell of a table.
func oneLine(text string) string {
	return strings.NewReplacer("\n", "; ", "|", "/").Replace(strings.TrimSpace(text))
}

// sizeRows returns the table of the cases whose names begin with prefix.
func sizeRows(r *report, all []testCase, prefix string) string {
	var out strings.Builder
	fmt.Fprint(&out, "| | deliveries/s | CPU µs/delivery | CPU, % of a core | p50 ms | p99 ms | KiB/connection | peak MiB | load, % of its CPUs |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, tc := range all {
		name, ours := strings.CutPrefix(tc.name, prefix)
		m, known := r.find(tc.name)
		if !ours || !known {
			continue
		}
		cell := func(key string) float64 { value, _ := middle(m.Samples, key); return value }
		fmt.Fprintf(&out, "| %s | %.0f | %.2f | %.0f | %.1f | %.1f | %.1f | %.0f | %.0f |\n", name, cell("deliveries_per_second"), cell("cpu_us_per_delivery"),
			cell("cpu_percent"), cell("latency_p50_ms"), cell("latency_p99_ms"), cell("rss_kib_per_connection"), cell("rss_peak_bytes")/(1<<20), cell("load_cpu_percent"))
	}
	return out.String()
}

// goalRows returns the table of goals.
func goalRows(r *report, all []testCase) string {
	var out strings.Builder
	fmt.Fprint(&out, tableHead)
	for _, tc := range all {
		if m, known := r.find(tc.name); known {
			fmt.Fprint(&out, rows(tc, m))
		}
	}
	return out.String()
}
