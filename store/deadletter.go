package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"burrow/gen/tasks"
)

// MaxDeadLetters is the most that ListDeadLetters returns at once.
const MaxDeadLetters = 1000

const (
	// keepOver is how long a letter is kept that was replayed or dropped: long
	// enough to look back, and to know it again should it be delivered once more.
	keepOver = 30 * 24 * time.Hour
	// keepActions is how many actions are kept, the latest.
	keepActions = 10_000
)

// The states of a dead letter.
const (
	Waiting   = "waiting"   // for a person
	Replaying = "replaying" // a replay was requested; a node will send it
	Replayed  = "replayed"  // the replay was sent, and has not failed
	dropped   = "dropped"   // remembered, so that a late copy does not bring it back
)

// ErrNoLetter is in the error for a dead letter that is not there, or no longer.
var ErrNoLetter = errors.New("there is no such dead letter")

// NotWaitingError is the error for what can be done only with a letter that waits.
type NotWaitingError struct {
	ID    int64
	State string    // Replaying or Replayed
	Since time.Time // of the state
	By    string    // who requested the replay
}

func (e *NotWaitingError) Error() string {
	at := e.Since.UTC().Format("2006-01-02 15:04:05 UTC")
	if e.State == Replayed {
		return fmt.Sprintf("dead letter %d was replayed at %s, as %s requested, and has not failed since", e.ID, at, e.By)
	}
	return fmt.Sprintf("dead letter %d is being replayed since %s, as %s requested", e.ID, at, e.By)
}

// DeadLetter is a message that a function gave up on.
type DeadLetter struct {
	ID        int64 // small, for people; never given twice
	MessageID string
	Function  string
	Topic     string
	Error     string // of the latest failure
	Attempts  uint32 // of all failures together
	Bytes     int    // of the payload
	Payload   []byte // nil in a list
	Metadata  map[string]string
	FailedAt  time.Time // the latest failure

	State       string
	Since       time.Time // of the state
	Replays     int       // requested, but for those that could not be sent
	ReplayID    string    // of the last one
	RequestedAt time.Time // the last one; zero for none
	RequestedBy string
	Note        string // why the last one was not sent, or not yet
}

// AddDeadLetter keeps a message that a function gave up on. Letters about the
// same message, topic and function are one letter: their attempts add up, and the
// rest is what the latest says. The same letter again (with the same failed_at)
// changes nothing. A letter that was replayed, and now says that the replay
// failed, waits again. A letter without a time gets the current one. Errors:
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
		id = fmt.Sprintf("sha256:%x", sha256.Sum256(letter.GetPayload()))
	}
	metadata, err := json.Marshal(letter.GetMetadata())
	if err != nil {
		return fmt.Errorf("%w: metadata: %w", ErrInvalid, err)
	}
	if letter.GetMetadata() == nil {
		metadata = []byte("{}")
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
		return s.mergeDeadLetter(ctx, tx, letter, id, failedAt.UnixMicro(), payload, string(metadata))
	})
}

