package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"burrow/internal/suggest"
	"burrow/router"
)

// options are the flags of the root command.
type options struct {
	config    string
	functions []string // nil means all
	edge      bool
	check     bool
	version   bool
	// memory is the broker "gochannel" that tests share between nodes.
	memory *router.Memory
	// started, if set, receives the address of the edge ("" without one) once the
	// node is ready.
	started func(addr string)
	// part, if set, replaces parts of the node in a test.
	part func(part) part
	// handle, if set, adds functions of a test.
	handle func(*router.Router) error
}

// run executes one command line and returns the exit code. A running node stops when ctx ends.
// environ has the form of os.Environ.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	out := &checkedWriter{to: stdout}
	c := &commandLine{environ: environ, stdout: out, stderr: stderr}
	c.serve = func(ctx context.Context, opts options) int { return runWith(ctx, opts, environ, out, stderr) }
	code := c.execute(ctx, args)
	if out.err != nil && code != exitFailed {
		fmt.Fprintf(stderr, "burrow: write the output: %s; free space there, or redirect stdout elsewhere\n", out.err)
		return exitFailed
	}
	return code
}

// checkedWriter keeps the first error of its writer. One goroutine writes.
type checkedWriter struct {
	to  io.Writer
	err error
}

func (o *checkedWriter) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	o.err = cmp.Or(o.err, err)
	return n, err
}

// commandLine is one call of the program.
type commandLine struct {
	serve          func(context.Context, options) int // the root command
	environ        []string
	stdout, stderr io.Writer
	code           int // set by the command
}

// execute parses args and runs one command. Unknown words exit with 2, before anything starts.
func (c *commandLine) execute(ctx context.Context, args []string) int {
	root := c.root()
	// Never nil: cobra would read os.Args, those of a test included.
	root.SetArgs(append([]string{}, normalise(root, args)...))
	if cmd, err := root.ExecuteContextC(ctx); err != nil {
		fmt.Fprintf(c.stderr, "%s: %s (%s -h shows the usage)\n", cmd.CommandPath(), err, cmd.CommandPath())
		return exitUsage
	}
	return c.code
}

// root returns the command tree.
func (c *commandLine) root() *cobra.Command {
	var opts options
	var functions string
	root := &cobra.Command{
		Use:   "burrow",
		Short: "Chat server and runtime for event functions",
		Long: `Burrow is a chat server and a runtime for event functions.
Without a command it runs a node until SIGINT or SIGTERM.

A long flag takes one dash or two: -config and --config are the same.
Exit codes: 0 success, 1 failure, 2 wrong command line or configuration.`,
		Example: `  burrow -config config.toml
  burrow -config config.toml -check
  burrow -functions archive,dead-letters -edge=false`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.functions, err = parseFunctions(functions); err != nil {
				return err
			}
			c.code = c.serve(cmd.Context(), opts)
			return nil
		},
	}
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(explainFlag)
	flags := root.Flags()
	flags.SortFlags = false
	addConfigFlag(root, flags, &opts.config)
	flags.StringVar(&functions, "functions", "", "run only the functions in this comma-separated `list`: "+strings.Join(functionNames, ", "))
	flags.BoolVar(&opts.edge, "edge", true, "serve HTTP and WebSockets; -edge=false makes a worker")
	flags.BoolVar(&opts.check, "check", false, "check configuration, store, broker and address, then exit")
	flags.BoolVar(&opts.version, "version", false, "print the version and exit")
	completeFlag(root, "functions", completeFunctions)
	root.AddCommand(c.dlq())
	root.SetHelpCommand(helpCommand(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	completion := subcommand(root, "completion")
	completion.Short, completion.Args = "Print a script which completes commands and flags in a shell", noArguments
	completion.RunE = func(*cobra.Command, []string) error {
		return errors.New("name a shell: bash, fish, powershell or zsh")
	}
	setUsage(root)
	return root
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show the usage of a command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if cmd, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				names = commandNames(cmd)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd := root
			for _, name := range args {
				child := subcommand(cmd, name)
				if child == nil {
					return noArguments(cmd, []string{name})
				}
				cmd = child
			}
			return cmd.Help()
		},
	}
}

// setUsage gives every command the flag -h with the same text.
func setUsage(cmd *cobra.Command) {
	cmd.Flags().BoolP("help", "h", false, "show this help and exit")
	for _, child := range cmd.Commands() {
		setUsage(child)
	}
}

