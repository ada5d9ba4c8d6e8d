package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/gen/tasks"
)

// MaxDeadLetters is the most that ListDeadLetters returns at once: a letter
// holds a whole message, and some are large.
const MaxDeadLetters = 1000

// AddDeadLetter keeps a message that a function gave up on. Letters about the
// same message and function are one letter: their attempts add up, and the rest
// is what the latest says. The same letter again (with the same failed_at)
// changes nothing. A letter without a time gets the current one. Errors:
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) AddDeadLetter(ctx context.Context, letter *tasks.DeadLetter) error {
	if err := s.addDeadLetter(ctx, letter); err != nil {
		return fmt.Errorf("store: add dead letter %s of %s: %w", letter.GetMessageId(), letter.GetFunction(), err)
	}
	return nil
}

func (s *Store) addDeadLetter(ctx context.Context, letter *tasks.DeadLetter) error {
	if letter.GetFunction() == "" || letter.GetTopic() == "" {
		return fmt.Errorf("%w: a dead letter needs its function and its topic", ErrInvalid)
	}
	failedAt := s.now()
	if letter.GetFailedAt() != nil {
		if err := letter.GetFailedAt().CheckValid(); err != nil {
			return fmt.Errorf("%w: failed_at: %w", ErrInvalid, err)
		}
		failedAt = letter.GetFailedAt().AsTime()
	}
	id := letter.GetMessageId()
	if id == "" {
		// Other programs may publish without an id; their messages must not all
		// become one letter.
		id = fmt.Sprintf("sha256:%x", sha256.Sum256(append([]byte(letter.GetTopic()+"\x00"), letter.GetPayload()...)))
	}
	payload := letter.GetPayload()
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO dead_letters AS old
			(message_id, function, topic, error, attempts, payload, failed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (message_id, function) DO UPDATE SET
				attempts  = min(old.attempts + excluded.attempts, ?),
				topic     = iif(excluded.failed_at > old.failed_at, excluded.topic, old.topic),
				error     = iif(excluded.failed_at > old.failed_at, excluded.error, old.error),
				payload   = iif(excluded.failed_at > old.failed_at, excluded.payload, old.payload),
				failed_at = max(old.failed_at, excluded.failed_at)
			WHERE excluded.failed_at <> old.failed_at`,
			id, letter.GetFunction(), letter.GetTopic(), letter.GetError(), int64(letter.GetAttempts()), payload,
			failedAt.UnixMicro(), int64(math.MaxUint32))
		return err
	})
}

// ListDeadLetters returns the latest dead letters, at most limit of them (at
// least 1; over MaxDeadLetters it is MaxDeadLetters), latest first. Errors:
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) ListDeadLetters(ctx context.Context, limit int) ([]*tasks.DeadLetter, error) {
	letters, err := s.listDeadLetters(ctx, limit)
	if err != nil {
		return nil, fmt.Errorf("store: list dead letters: %w", err)
	}
	return letters, nil
}

func (s *Store) listDeadLetters(ctx context.Context, limit int) (letters []*tasks.DeadLetter, err error) {
	if limit < 1 {
		return nil, fmt.Errorf("%w: limit %d is less than 1", ErrInvalid, limit)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	rows, err := s.reader.QueryContext(ctx, `SELECT message_id, function, topic, error, attempts, payload, failed_at
		FROM dead_letters ORDER BY failed_at DESC, seq DESC LIMIT ?`, min(limit, MaxDeadLetters))
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		letter := new(tasks.DeadLetter)
		var failedAt int64
		if err := rows.Scan(&letter.MessageId, &letter.Function, &letter.Topic, &letter.Error,
			&letter.Attempts, &letter.Payload, &failedAt); err != nil {
			return nil, s.explain(err)
		}
		letter.FailedAt = timestamppb.New(time.UnixMicro(failedAt))
		letters = append(letters, letter)
	}
	return letters, s.explain(rows.Err())
}
