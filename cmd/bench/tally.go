package main

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// stream is what one connection has seen of one publisher.
type stream struct {
	next  uint32              // One more than the greatest that came.
	holes map[uint32]struct{} // Less than next, and not seen.
}

type arrival int

const (
	inOrder arrival = iota
	late            // After a later one: out of order.
	again           // Seen before.
)

// see notes that message seq came.
func (s *stream) see(seq uint32) arrival {
	if seq >= s.next {
		for hole := s.next; hole < seq; hole++ {
			if s.holes == nil {
				s.holes = make(map[uint32]struct{})
			}
			s.holes[hole] = struct{}{}
		}
		s.next = seq + 1
		return inOrder
	}
	if _, missed := s.holes[seq]; missed {
		delete(s.holes, seq)
		return late
	}
	return again
}

// seen returns how many different messages came.
func (s *stream) seen() int64 { return int64(s.next) - int64(len(s.holes)) }

// Latencies are kept in microseconds, up to a minute, with three digits.
const (
	maxLatency = time.Minute
	digits     = 3
)

// tally counts what arrives at some of the connections: several of them share one, so
// that counting is cheap and their readers seldom meet.
type tally struct {
	mu         sync.Mutex
	deliveries int64
	bytes      int64
	doubled    int64
	reordered  int64
	refused    int64
	acked      int64
	closed     int64
	from, to   time.Duration // Messages that were due within count for the latency.
	latency    *hdrhistogram.Histogram
}

func newTally() *tally {
	return &tally{latency: hdrhistogram.New(1, maxLatency.Microseconds(), digits)}
}

// see notes an arrival. The caller holds the lock.
func (t *tally) see(how arrival, m marker, now time.Duration) {
	t.deliveries++
	switch how {
	case late:
		t.reordered++
	case again:
		t.doubled++
	case inOrder:
	}
	if m.due >= t.from && m.due < t.to {
		us := min(max((now-m.due).Microseconds(), 1), maxLatency.Microseconds())
		_ = t.latency.RecordValue(us) // It is in range.
	}
}

// measure makes the messages that are due within count for the latency.
func (t *tally) measure(from, to time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from, t.to = from, to
}

// sum adds up tallies. Nobody needs to stop counting meanwhile.
func sum(tallies []*tally) *tally {
	all := newTally()
	for _, t := range tallies {
		t.mu.Lock()
		all.deliveries += t.deliveries
		all.bytes += t.bytes
		all.doubled += t.doubled
		all.reordered += t.reordered
		all.refused += t.refused
		all.acked += t.acked
		all.closed += t.closed
		all.latency.Merge(t.latency)
		t.mu.Unlock()
	}
	return all
}

// quantiles returns the latencies in milliseconds.
func (t *tally) quantiles() latency {
	if t.latency.TotalCount() == 0 {
		return latency{}
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return latency{
		P50: ms(t.latency.ValueAtQuantile(50)),
		P90: ms(t.latency.ValueAtQuantile(90)),
		P99: ms(t.latency.ValueAtQuantile(99)),
		Max: ms(t.latency.Max()),
	}
}
