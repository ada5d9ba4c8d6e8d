package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/config"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/handlers"
	"burrow/router"
	"burrow/store"
)

// archiveTasks makes n tasks for the archive.
func archiveTasks(n int) []proto.Message {
	ms := make([]proto.Message, n)
	for i := range ms {
		ms[i] = &tasks.ArchiveMessage{Message: &chat.ChatMessage{
			Id: uuid.Must(uuid.NewV7()).String(), Sender: fmt.Sprintf("user %d", i%100), SentAt: timestamppb.Now(),
			Content: fmt.Sprintf("message %d of the usual length, as people write them all day", i),
		}}
	}
	return ms
}

// leaveTasks has n tasks for the archive wait on the embedded broker in dir.
func leaveTasks(ctx context.Context, dir string, n int) error {
	return withRouter(ctx, dir, nil, func(r *router.Router) error { return publishAll(ctx, r, archiveTasks(n)) })
}

// withRouter runs a router on the embedded broker in dir while work does, with the function that
// archives by handle; nil: it waits for another process.
func withRouter(ctx context.Context, dir string, handle func(context.Context, *tasks.ArchiveMessage) error, work func(*router.Router) error) error {
	cfg := router.DefaultConfig()
	cfg.Driver, cfg.DataDir, cfg.Log = "nats", dir, slog.New(slog.DiscardHandler)
	cfg.Function, cfg.Route = config.Default().Functions.ByName(), handlers.Route
	if handle == nil {
		cfg.Functions = []string{}
		handle = func(context.Context, *tasks.ArchiveMessage) error { return nil }
	}
	r, err := router.New(ctx, cfg)
	if err != nil {
		return err
	}
	if err := router.Handle(r, "archive", handle); err != nil {
		return errors.Join(err, r.Close())
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-r.Running():
	case err := <-done:
		return errors.Join(err, r.Close())
	}
	err = errors.Join(work(r), r.Drain(ctx), r.Close())
	return errors.Join(err, <-done)
}

// publishAll publishes ms, some at a time.
func publishAll(ctx context.Context, r *router.Router, ms []proto.Message) error {
	const call, callers = 100, 8
	calls := make(chan []proto.Message)
	failed := make(chan error, callers)
	for range callers {
		go func() {
			var err error
			for ms := range calls {
				err = errors.Join(err, r.Publish(ctx, ms...))
			}
			failed <- err
		}()
	}
	for ; len(ms) > 0; ms = ms[min(call, len(ms)):] {
		calls <- ms[:min(call, len(ms))]
	}
	close(calls)
	var err error
	for range callers {
		err = errors.Join(err, <-failed)
	}
	return err
}

// archivePace has ms wait on the embedded broker and returns how long the archive takes from the
// first until the last row is on disk: read, decoded, stored, acks sent as it goes, with the index
// of words coming after.
func archivePace(ctx context.Context, dir string, ms []proto.Message) (took time.Duration, err error) {
	if err := withRouter(ctx, dir, nil, func(r *router.Router) error { return publishAll(ctx, r, ms) }); err != nil {
		return 0, err
	}
	s, err := store.Open(ctx, store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	archive := &handlers.Archive{Messages: s}
	var stored sync.WaitGroup
	stored.Add(len(ms))
	first := sync.OnceValue(time.Now)
	handle := func(ctx context.Context, m *tasks.ArchiveMessage) error {
		first()
		err := archive.Handle(ctx, m)
		if err == nil {
			stored.Done()
		}
		return err
	}
	err = withRouter(ctx, dir, handle, func(*router.Router) error {
		stored.Wait()
		took = time.Since(first())
		return nil
	})
	return took, errors.Join(err, s.Close())
}

// insertPace inserts ms into the tables of the archive by one prepared statement, 500 in each
// transaction, as durably, and returns how long that takes.
func insertPace(ctx context.Context, dir string, ms []proto.Message) (took time.Duration, err error) {
	s, err := store.Open(ctx, store.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "burrow.db")+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	begun := time.Now()
	for rows := ms; len(rows) > 0; rows = rows[min(500, len(rows)):] {
		if err := insertSome(ctx, db, rows[:min(500, len(rows))]); err != nil {
			return 0, err
		}
	}
	return time.Since(begun), nil
}

func insertSome(ctx context.Context, db *sql.DB, rows []proto.Message) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // Nothing after a commit.
	insert, err := tx.Prepare(`INSERT INTO messages (id, sender, recipient, content, sent_at, talk, ref) VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	for _, m := range rows {
		msg := m.(*tasks.ArchiveMessage).GetMessage()
		if _, err := insert.Exec(msg.GetId(), msg.GetSender(), msg.GetToUser(), msg.GetContent(), msg.GetSentAt().AsTime().UnixMicro(), "", ""); err != nil {
			return err
		}
	}
	return tx.Commit()
}
