package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appends       *prometheus.CounterVec
	appendSeconds prometheus.Histogram
	batchSize     prometheus.Histogram
	commitSeconds prometheus.Histogram
	duplicates    prometheus.Counter
	refs          *prometheus.CounterVec
	refSeconds    prometheus.Histogram
	searches      *prometheus.CounterVec
	searchSeconds prometheus.Histogram
	indexedTotal  prometheus.Counter
	indexErrors   prometheus.Counter
	indexBehind   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "burrow_store_appends_total",
			Help: "Messages given to the archive, by result: ok, refused (can never be stored), canceled (the caller left), error.",
		}, []string{"result"}),
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "burrow_store_append_seconds",
			Help:    "Time from the call until the message was on disk, for those that were stored.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 13), // 0.1 ms to 6 s
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "burrow_store_append_batch_size",
			Help:    "Messages and refs that shared one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9), // 1 to maxBatch
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "burrow_store_commit_seconds",
			Help:    "Time of one transaction of messages and refs, the wait for other processes included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 13),
		}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "burrow_store_duplicates_total",
			Help: "Messages that were in the archive already and were not stored again.",
		}),
	}
	m.refs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "burrow_store_refs_total",
		Help: "Refs of senders, by result: new, known (the ref stood for an id already), refused (not valid), canceled (the caller left), error.",
	}, []string{"result"})
	m.refSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "burrow_store_ref_seconds",
		Help:    "Time from the call until it was on disk what a ref stands for.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 13),
	})
	m.searches = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "burrow_store_searches_total",
		Help: "Searches of the archive, by result: ok, refused (nothing to look for), canceled (the caller left, or it took too long), error.",
	}, []string{"result"})
	m.searchSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "burrow_store_search_seconds",
		Help:    "Time of a search that was answered.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 13),
	})
	m.indexedTotal = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "burrow_store_indexed_total",
		Help: "Messages that this process took into the index of words.",
	})
	m.indexErrors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "burrow_store_index_errors_total",
		Help: "Transactions of the index of words that failed; they are tried again.",
	})
	m.indexBehind = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "burrow_store_index_behind",
		Help: "Archived messages that search did not find when this process last wrote the index.",
	})
	var errs [12]error
	m.appends, errs[0] = register(reg, m.appends)
	m.appendSeconds, errs[1] = register(reg, m.appendSeconds)
	m.batchSize, errs[2] = register(reg, m.batchSize)
	m.commitSeconds, errs[3] = register(reg, m.commitSeconds)
	m.duplicates, errs[4] = register(reg, m.duplicates)
	m.refs, errs[5] = register(reg, m.refs)
	m.refSeconds, errs[6] = register(reg, m.refSeconds)
	m.searches, errs[7] = register(reg, m.searches)
	m.searchSeconds, errs[8] = register(reg, m.searchSeconds)
	m.indexedTotal, errs[9] = register(reg, m.indexedTotal)
	m.indexErrors, errs[10] = register(reg, m.indexErrors)
	m.indexBehind, errs[11] = register(reg, m.indexBehind)
	return m, errors.Join(errs[:]...)
}

// register returns the collector that is registered already, if there is one:
// a store may be opened again in a process that keeps its registry.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	if again, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := again.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, err
}

func (m *metrics) appended(took time.Duration, err error) {
	if err == nil {
		m.appendSeconds.Observe(took.Seconds())
	}
	m.appends.WithLabelValues(resultOf("ok", err)).Inc()
}

func (m *metrics) refClaimed(took time.Duration, isNew bool, err error) {
	good := "known"
	if isNew {
		good = "new"
	}
	if err == nil {
		m.refSeconds.Observe(took.Seconds())
	}
	m.refs.WithLabelValues(resultOf(good, err)).Inc()
}

func (m *metrics) searched(took time.Duration, err error) {
	if err == nil {
		m.searchSeconds.Observe(took.Seconds())
	}
	m.searches.WithLabelValues(resultOf("ok", err)).Inc()
}

// indexed counts a transaction of the index, after which behind messages were left.
func (m *metrics) indexed(n, behind int, err error) {
	switch {
	case err == nil:
		m.indexedTotal.Add(float64(n))
		m.indexBehind.Set(float64(behind))
	case !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed):
		m.indexErrors.Inc()
	}
}

func resultOf(good string, err error) string {
	switch {
	case err == nil:
		return good
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrPrivate):
		return "refused"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	default:
		return "error"
	}
}

func (m *metrics) committed(size, known int, took time.Duration, err error) {
	m.commitSeconds.Observe(took.Seconds())
	if err == nil {
		m.batchSize.Observe(float64(size))
		m.duplicates.Add(float64(known))
	}
}
