package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"burrow/presence"
)

func TestListIsSortedAndLimited(t *testing.T) {
	cfg := config()
	cfg.ListLimit, cfg.Grace = 3, 0
	tracker := presence.New(cfg, newBus())
	want := func(total int, names ...string) {
		t.Helper()
		if got, n := tracker.Online(); n != total || !slices.Equal(got, names) {
			t.Errorf("Online is %q of %d, want %q of %d", got, n, names, total)
		}
	}
	want(0)
	for _, user := range []string{"d", "b", "e", "a"} {
		tracker.Join(user)
	}
	want(4, "a", "b", "d")
	tracker.Leave("b", false)
	tracker.Join("c")
	tracker.Join("f")
	tracker.Leave("f", false)
	want(4, "a", "c", "d")
	tracker.Leave("a", false)
	tracker.Join("a") // an edit that amounts to nothing
	want(4, "a", "c", "d")
	for i := range 100 { // more than is worth inserting one by one
		tracker.Join(fmt.Sprintf("b%02d", i))
	}
	want(104, "a", "b00", "b01")
}

func TestConfigIsChecked(t *testing.T) {
	if err := (presence.Config{}).Validate(); err != nil {
		t.Errorf("the zero Config: %v", err)
	}
	err := presence.Config{Lease: time.Second, Heartbeat: time.Second}.Validate()
	if err == nil || !strings.Contains(err.Error(), "presence.lease: 1s is not longer than presence.heartbeat (1s)") {
		t.Errorf("a lease as short as the heartbeat: %v", err)
	}
}

func TestMetricsShowTheNumbers(t *testing.T) {
	cfg := config()
	reg := prometheus.NewRegistry()
	cfg.Metrics = reg
	tracker := presence.New(cfg, newBus())
	presence.New(cfg, newBus()) // another one in the same registry is no panic
	tracker.Join("alice")
	tracker.ApplyState("far", 7, 2, []string{"alice", "bob"}, nil, false, 0, 0)
	tracker.ApplyStatus("bob", false, false, "far", 7, 1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	for name, want := range map[string]float64{
		"burrow_presence_users": 2, "burrow_presence_local_users": 1, "burrow_presence_nodes": 1,
		"burrow_presence_stale_events_total": 1, "burrow_presence_publish_errors_total": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}
