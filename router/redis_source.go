package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

const (
	redisBlock      = time.Second     // one wait for messages; short, for a dead link shows only by silence
	redisClaimEvery = time.Second     // how soon a released task is seen by a worker with room
	redisCheckEvery = 5 * time.Second // how soon lost events are noticed
	// redisReleased is the consumer that holds what was given back. It is nobody's,
	// so a consumer that released everything can be deleted.
	redisReleased = "released"
	// redisReleasedIdle makes a released task older than any ack wait.
	redisReleasedIdle = time.Hour
)

// redisReader is the connection of one source. It is a connection of its own so
// that a blocked read can be ended by its client id.
type redisReader struct {
	d    *redisDriver
	sub  *subscription
	conn *redis.Conn
	id   int64
}

func (d *redisDriver) open(ctx context.Context, sub *subscription) (source, error) {
	r := redisReader{d: d, sub: sub, conn: d.readers.Conn()}
	var err error
	if r.id, err = r.conn.ClientID(ctx).Result(); err != nil {
		return nil, errors.Join(err, r.conn.Close())
	}
	if sub.delivery == Task {
		s := &redisTasks{redisReader: r, history: sub.cursor != "", historyFrom: "0", claimFrom: "0-0"}
		if sub.cursor == "" {
			sub.cursor = d.name + "-" + strconv.FormatUint(d.sources.Add(1), 10)
		}
		s.consumer = sub.cursor
		return s, nil
	}
	s := &redisEvents{redisReader: r}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, r.conn.Close())
	}
	return s, nil
}

// read runs a command that may block, and ends it early when ctx ends. It does
// not run under ctx: entries on their way would be dropped with the answer.
func (r *redisReader) read(ctx context.Context, do func(context.Context) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ended, done := make(chan struct{}), make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// It may be on its way to the server and not blocked yet.
		for n := int64(0); n == 0; {
			var err error
			if n, err = r.d.rdb.ClientUnblock(ctx, r.id).Result(); err != nil {
				return // the read ends a little later
			}
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	defer func() {
		close(ended)
		if !cancel() {
			<-done
		}
	}()
	bound, stop := context.WithTimeout(context.WithoutCancel(ctx), redisBlock+opTimeout)
	defer stop()
	if err := do(bound); !errors.Is(err, redis.Nil) { // Nil: nothing came
		return err
	}
	return nil
}

// redisTasks reads as a consumer of a group. The name of the consumer is the
// cursor of the subscription: the next source is the same consumer and begins with
// what this one was sent but never received.
type redisTasks struct {
	redisReader
	consumer    string
	history     bool // still reading what this consumer has pending
	historyFrom string
	claimFrom   string // where the scan of all pending tasks goes on
	claimed     time.Time
}

func (s *redisTasks) next(ctx context.Context, most int) ([]*delivered, error) {
	for s.history {
		entries, err := s.group(ctx, s.historyFrom, most)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			s.history = false
			break
		}
		s.historyFrom = entries[len(entries)-1].ID
		if ds := s.decode(ctx, entries); len(ds) > 0 {
			return ds, nil
		}
	}
	for time.Since(s.claimed) >= redisClaimEvery {
		ds, err := s.claim(ctx, most)
		if err != nil || len(ds) > 0 {
			return ds, err
		}
	}
	entries, err := s.group(ctx, ">", most)
	return s.decode(ctx, entries), err
}

func (s *redisTasks) group(ctx context.Context, from string, most int) ([]redis.XMessage, error) {
	var streams []redis.XStream
	err := s.read(ctx, func(ctx context.Context) (err error) {
		streams, err = s.conn.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: s.sub.group, Consumer: s.consumer, Streams: []string{s.sub.topic, from}, Count: int64(most), Block: redisBlock,
		}).Result()
		return err
	})
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	return streams[0].Messages, nil
}

// claim takes over tasks whose worker gave no sign of life, and released ones. One
// call looks at a part of what is pending; the next goes on there.
func (s *redisTasks) claim(ctx context.Context, most int) ([]*delivered, error) {
	var entries []redis.XMessage
	var from string
	err := s.read(ctx, func(ctx context.Context) (err error) {
		entries, from, err = s.conn.XAutoClaim(ctx, &redis.XAutoClaimArgs{
			Stream: s.sub.topic, Group: s.sub.group, Consumer: s.consumer, MinIdle: s.d.limits.ackWait, Start: s.claimFrom, Count: int64(most),
		}).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.claimFrom = from; from == "0-0" {
		s.claimed = time.Now()
	}
	ds := s.decode(ctx, entries)
	return ds, s.count(ctx, ds)
}

// count notes how often claimed tasks had been sent before.
func (s *redisTasks) count(ctx context.Context, ds []*delivered) error {
	if len(ds) == 0 {
		return nil
	}
	byID := make(map[string]*delivered, len(ds))
	for _, d := range ds {
		byID[d.id] = d
	}
	var pending []redis.XPendingExt
	err := s.read(ctx, func(ctx context.Context) (err error) {
		pending, err = s.conn.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: s.sub.topic, Group: s.sub.group, Consumer: s.consumer, Start: ds[0].id, End: ds[len(ds)-1].id, Count: int64(10 * s.sub.window),
		}).Result()
		return err
	})
	for _, p := range pending {
		if d := byID[p.ID]; d != nil {
			d.redelivered = int(p.RetryCount) - 1
		}
	}
	return err
}

