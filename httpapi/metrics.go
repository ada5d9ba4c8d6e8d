package httpapi

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what the edge counts.
type metrics struct {
	sessions   prometheus.Gauge
	received   *prometheus.CounterVec
	published  prometheus.Histogram
	messages   prometheus.Counter
	repeated   prometheus.Counter
	seeded     prometheus.Counter
	deliveries prometheus.Counter
	written    prometheus.Counter
	closes     *prometheus.CounterVec
	panics     prometheus.Counter
	limited    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "burrow", Subsystem: "edge", Name: name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "burrow", Subsystem: "edge", Name: "sessions",
			Help: "WebSockets that are open.",
		}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "burrow", Subsystem: "edge", Name: "frames_received_total",
			Help: "Frames that clients sent, by result: ok, or the code of the error that they got.",
		}, []string{"result"}),
		published: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "burrow", Subsystem: "edge", Name: "publish_seconds",
			Help:    "Time from taking a message to the broker's confirm or refusal.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		messages:   counter("messages_total", "Messages that came from the broker, without repeated ones."),
		repeated:   counter("messages_repeated_total", "Messages that came from the broker again and were not shown again."),
		seeded:     counter("messages_seeded_total", "Messages that came from the archive."),
		deliveries: counter("deliveries_total", "Messages put into the queues of sessions."),
		written:    counter("written_bytes_total", "Bytes written to WebSockets."),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "burrow", Subsystem: "edge", Name: "closes_total",
			Help: "WebSockets that ended, by close code; lost: without one.",
		}, []string{"code"}),
		panics:  counter("panics_total", "Panics in the code of a session: bugs."),
		limited: newLimited(),
	}
	for _, c := range []prometheus.Collector{
		m.sessions, m.received, m.published, m.messages, m.repeated, m.seeded, m.deliveries, m.written, m.closes, m.panics,
		m.limited,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("httpapi: register metrics: %w", err)
		}
	}
	return m, nil
}

// newLimited returns the one metric of the edge that a node without an edge has too.
func newLimited() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "burrow", Subsystem: "edge", Name: "limited_total",
		Help: "Requests that got 429, by what their address had too many of.",
	}, []string{"limit"})
}

// closed counts the end of a session.
func (m *metrics) closed(label string) { m.closes.WithLabelValues(label).Inc() }

// closeLabel returns code as a label; what a peer makes up is "other".
func closeLabel(code int) string {
	switch code {
	case 1000, closeGoingAway, closeProtocol, closeUnsupportedData, closeNoStatus, closeInvalidText, closeTooBig,
		closeInternal, closeRestart, closeTryLater, closeExpired, closeRateLimited:
		return strconv.Itoa(code)
	}
	return "other"
}
