package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// roleEnv makes the test binary play an engine or a generator.
const roleEnv = "NODE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "engine":
		playEngine(os.Getenv("NODE_TEST_MODE"))
		return
	case "bin": // node load --run DIR, node agent --run DIR
		if os.Args[2] == "agent" {
			playAgent(os.Args[len(os.Args)-1])
		}
		playLoad(os.Args[len(os.Args)-1])
		return
	}
	goleak.VerifyTestMain(m)
}

// playEngine is a small server in the shape of an OpenAI engine.
func playEngine(mode string) {
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if name := os.Getenv("NODE_TEST_ENVFILE"); name != "" {
		_ = os.WriteFile(name, []byte(strings.Join(os.Environ(), "\n")), 0o600)
	}
	if os.Getenv("AIFBENCH_NODE_RANK") != "0" {
		// A further rank serves nothing; it tells what it was told.
		_ = os.WriteFile(filepath.Join(os.Getenv("AIFBENCH_RUN_DIR"), "rank.env"), []byte(strings.Join(append(os.Environ(), fmt.Sprint("PID=", os.Getpid())), "\n")), 0o600)
		select {}
	}
	switch mode {
	case "die-at-once":
		say("engine: cannot load the model")
		os.Exit(7)
	case "never-ready":
		select {}
	case "one-shot":
		dir := os.Getenv("AIFBENCH_SCRATCH")
		_ = os.WriteFile(filepath.Join(dir, "extra.json"), []byte(`{"fs_type":"lustre"}`), 0o600)
		_ = os.WriteFile(filepath.Join(dir, "data_dir"), []byte("/scratch/data\n"), 0o600)
		return
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
	case "helper": // leaves a child that ignores TERM behind
		cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; sleep 300")
		if err := cmd.Start(); err != nil {
			say("%v", err)
			os.Exit(3)
		}
		_ = os.WriteFile(filepath.Join(os.Getenv("AIFBENCH_RUN_DIR"), "helper.pid"), fmt.Append(nil, cmd.Process.Pid), 0o600)
	}
	raw, err := os.ReadFile(os.Getenv("AIFBENCH_KEY_FILE"))
	if err != nil {
		say("%v", err)
		os.Exit(3)
	}
	key := strings.TrimSpace(string(raw))
	var ln net.Listener
	if s := os.Getenv("AIFBENCH_SOCKET"); s != "" {
		ln, err = net.Listen("unix", s)
	} else {
		ln, err = net.Listen("tcp", "127.0.0.1:"+os.Getenv("AIFBENCH_PORT"))
	}
	if err != nil {
		say("%v", err) // "address already in use"
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"version":"9.8.7"}`) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "engine_up 1\n") })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		name := "tiny"
		if mode == "wrong-model" {
			name = "other"
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"`+name+`"}]}`)
	})
	mux.HandleFunc("/echo/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]any{"path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "host": r.Host, "body": string(body), "header": r.Header})
	})
	release := make(chan struct{})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "second\n")
	})
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { close(release) })
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { say("engine: out of memory"); os.Exit(9) })
	if err := http.Serve(ln, mux); err != nil {
		say("%v", err)
	}
}

