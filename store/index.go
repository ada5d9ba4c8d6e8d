package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// indexDelay is how long the index waits for more messages, so that a crowd shares one
	// transaction: with one for each commit of the archive, writing would cost three
	// times as much.
	indexDelay = 500 * time.Millisecond
	// indexBatch and indexBytes bound the messages of one transaction, and so how long it
	// keeps others from writing: some ten milliseconds.
	indexBatch = 256
	indexBytes = 256 << 10
	// While the archive has crowds to commit, the index lets them pass for up to indexPatience.
	// Then it works at most a tenth of the time, until the rush has been over for rushOver.
	indexPatience = 5 * time.Second
	rushOver      = 100 * time.Millisecond
	// indexRetry is the wait after an error.
	indexRetry = 5 * time.Second
)

// placeBits are those of a place that tell the messages of one millisecond apart.
const placeBits = 15

// placesOf returns the places of the millisecond in id, which is canonical: from first up to
// end. What sorts after every id has none, and end is after all of them.
func placesOf(id string) (first, end int64) {
	u, err := uuid.Parse(id)
	if err != nil {
		return 1<<63 - 1, 1<<63 - 1
	}
	ms := int64(u[0])<<40 | int64(u[1])<<32 | int64(u[2])<<24 | int64(u[3])<<16 | int64(u[4])<<8 | int64(u[5])
	first = ms << placeBits
	return first, first + (1<<placeBits - 1) // the last one of all is never used: it has no end
}

// keepIndexed is the goroutine that takes what is archived into the index of words, until
// ctx ends. What it has not taken in by then it takes in at the next start, or another
// process does. It works at most half of the time, however much there is to do.
func (s *Store) keepIndexed(ctx context.Context) {
	defer close(s.indexerDone)
	for wait := indexDelay; ; wait = indexDelay {
		select {
		case <-s.unindexed:
		case <-ctx.Done():
			return
		}
		patience := time.Now().Add(indexPatience)
		for more := true; more; {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			start := time.Now()
			rush := start.UnixNano()-s.crowded.Load() < int64(rushOver)
			if !rush {
				patience = start.Add(indexPatience)
			} else if start.Before(patience) {
				wait = rushOver
				continue
			}
			n, behind, err := s.indexSome(ctx)
			s.metrics.indexed(n, behind, err)
			more, wait = behind > 0, time.Since(start)
			if rush {
				wait *= 9
			}
			if err != nil && ctx.Err() == nil {
				if !s.health.outage() { // else logged once
					s.log.Error("store: messages cannot be taken into the index of words; trying again", "after", indexRetry, "error", err)
				}
				more, wait = true, indexRetry
			}
			if behind < indexBatch {
				wait = max(wait, indexDelay)
			}
		}
	}
}

// wakeIndexer says that there are messages which are not in the index.
func (s *Store) wakeIndexer() {
	select {
	case s.unindexed <- struct{}{}:
	default:
	}
}

// unindexedRow is a message on its way into the index.
type unindexedRow struct {
	seq                            int64
	id, sender, recipient, content string
}

// indexSome takes the oldest messages that are not in the index into it, and returns how
// many, and how many are left.
func (s *Store) indexSome(ctx context.Context) (n, behind int, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		// Another process may have gone on meanwhile: what counts is read under the lock.
		rows, err := readUnindexed(ctx, tx)
		if err != nil {
			return err
		}
		if n = len(rows); n == 0 {
			behind = 0
			return nil
		}
		work := context.WithoutCancel(ctx) // see commit
		if err := s.index(work, tx, rows); err != nil {
			return err
		}
		if _, err := tx.ExecContext(work, "UPDATE search_progress_7 SET seq = ?", rows[n-1].seq); err != nil {
			return err
		}
		return tx.QueryRowContext(work, selectBehind).Scan(&behind)
	})
	if err != nil {
		return 0, 0, err
	}
	return n, behind, nil
}

func readUnindexed(ctx context.Context, tx *sql.Tx) ([]unindexedRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq, id, sender, recipient, content FROM messages
WHERE seq > (SELECT seq FROM search_progress_7) ORDER BY seq LIMIT ?`, indexBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []unindexedRow
	for size := 0; size < indexBytes && rows.Next(); {
		var r unindexedRow
		if err := rows.Scan(&r.seq, &r.id, &r.sender, &r.recipient, &r.content); err != nil {
			return nil, err
		}
		size += len(r.content)
		found = append(found, r)
	}
	return found, rows.Err()
}

// index writes rows into the index.
func (s *Store) index(ctx context.Context, tx *sql.Tx, rows []unindexedRow) error {
	place := tx.StmtContext(ctx, s.insertPlace)
	everyone := tx.StmtContext(ctx, s.indexEveryone)
	private := tx.StmtContext(ctx, s.indexPrivate)
	var text strings.Builder
	for _, r := range rows {
		at, found, err := s.takePlace(ctx, tx, place, r)
		if err != nil {
			return fmt.Errorf("message %s: %w", r.id, err)
		}
		if !found {
			continue
		}
		text.Reset()
		for w := range words(r.content) {
			text.WriteString(w.folded)
			text.WriteByte(' ')
		}
		if r.recipient == "" {
			_, err = everyone.ExecContext(ctx, at, text.String())
		} else {
			_, err = private.ExecContext(ctx, at, text.String(), personWord(r.sender)+" "+personWord(r.recipient))
		}
		if err != nil {
			return fmt.Errorf("message %s: %w", r.id, err)
		}
	}
	return nil
}

// takePlace gives r the first place of its millisecond that is free. With more messages in
// one than there are places (no clock of ours does that, but another program may write any
// id) the last ones get places of the next, and paging may leave them out; in the very last
// millisecond there are none.
func (s *Store) takePlace(ctx context.Context, tx *sql.Tx, insert *sql.Stmt, r unindexedRow) (at int64, found bool, err error) {
	at, end := placesOf(r.id)
	for end > 0 {
		res, err := insert.ExecContext(ctx, at, r.seq)
		if err != nil {
			return 0, false, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return at, true, err
		}
		if err := tx.QueryRowContext(ctx, "SELECT max(place) + 1 FROM search_rows WHERE place < ?", end).Scan(&at); err != nil {
			return 0, false, err
		}
		if at >= end {
			end += 1 << placeBits // below 0 after the last millisecond of all
		}
	}
	return 0, false, nil
}

const (
	insertPlace   = `INSERT INTO search_rows (place, seq) VALUES (?, ?) ON CONFLICT (place) DO NOTHING`
	indexEveryone = `INSERT INTO search_everyone (rowid, words) VALUES (?, ?)`
	indexPrivate  = `INSERT INTO search_private (rowid, words, people) VALUES (?, ?, ?)`
)
