package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/chat"
	"burrow/internal/babble"
	"burrow/store"
)

const millionMessages = 1_000_000

// copyMillion returns a new directory with the database of a million archived messages, all of
// them indexed, which is made when it is first needed. The caller deletes the directory.
func (b *bench) copyMillion(ctx context.Context) (dir string, err error) {
	if err := b.restore(); err != nil {
		return "", err
	}
	if b.million == "" {
		fmt.Fprintln(b.log, "bench: archiving a million messages; this takes a minute or two")
		if b.million, err = makeMillion(ctx, b.opts.archive); err != nil {
			return "", err
		}
	}
	if dir, err = os.MkdirTemp("", "burrow-bench-"); err != nil {
		return "", err
	}
	if err := copyFile(filepath.Join(dir, "burrow.db"), filepath.Join(b.million, "burrow.db")); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// makeMillion archives a million messages in dir, if they are not there. Empty: in a new one.
func makeMillion(ctx context.Context, dir string) (_ string, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "burrow-bench-"); err != nil {
			return "", err
		}
		defer func() {
			if err != nil {
				os.RemoveAll(dir)
			}
		}()
	}
	s, err := store.Open(ctx, store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	there, _, err := s.Page(ctx, store.Query{Limit: 1})
	if err == nil && len(there) == 0 {
		err = appendMillion(ctx, s)
	}
	for err == nil {
		hits, failed := s.Search(ctx, store.SearchQuery{Text: "x", Limit: 1})
		if err = failed; err != nil || hits.Behind == 0 {
			break
		}
		err = pause(ctx, 100*time.Millisecond)
	}
	return dir, err
}

func appendMillion(ctx context.Context, s *store.Store) error {
	const callers = 256
	said := make(chan string, callers)
	failed := make(chan error, callers)
	for range callers {
		go func() {
			var err error
			for text := range said {
				if err == nil {
					err = s.Append(ctx, &chat.ChatMessage{
						Id: uuid.Must(uuid.NewV7()).String(), Sender: "somebody", Content: text, SentAt: timestamppb.Now(),
					})
				}
			}
			failed <- err
		}()
	}
	v := babble.New()
	for range millionMessages {
		said <- v.Sentence()
	}
	close(said)
	var err error
	for range callers {
		err = errors.Join(err, <-failed)
	}
	return err
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync() // Writing it out is no part of what is measured.
}

// readArchive asks the database of a server, which may be at work.
func readArchive(ctx context.Context, path, query string, into ...any) error {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, query).Scan(into...); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	return nil
}

// awaitRows waits until there are more rows after the first ones, and then a little for any that
// are too many; it returns how many there are.
func awaitRows(ctx context.Context, path string, first, more int64) (rows int64, err error) {
	query := fmt.Sprintf("SELECT count(*) FROM messages WHERE seq > %d", first)
	ctx, cancel := context.WithTimeout(ctx, archiveWait)
	defer cancel()
	for {
		if err := readArchive(ctx, path, query, &rows); err != nil || rows >= more {
			return rows, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return rows, fmt.Errorf("%d of %d are archived: %w", rows, more, err)
		}
	}
}

// millionSpan returns from when to when the messages of an archive are, in milliseconds.
func millionSpan(ctx context.Context, path string) (first, last int64, err error) {
	var oldest, newest string
	if err := readArchive(ctx, path, "SELECT min(id), max(id) FROM messages", &oldest, &newest); err != nil {
		return 0, 0, err
	}
	ms := func(id string) (at int64) {
		_, err2 := fmt.Sscanf(strings.ReplaceAll(id, "-", "")[:12], "%x", &at)
		err = errors.Join(err, err2)
		return at
	}
	return ms(oldest), ms(newest), err
}
