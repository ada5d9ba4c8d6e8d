// Package router runs typed functions on the broker that the configuration names.
//
// A protobuf message type is a topic, and its package decides the delivery: a
// package with an element "tasks" holds tasks, handled by one process among all
// that run the function; any other holds events, handled on every node. Handle
// subscribes a function, Publish sends a message to the topic of its type.
//
// Delivery is at least once: functions are idempotent by an id in the message.
// Only this package knows Watermill and the broker clients.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"buf.build/go/protovalidate"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Config is the [broker] table of config.toml and what cmd/app adds to it.
type Config struct {
	// Driver is the broker: gochannel, nats, redis or amqp.
	Driver string `toml:"driver" oneof:"gochannel,nats,redis,amqp" alias:"rabbitmq=amqp,rabbit=amqp,amqps=amqp,amqp091=amqp,jetstream=nats,natsjetstream=nats,embedded=nats,natsembedded=nats,valkey=redis,keydb=redis,dragonfly=redis,redisstreams=redis,rediss=redis,streams=redis,memory=gochannel,mem=gochannel,inmemory=gochannel,channel=gochannel,local=gochannel,none=gochannel"`
	// TopicPrefix starts the name of every topic, stream, queue and group, so that
	// several installations can share a broker: elements of lower-case letters,
	// digits, "-" and "_", joined by dots.
	TopicPrefix string `toml:"topic_prefix"`
	// ConnectTimeout bounds the wait for a broker that is away at start: in New, and in
	// Run for each function until it is subscribed.
	ConnectTimeout time.Duration `toml:"connect_timeout" min:"1s" max:"10m"`
	// PublishTimeout bounds Publish.
	PublishTimeout time.Duration `toml:"publish_timeout" min:"100ms" max:"1m"`
	// MaxMessageBytes bounds an encoded message; Publish refuses a larger one.
	MaxMessageBytes int `toml:"max_message_bytes" min:"1024" max:"33554432"`

	NATS  NATSConfig  `toml:"nats"`
	Redis RedisConfig `toml:"redis"`
	AMQP  AMQPConfig  `toml:"amqp"`

	// DataDir holds the store of the embedded broker.
	DataDir string `toml:"-"`
	// Functions are the names of the functions that run here; nil means all. The
	// others are only declared, so that their tasks wait for them.
	Functions []string `toml:"-"`
	// Function holds the settings of functions by name; default DefaultFunction.
	Function map[string]FunctionConfig `toml:"-"`
	// Route tells the id and the routing key of a message to publish; an empty id
	// means a new one, an empty key that order does not matter. Default: both empty.
	Route func(proto.Message) (id, key string) `toml:"-"`
	// DeadLetter keeps what a function gave up on; an error means try again later.
	// Default: log it.
	DeadLetter func(context.Context, DeadLetter) error `toml:"-"`
	// OnGap is told that events of topic may be gone that function has not seen here:
	// it was slower than their publishers, or its subscription was lost for a while.
	// It must not wait. Default: only the log and the metrics tell.
	OnGap func(topic, function string) `toml:"-"`
	// Rehearsal is for Rehearse only: New starts an embedded broker in a temporary
	// directory, and leaves the stored one alone.
	Rehearsal bool `toml:"-"`
	// Memory is the broker "gochannel" when several nodes of one process share it.
	Memory *Memory `toml:"-"`
	// Log defaults to slog.Default().
	Log *slog.Logger `toml:"-"`
	// Metrics defaults to a private registry.
	Metrics prometheus.Registerer `toml:"-"`
}

// NATSConfig is the [broker.nats] table.
type NATSConfig struct {
	// URL of a server with JetStream, version 2.9 or later; empty for the embedded one.
	URL string `toml:"url"`
	// MaxTaskBytes bounds the stream of each type of task on disk; when it is full of
	// tasks that wait, more are refused. A stream that exists is never made smaller.
	MaxTaskBytes int64 `toml:"max_task_bytes" min:"1048576"`
}

// RedisConfig is the [broker.redis] table.
type RedisConfig struct {
	// URL of a server from version 6.2 on, as redis://[user:password@]host:port/db,
	// or rediss:// for TLS. Version 7 also tells how many events a slow reader missed.
	URL string `toml:"url"`
}

// AMQPConfig is the [broker.amqp] table.
type AMQPConfig struct {
	// URL of RabbitMQ, as amqp://user:password@host:port/vhost.
	URL string `toml:"url"`
}

// DefaultConfig returns the settings that config.toml ships.
func DefaultConfig() Config {
	return Config{
		Driver:          "nats",
		TopicPrefix:     "burrow",
		ConnectTimeout:  30 * time.Second,
		PublishTimeout:  5 * time.Second,
		MaxMessageBytes: 1 << 20,
		NATS:            NATSConfig{MaxTaskBytes: 1 << 30},
		Redis:           RedisConfig{URL: "redis://127.0.0.1:6379/0"},
		AMQP:            AMQPConfig{URL: "amqp://guest:guest@127.0.0.1:5672/"},
	}
}

