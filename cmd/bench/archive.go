package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	_ "modernc.org/sqlite" // The driver of the server's archive.
)

const archiveWait = 2 * time.Minute

// archiveRows counts the messages in an archive, and those of them that stand there twice.
func archiveRows(ctx context.Context, path string, run uint32) (rows, doubled int64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	// The marker without the time is the message's own; see marker.
	const query = `SELECT count(*), count(*) - count(DISTINCT substr(content, 1, ?)) FROM messages WHERE content GLOB ?`
	err = db.QueryRowContext(ctx, query, markerSize-16, fmt.Sprintf("%s%08x*", markerStart, run)).Scan(&rows, &doubled)
	if err != nil {
		return 0, 0, fmt.Errorf("count what is archived: %w", err)
	}
	return rows, doubled, nil
}

// awaitArchive waits until the archive has want messages and returns how many there are, and when
// the last one was seen to come.
func awaitArchive(ctx context.Context, path string, run uint32, want int64) (rows, doubled int64, last time.Time, err error) {
	before := int64(-1)
	for begin := time.Now(); ; {
		at := time.Now() // Counting takes a while, and is not the archive's.
		if rows, doubled, err = archiveRows(ctx, path, run); err != nil {
			return 0, 0, at, err
		}
		if rows != before {
			before, last = rows, at
		}
		if rows-doubled >= want || time.Since(begin) > archiveWait {
			return rows, doubled, last, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return rows, doubled, last, err
		}
	}
}
