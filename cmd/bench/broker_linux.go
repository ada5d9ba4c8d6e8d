package main

import (
	"fmt"
	"io"
	"testing"

	"burrow/internal/brokertest"
)

// broker is one that we started, for servers that meet there.
type broker struct {
	driver string
	url    string
	held   *holder
}

// startBroker starts a broker for driver on a free port, with data of its own.
func startBroker(driver string, log io.Writer) (b *broker, err error) {
	kind := map[string]brokertest.Kind{"nats": brokertest.NATS, "redis": brokertest.Redis, "amqp": brokertest.AMQP}[driver]
	b = &broker{driver: driver, held: &holder{log: log}}
	defer func() {
		if said := recover(); said != nil {
			failed, ours := said.(failure)
			if !ours {
				panic(said)
			}
			b.close()
			b, err = nil, fmt.Errorf("start a broker for %s: %s", driver, failed)
		}
	}()
	// Redis and NATS keep messages on disk as an operator would have them do.
	var args []string
	if kind == brokertest.Redis {
		args = []string{"--appendonly", "yes"}
	}
	b.url = brokertest.Start(b.held, kind, args...).URL()
	return b, nil
}

// env is what a server needs to be told about b.
func (b *broker) env() []string {
	name := map[string]string{"nats": "NATS", "redis": "REDIS", "amqp": "AMQP"}[b.driver]
	return []string{"BURROW_BROKER_DRIVER=" + b.driver, "BURROW_BROKER_" + name + "_URL=" + b.url}
}

// close ends the broker.
func (b *broker) close() {
	for i := len(b.held.last) - 1; i >= 0; i-- {
		b.held.last[i]()
	}
	b.held.last = nil
}

// holder is the test that brokertest wants to tie a broker to.
type holder struct {
	testing.TB
	log  io.Writer
	last []func()
}

// failure is what a holder panics with where a test ends.
type failure string

func (h *holder) Helper()                    {}
func (h *holder) Failed() bool               { return false }
func (h *holder) Cleanup(f func())           { h.last = append(h.last, f) }
func (h *holder) Logf(f string, args ...any) { fmt.Fprintf(h.log, f+"\n", args...) }
func (h *holder) Fatal(args ...any)          { panic(failure(fmt.Sprint(args...))) }
func (h *holder) Fatalf(f string, a ...any)  { panic(failure(fmt.Sprintf(f, a...))) }
func (h *holder) Skipf(f string, a ...any)   { panic(failure(fmt.Sprintf(f, a...))) }
