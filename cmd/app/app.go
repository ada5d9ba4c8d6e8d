package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"burrow/auth"
	"burrow/config"
	"burrow/dlq"
	"burrow/handlers"
	"burrow/httpapi"
	"burrow/httpapi/ui"
	"burrow/presence"
	"burrow/router"
	"burrow/store"
)

// functionNames are the functions that -functions takes.
var functionNames = []string{"broadcast", "presence", "archive", deadLetters}

// deadLetters is the function whose own failures make no dead letters.
const deadLetters = "dead-letters"

// node is one running Burrow: the system on one screen.
type node struct {
	cfg    *config.Config
	opts   options
	log    *slog.Logger
	store  *store.Store
	router *router.Router
	desk   *dlq.Desk           // where people ask for dead letters
	outbox *dlq.Outbox         // sends what they want replayed
	online *presence.Tracker   // nil without the edge
	edge   *httpapi.Server     // nil with -edge=false
	ops    *httpapi.Operations // only with -edge=false and an address
	parts  *parts              // of these, what is open or runs

	remarks     []string     // of a check: what it could not try
	storeStatus store.Status // of a check
}

func newNode(cfg *config.Config, opts options, log *slog.Logger) *node {
	return &node{cfg: cfg, opts: opts, log: log, parts: newParts(opts.part)}
}

// open opens the store, connects to the broker and takes the address. Nothing runs
// yet. What was opened is among the parts, also after an error.
func (n *node) open(ctx context.Context) (err error) {
	cfg, log := n.cfg, n.log
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	storeCfg := cfg.Store
	storeCfg.DataDir, storeCfg.Log, storeCfg.Metrics = cfg.DataDir, log, metrics
	if n.opts.check {
		if storeCfg, err = n.rehearseStore(ctx, storeCfg); err != nil {
			return err
		}
	}
	if n.store, err = store.Open(ctx, storeCfg); err != nil {
		return err
	}
	n.parts.add("store", nil, func(context.Context) error { return n.store.Close() })

	routerCfg := cfg.Broker
	routerCfg.DataDir, routerCfg.Log, routerCfg.Metrics = cfg.DataDir, log, metrics
	routerCfg.Functions, routerCfg.Memory, routerCfg.Rehearsal = n.opts.functions, n.opts.memory, n.opts.check
	routerCfg.Function = cfg.Functions.ByName()
	routerCfg.Route, routerCfg.DeadLetter, routerCfg.OnGap = handlers.Route, n.deadLetter, n.gap
	if n.router, err = router.New(ctx, routerCfg); err != nil {
		return err
	}
	n.parts.add("broker", nil, func(context.Context) error { return n.router.Close() })
	types, err := dlq.NewTypes(cfg.Broker.TopicPrefix)
	if err != nil {
		return err
	}
	n.desk = &dlq.Desk{Store: n.store, Types: types, Log: log, Kick: func() { n.outbox.Kick() }}
	if n.opts.edge {
		if err := n.newEdge(metrics); err != nil {
			return err
		}
		n.parts.add("address", nil, n.edge.Shutdown)
		if err := n.ownAddress(ctx, n.edge.Listen()); err != nil {
			return err
		}
	} else if err := n.newOperations(metrics); err != nil {
		return err
	}
	if err := n.handle(); err != nil {
		return err
	}
	n.outbox = dlq.NewOutbox(n.store, replays{n.router}, n.router.Functions(), nodeName(), log)
	return nil
}

func (n *node) newEdge(metrics *prometheus.Registry) error {
	cfg := n.cfg
	authCfg := cfg.Auth
	authCfg.DataDir, authCfg.Log, authCfg.Rehearsal = cfg.DataDir, n.log, n.opts.check
	people, err := auth.New(authCfg, claims{n.store})
	if err != nil {
		return err
	}
	if authCfg.Mode == auth.ModeOpen {
		n.log.Warn("auth.mode is open: everyone is who they say they are; use it for demos and tests only")
	}
	presenceCfg := cfg.Presence
	presenceCfg.Log, presenceCfg.Metrics = n.log, metrics
	presenceCfg.Node = "node-" + strings.ToLower(rand.Text())
	presenceCfg.OnChange = func(user string, now presence.Standing) {
		if now == presence.Away {
			n.edge.Away(user)
		} else {
			n.edge.Status(user, now == presence.Online)
		}
	}
	n.online = presence.New(presenceCfg, presenceEvents{n.router, func() string { return n.edge.BehindSince() }})

	n.edge, err = httpapi.New(httpapi.Config{
		HTTP: cfg.HTTP, Edge: cfg.Edge, History: cfg.History, Admin: n.admin(),
		ListLimit:      cfg.Presence.ListLimit,
		FlushInterval:  cfg.Presence.FlushInterval,
		Node:           presenceCfg.Node,
		Installation:   installationOf(cfg),
		ArchivePrivate: cfg.Store.ArchivePrivate,
		Publisher:      publisher{n.router},
		Auth:           people,
		LoginURL:       cfg.Auth.JWT.LoginURL,
		Archive:        archive{n.store},
		Search:         archive{n.store},
		Talks:          archive{n.store},
		Refs:           n.store,
		Presence:       n.online,
		Letters:        n.desk,
		Checks:         n.checks(),
		Vital:          n.router.Fatal,
		UI:             ui.Files,
		Log:            n.log, Metrics: metrics, Gatherer: metrics,
	})
	if err != nil {
		return err
	}
	needs := []string{"broadcast", "presence"}
	if isPrivate(cfg) { // no other process can run the others
		needs = functionNames
	}
	for _, needed := range needs {
		if n.opts.functions != nil && !slices.Contains(n.opts.functions, needed) {
			n.log.Warn("the edge is on without the function that feeds it; its users will not see everything", "function", needed)
		}
	}
	return nil
}

