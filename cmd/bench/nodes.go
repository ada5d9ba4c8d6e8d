package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// twoNodes compares two nodes on one broker with one. A machine with two CPUs has one for the
// load and the broker, so that both nodes are on the other: what they would do with a CPU each
// is what they do for each second of CPU time, twice.
func twoNodes(protocol string) testCase {
	return testCase{name: "two nodes on one broker (NATS), 1,000 connections each, saturated", goals: []goal{
		{"deliveries of two CPUs, of one node's", "scaling", "%.2f ×", 1.7, true, 0},
	}, run: func(ctx context.Context, b *bench) (sample, error) {
		found := sample{}
		var errs []error
		for nodes, name := range map[int]string{1: "one", 2: "two"} {
			l := crowdLoad(protocol)
			l.Nodes, l.Connections, l.InFlight, l.Broker, l.Duration = nodes, 1000*nodes, 4, "nats", 6*time.Second
			got, err := l.sample(ctx, b)
			if got == nil {
				return nil, err
			}
			errs = append(errs, err)
			found[name+"_deliveries_per_cpu_second"] = 1e6 / got["cpu_us_per_delivery"]
			found[name+"_deliveries_per_second"] = got["deliveries_per_second"]
			found["load_cpu_percent"] = max(found["load_cpu_percent"], got["load_cpu_percent"])
		}
		found["scaling"] = 2 * found["two_deliveries_per_cpu_second"] / found["one_deliveries_per_cpu_second"]
		return found, errors.Join(errs...)
	}}
}

// sizeNames begin the names of the cases that make the tables of cost against size.
const (
	sizePrefix = "size: "
	nodePrefix = "nodes: "
)

// sizes are the costs of crowds and of clusters of several sizes, at the same pace.
func sizes(protocol string) (cs []testCase) {
	for _, n := range []int{100, 1000, 5000, 20_000} {
		l := crowdLoad(protocol)
		l.Connections, l.Rate, l.Duration = mostConnections(n), 10, 6*time.Second
		tc := loadCase(fmt.Sprintf("%s%d connections × 10 messages/s", sizePrefix, n), l)
		tc.once = true
		cs = append(cs, tc)
	}
	for n := range 3 {
		l := crowdLoad(protocol)
		l.Nodes, l.Connections, l.Rate, l.Broker, l.Duration = n+1, 1000*(n+1), 50, "nats", 6*time.Second
		tc := loadCase(fmt.Sprintf("%s%d × 1,000 connections × 50 messages/s", nodePrefix, n+1), l)
		tc.once = true
		cs = append(cs, tc)
	}
	return cs
}
