package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	osuser "os/user"
	"strconv"
	"time"

	"burrow/config"
	"burrow/dlq"
	"burrow/router"
	"burrow/store"
)

const dlqUsage = `usage: app dlq command [flags] [ID…]

A dead letter is a message that a function gave up on. The commands work on the
store of a configuration, whether or not Burrow runs.

  list          those that wait or are being replayed; -all: also those that were
                replayed in the last 30 days
  show ID       all about one, and what it holds
  replay ID…    let the function that gave up try again, and no other;
                -all: every letter that waits
  drop ID…      forget them

flags:
`

// defaultWait is how long replay waits for what becomes of it.
const defaultWait = 10 * time.Second

// dlqCommand is one call of "app dlq".
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

// runDLQ is "app dlq": it returns the exit code.
func runDLQ(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	c := &dlqCommand{who: osUser(), stdout: stdout, stderr: stderr}
	if err := c.parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	cfg, err := config.Load(c.config, environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	c.functions = cfg.Functions.ByName()
	log := newLogger(cfg.Log, stderr)
	storeCfg := cfg.Store
	storeCfg.DataDir, storeCfg.Log, storeCfg.MustExist = cfg.DataDir, log, true
	kept, err := store.Open(ctx, storeCfg)
	if err != nil {
		log.Error(err.Error())
		return exitFailed
	}
	types, err := dlq.NewTypes(cfg.Broker.TopicPrefix)
	if err == nil {
		c.desk = &dlq.Desk{Store: kept, Types: types, Log: log}
		err = c.run(ctx)
	}
	if err = errors.Join(err, kept.Close()); err != nil {
		if !errors.Is(err, errNotAll) {
			log.Error(dlq.Inert(err.Error()))
		}
		return exitFailed
	}
	return exitOK
}

// errNotAll ends a command that has said by itself what did not work.
var errNotAll = errors.New("not all of it worked")

// parse reads the command line; flags may also come after ids. What is wrong with
// it is on stderr when it returns.
func (c *dlqCommand) parse(args []string) error {
	flags := flag.NewFlagSet("app dlq", flag.ContinueOnError)
	flags.SetOutput(c.stderr)
	flags.Usage = func() {
		fmt.Fprint(c.stderr, dlqUsage)
		flags.PrintDefaults()
	}
	flags.StringVar(&c.config, "config", "", "configuration `file`; none means the defaults and the environment (BURROW_…)")
	flags.BoolVar(&c.json, "json", false, "print JSON, for programs")
	flags.BoolVar(&c.all, "all", false, "list: also letters that were replayed; replay: every letter that waits")
	flags.StringVar(&c.function, "function", "", "list, replay -all: only letters of the function with this `name`")
	flags.Int64Var(&c.before, "before", 0, "list: only letters with a lower `id`")
	flags.IntVar(&c.limit, "limit", 50, "list: at most this many letters, up to 1000")
	flags.DurationVar(&c.wait, "wait", defaultWait, "replay: how long to wait for what becomes of it; 0 not at all")
	wrong := func(format string, args ...any) error {
		err := fmt.Errorf("app dlq: "+format+"; app dlq -h helps", args...)
		fmt.Fprintln(c.stderr, err)
		return err
	}
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return err
		}
		if args = flags.Args(); len(args) == 0 {
			break
		}
		if c.name == "" {
			c.name = args[0]
		} else if id, err := strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 {
			return wrong("%q is not the id of a letter", args[0])
		} else {
			c.ids = append(c.ids, id)
		}
		args = args[1:]
	}
	switch n := len(c.ids); c.name {
	case "list":
		if n > 0 {
			return wrong("list takes no ids; show does")
		}
	case "show":
		if n != 1 {
			return wrong("show takes one id")
		}
	case "replay":
		if c.all == (n > 0) {
			return wrong("replay takes ids, or -all")
		}
		if c.function != "" && !c.all {
			return wrong("-function goes with -all")
		}
	case "drop":
		if n == 0 {
			return wrong("drop takes ids")
		}
	case "":
		return wrong("name a command: list, show, replay or drop")
	default:
		return wrong("there is no command %q: use list, show, replay or drop", c.name)
	}
	if c.limit < 1 || c.limit > store.MaxDeadLetters {
		return wrong("-limit is from 1 to %d", store.MaxDeadLetters)
	}
	if c.wait < 0 || c.wait > time.Hour {
		return wrong("-wait is from 0 to 1h")
	}
	return nil
}

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
