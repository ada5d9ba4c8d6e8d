package main

import "time"

// goal is one number that a case is about.
type goal struct {
	name    string
	format  string // Of the number, with its unit.
	value   func(*result) float64
	limit   float64
	atLeast bool // The limit is the least; else the most.
}

func (g goal) met(value float64) bool {
	if g.atLeast {
		return value >= g.limit
	}
	return value <= g.limit
}

// testCase is one load with what it should cost.
type testCase struct {
	name  string
	load  load
	goals []goal
}

func cpuEach(limit float64) goal {
	return goal{"CPU per delivery", "%.2f µs", func(r *result) float64 { return r.CPUEach }, limit, false}
}

func connectCPU(limit float64) goal {
	return goal{"CPU for each newcomer", "%.2f ms", func(r *result) float64 { return r.ConnectCPU }, limit, false}
}

// cases returns the table. The protocol is the one of -proto.
func cases(protocol string) []testCase {
	fanout := load{
		Protocol: protocol, Connections: 1000, Publishers: 10, Size: 128, Workers: 64,
		Warmup: 3 * time.Second, Duration: 15 * time.Second,
	}
	with := func(change func(*load)) load { l := fanout; change(&l); return l }
	return []testCase{
		{"1,000 connections × 50 messages/s", with(func(l *load) { l.Rate = 50 }), []goal{
			cpuEach(6.5),
			{"p99", "%.1f ms", func(r *result) float64 { return r.Latency.P99 }, 10, false},
			connectCPU(0.5),
		}},
		{"1,000 connections × 200 messages/s", with(func(l *load) { l.Rate = 200 }), []goal{cpuEach(3.2)}},
		{"saturation: 1,000 connections, 10 publishers with 4 in flight", with(func(l *load) { l.InFlight = 4 }), []goal{
			{"deliveries", "%.0f/s", func(r *result) float64 { return r.DeliveryRate }, 2e6, true},
		}},
		{"5,000 idle connections", load{
			Protocol: protocol, Connections: 5000, Size: markerSize, Workers: 64, Idle: 10 * time.Second, Duration: time.Second,
		}, []goal{
			{"memory for each", "%.1f KiB", func(r *result) float64 { return r.BytesEach / 1024 }, 16, false},
			connectCPU(0.5),
		}},
		{"end to end: 50 connections, all with 8 in flight, archived", load{
			Protocol: protocol, Connections: 50, Publishers: 50, InFlight: 8, Size: 128, Workers: 50,
			Warmup: 2 * time.Second, Duration: 10 * time.Second, Archive: true,
		}, []goal{
			{"accepted", "%.0f/s", func(r *result) float64 { return r.AcceptedRate }, 5000, true},
			{"archived", "%.0f/s", func(r *result) float64 { return r.ArchivedRate }, 5000, true},
		}},
	}
}