// Router connects functions to a broker. Its methods may be called at the same
// time, but Handle only before Run.
type Router struct {
	cfg      Config
	log      *slog.Logger
	drv      driver
	wm       *message.Router
	validate protovalidate.Validator
	metrics  *metrics

	mu        sync.Mutex
	subs      map[string]*subscriber              // by function and topic
	known     map[string]protoreflect.MessageType // by function and topic, also those that run elsewhere
	declare   []subscription                      // tasks of functions that run elsewhere
	plan      []subscription                      // all that Run declares or subscribes
	functions []string
	running   bool

	started   chan struct{} // closed when every function is subscribed
	ended     chan struct{} // closed when Run returns
	draining  chan struct{}
	drainOnce sync.Once
	abandon   context.CancelFunc
	abandoned context.Context
	ready     atomic.Bool
	closeOnce sync.Once
	closeErr  error
	health    health
}

// New connects to the broker, waiting up to ConnectTimeout for one that is away.
// Nothing runs before Run. Call Close when Run is never called.
func New(ctx context.Context, cfg Config) (*Router, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Route == nil {
		cfg.Route = func(proto.Message) (string, string) { return "", "" }
	}
	if cfg.DeadLetter == nil {
		cfg.DeadLetter = logDeadLetter(cfg.Log)
	}
	validate, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("router: validator: %w", err)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("router: metrics: %w", err)
	}
	// Errors of handlers are logged here.
	wm, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	drv, err := openDriver(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r := &Router{
		cfg: cfg, log: cfg.Log, drv: drv, wm: wm, validate: validate, metrics: m,
		subs: make(map[string]*subscriber), known: make(map[string]protoreflect.MessageType),
		draining: make(chan struct{}), started: make(chan struct{}), ended: make(chan struct{}),
	}
	r.abandoned, r.abandon = context.WithCancel(context.Background())
	return r, nil
}

// Features returns what the broker promises.
func (r *Router) Features() Features { return r.drv.features() }

// Functions returns the names given to Handle, sorted, each once.
func (r *Router) Functions() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := slices.Clone(r.functions)
	slices.Sort(names)
	return slices.Compact(names)
}

// Run, which is called once, subscribes the functions and works until Shutdown or until ctx ends, in
// which case messages in flight are given up after the handlers' contexts ended:
// prefer Shutdown. It returns an error if a function cannot be subscribed within ConnectTimeout.
func (r *Router) Run(ctx context.Context) error {
	r.mu.Lock()
	r.running = true
	declare := r.declare
	r.mu.Unlock()
	defer close(r.ended)
	if err := r.knowsFunctions(); err != nil {
		return err
	}
	if err := r.declareOthers(ctx, declare); err != nil {
		select {
		case <-r.draining:
			return nil
		default:
			return err
		}
	}
	stop := context.AfterFunc(ctx, r.abandon)
	defer stop()
	if len(r.subs) == 0 {
		r.ready.Store(true)
		close(r.started)
		select {
		case <-ctx.Done():
		case <-r.draining:
		}
		return nil
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-r.wm.Running():
			r.ready.Store(true)
			close(r.started)
		case <-done:
		}
	}()
	if err := r.wm.Run(ctx); err != nil {
		select {
		case <-r.draining: // before every function was subscribed: nothing failed
			return nil
		default:
			return fmt.Errorf("router: %w", err)
		}
	}
	return nil
}

// knowsFunctions returns an error if Config.Functions names one that is not handled.
func (r *Router) knowsFunctions() error {
	known := r.Functions()
	for _, name := range r.cfg.Functions {
		if !slices.Contains(known, name) {
			return fmt.Errorf("router: there is no function %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// declareOthers declares the tasks of functions that run elsewhere.
func (r *Router) declareOthers(ctx context.Context, subs []subscription) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-r.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, sub := range subs {
		log := r.log.With("topic", sub.topic, "function", sub.group)
		err := insist(ctx, r.drv, r.cfg.ConnectTimeout, log, func(ctx context.Context) error {
			return r.drv.declare(ctx, sub.topic, sub.delivery, sub.group)
		})
		if err != nil {
			return fmt.Errorf("router: declare %s for %s: %w", sub.topic, sub.group, err)
		}
	}
	return nil
}

// Running is closed once every function is subscribed.
func (r *Router) Running() <-chan struct{} { return r.started }

// Drain stops reading and lets running functions finish and publish. When ctx
// ends, it abandons those that still run: their messages come again. Publish works on.
func (r *Router) Drain(ctx context.Context) error {
	r.ready.Store(false)
	r.drainOnce.Do(func() { close(r.draining) })
	stop := context.AfterFunc(ctx, r.abandon)
	defer stop()
	// Closing the subscribers and not Watermill's router, which would cancel the
	// contexts of what is in flight. It ends by itself with its last subscriber.
	r.mu.Lock()
	running := r.running
	var closing sync.WaitGroup
	for _, s := range r.subs {
		closing.Go(func() { _ = s.Close() }) // never fails
	}
	r.mu.Unlock()
	closing.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("router: drain: functions were still running: %w", ctx.Err())
	}
	if running {
		select {
		case <-r.ended:
		case <-ctx.Done():
			return fmt.Errorf("router: drain: %w", ctx.Err())
		}
	}
	return nil
}

// Close ends the connection to the broker. Drain first.
func (r *Router) Close() error {
	r.closeOnce.Do(func() {
		r.abandon()
		r.health.probing.Wait()
		r.closeErr = r.drv.close()
	})
	return r.closeErr
}

// Shutdown drains, then closes.
func (r *Router) Shutdown(ctx context.Context) error {
	return errors.Join(r.Drain(ctx), r.Close())
}
