package presence

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	users, local, nodes           prometheus.Gauge
	stale, expired, publishErrors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, log *slog.Logger) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return register[prometheus.Gauge](reg, log, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
	}
	counter := func(name, help string) prometheus.Counter {
		return register[prometheus.Counter](reg, log, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	return &metrics{
		users:         gauge("burrow_presence_users", "Users who are online on any node."),
		local:         gauge("burrow_presence_local_users", "Users with a lease of this node."),
		nodes:         gauge("burrow_presence_nodes", "Other nodes that are known, those included that were lost a moment ago."),
		stale:         counter("burrow_presence_stale_events_total", "Events that came after newer ones and had no effect."),
		expired:       counter("burrow_presence_expired_nodes_total", "Nodes that were not heard for a lease."),
		publishErrors: counter("burrow_presence_publish_errors_total", "Attempts to publish that failed and were repeated."),
	}
}

// register returns the collector that is registered already, if there is one.
func register[C prometheus.Collector](reg prometheus.Registerer, log *slog.Logger, c C) C {
	err := reg.Register(c)
	if again, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := again.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		log.Error("a metric of presence cannot be shown", "error", err)
	}
	return c
}
