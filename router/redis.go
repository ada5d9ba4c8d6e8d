package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of a stream. Events are cut by length, for they only bridge a short
// absence. Tasks are never cut by length: tidy removes those that every group
// has handled, and above a bound new ones are refused.
const (
	redisEventLength = 10_000
	redisTaskLength  = 1_000_000
	redisLengthAge   = 2 * time.Second // for so long a length that was read is believed
	redisTidyEvery   = 30 * time.Second
	redisGoneAfter   = 10 * time.Minute // an idle consumer with nothing pending is forgotten
	redisDialTimeout = 2 * time.Second
)

// redisDriver speaks Redis Streams (Redis 6.2 or later) by the official client.
// Watermill's own subscriber is deaf once its group is gone and waits for each ack.
// The bytes on the wire are those of watermill-redisstream.
type redisDriver struct {
	log      *slog.Logger
	rdb      *redis.Client // commands that answer at once
	readers  *redis.Client // one connection for each source: it blocks
	name     string        // prefix of this driver's consumers; no other has it
	sources  atomic.Uint64
	stop     context.CancelFunc
	tidying  sync.WaitGroup
	limits   redisLimits
	outbox   redisOutbox
	mu       sync.Mutex
	topics   map[string]*redisTopic // tasks seen by this process
	warnOnce sync.Once

	healthKey string
	warnProbe sync.Once
	warned    map[string]string // unsafe settings of the server that were logged; of the goroutine that checks
}

// redisLimits are the bounds that tests make smaller.
type redisLimits struct {
	ackWait    time.Duration
	taskLength int64
	goneAfter  time.Duration
}

// redisTopic is guarded by the driver's lock.
type redisTopic struct {
	length  int64 // At the time of checked.
	checked time.Time
	groups  []any // That this process has declared.
}

func newRedisDriver(ctx context.Context, cfg Config) (driver, error) {
	// What the client prints by itself also comes back as an error.
	redis.SetLogger(&logging.VoidLogger{})
	opts, err := redis.ParseURL(cfg.Redis.URL)
	if err != nil {
		// The parser's complaint may quote a part of the password.
		return nil, errors.New("router: broker.redis.url cannot be read; want redis://[user:password@]host:port/db (rediss:// for TLS), with special characters of the password percent-encoded")
	}
	opts.ClientName = "burrow"
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = -1 // a repeated XADD is a second message
	opts.DialerRetries = 1
	opts.DialTimeout = redisDialTimeout
	opts.ReadTimeout, opts.WriteTimeout = opTimeout, opTimeout
	opts.PoolSize, opts.MinIdleConns, opts.MaxActiveConns = 32, 0, 0
	blocking := *opts
	blocking.PoolSize, blocking.MaxIdleConns = 4096, 4

	host, _ := os.Hostname() // only for people who look at the consumers
	d := &redisDriver{
		log: cfg.Log, rdb: redis.NewClient(opts), readers: redis.NewClient(&blocking),
		name:   fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:8])),
		limits: redisLimits{ackWait: ackWait, taskLength: redisTaskLength, goneAfter: redisGoneAfter},
		topics: make(map[string]*redisTopic), warned: make(map[string]string),
	}
	background, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	if err := d.connect(ctx, opts.Addr, cfg.ConnectTimeout); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.checkSettings(ctx)
	d.tidying.Go(func() { d.keepTidy(background) })
	return d, nil
}

// connect waits for the server up to timeout.
func (d *redisDriver) connect(ctx context.Context, addr string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var cause error // of the last attempt not cut short by the timeout
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := d.ping(ctx)
		if err == nil {
			return nil
		}
		if cause == nil || ctx.Err() == nil {
			cause = err
		}
		if d.refuses(err) {
			return fmt.Errorf("router: redis at %s refuses: %w; %s", addr, err, redisFix(err))
		}
		d.log.Warn("waiting for redis at "+addr, "error", cause, "fix", redisFix(cause))
		if !sleep(ctx, min(jitter(wait), 2*time.Second)) {
			return fmt.Errorf("router: redis at %s did not answer within broker.connect_timeout (%s): %w; %s", addr, timeout, cause, redisFix(cause))
		}
	}
}

func (d *redisDriver) features() Features { return Features{Durable: true, Shared: true} }

func (d *redisDriver) fits(string, *message.Message) error { return nil }

func (d *redisDriver) spare() int { return taskSpare }

func (d *redisDriver) refuses(err error) bool {
	_, answered := errors.AsType[redis.Error](err)
	return answered && !redisTemporary(err)
}

func (d *redisDriver) ping(ctx context.Context) error { return d.rdb.Ping(ctx).Err() }

// probe keeps one entry in a stream below the prefix, by the command of a publish.
func (d *redisDriver) probe(ctx context.Context) error {
	err := d.rdb.XAdd(ctx, &redis.XAddArgs{Stream: d.healthKey, MaxLen: 1, Values: []any{"probe", "1"}}).Err()
	if redis.HasErrorPrefix(err, "NOPERM") {
		d.warnProbe.Do(func() {
			d.log.Info("health check reads only: allow the user XADD on the key to test writes", "key", d.healthKey, "error", err)
		})
		return nil
	}
	return err
}

