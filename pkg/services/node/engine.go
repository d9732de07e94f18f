package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// EngineError says that an engine process failed the run.
type EngineError struct {
	Name string
	// Code is its exit code, 0 when it did not end.
	Code  int
	Cause string
}

// Error implements error.
func (e *EngineError) Error() string { return "engine " + e.Name + ": " + e.Cause }

var errPortTaken = errors.New("another process took the port")

// engine is one process of the plan on this node.
type engine struct {
	Proc
	port   int
	extra  map[string]int
	socket string
	p      *proc.Process
	// target is set while the engine answers; the door reads it.
	target atomic.Pointer[target]
}

// target is how to reach an engine that answers.
type target struct {
	base      *url.URL
	transport *http.Transport
	auth      string // value of Authorization; "" sends none
}

// choosePorts picks the ports of an engine. Ports that other nodes must reach
// are looked for on the node's own address.
func (e *engine) choosePorts(headAddr string) error {
	host := "127.0.0.1"
	var err error
	if !e.Socket {
		if e.port, err = freePort(host); err != nil {
			return fmt.Errorf("start %s: %w", e.Name, err)
		}
	}
	if e.AllNodes {
		host = headAddr
	}
	e.extra = map[string]int{}
	for _, name := range e.ExtraPorts {
		if e.extra[name], err = freePort(host); err != nil {
			return fmt.Errorf("start %s: %w", e.Name, err)
		}
	}
	return nil
}

func (e *engine) newTarget(key string) *target {
	t := &target{base: &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(e.port))}}
	t.transport = &http.Transport{
		Proxy:                 nil, // a proxy of the site must never see the key
		ResponseHeaderTimeout: 0,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   64,
		DisableCompression:    true,
	}
	if e.Socket {
		t.base.Host = "127.0.0.1"
		socket := e.socket
		t.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	if e.SendKey {
		t.auth = "Bearer " + key
		if e.BasicUser != "" {
			r := http.Request{Header: http.Header{}}
			r.SetBasicAuth(e.BasicUser, key)
			t.auth = r.Header.Get("Authorization")
		}
	}
	return t
}

