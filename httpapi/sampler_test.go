package httpapi

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSampler_Flood logs a few of many events, then the number of suppressed ones, and shortens and
// escapes the text of strangers.
func TestSampler_Flood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var s sampler
		hostile := "x\nlevel=ERROR msg=forged" + strings.Repeat("y", 10_000)
		event := func() {
			s.log(log, slog.LevelWarn, "kind", "refused", slog.String("user", hostile))
		}
		for range 1000 {
			event()
		}
		if got := strings.Count(out.String(), "\n"); got != sampledBurst {
			t.Errorf("%d lines of 1000 events, want %d", got, sampledBurst)
		}
		if out.Len() > sampledBurst*300 {
			t.Errorf("the lines have %d bytes", out.Len())
		}
		time.Sleep(sampledEvery) // In the bubble.
		event()
		if !strings.Contains(out.String(), "suppressed=990") {
			t.Error("suppressed events are not counted")
		}
	})
}
