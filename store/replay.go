package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Action is what somebody did with a dead letter.
type Action struct {
	At   time.Time
	Who  string
	What string // "replay requested", "sent", "not sent", "failed again", "dropped"
	Note string // more about it, as the error; may be empty
}

// RequestReplay asks for a replay of a letter that waits, in the name of who, and
// returns the letter as it is then. Of several at the same time, by whatever
// processes on this host, one wins. Errors: ErrNoLetter, a *NotWaitingError,
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) RequestReplay(ctx context.Context, id int64, who string) (letter *DeadLetter, err error) {
	replay, err := uuid.NewV7()
	if err == nil {
		err = s.change(ctx, who, func(tx *sql.Tx, now int64) error {
			n, err := exec(ctx, tx, `UPDATE dead_letters SET state = 'replaying', since = ?, replays = replays + 1, replay_id = ?,
				requested_at = ?, requested_by = ?, leased_until = 0, note = '' WHERE id = ? AND state = 'waiting'`,
				now, replay.String(), now, clip(who, 256), id)
			if err != nil {
				return err
			}
			if letter, err = findLetter(ctx, tx, id); err != nil {
				return err
			}
			if n == 0 {
				return &NotWaitingError{letter.ID, letter.State, letter.Since, letter.RequestedBy}
			}
			return s.note(ctx, tx, id, who, "replay requested", "")
		})
	}
	if err != nil {
		return nil, fmt.Errorf("store: replay dead letter %d: %w", id, err)
	}
	return letter, nil
}

// DropDeadLetter forgets a letter in the name of who and returns it as it was. A
// replay that was requested is not sent then, unless a node is sending it at this
// moment; should that one fail, the letter is there again. Errors: ErrNoLetter,
// ErrInvalid, ErrClosed, that of ctx, or that of the disk.
func (s *Store) DropDeadLetter(ctx context.Context, id int64, who string) (letter *DeadLetter, err error) {
	err = s.change(ctx, who, func(tx *sql.Tx, now int64) error {
		if letter, err = findLetter(ctx, tx, id); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, `UPDATE dead_letters SET state = 'dropped', since = ?, payload = x'', metadata = '{}', error = '', note = ''
			WHERE id = ?`, now, id); err != nil {
			return err
		}
		return s.note(ctx, tx, id, who, "dropped", "")
	})
	if err != nil {
		return nil, fmt.Errorf("store: drop dead letter %d: %w", id, err)
	}
	return letter, nil
}

