package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// sample is what one measurement of a case found, by name.
type sample map[string]float64

// goal is one number that a case is about.
type goal struct {
	name    string
	key     string // In the sample.
	format  string // Of the number, with its unit.
	limit   float64
	atLeast bool    // The limit is the least; else the most.
	ratio   float64 // The same for the number divided by the rival's; 0: it is not compared.
}

func (g goal) met(value float64) bool { return g.within(value, g.limit) }

func (g goal) within(value, limit float64) bool {
	if g.atLeast {
		return value >= limit
	}
	return value <= limit
}

// testCase is one kind of load with what it should cost.
type testCase struct {
	name  string
	goals []goal
	// run measures once. An error is that it could not, or errBroken with a sample: something
	// was not delivered as promised.
	run func(context.Context, *bench) (sample, error)
	// rival does the same to the server that is compared with; nil: there is none.
	rival func(context.Context, *bench) (sample, error)
	// once is a case that is not repeated: many of them make a table.
	once bool
}

// loadCase is a case of one load.
func loadCase(name string, l load, goals ...goal) testCase {
	return testCase{name: name, goals: goals, run: l.sample}
}

// against adds the same load on Centrifugo.
func (tc testCase) against(l load) testCase {
	l.Protocol, l.Archive = rivalName, false
	tc.rival = l.sample
	return tc
}

// sample puts l on a server once.
func (l load) sample(ctx context.Context, b *bench) (sample, error) {
	r, err := b.measure(ctx, l)
	if err != nil {
		return nil, err
	}
	if r.saturated() {
		fmt.Fprintf(b.log, "bench: the load itself used %.0f %% of its CPUs: the server may be quicker than that\n", r.LoadPercent)
	}
	return r.sample(), broken([]result{r})
}

// sample returns the numbers of r by their names in JSON.
func (r *result) sample() sample {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // There are only numbers in it.
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		panic(err)
	}
	s := sample{}
	for name, value := range all {
		switch value := value.(type) {
		case float64:
			s[name] = value
		case map[string]any:
			for inner, value := range value {
				if number, ok := value.(float64); ok && name != "load" {
					s[strings.TrimSuffix(name, "_ms")+"_"+inner+"_ms"] = number
				}
			}
		}
	}
	// For the tables, in units that people read.
	s["rss_kib_per_connection"] = r.BytesEach / 1024
	return s
}

func cpuEach(limit, ratio float64) goal {
	return goal{"CPU per delivery", "cpu_us_per_delivery", "%.2f µs", limit, false, ratio}
}

func connectCPU(limit float64) goal {
	return goal{"CPU for each newcomer", "connect_cpu_ms", "%.2f ms", limit, false, 0}
}

func p99(limit, ratio float64) goal {
	return goal{"p99", "latency_p99_ms", "%.1f ms", limit, false, ratio}
}

// crowdLoad is what the cases of one room begin with.
func crowdLoad(protocol string) load {
	return load{
		Protocol: protocol, Connections: 1000, Publishers: 10, Size: 128, Workers: 64,
		Warmup: 2 * time.Second, Duration: 8 * time.Second,
	}
}

// cases returns the table of goals. The protocol is the one of -proto; what is confirmed needs v1.
func cases(protocol string) []testCase {
	with := func(change func(*load)) load { l := crowdLoad(protocol); change(&l); return l }
	slow, quick := with(func(l *load) { l.Rate = 50 }), with(func(l *load) { l.Rate = 200 })
	full := with(func(l *load) { l.InFlight = 4 })
	idle := load{
		Protocol: protocol, Connections: 5000, Newcomers: 1000, Size: markerSize, Workers: 64,
		Idle: 8 * time.Second, Duration: time.Second,
	}
	most := mostConnections(20_000)
	all := load{
		Protocol: protocol, Connections: most, Publishers: 1, Rate: 1, Size: 128, Workers: 64,
		Warmup: time.Second, Duration: 5 * time.Second,
	}
	cs := []testCase{
		loadCase("1,000 connections × 50 messages/s", slow, cpuEach(6.5, 0.55), p99(10, 0.65), connectCPU(0.5)).against(slow),
		loadCase("1,000 connections × 200 messages/s", quick, cpuEach(3.2, 0.65)).against(quick),
		loadCase("saturation: 1,000 connections, 10 publishers with 4 in flight", full,
			goal{"deliveries", "deliveries_per_second", "%.0f/s", 2e6, true, 3.4}).against(full),
		loadCase("5,000 idle connections", idle,
			goal{"memory for each", "rss_kib_per_connection", "%.1f KiB", 16, false, 0.40},
			goal{"CPU for each of 1,000 newcomers", "newcomer_cpu_ms", "%.2f ms", 0.5, false, 0}).against(idle),
		loadCase("20,000 idle connections and a message to all", all,
			goal{"connections", "connected", "%.0f", 20_000, true, 0},
			goal{"until the last has it", "latency_max_ms", "%.0f ms", 1000, false, 0}),
		endToEnd("embedded NATS", "", 5000),
		endToEnd("Redis", "redis", 4000),
		endToEnd("RabbitMQ", "amqp", 2500),
		startCase(),
		twoNodes(protocol),
	}
	return append(append(cs, archiveCases()...), sizes(protocol)...)
}

// mostConnections is want, or what the system lets one process have.
func mostConnections(want int) int { return max(1, min(want, maxFiles()-200)) }

// endToEnd has 50 people say what is confirmed, shown to all and archived.
func endToEnd(name, broker string, limit float64) testCase {
	return loadCase("end to end, "+name+": 50 connections, all with 8 in flight", load{
		Protocol: "v1.json", Connections: 50, Publishers: 50, InFlight: 8, Size: 128, Workers: 50,
		Warmup: time.Second, Duration: 6 * time.Second, Archive: true, Broker: broker,
	},
		goal{"accepted and confirmed", "accepted_per_second", "%.0f/s", limit, true, 0},
		goal{"archived", "archived_per_second", "%.0f/s", limit, true, 0})
}
