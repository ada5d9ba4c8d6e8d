package brokertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

const (
	supported = true

	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
	sigHup  = syscall.SIGHUP
	sigKill = syscall.SIGKILL
)

// EndWithParent makes cmd the leader of a process group, and the kernel kill it when the thread ends that has
// started it. On other systems than Linux it does nothing.
func EndWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// signalGroup sends sig to the group of pid.
func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

// processStopped reports whether every thread of pid is stopped.
func processStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; the state is behind it.
		if _, state, ok := bytes.Cut(stat, []byte(") ")); ok && state[0] != 'T' {
			return false, nil
		}
	}
	return true, nil
}