// playAgent is what the program does for `node agent`.
func playAgent(path string) {
	dir, err := run.Open(path)
	if err != nil {
		panic(err)
	}
	plan, err := ReadPlan(dir)
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	code, err := Agent(ctx, Config{
		Dir: dir, Plan: plan, Start: proc.Start, Environ: os.Environ(), Bin: "/nonexistent", ScratchRoot: os.Getenv("TMPDIR"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// playLoad is a generator: it writes what it saw, then a result, also when it
// is told to stop. Its bench directory's file "mode" says how long it takes.
func playLoad(dir string) {
	mode, _ := os.ReadFile(filepath.Join(dir, "mode"))
	status, _ := os.ReadFile("/proc/self/status")
	_ = os.WriteFile(filepath.Join(dir, "status.txt"), status, 0o600)
	code := 0
	switch string(mode) {
	case "until-term":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		_ = os.WriteFile(filepath.Join(dir, "running"), nil, 0o600)
		<-ctx.Done()
		stop()
		code = 143
	case "stuck":
		signal.Ignore(syscall.SIGTERM)
		_ = os.WriteFile(filepath.Join(dir, "running"), nil, 0o600)
		select {}
	case "no-result":
		os.Exit(9)
	}
	_ = os.WriteFile(filepath.Join(dir, run.ResultFile), []byte("{}"), 0o600)
	os.Exit(code)
}

// bed is one supervisor under test.
type bed struct {
	t      *testing.T
	cfg    Config
	cancel context.CancelCauseFunc
	done   chan struct{}
	code   int
	err    error
	client *http.Client
}

// newBed makes a run of one fake engine in the given mode.
func newBed(t *testing.T, mode string) *bed {
	t.Helper()
	home := t.TempDir()
	return newBedIn(t, home, "vllm", mode)
}

var bedSeq struct {
	sync.Mutex
	n int
}

func newBedIn(t *testing.T, home, service, mode string) *bed {
	t.Helper()
	bedSeq.Lock()
	bedSeq.n++
	now := time.Date(2026, 1, 1, 0, 0, bedSeq.n, 0, time.UTC)
	bedSeq.Unlock()
	dir, err := run.Store{Home: home}.Create(run.Intent{
		ID: run.NewID(service, now), Verb: "start", Service: service, Engine: "native", Nonce: run.NewNonce(), Scheduler: "local", Nodes: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, done: make(chan struct{})}
	b.script(dir, "engine.sh", "engine", mode)
	b.script(dir, "bin.sh", "bin", "")
	scratch, err := os.MkdirTemp("/tmp", "n") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	b.cfg = Config{
		Dir: dir, Start: proc.Start, Bin: dir.File("bin.sh"), Hostname: "testnode", ScratchRoot: scratch, Poll: 10 * time.Millisecond,
		DrainLimit: 20 * time.Second, Environ: []string{"PATH=" + os.Getenv("PATH"), "SLURM_JOB_ID=42", "CANARY=kept", "AIFBENCH_STALE=1"},
		Log: slog.New(slog.NewTextHandler(writerFor(t), nil)),
		Plan: Plan{
			SchemaVersion: PlanVersion, Service: service, Engine: "native", Model: "tiny", Nodes: 1, StopGraceS: 20, ReadyTimeoutS: 60,
			TelemetryPeriodS: 0.05, Exposure: "none",
			Procs: []Proc{{
				Name: service, Script: "engine.sh", SendKey: true, MetricsPath: "/metrics", ExtraPorts: []string{"MASTER"},
				Ready: Probe{Paths: []string{"/health"}, Model: "tiny", VersionPath: "/version"},
			}},
		},
	}
	tr := &http.Transport{}
	b.client = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	return b
}

func (b *bed) script(dir run.Dir, name, role, mode string) {
	b.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\nNODE_TEST_ENVFILE=%q NODE_TEST_MODE=%q %s=%q exec %q \"$@\"\n", dir.File(name+".env"), mode, roleEnv, role, exe)
	if err := run.WriteExecutable(dir.File(name), []byte(text)); err != nil {
		b.t.Fatal(err)
	}
}

// start runs the supervisor and stops it at the end of the test at the latest.
func (b *bed) start() *bed {
	b.t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	b.cancel = cancel
	go func() {
		defer close(b.done)
		b.code, b.err = Supervise(ctx, b.cfg)
	}()
	b.t.Cleanup(func() {
		cancel(ErrStop)
		<-b.done
		b.client.CloseIdleConnections()
	})
	return b
}

// wait is for the end of the supervisor.
func (b *bed) wait() (int, error) {
	b.t.Helper()
	select {
	case <-b.done:
	case <-time.After(time.Minute):
		b.t.Fatal("the supervisor does not end")
	}
	return b.code, b.err
}

func (b *bed) stop() (int, error) {
	b.t.Helper()
	b.cancel(ErrStop)
	return b.wait()
}

// ready waits for the endpoint.
func (b *bed) ready() run.Endpoint {
	b.t.Helper()
	var ep run.Endpoint
	b.until("ready", func() bool {
		var err error
		ep, err = b.cfg.Dir.ReadEndpoint()
		// The journal is written after the endpoint.
		return err == nil && !b.cfg.Dir.State().ReadyAt.IsZero()
	})
	return ep
}

func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		select {
		case <-b.done:
			if ok() {
				return
			}
			b.t.Fatalf("the supervisor ended before %s: code %d, %v", what, b.code, b.err)
		default:
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("no %s within a minute", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bed) sentinel() run.Sentinel {
	b.t.Helper()
	s, problems := b.cfg.Dir.Sentinels()
	if len(s) != 1 || len(problems) != 0 {
		b.t.Fatalf("sentinels %v, problems %v", s, problems)
	}
	return s[0]
}

func (b *bed) key() string {
	b.t.Helper()
	k, err := b.cfg.Dir.Key()
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

// get asks url with an Authorization header, "" for none.
func (b *bed) get(url, auth string) (int, string, http.Header) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// nothingLeft checks that address, scratch and processes are gone.
func (b *bed) nothingLeft() {
	b.t.Helper()
	if _, err := b.cfg.Dir.ReadEndpoint(); err == nil {
		b.t.Error("endpoint.json is still there")
	}
	for _, dir := range []string{b.cfg.ScratchRoot, b.cfg.Dir.File(run.DoorsDir)} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			b.t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && strings.Contains(string(env), "AIFBENCH_RUN_DIR="+b.cfg.Dir.Path+"\x00") {
			b.t.Errorf("process %s of the run is still there", e.Name())
		}
	}
}

// writerFor sends the log of a supervisor to the test.
func writerFor(t *testing.T) io.Writer { return &testWriter{t: t} }

type testWriter struct{ t *testing.T }

func (w *testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
