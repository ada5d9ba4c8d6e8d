package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"burrow/gen/chat"
	"burrow/store"
	"burrow/store/storetest"
)

// childEnv makes the test binary the program of child below.
const childEnv = "BURROW_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child opens the database in dir and appends messages until its input ends. It
// writes the id of each one that was stored.
func child(dir string) error {
	s, err := store.Open(context.Background(), store.Config{DataDir: dir})
	if err != nil {
		return err
	}
	end := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		close(end)
	}()
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				msg := storetest.NewMessage("child", "", fmt.Sprint(os.Getpid()))
				if errs[i] = s.Append(context.Background(), msg); errs[i] != nil {
					return
				}
				mu.Lock()
				fmt.Println(msg.GetId())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.Close())...)
}

func open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sqlite opens the database as another program would.
func sqlite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec1(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, place string) *store.Store {
		return open(t, store.Config{DataDir: place, ArchivePrivate: true})
	})
}

func TestDSNSaysWhereTheDatabaseIs(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for dsn, want := range map[string]string{
		"":                                   "data/burrow.db",
		"a.db":                               "a.db",
		"new/deep/b.db":                      "new/deep/b.db",
		filepath.Join(dir, "c.db"):           "c.db",
		"file:d.db":                          "d.db",
		"file://" + dir + "/e.db":            "e.db",
		"file://localhost" + dir + "/f.db":   "f.db",
		"file:" + dir + "/g%20h.db?mode=rwc": "g h.db",
		"what? 100% #1.db":                   "what? 100% #1.db",
	} {
		s := open(t, store.Config{DSN: dsn})
		if err := s.Append(t.Context(), storetest.NewMessage("alice", "", "hello")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
			t.Errorf("%q: %v", dsn, err)
		}
	}
}

func TestDSNErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"postgres://u:secret@host/db":         "postgres:// is not supported",
		"postgresql://host/db":                "SQLite only",
		"mysql://host/db":                     "SQLite only",
		":memory:":                            "in memory would be lost",
		"file::memory:":                       "in memory would be lost",
		"file:x.db?mode=memory":               `"mode" is not supported`,
		"file:x.db?_pragma=synchronous(OFF)":  `"_pragma" is not supported`,
		"file://elsewhere/x.db":               "a file of this host",
		dir:                                   "not a regular file",
		file:                                  "is not an SQLite database",
		filepath.Join(file, "x.db"):           "set store.dsn or data_dir to another place",
		"/proc/no/such/directory/possible.db": "set store.dsn or data_dir to another place",
	} {
		_, err := store.Open(t.Context(), store.Config{DSN: dsn})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error with %q", dsn, err, want)
		}
	}
}

func TestFilesBelongToTheUserAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, store.Config{DataDir: dir})
	if err := s.Append(t.Context(), storetest.NewMessage("alice", "", "hello")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		".": os.ModeDir | 0o700, "burrow.db": 0o600, "burrow.db-wal": 0o600, "burrow.db-shm": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestPrivateMessagesAreRefusedByDefault(t *testing.T) {
	s := open(t, store.Config{DataDir: t.TempDir()})
	err := s.Append(t.Context(), storetest.NewMessage("alice", "bob", "psst"))
	if !errors.Is(err, store.ErrPrivate) {
		t.Errorf("got %v, want ErrPrivate", err)
	}
	if msgs := storetest.All(t, s, [2]string{"alice", "bob"}, 10); len(msgs) != 0 {
		t.Errorf("got %v, want nothing stored", msgs)
	}
}

func TestNewerSchemaIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, store.Config{DataDir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	exec1(t, sqlite(t, filepath.Join(dir, "burrow.db")), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	_, err := store.Open(t.Context(), store.Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "has schema 999") {
		t.Errorf("got %v, want an error that names the schema", err)
	}
}

func TestPeopleCanReadIt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	msg := storetest.NewMessage("alice", "", "hello")
	msg.SentAt.Seconds, msg.SentAt.Nanos = 1767225600, 123_000_000
	for range 2 {
		if err := s.Append(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	var got [4]string
	row := sqlite(t, filepath.Join(dir, "burrow.db")).QueryRow("SELECT sent_utc, sender, recipient, content FROM readable")
	if err := row.Scan(&got[0], &got[1], &got[2], &got[3]); err != nil {
		t.Fatal(err)
	}
	if want := [4]string{"2026-01-01 00:00:00.123", "alice", "(everyone)", "hello"}; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// One message that the database refuses must not fail those that share its
// transaction. The trigger stands for whatever the checks before it overlook.
func TestBadRowFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, store.Config{DataDir: dir})
		other := sqlite(t, filepath.Join(dir, "burrow.db"))
		exec1(t, other, `CREATE TRIGGER poison BEFORE INSERT ON messages WHEN NEW.content = 'bad'
			BEGIN SELECT RAISE(ABORT, 'poison'); END`)
		tx, err := other.Begin()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var want []string
		for i := range 100 { // of which many go to a statement
			msg := storetest.NewMessage("alice", "", fmt.Sprint(i))
			if i%5 == 0 && i < 50 {
				msg.Content = "bad"
			} else {
				want = append(want, msg.GetId())
			}
			for range 2 { // A message that comes twice at the same time is one.
				wg.Go(func() {
					err := s.Append(t.Context(), msg)
					if bad := msg.GetContent() == "bad"; (err != nil) != bad {
						t.Errorf("%q: got %v", msg.GetContent(), err)
					}
				})
			}
		}
		synctest.Wait() // all of them gather behind the first, which waits for the lock
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		slices.Sort(want)
		var got []string
		for _, msg := range storetest.All(t, s, [2]string{}, 100) {
			got = append(got, msg.GetId())
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d messages, want %d", len(got), len(want))
		}
	})
}

func TestWaitForAnotherProcessEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	tx, err := sqlite(t, filepath.Join(dir, "burrow.db")).Begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	msg := storetest.NewMessage("alice", "", "hello")
	if err := s.Append(ctx, msg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append: got %v, want a deadline exceeded", err)
	}
	if err := s.Claim(ctx, "alice", "one", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim: got %v, want a deadline exceeded", err)
	}
	if _, _, err := s.Page(t.Context(), store.Query{Limit: 1}); err != nil {
		t.Errorf("reading waits for the writer: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), msg); err != nil {
		t.Error(err)
	}
	if got := storetest.All(t, s, [2]string{}, 10); len(got) != 1 {
		t.Errorf("got %v, want the message once", got)
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.Open(t.Context(), store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		db := sqlite(t, filepath.Join(dir, "burrow.db"))
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		go func() { answer <- s.Append(context.Background(), storetest.NewMessage("alice", "", "hello")) }()
		claim := make(chan error, 1)
		go func() { claim <- s.Claim(context.Background(), "alice", "one", time.Hour) }()
		start := time.Now()
		synctest.Wait()
		if err := s.Close(); err == nil {
			t.Error("Close gave up a message and says nothing")
		}
		if err := <-answer; !errors.Is(err, store.ErrClosed) {
			t.Errorf("append: got %v, want ErrClosed", err)
		}
		if err := <-claim; !errors.Is(err, store.ErrClosed) {
			t.Errorf("claim: got %v, want ErrClosed", err)
		}
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("Close took %s", took)
		}
		_ = tx.Rollback()
		_ = db.Close()
	})
}

