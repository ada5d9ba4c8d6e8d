package router

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	handledSeconds *prometheus.HistogramVec
	publishSeconds *prometheus.HistogramVec
	publishedTotal *prometheus.CounterVec
	inFlight       *prometheus.GaugeVec
	reopened       *prometheus.CounterVec
	deadLetters    *prometheus.CounterVec
	up             *prometheus.GaugeVec
	gaps           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(50e-6, 4, 10) // 50 µs to 13 s
	m := &metrics{
		handledSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "burrow_function_seconds", Help: "Time that a function took for a message, all attempts together.", Buckets: buckets,
		}, []string{"function", "topic", "result"}),
		publishSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "burrow_publish_seconds", Help: "Time until the broker confirmed.", Buckets: buckets,
		}, []string{"topic", "result"}),
		publishedTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "burrow_published_total", Help: "Messages given to the broker.",
		}, []string{"topic", "result"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "burrow_function_in_flight", Help: "Messages that a function is handling.",
		}, []string{"function", "topic"}),
		reopened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "burrow_subscription_reopened_total", Help: "Subscriptions that were lost and opened again.",
		}, []string{"function", "topic"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "burrow_dead_letters_total", Help: "Messages that a function gave up on.",
		}, []string{"function", "topic"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "burrow_subscription_up", Help: "1 while the subscription reads, 0 while it is being opened again.",
		}, []string{"function", "topic"}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "burrow_subscription_gaps_total", Help: "Times that events were gone before the subscription had seen them.",
		}, []string{"function", "topic"}),
	}
	for _, c := range []prometheus.Collector{
		m.handledSeconds, m.publishSeconds, m.publishedTotal, m.inFlight, m.reopened, m.deadLetters, m.up, m.gaps,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) published(topic string, n int, took time.Duration, err error) {
	m.publishSeconds.WithLabelValues(topic, result(err)).Observe(took.Seconds())
	m.publishedTotal.WithLabelValues(topic, result(err)).Add(float64(n))
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
