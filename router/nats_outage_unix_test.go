//go:build linux

package router

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"burrow/internal/disk"
	"burrow/internal/disktest"
)

// TestEmbeddedNATS_DiskFull fills the disk during traffic, several times: the health check
// fails and says what to do, the log has one line, and all resumes without a restart of the
// process. No confirmed task is lost.
func TestEmbeddedNATS_DiskFull(t *testing.T) {
	t.Parallel()
	var log logBuffer
	cfg := testConfig(t, "nats")
	cfg.DataDir = disktest.Small(t, "16m")
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	drv := openTestDriver(t, cfg)
	topic := cfg.TopicPrefix + ".tasks.Work"
	sub := newSubscriber(drv, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
	t.Cleanup(func() { _ = sub.Close() })
	ch, err := sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	got := newSink(ch)

	var mu sync.Mutex
	var confirmed []string
	refused := 0
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	for range 3 {
		publishing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				payload := watermill.NewUUID() + strings.Repeat("x", 1000)
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				err := drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(payload))})
				cancel()
				mu.Lock()
				if err == nil {
					confirmed = append(confirmed, payload)
				} else {
					refused++
				}
				mu.Unlock()
				sleep(context.Background(), 10*time.Millisecond)
			}
		})
	}
	count := func() (int, int) { mu.Lock(); defer mu.Unlock(); return len(confirmed), refused }
	healthy := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), testWait)
		defer cancel()
		return drv.ping(ctx)
	}
	const outages = 2
	for range outages {
		before, _ := count()
		waitFor(t, "tasks flow", func() bool { n, _ := count(); return n > before+20 })
		_, bad := count()
		free := disktest.Fill(t, cfg.DataDir)
		waitFor(t, "several refused tasks", func() bool { _, n := count(); return n > bad+10 })
		if err := healthy(); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("the health check says %v, want the full disk", err)
		}
		free()
		waitFor(t, "the health check passes", func() bool { return healthy() == nil })
	}
	before, _ := count()
	waitFor(t, "tasks flow again", func() bool { n, _ := count(); return n > before+20 })
	close(stop)
	publishing.Wait()
	got.expect(t, confirmed)
	text := log.String()
	for _, line := range []string{"embedded broker cannot write", "embedded broker writes again"} {
		if n := strings.Count(text, line); n != outages {
			t.Errorf("the log has %d lines with %q for %d outages", n, line, outages)
		}
	}
	if n := strings.Count(text, "level="); n > 8*outages {
		t.Errorf("the log has %d lines for %d outages", n, outages)
	}
	if t.Failed() || testing.Verbose() {
		t.Log(text)
	}

	// What the disk has is what was confirmed, after the end of the process too.
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "nats", "probe")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the test file is still there: %v", err)
	}
}

// TestEmbeddedNATS_DiskFullKeepsWaitingTasks has no function: all confirmed tasks wait on the
// disk while it is full, and are there after the recovery and after the next start.
func TestEmbeddedNATS_DiskFullKeepsWaitingTasks(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "nats")
	cfg.DataDir = disktest.Small(t, "16m")
	drv, err := openDriver(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	topic := cfg.TopicPrefix + ".tasks.Work"
	var confirmed []string
	publish := func() error {
		payload := watermill.NewUUID() + strings.Repeat("x", 3000)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := drv.publish(ctx, topic, Task, []*message.Message{message.NewMessage(watermill.NewUUID(), []byte(payload))})
		if err == nil {
			confirmed = append(confirmed, payload)
		}
		return err
	}
	for range 50 {
		if err := publish(); err != nil {
			t.Fatal(err)
		}
	}
	free := disktest.Fill(t, cfg.DataDir)
	waitFor(t, "a refused task", func() bool { return publish() != nil })
	free()
	waitFor(t, "an accepted task", func() bool { return publish() == nil })
	if err := drv.close(); err != nil {
		t.Fatal(err)
	}
	drv = openTestDriver(t, cfg)
	sub := newSubscriber(drv, Task, "work", FunctionConfig{}, t.Context(), cfg.Log, testMetrics(t))
	t.Cleanup(func() { _ = sub.Close() })
	ch, err := sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	newSink(ch).expect(t, confirmed)
}

// TestProbe_ReadOnly probes a file system that became read-only.
func TestProbe_ReadOnly(t *testing.T) {
	dir := disktest.Small(t, "1m")
	if err := disk.Probe(filepath.Join(dir, "probe"), natsProbeBytes); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("burrow-test", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	if err := disk.Probe(filepath.Join(dir, "probe"), natsProbeBytes); !errors.Is(err, syscall.EROFS) {
		t.Errorf("got %v, want %v", err, syscall.EROFS)
	}
	remount(0)
	if err := disk.Probe(filepath.Join(dir, "probe"), natsProbeBytes); err != nil {
		t.Error(err)
	}
}
