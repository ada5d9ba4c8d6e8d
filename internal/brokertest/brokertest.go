// Package brokertest starts brokers that a test may break: processes of its own on
// free ports, with data of their own, and links to them that can be cut.
package brokertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Kind is a kind of broker.
type Kind string

// The brokers that run as a process of their own.
const (
	NATS  Kind = "nats"
	Redis Kind = "redis"
	AMQP  Kind = "amqp"
)

// patience bounds the wait for a server that starts; RabbitMQ takes long on a busy
// machine.
const patience = 90 * time.Second

// Server is one broker. Its methods end the test when they fail.
type Server struct {
	t     testing.TB
	kind  Kind
	port  int
	dir   string // data is in there, and nothing else that a restart needs
	start func() *exec.Cmd
	// configure writes the configuration file with text at its end; NATS only.
	configure func(text string)

	out     tail // of all its processes
	mu      sync.Mutex
	running *process
}

// Start starts a broker and returns when it answers. It ends with the test. args
// are added to the command line of Redis and NATS. Without the program the test is
// skipped, or fails where BURROW_TEST_REQUIRE is set. So it is on other systems than Linux.
func Start(t testing.TB, kind Kind, args ...string) *Server {
	t.Helper()
	if !supported {
		skip(t, "brokers of a test's own need Linux")
	}
	s := &Server{t: t, kind: kind, port: freePort(t), dir: tempDir(t)}
	switch kind {
	case Redis:
		s.redis(args)
	case NATS:
		s.nats(args)
	case AMQP:
		s.rabbitmq()
	default:
		t.Fatalf("no broker is called %q", kind)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("what %s said at last:\n%s", kind, s.out.String())
		}
	})
	s.Restart()
	return s
}

// Addr returns where the broker listens.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL returns where the broker is, as the setting of its driver wants it.
func (s *Server) URL() string { return url(s.kind, s.Addr()) }

func url(kind Kind, addr string) string {
	switch kind {
	case Redis:
		return "redis://" + addr + "/0"
	case AMQP:
		return "amqp://guest:guest@" + addr + "/"
	default:
		return "nats://" + addr
	}
}

// Kill is kill -9. It returns when the process is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.kill()
		s.running = nil
	}
}

// Restart starts the broker, after Kill or in place of the running one, with the
// data of before. It returns when the broker answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	// On a machine that is short of everything one that starts may give up.
	var err error
	for range 3 {
		if s.running, err = spawn(s.start(), &s.out); err != nil {
			s.t.Fatal(err)
		}
		if err = s.awaitAnswer(); err == nil {
			return
		}
		s.running.kill()
		s.t.Logf("%v; trying again. It said:\n%s", err, s.out.String())
	}
	s.running = nil
	s.t.Fatal(err)
}

func (s *Server) awaitAnswer() error {
	deadline := time.Now().Add(patience)
	for {
		err := s.answers()
		if err == nil {
			return nil
		}
		select {
		case <-s.running.exited:
			return fmt.Errorf("%s ended instead of starting", s.kind)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer at %s after %s: %w", s.kind, s.Addr(), patience, err)
		}
	}
}

// RestartEmpty is Restart without the data.
func (s *Server) RestartEmpty() {
	s.t.Helper()
	s.Kill()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.Restart()
}

// Pause stops the process (SIGSTOP): connections stay, and nobody answers. It
// returns when every thread has stopped.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(sigStop)
	deadline := time.Now().Add(patience)
	for {
		stopped, err := processStopped(s.running.pid)
		if err != nil {
			s.t.Fatal(err)
		}
		if stopped {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not stop", s.kind)
		}
		<-time.After(time.Millisecond)
	}
}

// Resume lets it go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(sigCont)
}

// Reload replaces the configuration of a NATS server, but for its address and its
// store, makes the server load it (SIGHUP), and returns when it has.
func (s *Server) Reload(config string) {
	s.t.Helper()
	const loaded = "Reloaded server configuration"
	before := strings.Count(s.Output(), loaded)
	s.configure(config)
	s.signal(sigHup)
	for deadline := time.Now().Add(patience); strings.Count(s.Output(), loaded) <= before; {
		if time.Now().After(deadline) {
			s.t.Fatal("nats has not loaded its configuration")
		}
		<-time.After(time.Millisecond)
	}
}

// RestartWith replaces the configuration of a NATS server as Reload does, and restarts it.
func (s *Server) RestartWith(config string) {
	s.t.Helper()
	s.configure(config)
	s.Restart()
}

// Output returns the last output of the broker.
func (s *Server) Output() string { return s.out.String() }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.t.Fatalf("%s does not run", s.kind)
	}
	if err := signalGroup(s.running.pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) redis(args []string) {
	s.t.Helper()
	program := find(s.t, "redis-server")
	args = append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "yes",
	}, args...)
	s.start = func() *exec.Cmd { return exec.Command(program, args...) }
}