// handle says what the system does. A node without the edge has nobody to show a
// message to, so there the events have no function.
func (n *node) handle() error {
	store := &handlers.Archive{Messages: n.store, Private: n.cfg.Store.ArchivePrivate, MessageID: router.MessageID}
	letters := &handlers.DeadLetters{Letters: n.store}
	err := errors.Join(
		router.Handle(n.router, "archive", store.Handle),
		router.Handle(n.router, deadLetters, letters.Handle),
	)
	if n.opts.handle != nil {
		err = errors.Join(err, n.opts.handle(n.router))
	}
	if n.edge == nil {
		return err
	}
	talk := &handlers.Broadcast{Rooms: n.edge, MessageID: router.MessageID}
	typing := &handlers.Typing{Rooms: n.edge}
	online := &handlers.Presence{Leases: n.online, Talk: n.edge}
	return errors.Join(err,
		router.Handle(n.router, "broadcast", talk.Handle),
		router.Handle(n.router, "broadcast", typing.Handle),
		router.Handle(n.router, "presence", online.Status),
		router.Handle(n.router, "presence", online.State),
		router.Handle(n.router, "presence", online.Request),
	)
}

// serve starts the node, works until ctx ends or a part fails, and stops what was
// started. It returns nil after a graceful shutdown.
func (n *node) serve(ctx context.Context) error {
	announced := make(chan struct{})
	silence := context.AfterFunc(ctx, func() {
		n.log.Info("stopping; a second signal ends it at once")
		close(announced)
	})
	defer func() {
		if !silence() {
			<-announced // what the caller logs is the last line
		}
	}()
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.parts.failed, cancel)()
	err, returned := await(starting, n.cfg.Shutdown.Timeout, launch(func() error { return n.start(starting) }))
	switch {
	case !returned:
		err = errors.New("the start did not stop within shutdown.timeout")
	case err == nil:
		select {
		case <-ctx.Done():
		case <-n.parts.failed.Done():
		}
	case ctx.Err() != nil: // it failed because it had to end
		n.log.Info("stopped while starting", "waiting_for", err)
		err = nil
	case n.parts.failed.Err() != nil: // the same, and the part has the reason
		err = nil
	}
	stop, end := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Shutdown.Timeout)
	defer end()
	return errors.Join(err, n.parts.stop(stop))
}

// start brings the node up in order: functions first, then what it missed, then
// the door. They stop in reverse order: sessions, presence, replays, functions, broker,
// store.
func (n *node) start(ctx context.Context) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	n.parts.add("functions", n.router.Run, n.router.Drain)
	select {
	case <-n.router.Running():
	case <-ctx.Done():
		return ctx.Err()
	}
	n.parts.add("replays", n.outbox.Run, n.outbox.Shutdown)
	f := n.router.Features()
	log := n.log.With("broker", n.cfg.Broker.Driver, "durable", f.Durable, "shared", f.Shared)
	if n.edge == nil {
		addr := ""
		if n.ops != nil {
			addr = n.ops.Addr()
			n.parts.add("operations", n.ops.Run, n.ops.Shutdown)
		}
		log.Info("burrow works, without an edge", "functions", n.router.Functions(), "addr", addr)
		n.tell(addr)
		return nil
	}
	if err := n.edge.Seed(ctx); err != nil {
		return fmt.Errorf("read the latest messages: %w", err)
	}
	n.parts.add("presence", n.online.Run, n.online.Shutdown)
	n.parts.add("edge", n.edge.Run, n.edge.Shutdown)
	log.Info("burrow is open", "addr", n.edge.Addr(), "page", pageURL(n.edge.Addr()))
	n.tell(n.edge.Addr())
	return nil
}

func (n *node) tell(addr string) {
	if n.opts.started != nil {
		n.opts.started(addr)
	}
}

// deadLetter sends what a function gave up on to the function that keeps it: a
// task, so that it waits on the broker while the store is away.
func (n *node) deadLetter(ctx context.Context, l router.DeadLetter) error {
	n.log.Error("a function gave up on a message", "function", l.Function, "topic", l.Topic,
		"message", l.MessageID, "attempts", l.Attempts, "error", l.Err, "bytes", len(l.Payload))
	if l.Function == deadLetters {
		var p interface{ Permanent() bool }
		if errors.As(l.Err, &p) && p.Permanent() {
			return nil // no store will ever take it; the log above has it
		}
		return l.Err // comes again, until the store takes it
	}
	letter := letterOf(l)
	err := n.router.Publish(ctx, letter)
	if errors.Is(err, router.ErrTooLarge) || errors.Is(err, router.ErrInvalid) {
		// No broker will ever take it, be it that there is no room for a large message
		// with all that is said about it: the store is the last that can.
		return n.store.AddDeadLetter(ctx, letter)
	}
	return err
}

// gap makes up for events that this node missed: what was said comes from the
// archive, and who is online from the other nodes.
func (n *node) gap(_, function string) {
	switch {
	case n.edge == nil:
	case function == "broadcast":
		n.edge.Refill()
		n.online.Resync() // tells the other nodes, too
	case function == "presence":
		n.online.Resync()
	}
}