// change runs fn in a transaction, with the time; somebody must answer for it.
func (s *Store) change(ctx context.Context, who string, fn func(tx *sql.Tx, now int64) error) error {
	if who == "" {
		return fmt.Errorf("%w: it is not said who asks", ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.write(ctx, func(tx *sql.Tx) error {
		now := s.now().UnixMicro()
		if err := forget(ctx, tx, now); err != nil {
			return err
		}
		return fn(tx, now)
	})
}

func findLetter(ctx context.Context, tx *sql.Tx, id int64) (*DeadLetter, error) {
	letter, err := scanLetter(tx.QueryRowContext(ctx, "SELECT "+letterColumns("NULL")+
		" FROM dead_letters WHERE id = ? AND state <> 'dropped'", id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoLetter
	}
	return letter, err
}

// ClaimReplay returns a letter of one of the functions whose replay is to be sent,
// with its payload, or nil if there is none. Nobody else gets it until lease has
// passed, EndReplay or DeferReplay; after that another process does, should this one have
// died. With nothing to do it is one read of an index. Errors: ErrClosed, that of
// ctx, or that of the disk.
func (s *Store) ClaimReplay(ctx context.Context, functions []string, lease time.Duration) (letter *DeadLetter, err error) {
	if letter, err = s.claimReplay(ctx, functions, lease); err != nil {
		return nil, fmt.Errorf("store: claim a replay: %w", err)
	}
	return letter, nil
}

func (s *Store) claimReplay(ctx context.Context, functions []string, lease time.Duration) (*DeadLetter, error) {
	names, err := json.Marshal(functions)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	const due = `FROM dead_letters WHERE state = 'replaying' AND leased_until <= ?
		AND function IN (SELECT value FROM json_each(?))`
	var found bool
	err = s.reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 "+due+")", s.now().UnixMicro(), string(names)).Scan(&found)
	if err != nil || !found {
		return nil, s.explain(err)
	}
	var letter *DeadLetter
	err = s.write(ctx, func(tx *sql.Tx) error {
		now := s.now()
		var err error
		letter, err = scanLetter(tx.QueryRowContext(ctx, `UPDATE dead_letters SET leased_until = ?
			WHERE id = (SELECT id `+due+` ORDER BY leased_until, requested_at, id LIMIT 1) RETURNING `+letterColumns("payload"),
			now.Add(lease).UnixMicro(), now.UnixMicro(), string(names)))
		if errors.Is(err, sql.ErrNoRows) {
			letter, err = nil, nil // another process was faster
		}
		return err
	})
	return letter, err
}

// EndReplay ends the replay with this id of a claimed letter, in the name of who:
// it was sent, or with a reason against it, it never can be, and the letter waits
// again. A letter that has gone on meanwhile, because the replay was sent and
// failed at once, stays as it is. Errors: ErrClosed, that of ctx, or that of the
// disk.
func (s *Store) EndReplay(ctx context.Context, id int64, replay, who, against string) error {
	err := s.change(ctx, who, func(tx *sql.Tx, now int64) error {
		if against == "" {
			n, err := exec(ctx, tx, `UPDATE dead_letters SET state = 'replayed', since = ?, leased_until = 0, note = ''
				WHERE id = ? AND replay_id = ? AND state = 'replaying'`, now, id, replay)
			if err != nil || n == 0 {
				return err
			}
			return s.note(ctx, tx, id, who, "sent", "")
		}
		n, err := exec(ctx, tx, `UPDATE dead_letters SET state = 'waiting', since = ?, leased_until = 0, replays = replays - 1, note = ?
			WHERE id = ? AND replay_id = ? AND state = 'replaying'`, now, clip(against, 4096), id, replay)
		if err != nil || n == 0 {
			return err
		}
		return s.note(ctx, tx, id, who, "not sent", against)
	})
	if err != nil {
		return fmt.Errorf("store: end the replay of dead letter %d: %w", id, err)
	}
	return nil
}

// DeferReplay gives a claimed letter back, to be claimed again after wait, and
// notes why. Errors: ErrClosed, that of ctx, or that of the disk.
func (s *Store) DeferReplay(ctx context.Context, id int64, replay, why string, wait time.Duration) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("store: defer the replay of dead letter %d: %w", id, err)
	}
	defer s.leave()
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := exec(ctx, tx, "UPDATE dead_letters SET leased_until = ?, note = ? WHERE id = ? AND replay_id = ? AND state = 'replaying'",
			s.now().Add(wait).UnixMicro(), clip(why, 4096), id, replay)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: defer the replay of dead letter %d: %w", id, err)
	}
	return nil
}

// DeadLetterActions returns what was done with the letter of this id, also one
// that was dropped: the latest, at most limit, oldest first. Actions are kept for
// a while only. Errors: ErrClosed, that of ctx, or that of the disk.
func (s *Store) DeadLetterActions(ctx context.Context, id int64, limit int) (actions []Action, err error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("store: actions of dead letter %d: %w", id, err)
	}
	defer s.leave()
	rows, err := s.reader.QueryContext(ctx, `SELECT at, who, what, note FROM
		(SELECT * FROM dead_letter_actions WHERE letter = ? ORDER BY id DESC LIMIT ?) ORDER BY id`, id, max(limit, 1))
	if err != nil {
		return nil, fmt.Errorf("store: actions of dead letter %d: %w", id, s.explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var a Action
		var at int64
		if err = rows.Scan(&at, &a.Who, &a.What, &a.Note); err != nil {
			break
		}
		a.At = time.UnixMicro(at)
		actions = append(actions, a)
	}
	if err = errors.Join(err, rows.Err()); err != nil {
		return nil, fmt.Errorf("store: actions of dead letter %d: %w", id, s.explain(err))
	}
	return actions, nil
}

// note adds to the actions.
func (s *Store) note(ctx context.Context, tx *sql.Tx, letter int64, who, what, more string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO dead_letter_actions (at, who, what, letter, function, message_id, note)
		SELECT ?, ?, ?, id, function, message_id, ? FROM dead_letters WHERE id = ?`,
		s.now().UnixMicro(), clip(who, 256), what, clip(more, 4096), letter)
	return err
}