func (s *Server) nats(args []string) {
	s.t.Helper()
	program := find(s.t, "nats-server")
	config := filepath.Join(tempDir(s.t), "nats.conf")
	s.configure = func(text string) {
		s.t.Helper()
		text = fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\n", s.Addr(), s.dir) + text
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.configure("max_payload: 2MB\n")
	args = append([]string{"-c", config}, args...)
	s.start = func() *exec.Cmd { return exec.Command(program, args...) }
}

// rabbitmq sets everything apart from a server of the machine: names, ports,
// files, and the port mapper of Erlang, which otherwise stays behind as a daemon.
func (s *Server) rabbitmq() {
	s.t.Helper()
	// Not the one in the PATH, which on Debian goes on as the user rabbitmq.
	program := "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(program); err != nil {
		program = find(s.t, "rabbitmq-server")
	}
	mapper := find(s.t, "epmd")
	home := tempDir(s.t)
	file := func(name, text string) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	epmd := strconv.Itoa(freePort(s.t))
	p, err := spawn(exec.Command(mapper, "-port", epmd, "-address", "127.0.0.1"), &s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.kill)
	// Without it a server that starts takes its own name for taken, and ends.
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", "127.0.0.1:"+epmd)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("epmd does not answer: %v", err)
		}
		<-time.After(10 * time.Millisecond)
	}
	name := "burrow-" + strconv.Itoa(s.port) + "@localhost"
	env := append(os.Environ(),
		"HOME="+home, // the cookie is there
		"RABBITMQ_NODENAME="+name,
		"RABBITMQ_NODE_PORT="+strconv.Itoa(s.port), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_DIST_PORT="+strconv.Itoa(freePort(s.t)),
		"RABBITMQ_MNESIA_BASE="+s.dir,
		"RABBITMQ_LOG_BASE="+home, "RABBITMQ_LOGS=-",
		"RABBITMQ_PID_FILE="+filepath.Join(home, "pid"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+file("plugins", "[]."),
		"RABBITMQ_CONF_ENV_FILE="+file("env.conf", ""),
		"RABBITMQ_CONFIG_FILE="+strings.TrimSuffix(file("rabbitmq.conf", "log.console.level = warning\n"), ".conf"),
		"RABBITMQ_GENERATED_CONFIG_DIR="+home,
		"ERL_EPMD_PORT="+epmd, "ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_FLAGS=-kernel inet_dist_use_interface {127,0,0,1}",
		// The script becomes the server then, and a signal to it is one to the server.
		"RABBITMQ_ALLOW_INPUT=1", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput +sbwt none +sbwtdcpu none +sbwtdio none"+
			// Dead letters without a queue are tried again after 3 minutes by default.
			" -rabbit dead_letter_worker_publisher_confirm_timeout 1000",
	)
	s.start = func() *exec.Cmd {
		// As rabbitmqctl force_boot does: one that was killed while it wrote may wait for
		// other servers to bring its tables, in vain.
		if data := filepath.Join(s.dir, name); exists(data) {
			if err := os.WriteFile(filepath.Join(data, "force_load"), nil, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
		cmd := exec.Command(program)
		cmd.Env, cmd.Dir = env, home
		return cmd
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// answers asks for a sign that the broker is there for its clients.
func (s *Server) answers() error {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	ask, want := "", "INFO " // NATS speaks first
	switch s.kind {
	case Redis:
		ask, want = "PING\r\n", "+PONG"
	case AMQP:
		ask, want = "AMQP\x00\x00\x09\x01", "\x01\x00\x00"
	}
	if _, err := io.WriteString(conn, ask); err != nil {
		return err
	}
	got := make([]byte, 64)
	n, err := io.ReadAtLeast(conn, got, len(want))
	if err != nil {
		return err
	}
	if got := string(got[:n]); !strings.HasPrefix(got, want) && !strings.HasPrefix(got, "-NOAUTH") {
		return fmt.Errorf("it answers %q", got)
	}
	return nil
}

// process is a running program.
type process struct {
	pid    int
	exited chan struct{}
}

// spawn starts cmd as the head of a process group that ends with the test binary.
func spawn(cmd *exec.Cmd, out io.Writer) (*process, error) {
	p := &process{exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	// A grandchild that kept the output open would keep Wait.
	cmd.WaitDelay = time.Second
	EndWithParent(cmd)
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that has started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is nothing to us
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process and what it has started.
func (p *process) kill() {
	err := signalGroup(p.pid, sigKill)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		panic(err) // it is our own child
	}
	<-p.exited
}

// tail keeps the end of what a process writes.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *tail) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > 64<<10 {
		o.buf.Next(o.buf.Len() / 2)
	}
	return o.buf.Write(b)
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// find returns the path of a program, also of one that is for administrators.
func find(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	skip(t, name+" is not installed")
	return ""
}

// skip skips the test, or fails it where BURROW_TEST_REQUIRE is set.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("BURROW_TEST_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// tempDir is t.TempDir, but does not mind a process that was killed while it wrote.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "brokertest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// freePort returns a port below those that the system gives to clients, one of
// which could otherwise take it while the broker is away.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}
