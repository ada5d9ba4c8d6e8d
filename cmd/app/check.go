package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"burrow/config"
	"burrow/httpapi"
)

const (
	// checkTimeout bounds a check, in addition to the wait for the broker.
	checkTimeout = 20 * time.Second
	// askTimeout bounds the question who listens on http.addr.
	askTimeout = 2 * time.Second
)

// check tries what a start does, leaves nothing behind, and prints the result.
func check(ctx context.Context, cfg *config.Config, opts options, log *slog.Logger, stdout io.Writer) int {
	n := newNode(cfg, opts, log)
	if err := n.check(ctx); err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	fmt.Fprintf(stdout, "store: %s\n", n.storeStatus)
	fine := []string{"configuration", "store", "broker (" + cfg.Broker.Driver + ")"}
	if n.edge != nil || n.ops != nil {
		fine = append(fine, "address")
	}
	for _, remark := range n.remarks {
		fmt.Fprintln(stdout, remark)
		part, _, _ := strings.Cut(remark, ":")
		fine = slices.DeleteFunc(fine, func(name string) bool { return strings.HasPrefix(name, part) })
	}
	last := len(fine) - 1
	fmt.Fprintf(stdout, "%s and %s are fine\n", strings.Join(fine[:last], ", "), fine[last])
	return exitOK
}

// check opens every part, tries what it will do, and closes it again.
func (n *node) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Broker.ConnectTimeout+checkTimeout)
	defer cancel()
	err, returned := await(ctx, stopGrace, launch(func() error {
		if err := n.open(ctx); err != nil {
			return err
		}
		remark, err := n.router.Rehearse(ctx)
		if remark != "" {
			n.remarks = append(n.remarks, "broker: "+remark+", not tested")
		}
		return errors.Join(n.store.Ping(ctx), err)
	}))
	if !returned {
		err = fmt.Errorf("the check did not end within broker.connect_timeout and %s", checkTimeout)
	}
	stop, end := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Shutdown.Timeout)
	defer end()
	return errors.Join(err, n.parts.stop(stop))
}

// ownAddress returns err, of listening on http.addr. If a process of this installation listens there, a
// check has no error, and a start gets the fix: since workers have an address, one that starts first
// may have taken that of the node.
func (n *node) ownAddress(ctx context.Context, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) || !listensHere(ctx, n.cfg.HTTP.Addr, installationOf(n.cfg)) {
		return err
	}
	if n.opts.check {
		n.remarks = append(n.remarks, "address: "+n.cfg.HTTP.Addr+" is in use by a running Burrow of this installation, not tested")
		return nil
	}
	return fmt.Errorf(`%w; another process of this installation has it: give each its own http.addr, or none (http.addr = "") to a worker`, err)
}

// listensHere asks who listens on addr.
func listensHere(ctx context.Context, addr, installation string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.Header.Get(httpapi.InstallationHeader) == installation
}

// installationOf returns a name for the installation of cfg on this host: the same for two
// processes with the same data directory and topics.
func installationOf(cfg *config.Config) string {
	host, _ := os.Hostname() // empty is the same for all
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		dir = cfg.DataDir
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	sum := sha256.Sum256([]byte(host + "\x00" + dir + "\x00" + cfg.Broker.TopicPrefix))
	return hex.EncodeToString(sum[:8])
}

// isPrivate reports whether no other process can reach the broker.
func isPrivate(cfg *config.Config) bool {
	return cfg.Broker.Driver == "gochannel" || cfg.Broker.Driver == "nats" && cfg.Broker.NATS.URL == ""
}

// canWork refuses combinations of flags and settings in which a node could never do
// anything.
func canWork(cfg *config.Config, opts options) error {
	switch {
	case opts.edge && cfg.HTTP.Addr == "":
		return errors.New(`config: http.addr: it is empty, and the edge needs an address; write ":8000", or start a worker with -edge=false`)
	case opts.edge:
		return nil
	}
	if isPrivate(cfg) && opts.memory == nil {
		return fmt.Errorf("burrow: -edge=false: the broker (%s) is reached by this process only, so a worker would never receive a message: set broker.nats.url, or broker.driver to redis or amqp, or leave -edge=false out", brokerName(cfg))
	}
	for _, name := range opts.functions {
		if name == "broadcast" || name == "presence" {
			return fmt.Errorf("burrow: -functions %s: %s needs the edge: leave it out of -functions, or leave -edge=false out", strings.Join(opts.functions, ","), name)
		}
	}
	return nil
}

func brokerName(cfg *config.Config) string {
	if cfg.Broker.Driver == "nats" {
		return "embedded nats"
	}
	return cfg.Broker.Driver
}
