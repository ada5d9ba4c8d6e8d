//go:build pprof

package main

import (
	"log"
	"net/http"
	_ "net/http/pprof" // Profiles of the running program.
	"os"
	"runtime"
)

// A program that is built with -tags pprof serves its profiles at the address PPROF_ADDR,
// as "127.0.0.1:6060": whoever reaches it reads the program's memory. With PPROF_WAITS set
// it also notes where goroutines wait, which costs some of its speed. A program that is
// built without the tag has nothing of this.
func init() {
	if os.Getenv("PPROF_WAITS") != "" {
		runtime.SetBlockProfileRate(10_000)
		runtime.SetMutexProfileFraction(10)
	}
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		go func() { log.Print(http.ListenAndServe(addr, nil)) }()
	}
}
