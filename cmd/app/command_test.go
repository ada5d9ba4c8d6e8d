package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files of the help")

// TestCommand_Help compares the help of every command with its golden file. Help goes to stdout, with
// exit code 0, and names the program burrow.
func TestCommand_Help(t *testing.T) {
	for _, args := range []string{"", "dlq", "dlq list", "dlq show", "dlq replay", "dlq drop"} {
		name := filepath.Join("testdata", "help", strings.ReplaceAll(strings.TrimSpace("burrow "+args), " ", "-")+".txt")
		var outputs []string
		for _, line := range []string{args + " -h", args + " --help", args + " -help", "help " + args} {
			code, out, log := runs(t, nil, strings.Fields(line)...)
			if code != exitOK || log != "" {
				t.Errorf("burrow %s: got %d and %q on stderr, want %d and nothing", line, code, log, exitOK)
			}
			outputs = append(outputs, out)
		}
		for _, out := range outputs[1:] {
			if out != outputs[0] {
				t.Errorf("burrow %s: the ways to ask for help differ:\n%s\n%s", args, outputs[0], out)
			}
		}
		if *update {
			if err := os.WriteFile(name, []byte(outputs[0]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if outputs[0] != string(want) {
			t.Errorf("burrow %s -h: got\n%s\nwant\n%s\n(go test ./cmd/app -run TestCommand_Help -update writes it)", args, outputs[0], want)
		}
	}
}

// TestCommand_WrongLine covers command lines with a mistake: exit code 2 and one line with the fix.
func TestCommand_WrongLine(t *testing.T) {
	for line, says := range map[string]string{
		"dlp":                      `burrow: no command "dlp", did you mean dlq?`,
		"config.toml":              "did you mean -config config.toml?",
		"-confg x":                 "unknown flag -confg, did you mean -config?",
		"--confg x":                "unknown flag -confg, did you mean -config?",
		"-x":                       "unknown flag -x",
		"-config":                  "-config: the value is missing",
		"-edge=maybe":              `-edge: invalid value "maybe"`,
		"-edge false":              `no command "false"`,
		"-functions brodcast":      `no function "brodcast", did you mean broadcast?`,
		"-functions archive,":      `no function ""`,
		"dlq":                      "list, show, replay or drop",
		"dlq -json list -limt 5":   "burrow dlq list: unknown flag -limt, did you mean -limit?",
		"dlq list -limit x":        `-limit: invalid value "x"`,
		"completion":               "bash, fish, powershell or zsh",
		"completion fsh":           `no command "fsh", did you mean fish?`,
		"help dlp":                 `no command "dlp", did you mean dlq?`,
		"dlq show -config":         "-config: the value is missing",
		"version":                  `no command "version", did you mean -version?`,
		"dlq replay 1 -functoin f": "did you mean -function?",
	} {
		code, out, log := runs(t, nil, strings.Fields(line)...)
		if code != exitUsage || out != "" || !strings.Contains(log, says) || strings.Count(log, "\n") != 1 {
			t.Errorf("burrow %s: got %d, %q and %q; want %d and one line with %q", line, code, out, log, exitUsage, says)
		}
	}
}

// TestCommand_OneDash checks that one dash before a long flag, and any place of a flag, mean the same.
func TestCommand_OneDash(t *testing.T) {
	parse := func(line string) (opts options) {
		c := &commandLine{stdout: new(output), stderr: new(output), serve: func(_ context.Context, o options) int { opts = o; return exitOK }}
		if code := c.execute(t.Context(), strings.Fields(line)); code != exitOK {
			t.Fatalf("burrow %s: exit code %d", line, code)
		}
		return opts
	}
	worker := options{config: "-a.toml", functions: []string{"archive", "dead-letters"}}
	for line, want := range map[string]options{
		"":                     {edge: true},
		"-config config.toml":  {config: "config.toml", edge: true},
		"--config=config.toml": {config: "config.toml", edge: true},
		"-check -edge=true":    {check: true, edge: true},
		"-edge=0 -version":     {version: true},
		"-config dlq":          {config: "dlq", edge: true},
		"-functions= -config=": {edge: true},
		"-config -a.toml -functions archive,dead-letters -edge=false":     worker,
		"--config -a.toml --functions=archive,dead-letters --edge=false":  worker,
		"-functions archive,dead-letters -edge=false -- ":                 {functions: worker.functions},
		"-edge=false --functions archive,dead-letters -config=-a.toml --": worker,
	} {
		if got := parse(line); !reflect.DeepEqual(got, want) {
			t.Errorf("burrow %s: got %+v, want %+v", line, got, want)
		}
	}
	root := new(commandLine).root()
	for line, want := range map[string]string{
		"dlq -json -limit 5 list":           "dlq list --json --limit 5",
		"-config c.toml dlq replay 1 -all":  "dlq replay --config c.toml 1 --all",
		"dlq replay -wait -1s 3 4":          "dlq replay --wait -1s 3 4",
		"dlq show -- -config":               "dlq show -- -config",
		"dlq drop list":                     "dlq drop list",
		"-h":                                "-h",
		"__complete dlq -json list -li":     "__complete dlq list --json -li",
		"__complete -config c.toml dlq lis": "__complete dlq --config c.toml lis",
	} {
		if got := strings.Join(normalise(root, strings.Fields(line)), " "); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// TestCommand_Completion checks scripts and suggestions for shells.
func TestCommand_Completion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		code, out, log := runs(t, nil, "completion", shell)
		if code != exitOK || !strings.Contains(out, "burrow") || log != "" {
			t.Errorf("%s: got %d, %d bytes and %q", shell, code, len(out), log)
		}
	}
	for line, want := range map[string][]string{
		"":                            {"dlq", "completion"},
		"dlq ":                        {"list", "show", "replay", "drop"},
		"dlq list --":                 {"--json", "--limit", "--config"},
		"-functions archive,":         {"archive,broadcast", "archive,dead-letters"},
		"-config ":                    {"toml"},
		"help ":                       {"dlq"},
		"-config c.toml dlq -json re": {"replay"},
	} {
		code, out, _ := runs(t, nil, append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if code != exitOK {
			t.Errorf("complete %q: exit code %d", line, code)
		}
		for _, word := range want {
			if !strings.Contains("\n"+out, "\n"+word) {
				t.Errorf("complete %q: %q is not among\n%s", line, word, out)
			}
		}
	}
}

// TestCommand_OutputCannotBeWritten exits with 1 and the reason.
func TestCommand_OutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	in := install(t, memory)
	in.start(t).stop() // has a store for dlq list
	for _, args := range [][]string{{"-version"}, {"-help"}, {"completion", "bash"}, {"-check"}, {"dlq", "list"}} {
		var stderr strings.Builder
		code := run(t.Context(), args, in.env, fullWriter{}, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: got exit code %d and %q, want %d and the reason", args, code, stderr.String(), exitFailed)
		}
	}
}

// fullWriter is /dev/full.
type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
