// Command app is Burrow: a chat server, or a part of one, as its configuration
// and flags say. With no flags it is everything.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"burrow/internal/heap"
)

// minProcs is the least number of goroutines that run at the same time, also on one CPU. Go
// notices late that a goroutine is in a system call: while the archive waits for the disk, for
// milliseconds, it would hold the only turn there is, and everybody else waits too.
const minProcs = 4

func main() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < minProcs {
		runtime.GOMAXPROCS(minProcs)
	}
	cobra.MousetrapHelpText = "" // Windows: a double click starts Burrow.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly stop; a second one then ends the process.
	context.AfterFunc(ctx, stop)
	go heap.Trim(ctx)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