func TestManyOpenAnEmptyDatabaseAtOnce(t *testing.T) {
	dir := t.TempDir()
	stores := make([]*store.Store, 4)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			s, err := store.Open(context.Background(), store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			if err := s.Append(t.Context(), storetest.NewMessage("alice", "", "hello")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if got := storetest.All(t, stores[0], [2]string{}, 10); len(got) != len(stores) {
		t.Errorf("got %d messages, want %d", len(got), len(stores))
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Several processes start on an empty directory, and one of them is killed: what
// any of them was told is stored is there, once.
func TestProcessesShareTheFileAndOneIsKilled(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 3 {
		enough := make(chan struct{})
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		stderr := new(strings.Builder)
		cmd.Stderr = stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			n := 0
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if id := lines.Text(); len(id) == 36 { // a killed process may leave half a line
					mu.Lock()
					stored[id] = true
					mu.Unlock()
					n++
				}
				if n == 100 {
					close(enough)
					if i == 0 {
						_ = cmd.Process.Kill()
					}
				}
			}
			if n < 100 {
				close(enough)
			}
			if err := cmd.Wait(); i != 0 && (err != nil || n < 100) {
				t.Errorf("process %d stored %d messages and ended: %v: %s", i, n, err, stderr)
			}
		})
		defer in.Close()
		wg.Go(func() {
			<-enough
			if i != 0 {
				_ = in.Close()
			}
		})
	}
	wg.Wait()
	got := map[string]bool{}
	for _, msg := range storetest.All(t, open(t, store.Config{DataDir: dir}), [2]string{}, 500) {
		if got[msg.GetId()] {
			t.Errorf("%s is there twice", msg.GetId())
		}
		got[msg.GetId()] = true
	}
	for id := range stored {
		if !got[id] {
			t.Errorf("%s was said to be stored and is not there", id)
		}
	}
	if len(stored) < 300 {
		t.Errorf("only %d messages were stored", len(stored))
	}
}

func TestPingNoticesThatTheFileIsGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	path := filepath.Join(dir, "burrow.db")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("the file is gone, and Ping says nothing")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("the file is another one, and Ping says nothing")
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStore_FileMoved: writes to a file that is not at its path any more would be lost.
func TestStore_FileMoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Config{DataDir: dir})
	path := filepath.Join(dir, "burrow.db")
	write := func() error { return s.Claim(t.Context(), "ada", "1", time.Minute) }
	refused := func(what string) {
		t.Helper()
		var unavailable interface{ Unavailable() bool }
		if err := write(); !errors.As(err, &unavailable) || !unavailable.Unavailable() {
			t.Errorf("%s: a write says %v, want that the store is unavailable", what, err)
		}
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Skip("open files cannot be moved on this system:", err)
	}
	refused("gone")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("replaced")
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	if err := write(); err != nil {
		t.Errorf("back again: %v", err)
	}
	if err := os.Remove(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	refused("without its write-ahead log")
}

func TestMetricsCountWhatHappened(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	msg := storetest.NewMessage("alice", "", "hello")
	dir := t.TempDir()
	for range 2 { // opened again with the same registry
		s := open(t, store.Config{DataDir: dir, Metrics: reg})
		for _, m := range []*chat.ChatMessage{msg, msg, nil} {
			_ = s.Append(t.Context(), m)
		}
		for _, sender := range []string{"alice", "alice", ""} {
			_, _ = s.ClaimRef(t.Context(), sender, msg.GetId(), msg.GetId())
			_, _ = s.ClaimRef(t.Context(), sender, msg.GetId(), storetest.NewID(0))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"burrow_store_appends_total ok":      4,
		"burrow_store_appends_total refused": 2,
		"burrow_store_duplicates_total":      3,
		"burrow_store_append_seconds":        4,
		"burrow_store_append_batch_size":     12,
		"burrow_store_commit_seconds":        12,
		"burrow_store_refs_total new":        4, // the winner claims it again
		"burrow_store_refs_total known":      4,
		"burrow_store_refs_total refused":    4,
		"burrow_store_ref_seconds":           8,
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, store.Config{DataDir: b.TempDir()})
			work := make(chan *chat.ChatMessage)
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for msg := range work {
						if err := s.Append(context.Background(), msg); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				work <- storetest.NewMessage("alice", "", "a message of a length that people write, on the whole")
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkClaimRef(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, store.Config{DataDir: b.TempDir()})
			work := make(chan string)
			var wg sync.WaitGroup
			for i := range writers {
				sender := fmt.Sprint("user", i)
				wg.Go(func() {
					for id := range work {
						if _, err := s.ClaimRef(context.Background(), sender, uuid.NewString(), id); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				work <- storetest.NewID(0)
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refs/s")
		})
	}
}

func BenchmarkPage(b *testing.B) {
	s := open(b, store.Config{DataDir: b.TempDir()})
	var wg sync.WaitGroup
	for range 10_000 {
		wg.Go(func() {
			if err := s.Append(context.Background(), storetest.NewMessage("alice", "", "hello")); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Page(context.Background(), store.Query{Limit: 20}); err != nil {
			b.Fatal(err)
		}
	}
}
