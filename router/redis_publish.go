package router

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

const (
	redisWriters = 2   // pipelines at a time: one is filled while the other is away
	redisPosts   = 256 // calls of publish in one of them, at most
)

func (d *redisDriver) publish(ctx context.Context, topic string, delivery Delivery, msgs []*message.Message) error {
	if delivery == Task {
		if err := d.admit(ctx, topic); err != nil {
			return err
		}
	}
	entries := make([]*redis.XAddArgs, len(msgs))
	for i, msg := range msgs {
		fields, err := redisEncode(topic, msg)
		if err != nil {
			return err
		}
		entries[i] = &redis.XAddArgs{Stream: topic, Values: fields}
		if delivery == Event {
			entries[i].MaxLen, entries[i].Approx = redisEventLength, true
		}
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		unsent, err := d.outbox.add(ctx, d.rdb, entries)
		if err == nil || !unsent || !sleep(ctx, jitter(wait)) {
			return err
		}
	}
}

// redisOutbox sends what many publish at the same time in one go: a command alone costs
// a write, a read and two switches, on both sides. What one call publishes stays together
// and in order.
type redisOutbox struct {
	mu      sync.Mutex
	waiting []*redisPost
	writers int
	writing sync.WaitGroup
}

// redisPost is one call.
type redisPost struct {
	ctx     context.Context
	entries []*redis.XAddArgs
	cmds    []*redis.StringCmd
	unsent  bool // nothing was stored for certain
	err     error
	done    chan struct{} // closed when unsent and err are set
}

// add stores entries. It tells if nothing was stored for certain, so that trying again
// doubles nothing. It waits no longer than ctx.
func (o *redisOutbox) add(ctx context.Context, rdb *redis.Client, entries []*redis.XAddArgs) (unsent bool, err error) {
	p := &redisPost{ctx: ctx, entries: entries, done: make(chan struct{})}
	o.mu.Lock()
	o.waiting = append(o.waiting, p)
	if o.writers < redisWriters {
		o.writers++
		o.writing.Go(func() { o.write(rdb) })
	}
	o.mu.Unlock()
	select {
	case <-p.done:
		return p.unsent, p.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// write sends until nothing waits.
func (o *redisOutbox) write(rdb *redis.Client) {
	for {
		o.mu.Lock()
		n := min(len(o.waiting), redisPosts)
		if n == 0 {
			o.writers--
			o.mu.Unlock()
			return
		}
		posts := slices.Clone(o.waiting[:n])
		o.waiting = slices.Delete(o.waiting, 0, n)
		o.mu.Unlock()
		redisSend(rdb, posts)
	}
}

// redisSend answers every post. Those whose caller has gone are not sent. The others may
// take as long as the last of them may.
func redisSend(rdb *redis.Client, posts []*redisPost) {
	pipe := rdb.Pipeline()
	var until time.Time
	for _, p := range posts {
		if p.err = p.ctx.Err(); p.err != nil {
			continue
		}
		if deadline, ok := p.ctx.Deadline(); ok && deadline.After(until) {
			until = deadline
		}
		p.cmds = make([]*redis.StringCmd, len(p.entries))
		for i, e := range p.entries {
			p.cmds[i] = pipe.XAdd(p.ctx, e)
		}
	}
	if until.IsZero() {
		until = time.Now().Add(opTimeout)
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	_, refused := pipe.Exec(ctx)
	for _, p := range posts {
		p.unsent = true
		for _, cmd := range p.cmds {
			err := cmd.Err()
			// The library leaves a command without an error when the server refused the
			// new connection for it (WRONGPASS, LOADING). A stored entry has an id.
			if err == nil && cmd.Val() == "" {
				err = errors.Join(errRedisNoConn, refused)
			}
			if p.err == nil {
				p.err = err
			}
			p.unsent = p.unsent && redisUnsent(err)
		}
		close(p.done)
	}
}

// errRedisNoConn marks commands that were not sent: the server refused the connection.
var errRedisNoConn = errors.New("redis refused the connection")

// redisUnsent tells if err proves that the server did not carry out the command.
func redisUnsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.Is(err, errRedisNoConn) || redisStarting(err)
}

// redisStarting tells if the server answered that it is not there yet.
func redisStarting(err error) bool {
	return err != nil && (redis.IsLoadingError(err) || redis.IsMasterDownError(err) || redis.IsMaxClientsError(err))
}

// redisEncode returns the fields of msg in the wire format of watermill-redisstream,
// always in the same order, for then Redis keeps their names but once.
func redisEncode(topic string, msg *message.Message) ([]any, error) {
	values, err := redisstream.DefaultMarshallerUnmarshaller{}.Marshal(topic, msg)
	if err != nil {
		return nil, err
	}
	fields := make([]any, 0, 2*len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fields = append(fields, name, values[name])
	}
	return fields, nil
}
