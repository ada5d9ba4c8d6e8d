package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// twoNodes compares a node that has another one beside it with a node that is alone on the broker.
// Of two CPUs the measured node has one to itself; the other node shares its CPU with the load and
// the broker, and so has half of the publishers but no crowd. All that is said reaches both, as
// it would with two crowds: what two such nodes deliver in a second of their CPUs is twice what the
// measured one does. The pace is the same in both runs: at another one batches are larger or
// smaller, and cost other than they did, with one node as with two.
func twoNodes(protocol string) testCase {
	return testCase{name: "two nodes on one broker (NATS): 1,000 connections each × 200 messages/s", goals: []goal{
		{"deliveries for each second of CPU time, of one node's", "scaling", "%.2f ×", 1.7, true, 0},
	}, run: func(ctx context.Context, b *bench) (sample, error) {
		var alone, beside sample
		var errs []error
		for nodes, into := range []*sample{&alone, &beside} {
			l := crowdLoad(protocol)
			l.Nodes, l.Aside, l.Rate, l.Broker, l.Duration = nodes+1, nodes > 0, 200, "nats", 6*time.Second
			got, err := l.sample(ctx, b)
			if got == nil {
				return nil, err
			}
			*into, errs = got, append(errs, err)
		}
		found := sample{"scaling": 2 * alone["cpu_us_per_delivery"] / beside["cpu_us_per_delivery"]}
		for name, s := range map[string]sample{"alone": alone, "beside": beside} {
			for _, key := range []string{"deliveries_per_second", "cpu_us_per_delivery", "cpu_percent", "load_cpu_percent", "latency_p99_ms"} {
				found[name+"_"+key] = s[key]
			}
		}
		return found, errors.Join(errs...)
	}}
}

// These begin the names of the cases that make the tables of cost against size.
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
