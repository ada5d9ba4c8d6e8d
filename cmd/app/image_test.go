package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// buildContext returns the files of the repository that .dockerignore lets into a build, by Docker's own rules.
func buildContext(t *testing.T, root string) map[string]bool {
	t.Helper()
	f, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		name, err := filepath.Rel(root, path)
		if err != nil || entry.IsDir() {
			return err
		}
		ignore, err := ignored.MatchesOrParentMatches(name)
		if !ignore {
			files[filepath.ToSlash(name)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// goTool runs the Go tool in dir as the build of the image does.
func goTool(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=readonly -buildvcs=false")
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, log.String())
	}
	return out
}

// TestImage_Context compares .dockerignore with the files of every package that the program imports.
func TestImage_Context(t *testing.T) {
	root := repository(t)
	files := buildContext(t, root)
	for _, name := range []string{"go.mod", "go.sum"} {
		if !files[name] {
			t.Errorf("%s is ignored", name)
		}
	}
	list := json.NewDecoder(bytes.NewReader(goTool(t, root, "list", "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", "./cmd/app")))
	packages := 0
	for {
		var pkg struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct{ Main bool }
		}
		if err := list.Decode(&pkg); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if pkg.Module == nil || !pkg.Module.Main {
			continue
		}
		packages++
		dir, err := filepath.Rel(root, pkg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(pkg.GoFiles, pkg.EmbedFiles...) {
			if name := filepath.ToSlash(filepath.Join(dir, name)); !files[name] {
				t.Errorf("%s is ignored, and the program needs it: add its directory to .dockerignore", name)
			}
		}
	}
	if packages < 10 {
		t.Errorf("found %d packages, want all of the program", packages)
	}
	for name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") || strings.HasPrefix(name, "docs/") || strings.HasPrefix(name, "data/") {
			t.Errorf("%s is not ignored, and no build needs it", name)
		}
	}
}

// TestImage_Build builds the program from a copy of the permitted files alone, and runs it.
func TestImage_Build(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the program")
	}
	root, copied := repository(t), t.TempDir()
	for name := range buildContext(t, root) {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(copied, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "burrow")
	goTool(t, copied, "build", "-o", program, "./cmd/app")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-check")
	cmd.Dir, cmd.Env = t.TempDir(), []string{"BURROW_HTTP_ADDR=127.0.0.1:0"}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "fine") {
		t.Errorf("burrow -check: %v: %s", err, out)
	}
}

// TestImage_GoVersion compares the Go of the Dockerfile with that of go.mod.
func TestImage_GoVersion(t *testing.T) {
	root := repository(t)
	read := func(name, pattern string) string {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindStringSubmatch(string(data))
		if m == nil {
			t.Fatalf("%s has no match for %s", name, pattern)
		}
		return m[1]
	}
	base, module := read("Dockerfile", `(?m)^FROM golang:(\d+\.\d+) `), read("go.mod", `(?m)^go (\d+\.\d+)`)
	if base != module {
		t.Errorf("the Dockerfile builds with Go %s, go.mod needs %s", base, module)
	}
}

// repository returns the root of the module.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
