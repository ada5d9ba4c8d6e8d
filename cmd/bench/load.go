package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// load is what one measurement does to the server.
type load struct {
	Protocol    string        `json:"protocol"`
	Connections int           `json:"connections"`
	Users       int           `json:"users"` // 0: one for each connection.
	Publishers  int           `json:"publishers"`
	Rate        float64       `json:"rate"`      // Messages a second of all publishers; if InFlight is 0.
	InFlight    int           `json:"in_flight"` // Of each publisher; 0: by Rate.
	Size        int           `json:"size"`
	Workers     int           `json:"workers"`
	Idle        time.Duration `json:"idle_ns"`
	Warmup      time.Duration `json:"warmup_ns"`
	Duration    time.Duration `json:"duration_ns"`
	Archive     bool          `json:"archive"`
	Newcomers   int           `json:"newcomers,omitempty"` // Connect when all are idle.
	Nodes       int           `json:"nodes,omitempty"`     // Servers that share a broker; 0: one.
	Broker      string        `json:"broker,omitempty"`    // Of a process of its own; empty: what the server has by itself.
	Aside       bool          `json:"aside,omitempty"`     // Only the first node is measured; the others have every second publisher.
}

func (l *load) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("bench: "+format, args...)) }
	if _, ok := protocols[l.Protocol]; !ok {
		bad("-proto: %q is none of plain, v1.json, v1.proto, centrifugo", l.Protocol)
	}
	if l.Connections < 1 {
		bad("-conns is at least 1")
	}
	if l.Users < 0 || l.Users > l.Connections {
		bad("-users is 0 to -conns")
	}
	if l.Publishers < 0 || l.Publishers > min(l.Connections, maxSenders) {
		bad("-pubs is 0 to -conns, and at most %d", maxSenders)
	}
	if l.InFlight < 0 || l.InFlight > 1<<20 {
		bad("-inflight is 0 to %d", 1<<20)
	}
	if l.Publishers > 0 && l.InFlight == 0 && !(l.Rate > 0 && l.Rate <= 1e6) {
		bad("-rate is over 0 and at most a million")
	}
	if l.Size < markerSize || l.Size > 64<<10 {
		bad("-size is %d to %d", markerSize, 64<<10)
	}
	if l.Workers < 1 {
		bad("-workers is at least 1")
	}
	if l.Nodes < 0 || l.Nodes > 1 && l.Broker == "" {
		bad("-nodes is not negative, and several need a -broker")
	}
	if l.Broker != "" && l.Broker != "nats" && l.Broker != "redis" && l.Broker != "amqp" {
		bad("-broker: %q is none of nats, redis, amqp", l.Broker)
	}
	if l.Idle < 0 || l.Warmup < 0 || l.Duration <= 0 {
		bad("-idle and -warmup are not negative, -duration is over 0")
	}
	return errors.Join(errs...)
}

// user returns the name of whom connection i belongs to.
func (l *load) user(i int) string {
	if l.Users > 0 {
		i %= l.Users
	}
	return fmt.Sprintf("user-%05d", i)
}

// node returns which of the servers connection i goes to.
func (l *load) node(addrs []string, i int) string {
	if l.Aside && (i >= l.Publishers || i%2 == 0) {
		return addrs[0]
	}
	return addrs[i%len(addrs)]
}

// confirmed reports whether the protocol has confirmations.
func (l *load) confirmed() bool { return strings.HasPrefix(l.Protocol, "v1.") }

// result is what one measurement found. What was not measured is zero.
type result struct {
	Load load `json:"load"`

	Connected     int     `json:"connected"`
	ConnectWall   float64 `json:"connect_seconds"`          // Until the last one was open.
	ConnectCPU    float64 `json:"connect_cpu_ms"`           // Of the server, for each, until all were quiet.
	BytesEach     float64 `json:"rss_bytes_per_connection"` // Growth of the server's RSS while idle.
	NewcomerCPU   float64 `json:"newcomer_cpu_ms"`          // Of the server, for each that came when all were idle.
	RSSBefore     int64   `json:"rss_before_bytes"`
	RSSPeak       int64   `json:"rss_peak_bytes"`
	IdleCPU       float64 `json:"idle_cpu_percent"` // Of one core, while idle.
	Measured      float64 `json:"measured_seconds"`
	Accepted      int64   `json:"accepted"` // Messages that came back to their publishers, in all.
	Acked         int64   `json:"acked"`    // Confirmed by the server; plain has no such frame.
	AcceptedRate  float64 `json:"accepted_per_second"`
	Deliveries    int64   `json:"deliveries"` // While measured.
	DeliveryRate  float64 `json:"deliveries_per_second"`
	CPUPercent    float64 `json:"cpu_percent"`      // Of one core, while measured.
	LoadPercent   float64 `json:"load_cpu_percent"` // Of what the load itself may use.
	CPUEach       float64 `json:"cpu_us_per_delivery"`
	Latency       latency `json:"latency_ms"`
	Refused       int64   `json:"refused"` // Error frames.
	Lost          int64   `json:"lost"`    // Accepted, and not seen by a connection.
	Doubled       int64   `json:"doubled"`
	Reordered     int64   `json:"reordered"` // After a later one of the same publisher.
	Closed        int64   `json:"closed"`    // Connections that the server ended.
	Archived      int64   `json:"archived"`
	ArchivedTwice int64   `json:"archived_twice"`
	ArchiveLost   int64   `json:"archive_lost"`        // Accepted, and not in the archive.
	ArchivedRate  float64 `json:"archived_per_second"` // From the first message until all were archived.
}

// latency is from the moment when a message was due to when a connection had read it.
type latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// saturated says that the load had no CPU left: the server may be quicker than it looks.
func (r *result) saturated() bool { return r.LoadPercent >= loadLimit }

// loadLimit is how much of its CPUs the load may use, in percent, and still measure the server.
const loadLimit = 90

// unconfirmed is how many messages came back to everybody and were not confirmed.
func (r *result) unconfirmed() int64 {
	if !r.Load.confirmed() {
		return 0
	}
	return max(0, r.Accepted-r.Acked)
}

// broken says which promise was not kept; empty: all were.
func (r *result) broken() string {
	if r.unconfirmed() > 0 {
		return fmt.Sprintf("%d messages were not confirmed", r.unconfirmed())
	}
	if r.Lost+r.Doubled+r.Reordered+r.Closed+r.ArchiveLost+r.ArchivedTwice == 0 {
		return ""
	}
	return fmt.Sprintf("%d deliveries lost, %d doubled, %d out of order, %d connections ended by the server, %d archive rows missing, %d twice",
		r.Lost, r.Doubled, r.Reordered, r.Closed, r.ArchiveLost, r.ArchivedTwice)
}