// mergeDeadLetter adds a failure to the letter of its message, topic and function,
// or makes that letter.
func (s *Store) mergeDeadLetter(ctx context.Context, tx *sql.Tx, letter *tasks.DeadLetter, messageID string, failedAt int64, payload []byte, metadata string) error {
	now := s.now().UnixMicro()
	if err := forget(ctx, tx, now); err != nil {
		return err
	}
	old := keptLetter{}
	err := tx.QueryRowContext(ctx, `SELECT id, state, since, failed_at, replay_id, requested_at
		FROM dead_letters WHERE message_id = ? AND function = ? AND topic = ?`, messageID, letter.GetFunction(), letter.GetTopic()).
		Scan(&old.id, &old.state, &old.since, &old.failedAt, &old.replayID, &old.requestedAt)
	if errors.Is(err, sql.ErrNoRows) {
		if err := tx.QueryRowContext(ctx, `INSERT INTO dead_letters
			(message_id, function, topic, error, attempts, payload, metadata, failed_at, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
			messageID, letter.GetFunction(), letter.GetTopic(), letter.GetError(), int64(letter.GetAttempts()), payload, metadata,
			failedAt, now).Scan(&old.id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO dead_letter_failures (letter, failed_at) VALUES (?, ?)", old.id, failedAt)
		return err
	}
	if err != nil {
		return err
	}
	n, err := exec(ctx, tx, "INSERT OR IGNORE INTO dead_letter_failures (letter, failed_at) VALUES (?, ?)", old.id, failedAt)
	if err != nil || n == 0 {
		return err // nothing new: it was delivered again
	}
	if _, err := exec(ctx, tx, "UPDATE dead_letters SET attempts = min(attempts + ?, ?) WHERE id = ?",
		int64(letter.GetAttempts()), int64(math.MaxUint32), old.id); err != nil {
		return err
	}
	back := old.comesBack(letter.GetReplay(), failedAt)
	if failedAt > old.failedAt && (back || old.state != dropped) {
		if _, err := exec(ctx, tx, "UPDATE dead_letters SET error = ?, payload = ?, metadata = ?, failed_at = ? WHERE id = ?",
			letter.GetError(), payload, metadata, failedAt, old.id); err != nil {
			return err
		}
	}
	if !back {
		return nil
	}
	if _, err := exec(ctx, tx, "UPDATE dead_letters SET state = 'waiting', since = ?, leased_until = 0, note = '' WHERE id = ?", now, old.id); err != nil {
		return err
	}
	return s.note(ctx, tx, old.id, "function "+letter.GetFunction(), "failed again", letter.GetError())
}

// keptLetter is what decides about one more failure of a letter.
type keptLetter struct {
	id                           int64
	state, replayID              string
	since, failedAt, requestedAt int64
}

// comesBack reports whether a letter waits again after one more failure, of the
// given replay, or of the message as it came first ("").
func (l keptLetter) comesBack(replay string, failedAt int64) bool {
	switch l.state {
	case Replaying:
		// The node that sends it may not have said so yet. A failure of something
		// older is what the replay is to mend.
		return replay == l.replayID
	case Replayed:
		return replay == l.replayID || failedAt > l.requestedAt
	case dropped:
		return failedAt > l.since
	}
	return false
}

// forget removes a few letters that have been over for long, and the oldest
// actions, so that neither grows for ever and nobody waits for it.
func forget(ctx context.Context, tx *sql.Tx, now int64) error {
	const over = `SELECT id FROM dead_letters WHERE state IN ('replayed', 'dropped') AND since < ? ORDER BY since LIMIT 100`
	before := now - keepOver.Microseconds()
	if _, err := tx.ExecContext(ctx, "DELETE FROM dead_letter_failures WHERE letter IN ("+over+")", before); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE id IN ("+over+")", before); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM dead_letter_actions
		WHERE id <= (SELECT coalesce(max(id), 0) FROM dead_letter_actions) - ?`, keepActions)
	return err
}

// LetterQuery says which dead letters to list.
type LetterQuery struct {
	State    string // Waiting, Replaying or Replayed; "" for those that are not over: waiting and replaying; "all" for all
	Function string // "" for all
	Before   int64  // only ids below; 0 for all
	Limit    int    // at least 1; over MaxDeadLetters it is MaxDeadLetters
}

// ListDeadLetters returns a page of dead letters without their payloads, highest
// id first, and whether there are more below. Errors: ErrInvalid, ErrClosed, that
// of ctx, or that of the disk.
func (s *Store) ListDeadLetters(ctx context.Context, q LetterQuery) (letters []*DeadLetter, more bool, err error) {
	letters, err = s.listDeadLetters(ctx, &q)
	if err != nil {
		return nil, false, fmt.Errorf("store: list dead letters: %w", err)
	}
	if len(letters) > q.Limit {
		return letters[:q.Limit], true, nil
	}
	return letters, false, nil
}

// listDeadLetters bounds q.Limit and returns up to one letter more.
func (s *Store) listDeadLetters(ctx context.Context, q *LetterQuery) (letters []*DeadLetter, err error) {
	states := map[string]string{
		"": `'waiting', 'replaying'`, "all": `'waiting', 'replaying', 'replayed'`,
		Waiting: `'waiting'`, Replaying: `'replaying'`, Replayed: `'replayed'`,
	}[q.State]
	if states == "" {
		return nil, fmt.Errorf("%w: %q is no state of a dead letter: use waiting, replaying, replayed or all", ErrInvalid, q.State)
	}
	if q.Limit < 1 {
		return nil, fmt.Errorf("%w: limit %d is less than 1", ErrInvalid, q.Limit)
	}
	q.Limit = min(q.Limit, MaxDeadLetters)
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	before := q.Before
	if before <= 0 {
		before = math.MaxInt64
	}
	rows, err := s.reader.QueryContext(ctx, "SELECT "+letterColumns("NULL")+` FROM dead_letters
		WHERE state IN (`+states+`) AND (? = '' OR function = ?) AND id < ? ORDER BY id DESC LIMIT ?`,
		q.Function, q.Function, before, q.Limit+1)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		letter, err := scanLetter(rows)
		if err != nil {
			return nil, s.explain(err)
		}
		letters = append(letters, letter)
	}
	return letters, s.explain(rows.Err())
}

// DeadLetter returns the letter with this id. Errors: ErrNoLetter, ErrClosed,
// that of ctx, or that of the disk.
func (s *Store) DeadLetter(ctx context.Context, id int64) (*DeadLetter, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("store: dead letter %d: %w", id, err)
	}
	defer s.leave()
	letter, err := scanLetter(s.reader.QueryRowContext(ctx, "SELECT "+letterColumns("payload")+
		" FROM dead_letters WHERE id = ? AND state <> 'dropped'", id))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoLetter
	}
	if err != nil {
		return nil, fmt.Errorf("store: dead letter %d: %w", id, s.explain(err))
	}
	return letter, nil
}

// letterColumns are what scanLetter reads.
func letterColumns(payload string) string {
	return `id, message_id, function, topic, error, attempts, length(payload), ` + payload + `, metadata, failed_at,
		state, since, replays, replay_id, requested_at, requested_by, note`
}

func scanLetter(row interface{ Scan(...any) error }) (*DeadLetter, error) {
	l := new(DeadLetter)
	var failedAt, since, requestedAt int64
	var metadata string
	err := row.Scan(&l.ID, &l.MessageID, &l.Function, &l.Topic, &l.Error, &l.Attempts, &l.Bytes, &l.Payload, &metadata, &failedAt,
		&l.State, &since, &l.Replays, &l.ReplayID, &requestedAt, &l.RequestedBy, &l.Note)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(metadata), &l.Metadata); err != nil {
		return nil, fmt.Errorf("metadata of dead letter %d: %w", l.ID, err)
	}
	l.FailedAt, l.Since = time.UnixMicro(failedAt), time.UnixMicro(since)
	if requestedAt != 0 {
		l.RequestedAt = time.UnixMicro(requestedAt)
	}
	return l, nil
}

// exec returns how many rows a statement changed.
func exec(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// clip returns at most n bytes of s, as valid UTF-8.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