func addConfigFlag(cmd *cobra.Command, flags *pflag.FlagSet, path *string) {
	flags.StringVar(path, "config", "", "configuration `file`; without it the defaults and the environment (BURROW_…) apply")
	completeFlag(cmd, "config", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return []cobra.Completion{"toml"}, cobra.ShellCompDirectiveFilterFileExt
	})
}

func completeFlag(cmd *cobra.Command, name string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(name, complete); err != nil {
		panic(err) // the flag exists, and has one completion
	}
}

// completeFunctions completes the last name of a comma-separated list.
func completeFunctions(_ *cobra.Command, _ []string, typed string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	for _, name := range functionNames {
		if !slices.Contains(strings.Split(before, ","), name) {
			found = append(found, before+name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// parseFunctions splits the value of -functions. Empty means all.
func parseFunctions(list string) (names []string, err error) {
	if list == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(functionNames, name) {
			return nil, fmt.Errorf("-functions: no function %q%s; there are %s", name,
				suggest.DidYouMean(suggest.Nearest(name, functionNames)), strings.Join(functionNames, ", "))
		}
		names = append(names, name)
	}
	return names, nil
}

// noArguments refuses arguments, with the command or flag nearest to the first one.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.HasSuffix(args[0], ".toml") && cmd.Flags().Lookup("config") != nil {
		return fmt.Errorf("unexpected argument %q, did you mean -config %s?", args[0], args[0])
	}
	if cmd.Flags().Lookup(args[0]) != nil {
		return fmt.Errorf("no command %q, did you mean -%s?", args[0], args[0])
	}
	if !cmd.HasAvailableSubCommands() {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return fmt.Errorf("no command %q%s", args[0], suggest.DidYouMean(suggest.Nearest(args[0], commandNames(cmd))))
}

func commandNames(cmd *cobra.Command) (names []string) {
	for _, child := range cmd.Commands() {
		if !child.Hidden {
			names = append(names, child.Name())
		}
	}
	return names
}

// explainFlag words the errors of the flag parser, with the nearest flag for an unknown one.
func explainFlag(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("-%s: invalid value %q", bad.GetFlag().Name, bad.GetValue())
	}
	if bare, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("-%s: the value is missing", bare.GetSpecifiedName())
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	name := cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName())
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "-"+f.Name) })
	return fmt.Errorf("unknown flag -%s%s", name, suggest.DidYouMean(suggest.Nearest("-"+name, names)))
}

// normalise accepts what the flag package of the standard library accepted: one dash before a long
// flag, and flags before the name of a command. It leaves values and everything after "--" alone.
func normalise(root *cobra.Command, args []string) []string {
	if len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		last := len(args) - 1 // the word under the cursor stays as it is typed
		return slices.Concat(args[:1], normalise(root, args[1:last]), args[last:])
	}
	takesValue := map[string]bool{}
	visitFlags(root, func(f *pflag.Flag) { takesValue[f.Name] = f.NoOptDefVal == "" })
	var commands, rest []string
	at := root
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, isFlag := strings.CutPrefix(arg, "-")
		switch {
		case arg == "--":
			return slices.Concat(commands, rest, args[i:])
		case !isFlag || name == "":
			if child := subcommand(at, arg); child != nil {
				at, commands = child, append(commands, arg)
			} else {
				at, rest = nil, append(rest, arg) // ids and other arguments begin
			}
			continue
		case len(name) > 1 && name[0] != '-':
			arg = "-" + arg
		}
		rest = append(rest, arg)
		if takesValue[strings.TrimLeft(name, "-")] && i+1 < len(args) {
			i++
			rest = append(rest, args[i])
		}
	}
	return slices.Concat(commands, rest)
}

// subcommand returns the child of cmd called name, or nil.
func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	if cmd == nil {
		return nil
	}
	for _, child := range cmd.Commands() {
		if child.Name() == name {
			return child
		}
	}
	return nil
}

func visitFlags(cmd *cobra.Command, visit func(*pflag.Flag)) {
	cmd.Flags().VisitAll(visit)
	cmd.PersistentFlags().VisitAll(visit)
	for _, child := range cmd.Commands() {
		visitFlags(child, visit)
	}
}