// decode also confirms entries that were deleted while they were pending: there
// is nothing left to do for them.
func (s *redisTasks) decode(ctx context.Context, entries []redis.XMessage) []*delivered {
	ds := make([]*delivered, 0, len(entries))
	var deleted []*delivered
	for _, e := range entries {
		d := &delivered{id: e.ID}
		if e.Values == nil {
			deleted = append(deleted, d)
			continue
		}
		d.msg = redisDecode(s.sub.topic, e)
		ds = append(ds, d)
	}
	if len(deleted) > 0 {
		s.d.log.Warn("tasks were deleted from redis before they were handled", "topic", s.sub.topic, "function", s.sub.group, "count", len(deleted))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		_ = s.ack(ctx, deleted) // else they are found deleted once more
	}
	return ds
}

func (s *redisTasks) ack(ctx context.Context, ds []*delivered) error {
	return s.d.rdb.XAck(ctx, s.sub.topic, s.sub.group, redisIDs(ds)...).Err()
}

func (s *redisTasks) extend(ctx context.Context, ds []*delivered) error {
	return s.d.rdb.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: s.sub.topic, Group: s.sub.group, Consumer: s.consumer, Messages: redisIDs(ds),
	}).Err()
}

// release also takes back that they were sent: an orderly stop is no sign that a task
// ends its processes.
func (s *redisTasks) release(ctx context.Context, ds []*delivered) error {
	byCount := make(map[int][]*delivered) // mostly one
	for _, d := range ds {
		byCount[d.redelivered] = append(byCount[d.redelivered], d)
	}
	var errs error
	for count, ds := range byCount {
		args := []any{"xclaim", s.sub.topic, s.sub.group, redisReleased, 0}
		for _, d := range ds {
			args = append(args, d.id)
		}
		args = append(args, "idle", redisReleasedIdle.Milliseconds(), "retrycount", count, "justid")
		errs = errors.Join(errs, s.d.rdb.Do(ctx, args...).Err())
	}
	return errs
}

// redisForget deletes a consumer that has nothing pending; with something pending
// it stays, for what it holds would be deleted with it.
var redisForget = redis.NewScript(`
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
	return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 0
`)

func (s *redisTasks) close(ctx context.Context, forget bool) error {
	err := s.conn.Close()
	if forget {
		err = errors.Join(err, redisForget.Run(ctx, s.d.rdb, []string{s.sub.topic}, s.sub.group, s.consumer).Err())
	}
	return err
}

// redisEvents reads a stream from where it stood when the subscription began. Its
// cursor is the last id taken and the number of entries that were added to the
// stream up to that one, by which it notices what was trimmed before it came.
type redisEvents struct {
	redisReader
	last    string
	ordinal int64
	checked time.Time
}

// start finds the position: the end of the stream at first, the cursor later.
func (s *redisEvents) start(ctx context.Context) error {
	if s.sub.cursor != "" {
		last, ordinal, _ := strings.Cut(s.sub.cursor, " ")
		s.last = last
		s.ordinal, _ = strconv.ParseInt(ordinal, 10, 64) // written by save
		return s.check(ctx)
	}
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	s.last, s.ordinal, s.checked = info.LastGeneratedID, info.EntriesAdded, time.Now()
	s.save()
	return nil
}

func (s *redisEvents) save() { s.sub.cursor = s.last + " " + strconv.FormatInt(s.ordinal, 10) }

// info describes the stream; one that does not exist is empty.
func (s *redisEvents) info(ctx context.Context) (*redis.XInfoStream, error) {
	info, err := s.conn.XInfoStream(ctx, s.sub.topic).Result()
	if err != nil && strings.Contains(err.Error(), "no such key") {
		return &redis.XInfoStream{LastGeneratedID: "0-0"}, nil
	}
	return info, err
}

