package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osuser "os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"burrow/config"
	"burrow/dlq"
	"burrow/router"
	"burrow/store"
)

// defaultWait is how long replay waits for what becomes of it.
const defaultWait = 10 * time.Second

// dlqCommand is one call of "burrow dlq".
type dlqCommand struct {
	name     string
	ids      []int64
	config   string
	json     bool
	all      bool
	function string
	before   int64
	limit    int
	wait     time.Duration

	functions      map[string]router.FunctionConfig
	desk           *dlq.Desk
	who            string
	stdout, stderr io.Writer
}

// dlq returns the command "dlq" with its subcommands.
func (c *commandLine) dlq() *cobra.Command {
	d := &dlqCommand{who: osUser(), stdout: c.stdout, stderr: c.stderr}
	parent := &cobra.Command{
		Use:   "dlq",
		Short: "List, show, replay and drop dead letters",
		Long: `A dead letter is a message of which a function has failed every attempt.
These commands use the store of a configuration, with or without a running node.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return errors.New("name a command: list, show, replay or drop") },
	}
	addConfigFlag(parent, parent.PersistentFlags(), &d.config)
	parent.PersistentFlags().BoolVar(&d.json, "json", false, "print JSON, for programs")
	add := func(use, short string, args cobra.PositionalArgs) *pflag.FlagSet {
		cmd := &cobra.Command{Use: use, Short: short, Args: args, ValidArgsFunction: cobra.NoFileCompletions}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			d.name = cmd.Name()
			if err := d.checkFlags(); err != nil {
				return err
			}
			c.code = d.execute(cmd.Context(), c.environ)
			return nil
		}
		parent.AddCommand(cmd)
		cmd.Flags().SortFlags = false
		return cmd.Flags()
	}
	list := add("list", "List dead letters, newest first", func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errors.New("list takes no ids; show does")
		}
		return nil
	})
	list.BoolVar(&d.all, "all", false, "also those replayed in the last 30 days")
	list.StringVar(&d.function, "function", "", "only those of the function with this `name`")
	list.Int64Var(&d.before, "before", 0, "only those with a lower `id`")
	list.IntVar(&d.limit, "limit", 50, fmt.Sprintf("at most `n` of them (1 to %d)", store.MaxDeadLetters))
	add("show ID", "Show one dead letter with its payload", d.takeIDs(func(n int) string {
		if n != 1 {
			return "show takes one id"
		}
		return ""
	}))
	replay := add("replay [ID...]", "Run the failed function again for these messages, and no other function", d.takeIDs(func(n int) string {
		if d.all == (n > 0) {
			return "replay takes ids, or -all"
		}
		return ""
	}))
	replay.BoolVar(&d.all, "all", false, "every waiting dead letter")
	replay.StringVar(&d.function, "function", "", "with -all: only those of the function with this `name`")
	replay.DurationVar(&d.wait, "wait", defaultWait, "wait up to this `time` for the outcome; 0 does not wait")
	add("drop ID...", "Delete dead letters", d.takeIDs(func(n int) string {
		if n == 0 {
			return "drop takes ids"
		}
		return ""
	}))
	return parent
}

// takeIDs parses ids. wrong checks their number and returns an error text or "".
func (c *dlqCommand) takeIDs(wrong func(n int) string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		for _, arg := range args {
			id, err := strconv.ParseInt(arg, 10, 64)
			if err != nil || id < 1 {
				return fmt.Errorf("%q is not the id of a dead letter", arg)
			}
			c.ids = append(c.ids, id)
		}
		if text := wrong(len(args)); text != "" {
			return errors.New(text)
		}
		return nil
	}
}

// checkFlags checks the values of flags. Flags of other commands have their defaults.
func (c *dlqCommand) checkFlags() error {
	if c.name == "replay" && c.function != "" && !c.all {
		return errors.New("-function goes with -all")
	}
	if c.limit < 1 || c.limit > store.MaxDeadLetters {
		return fmt.Errorf("-limit is from 1 to %d", store.MaxDeadLetters)
	}
	if c.wait < 0 || c.wait > time.Hour {
		return errors.New("-wait is from 0 to 1h")
	}
	return nil
}

// execute opens the store and runs the command. It returns the exit code.
func (c *dlqCommand) execute(ctx context.Context, environ []string) int {
	cfg, err := config.Load(c.config, environ)
	if err != nil {
		fmt.Fprintln(c.stderr, err)
		return exitUsage
	}
	c.functions = cfg.Functions.ByName()
	log := newLogger(cfg.Log, c.stderr)
	storeCfg := cfg.Store
	storeCfg.DataDir, storeCfg.Log, storeCfg.MustExist = cfg.DataDir, log, true
	types, err := dlq.NewTypes(cfg.Broker.TopicPrefix)
	if err == nil {
		err = c.open(ctx, storeCfg, &dlq.Desk{Types: types, Log: log})
	}
	if err != nil {
		if !errors.Is(err, errNotAll) {
			log.Error(dlq.Inert(err.Error()))
		}
		return exitFailed
	}
	return exitOK
}

// open gives the command its store: list and show one that they cannot change.
func (c *dlqCommand) open(ctx context.Context, cfg store.Config, desk *dlq.Desk) error {
	c.desk = desk
	if c.name != "list" && c.name != "show" {
		kept, err := store.Open(ctx, cfg)
		if err != nil {
			return err
		}
		desk.Store = kept
		return errors.Join(c.run(ctx), kept.Close())
	}
	stdout := c.stdout
	var out bytes.Buffer
	if err := store.View(ctx, cfg, func(kept *store.ReadOnly) error {
		out.Reset() // it may run twice
		c.stdout, desk.Store = &out, kept
		return c.run(ctx)
	}); err != nil {
		return err
	}
	_, err := stdout.Write(out.Bytes())
	return err
}

// errNotAll ends a command that has said by itself what did not work.
var errNotAll = errors.New("not all of it worked")

func (c *dlqCommand) run(ctx context.Context) error {
	switch c.name {
	case "list":
		q := dlq.Query{Function: c.function, Before: c.before, Limit: c.limit}
		if c.all {
			q.State = "all"
		}
		page, err := c.desk.List(ctx, q)
		if err != nil {
			return err
		}
		if c.json {
			return c.print(page)
		}
		return dlq.WriteTable(c.stdout, page)
	case "show":
		letter, err := c.desk.Show(ctx, c.ids[0])
		if err != nil {
			return err
		}
		if c.json {
			return c.print(letter)
		}
		return dlq.WriteLetter(c.stdout, letter)
	case "replay":
		return c.replay(ctx)
	}
	return c.drop(ctx)
}

func (c *dlqCommand) print(v any) error {
	_, err := c.stdout.Write(dlq.JSON(v))
	return err
}

// osUser is who calls, for the log and the letters.
func osUser() string {
	if u, err := osuser.Current(); err == nil && u.Username != "" {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", os.Getuid())
}