func (d *redisDriver) close() error {
	d.stop()
	d.tidying.Wait()
	d.outbox.writing.Wait() // bounded by the publishers' time
	return errors.Join(d.rdb.Close(), d.readers.Close())
}

// admit refuses a task when too many wait. The length is some seconds old, so the
// bound is a rough one.
func (d *redisDriver) admit(ctx context.Context, topic string) error {
	d.mu.Lock()
	t := d.track(topic)
	due := time.Since(t.checked) > redisLengthAge
	if due {
		t.checked = time.Now()
	}
	length := t.length
	d.mu.Unlock()
	if due {
		n, err := d.rdb.XLen(ctx, topic).Result()
		if err == nil && n >= d.limits.taskLength {
			if err = d.tidy(ctx, topic); err == nil {
				n, err = d.rdb.XLen(ctx, topic).Result()
			}
		}
		if err != nil {
			n = 0 // the publish itself meets the trouble, or none
		}
		length = n
		d.mu.Lock()
		t.length = n
		d.mu.Unlock()
	}
	if length >= d.limits.taskLength {
		return fmt.Errorf("%w: redis holds %d tasks on %s that not every function has handled: start its functions, or remove the group of one that is no more (XINFO GROUPS, XGROUP DESTROY)", errFull, length, topic)
	}
	return nil
}

// track remembers topic as one to tidy. The caller holds the lock.
func (d *redisDriver) track(topic string) *redisTopic {
	t := d.topics[topic]
	if t == nil {
		t = &redisTopic{}
		d.topics[topic] = t
	}
	return t
}

func (d *redisDriver) declare(ctx context.Context, topic string, delivery Delivery, group string) error {
	// Without a right to read or acknowledge, a node would look started and handle nothing.
	if err := d.permits(ctx, topic, delivery, group); err != nil {
		return err
	}
	if delivery == Event {
		return nil // the first event makes the stream
	}
	d.mu.Lock()
	if t := d.track(topic); !slices.Contains(t.groups, any(group)) {
		t.groups = append(t.groups, group)
	}
	d.mu.Unlock()
	// From the first entry on: tasks published before their first worker count.
	err := d.rdb.XGroupCreateMkStream(ctx, topic, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return advised(fmt.Errorf("group %s of %s: %w", group, topic, err), "%s", redisFix(err))
	}
	return nil
}

// keepTidy tidies every known topic of tasks until ctx ends. All processes do it.
func (d *redisDriver) keepTidy(ctx context.Context) {
	for sleep(ctx, jitter(redisTidyEvery)) {
		d.checkSettings(ctx)
		d.mu.Lock()
		topics := slices.Collect(maps.Keys(d.topics))
		d.mu.Unlock()
		for _, topic := range topics {
			err := d.tidy(ctx, topic)
			if err == nil || ctx.Err() != nil {
				continue
			}
			if redis.HasErrorPrefix(err, "NOPERM") {
				d.warnOnce.Do(func() { d.warnTidying(topic, err) })
			} else {
				d.log.Debug("tidying a topic", "topic", topic, "error", err)
			}
		}
	}
}

func (d *redisDriver) warnTidying(topic string, err error) {
	d.log.Warn("handled tasks stay in redis until its memory is full: allow the user EVAL, EVALSHA, XINFO, XLEN, XPENDING, XTRIM and XGROUP", "topic", topic, "error", err)
}

// redisTidy removes the tasks that every group has handled: those before the
// oldest one that is pending, or before the last one delivered. Without a group
// all of them wait for one, and without one of those that ARGV names they wait for that,
// as when Redis has lost the topic and not all groups are back. It also forgets consumers
// of processes that are gone.
// It is a script because a task that arrives between looking and acting must not
// be lost, and several processes tidy at once.
var redisTidy = redis.NewScript(`
local function fields(list)
	local t = {}
	for i = 1, #list, 2 do t[list[i]] = list[i + 1] end
	return t
end
local function less(a, b)
	local at, an = string.match(a, '(%d+)-(%d+)')
	local bt, bn = string.match(b, '(%d+)-(%d+)')
	at, an, bt, bn = tonumber(at), tonumber(an), tonumber(bt), tonumber(bn)
	return at < bt or (at == bt and an < bn)
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local keep
local missing = {}
for i = 2, #ARGV do missing[ARGV[i]] = true end
for _, list in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
	local group = fields(list)
	missing[group['name']] = nil
	local needed = group['last-delivered-id']
	if group['pending'] > 0 then needed = redis.call('XPENDING', KEYS[1], group['name'])[2] end
	if not keep or less(needed, keep) then keep = needed end
	for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group['name'])) do
		local consumer = fields(list)
		if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[1]) then
			redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group['name'], consumer['name'])
		end
	end
end
if not keep or next(missing) then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', keep, 'LIMIT', 0)
`)

func (d *redisDriver) tidy(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	args := []any{d.limits.goneAfter.Milliseconds()}
	d.mu.Lock()
	if t := d.topics[topic]; t != nil {
		args = append(args, t.groups...)
	}
	d.mu.Unlock()
	return redisTidy.Run(ctx, d.rdb, []string{topic}, args...).Err()
}