// check notices a stream that began anew, and events that were trimmed unread.
// Redis before 7 does not count entries; there trimming goes unnoticed.
func (s *redisEvents) check(ctx context.Context) error {
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	s.checked = time.Now()
	log := s.d.log.With("topic", s.sub.topic, "function", s.sub.group)
	if redisLess(info.LastGeneratedID, s.last) {
		log.Warn("redis lost the events of a topic; reading it from its new beginning")
		s.last, s.ordinal = "0-0", 0
		s.save()
		s.sub.gap()
		return nil
	}
	if info.EntriesAdded > 0 && info.EntriesAdded < s.ordinal {
		log.Warn("events may be gone that this node has not seen: redis lost the topic, which began anew")
		s.ordinal = info.EntriesAdded - info.Length // at least
		s.sub.gap()
	}
	// What was removed is known by the count up to the first entry that is left, and
	// when all is read, by the count of all.
	missed := info.EntriesAdded - info.Length - s.ordinal
	if info.LastGeneratedID == s.last {
		missed = info.EntriesAdded - s.ordinal
	}
	if info.EntriesAdded > 0 && missed > 0 {
		log.Warn("events were dropped: the function is slower than its publishers, or was away for too long", "dropped", missed)
		s.ordinal += missed
		s.sub.gap()
	}
	if info.LastGeneratedID == s.last {
		s.ordinal = info.EntriesAdded
	}
	s.save()
	return nil
}

func (s *redisEvents) next(ctx context.Context, most int) ([]*delivered, error) {
	if time.Since(s.checked) >= redisCheckEvery {
		if err := s.read(ctx, s.check); err != nil {
			return nil, err
		}
	}
	var streams []redis.XStream
	err := s.read(ctx, func(ctx context.Context) (err error) {
		streams, err = s.conn.XRead(ctx, &redis.XReadArgs{Streams: []string{s.sub.topic}, ID: s.last, Count: int64(most), Block: redisBlock}).Result()
		return err
	})
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	entries := streams[0].Messages
	ds := make([]*delivered, len(entries))
	for i, e := range entries {
		ds[i] = &delivered{msg: redisDecode(s.sub.topic, e), id: e.ID}
		s.last = e.ID
	}
	s.ordinal += int64(len(entries))
	s.save()
	return ds, nil
}

func (s *redisEvents) ack(context.Context, []*delivered) error     { return nil }
func (s *redisEvents) extend(context.Context, []*delivered) error  { return nil }
func (s *redisEvents) release(context.Context, []*delivered) error { return nil }
func (s *redisEvents) close(context.Context, bool) error           { return s.conn.Close() }

func redisIDs(ds []*delivered) []string {
	ids := make([]string, len(ds))
	for i, d := range ds {
		ids[i] = d.id
	}
	return ids
}

// redisLess compares ids of entries, "milliseconds-number".
func redisLess(a, b string) bool {
	at, an := redisID(a)
	bt, bn := redisID(b)
	return at < bt || at == bt && an < bn
}

func redisID(id string) (ms, n uint64) {
	left, right, _ := strings.Cut(id, "-")
	ms, _ = strconv.ParseUint(left, 10, 64) // the server wrote it
	n, _ = strconv.ParseUint(right, 10, 64)
	return ms, n
}

// redisDecode never fails: an entry that is no message becomes a poisoned one,
// with the same id each time it comes.
func redisDecode(topic string, e redis.XMessage) (msg *message.Message) {
	poison := func(reason error) *message.Message {
		raw, ok := e.Values["payload"].(string)
		if !ok { // all there is, readable and without loss
			var all strings.Builder
			for _, name := range slices.Sorted(maps.Keys(e.Values)) {
				fmt.Fprintf(&all, "%q=%q\n", name, e.Values[name])
			}
			raw = all.String()
		}
		id, _ := e.Values[redisstream.UUIDHeaderKey].(string)
		if id == "" {
			id = topic + " " + e.ID
		}
		return poisoned(id, []byte(raw), reason)
	}
	defer func() {
		if p := recover(); p != nil { // the unmarshaller trusts its input
			msg = poison(fmt.Errorf("entry %s: %v", e.ID, p))
		}
	}()
	msg, err := redisstream.DefaultMarshallerUnmarshaller{}.Unmarshal(e.Values)
	if err != nil {
		return poison(fmt.Errorf("entry %s: %w", e.ID, err))
	}
	if msg.UUID == "" {
		return poison(fmt.Errorf("entry %s has no message id", e.ID))
	}
	if msg.Metadata == nil {
		msg.Metadata = make(message.Metadata)
	}
	delete(msg.Metadata, metaPoison) // not for strangers to set
	return msg
}