// launch starts the process of an engine.
func (s *supervisor) launch(e *engine) error {
	stdout, err := openLog(s.Dir, e.Name+s.logSuffix+".out")
	if err != nil {
		return fmt.Errorf("start %s: %w", e.Name, err)
	}
	defer stdout.Close()
	stderr, err := openLog(s.Dir, e.Name+s.logSuffix+".err")
	if err != nil {
		return fmt.Errorf("start %s: %w", e.Name, err)
	}
	defer stderr.Close()
	if e.Socket {
		if err := os.Remove(e.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("start %s: %w", e.Name, err)
		}
	}
	e.p, err = s.Start(proc.StartSpec{
		Cmd:    proc.Cmd{Name: s.Dir.File(e.Script), Dir: s.scratch, Env: s.engineEnv(e)},
		Stdout: stdout, Stderr: stderr, CPUs: s.cpus.engines,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", e.Name, err)
	}
	s.setGroup(e.Name, e.p.PID())
	s.Log.Info("engine started", "name", e.Name, "pid", e.p.PID(), "port", e.port)
	return nil
}

func openLog(d run.Dir, name string) (*os.File, error) {
	f, err := os.OpenFile(d.File(run.LogsDir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// engineEnv is the job's environment and what the contract of scripts names.
func (s *supervisor) engineEnv(e *engine) []string {
	env := make([]string, 0, len(s.Environ)+16)
	for _, v := range s.Environ {
		if !strings.HasPrefix(v, "AIFBENCH_") {
			env = append(env, v)
		}
	}
	set := func(k, v string) { env = append(env, k+"="+v) }
	set("AIFBENCH_RUN_DIR", s.Dir.Path)
	set("AIFBENCH_RUN_ID", s.Dir.ID())
	set("AIFBENCH_BIN", s.Bin)
	set("AIFBENCH_KEY_FILE", s.Dir.File(run.KeyFile))
	set("AIFBENCH_SCRATCH", s.scratch)
	set("TMPDIR", s.temp)
	set("AIFBENCH_NODE_RANK", strconv.Itoa(s.rank))
	set("AIFBENCH_NNODES", strconv.Itoa(s.nnodes))
	set("AIFBENCH_HEAD_ADDR", s.headAddr)
	set("AIFBENCH_NODE_ADDR", s.doorAddr)
	if e.Socket {
		set("AIFBENCH_SOCKET", e.socket)
	} else {
		set("AIFBENCH_PORT", strconv.Itoa(e.port))
	}
	for _, name := range e.ExtraPorts {
		set("AIFBENCH_PORT_"+name, strconv.Itoa(e.extra[name]))
	}
	if s.otlpURL != "" {
		set("AIFBENCH_OTLP_ENDPOINT", s.otlpURL)
	}
	if s.Plan.Monitors != nil {
		set("AIFBENCH_MONITORS_DIR", s.monitorFiles().Dir)
	}
	return env
}

// bring starts an engine and waits until it answers. A port that was taken
// meanwhile is replaced once.
func (s *supervisor) bring(ctx context.Context, e *engine) error {
	for attempt := 0; ; attempt++ {
		if attempt > 0 || (e.port == 0 && !e.Socket) {
			if err := e.choosePorts(s.headAddr); err != nil {
				return err
			}
		}
		if err := s.launch(e); err != nil {
			return err
		}
		err := s.awaitReady(ctx, e)
		if err == nil {
			return nil
		}
		s.kill(e)
		if !errors.Is(err, errPortTaken) {
			return err
		}
		if attempt > 0 || e.AllNodes {
			return &EngineError{Name: e.Name, Cause: fmt.Sprintf("%v (%d); its last line: %s", err, e.port, s.lastLine(e))}
		}
		s.warn("port " + strconv.Itoa(e.port) + " was taken before " + e.Name + " could bind it; started again with another")
	}
}

// stopEngine asks the group to end, kills it after the grace, and waits. What
// a leader leaves behind is killed at once: an engine's helpers may live on
// for ever.
func (s *supervisor) stopEngine(e *engine) {
	if e.p == nil {
		return
	}
	select {
	case <-e.p.Done():
	default:
		s.signal(e.Name, e.p, syscall.SIGTERM)
		timer := time.NewTimer(s.stopGrace())
		defer timer.Stop()
		select {
		case <-e.p.Done():
		case <-timer.C:
			s.warn(fmt.Sprintf("%s did not end within %s of SIGTERM and was killed", e.Name, s.stopGrace()))
		}
	}
	s.kill(e)
	e.unset()
}

// unset makes the door and the requests stop using the engine.
func (e *engine) unset() {
	if t := e.target.Swap(nil); t != nil {
		t.transport.CloseIdleConnections()
	}
}

func (s *supervisor) kill(e *engine) {
	if e.p == nil {
		return
	}
	s.signal(e.Name, e.p, syscall.SIGKILL)
	<-e.p.Done()
	// The leader may have forked between the first signal and its end.
	s.signal(e.Name, e.p, syscall.SIGKILL)
	s.setGroup(e.Name, 0)
}

func (s *supervisor) signal(name string, p *proc.Process, sig syscall.Signal) {
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.warn(fmt.Sprintf("signal %s: %v", name, err))
	}
}

// lastLine is the end of an engine's stderr, for a message to people.
func (s *supervisor) lastLine(e *engine) string {
	for _, ext := range []string{".err", ".out"} {
		tail, err := readTail(s.Dir.File(run.LogsDir, e.Name+s.logSuffix+ext), 4096)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(tail)), "\n")
		if l := strings.TrimSpace(lines[len(lines)-1]); l != "" {
			return fmt.Sprintf("%.300q", l)
		}
	}
	return "it wrote nothing"
}

func readTail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(n, info.Size()))
	if _, err := f.ReadAt(buf, info.Size()-int64(len(buf))); err != nil {
		return nil, err
	}
	return buf, nil
}

func (e *engine) socketPath(scratch string) string { return filepath.Join(scratch, e.Name+".sock") }
