package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

func TestLifeOfARun(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	if ep.Node != "testnode" || ep.JobID != "42" || ep.Model != "tiny" || ep.EngineVersion != "9.8.7" || ep.Exposure != "none" {
		t.Errorf("endpoint %+v", ep)
	}
	if !strings.HasPrefix(ep.LocalURL, "http://127.0.0.1:") || ep.LocalURL == ep.DoorURL {
		t.Errorf("local %q, door %q", ep.LocalURL, ep.DoorURL)
	}
	if st := b.cfg.Dir.State(); st.ReadyAt.IsZero() || st.Node != "testnode" {
		t.Errorf("journal %+v", st)
	}
	if s := b.sentinel(); s.Phase != run.SentinelStarted || s.ExitCode != nil || s.JobID != "42" {
		t.Errorf("sentinel %+v", s)
	}
	var door run.Door
	if err := run.ReadJSON(b.cfg.Dir.File(run.DoorsDir, "testnode.json"), &door); err != nil || door.URL != ep.DoorURL ||
		strings.Join(door.MetricsPaths, " ") != "/metrics /engine/vllm/metrics" {
		t.Errorf("door %+v, %v", door, err)
	}
	raw, err := os.ReadFile(b.cfg.Dir.File("engine.sh.env"))
	if err != nil {
		t.Fatal(err)
	}
	env := "\n" + string(raw) + "\n"
	for _, want := range []string{
		"AIFBENCH_RUN_DIR=" + b.cfg.Dir.Path, "AIFBENCH_RUN_ID=" + b.cfg.Dir.ID(), "AIFBENCH_NODE_RANK=0", "AIFBENCH_NNODES=1",
		"AIFBENCH_HEAD_ADDR=127.0.0.1", "CANARY=kept", "AIFBENCH_KEY_FILE=" + b.cfg.Dir.File("key"), "AIFBENCH_PORT=" + ep.LocalURL[len("http://127.0.0.1:"):],
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("the engine has no %s", want)
		}
	}
	if !strings.Contains(env, "\nAIFBENCH_PORT_MASTER=") || strings.Contains(env, "AIFBENCH_STALE") || strings.Contains(env, b.key()) || strings.Contains(env, "AIFBENCH_OTLP") {
		t.Errorf("the engine's environment: %s", env)
	}
	code, err := b.stop()
	if code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if s := b.sentinel(); s.Phase != run.SentinelEnded || !s.Complete || *s.ExitCode != 0 || s.Ended == nil {
		t.Errorf("sentinel %+v", s)
	}
	b.nothingLeft()
	series, problems := probe.ReadTelemetry(b.cfg.Dir.File(run.TelemetryDir))
	if len(problems) != 0 {
		t.Error(problems)
	}
	rss := false
	for _, s := range series {
		rss = rss || (s.Key == `aifbench_process_resident_memory_bytes{proc="vllm"}` && len(s.Points) > 0 && s.Points[0].V > 0)
	}
	if !rss {
		t.Errorf("no memory of the engine in %d series of telemetry", len(series))
	}
}

func TestEngineThatFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode    string
		timeout float64
		code    int
		want    string
	}{
		{"die-at-once", 60, 7, "cannot load the model"},
		{"never-ready", 0.3, 1, "not ready after 300ms: nothing listens"},
		{"wrong-model", 60, 1, `it serves ["other"], not the model asked for, "tiny"`},
	}
	for _, tc := range tests {
		t.Run(tc.mode, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, tc.mode)
			b.cfg.Plan.ReadyTimeoutS = tc.timeout
			b.start()
			code, err := b.wait()
			ee, ok := errors.AsType[*EngineError](err)
			if code != tc.code || !ok || !strings.Contains(ee.Error(), tc.want) {
				t.Errorf("code %d, %v", code, err)
			}
			if s := b.sentinel(); s.Phase != run.SentinelEnded || s.Complete || *s.ExitCode != tc.code || !strings.Contains(s.Message, tc.want) {
				t.Errorf("sentinel %+v", s)
			}
			b.nothingLeft()
			if info, err := os.Stat(b.cfg.Dir.File(run.LogsDir, "vllm.err")); err != nil || (tc.mode == "die-at-once" && info.Size() == 0) {
				t.Errorf("logs: %v", err)
			}
		})
	}
}

func TestEngineThatDiesWhileItServes(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	bench := b.bench("until-term")
	b.until("bench", func() bool { return exists(bench.File("running")) })
	if resp, err := b.client.Get(ep.LocalURL + "/die"); err == nil {
		resp.Body.Close()
	}
	code, err := b.wait()
	if code != 9 || err == nil || !strings.Contains(err.Error(), "exit code 9") || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("code %d, %v", code, err)
	}
	if s := b.sentinel(); s.Complete || *s.ExitCode != 9 {
		t.Errorf("sentinel %+v", s)
	}
	if !exists(bench.File(run.ResultFile)) {
		t.Error("the running bench could not save")
	}
	b.nothingLeft()
}

func TestOptionalEngineMayFail(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.script(b.cfg.Dir, "grafana.sh", "engine", "die-at-once")
	b.cfg.Plan.Procs = append(b.cfg.Plan.Procs, Proc{Name: "grafana", Script: "grafana.sh", Optional: true, Ready: Probe{Paths: []string{"/health"}}})
	b.start()
	if ep := b.ready(); !strings.Contains(ep.Extra["warnings"], "optional engine grafana: ended with exit code 7") {
		t.Errorf("extra %v", ep.Extra)
	}
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if s := b.sentinel(); !s.Complete || !strings.Contains(s.Message, "grafana") {
		t.Errorf("sentinel %+v", s)
	}
}

func TestEngineThatIgnoresTermIsKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ignore-term")
	b.cfg.Plan.StopGraceS = 0.2
	b.start()
	b.ready()
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if s := b.sentinel(); !s.Complete || !strings.Contains(s.Message, "was killed") {
		t.Errorf("sentinel %+v", s)
	}
	b.nothingLeft()
}

func TestWhatAnEngineLeavesBehindIsKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t, "helper").start()
	b.ready()
	raw, err := os.ReadFile(b.cfg.Dir.File("helper.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("no helper: %v", err)
	}
	b.stop()
	b.nothingLeft() // the helper inherited the run's environment
}

// taker is a starter that lets another process take the port of the first n
// starts. It answers every question with 200, as a stranger's server would.
func taker(t *testing.T, n int32, sawKey *atomic.Bool) Starter {
	var starts atomic.Int32
	return func(s proc.StartSpec) (*proc.Process, error) {
		if starts.Add(1) <= n {
			for _, e := range s.Cmd.Env {
				if port, ok := strings.CutPrefix(e, "AIFBENCH_PORT="); ok {
					ln, err := net.Listen("tcp", "127.0.0.1:"+port)
					if err != nil {
						t.Errorf("take the port: %v", err)
						continue
					}
					done := make(chan struct{})
					go func() {
						defer close(done)
						for {
							c, err := ln.Accept()
							if err != nil {
								return
							}
							buf := make([]byte, 4096)
							k, _ := c.Read(buf)
							if strings.Contains(string(buf[:k]), "Bearer") {
								sawKey.Store(true)
							}
							_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 25\r\nConnection: close\r\n\r\n{\"data\":[{\"id\":\"tiny\"}]} "))
							_ = c.Close()
						}
					}()
					t.Cleanup(func() { _ = ln.Close(); <-done })
				}
			}
		}
		return proc.Start(s)
	}
}

func TestPortTakenByAnother(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"ok", "never-ready"} {
		t.Run(mode+" once", func(t *testing.T) {
			t.Parallel()
			var sawKey atomic.Bool
			b := newBed(t, mode)
			b.cfg.Start = taker(t, 1, &sawKey)
			b.cfg.Plan.ReadyTimeoutS = 20
			if mode == "never-ready" {
				// The first engine lives while a stranger answers on its port; the
				// second one works.
				inner := b.cfg.Start
				var starts atomic.Int32
				b.cfg.Start = func(s proc.StartSpec) (*proc.Process, error) {
					if starts.Add(1) == 2 {
						b.script(b.cfg.Dir, "engine.sh", "engine", "ok")
					}
					return inner(s)
				}
			}
			b.start()
			ep := b.ready()
			if !strings.Contains(ep.Extra["warnings"], "was taken") {
				t.Errorf("extra %v", ep.Extra)
			}
			if code, body, _ := b.get(ep.LocalURL+"/metrics", ""); code != 200 || body != "engine_up 1\n" {
				t.Errorf("%d %q", code, body)
			}
			if sawKey.Load() {
				t.Error("the key was shown to the process that took the port")
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		var sawKey atomic.Bool
		b := newBed(t, "ok")
		b.cfg.Start = taker(t, 2, &sawKey)
		b.start()
		code, err := b.wait()
		if code != 1 || err == nil || !strings.Contains(err.Error(), "another process took the port") || sawKey.Load() {
			t.Errorf("code %d, %v, key shown %v", code, err, sawKey.Load())
		}
		b.nothingLeft()
	})
}

func TestStopIsToldFromTheTimeLimit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) string { return fmt.Sprintf("SLURM_JOB_END_TIME=%d", now.Add(d).Unix()) }
	tests := []struct {
		name      string
		env       string
		limit     float64
		requested bool
		cause     error
		code      int
		phase     string
	}{
		{"user's scancel far from the end", in(time.Hour), 0, false, ErrStop, 0, run.SentinelEnded},
		{"warning near the end", in(2 * time.Minute), 0, false, ErrStop, ExitTruncated, run.SentinelTruncated},
		{"stop near the end", in(2 * time.Minute), 0, true, ErrStop, 0, run.SentinelEnded},
		{"caller knows", "", 0, false, ErrTimeLimit, ExitTruncated, run.SentinelTruncated},
		{"scheduler tells no end", "", 0, false, errors.New("SIGTERM"), 0, run.SentinelEnded},
		{"end by the limit asked for", "", 120, false, ErrStop, ExitTruncated, run.SentinelTruncated},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, "ok")
			b.cfg.Now = func() time.Time { return now }
			b.cfg.Environ = append(b.cfg.Environ, tc.env)
			b.cfg.Plan.TimeLimitS = tc.limit
			b.start()
			b.ready()
			if tc.requested {
				if err := b.cfg.Dir.Append(now, run.Event{Kind: run.EventStopRequested}); err != nil {
					t.Fatal(err)
				}
			}
			b.cancel(tc.cause)
			code, err := b.wait()
			if code != tc.code || err != nil {
				t.Errorf("code %d, %v", code, err)
			}
			if s := b.sentinel(); s.Phase != tc.phase || s.Complete != (tc.code == 0) || *s.ExitCode != tc.code {
				t.Errorf("sentinel %+v", s)
			}
			b.nothingLeft()
		})
	}
}

func TestStopBeforeReady(t *testing.T) {
	t.Parallel()
	b := newBed(t, "never-ready").start()
	b.until("engine", func() bool { return exists(b.cfg.Dir.File("engine.sh.env")) })
	code, err := b.stop()
	if s := b.sentinel(); code != 0 || err != nil || s.Complete || s.Message != "stopped before it was ready" {
		t.Errorf("code %d, %v, sentinel %+v", code, err, s)
	}
	b.nothingLeft()
}

// The scheduler ends all processes of a cancelled job at once, and an engine
// may be gone before our own signal is handled: that is a stop, not a failure.
func TestEngineThatGoesAheadOfAStop(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	ep := b.ready()
	if resp, err := b.client.Get(ep.LocalURL + "/die"); err == nil {
		resp.Body.Close()
	}
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if s := b.sentinel(); !s.Complete {
		t.Errorf("sentinel %+v", s)
	}
}

func TestOneShotStaysReady(t *testing.T) {
	t.Parallel()
	b := newBed(t, "one-shot")
	b.cfg.Plan.OneShot = true
	b.cfg.Plan.Procs[0].Ready = Probe{}
	b.cfg.Plan.DataDir = "/elsewhere"
	b.start()
	code, err := b.wait()
	if code != 0 || err != nil {
		t.Fatalf("code %d, %v", code, err)
	}
	ep, err := b.cfg.Dir.ReadEndpoint()
	if err != nil || ep.DataDir != "/scratch/data" || ep.Extra["fs_type"] != "lustre" || ep.LocalURL != "" || ep.DoorURL != "" {
		t.Errorf("endpoint %+v, %v", ep, err)
	}
	if s := b.sentinel(); s.Phase != run.SentinelEnded || !s.Complete {
		t.Errorf("sentinel %+v", s)
	}
	if left, _ := os.ReadDir(b.cfg.ScratchRoot); len(left) != 0 {
		t.Errorf("scratch %v", left)
	}

	bad := newBed(t, "die-at-once")
	bad.cfg.Plan.OneShot = true
	bad.cfg.Plan.Procs[0].Ready = Probe{}
	bad.start()
	if code, err := bad.wait(); code != 7 || err == nil {
		t.Errorf("code %d, %v", code, err)
	}
	bad.nothingLeft()
}

func TestRequeuedStartTakesOverItsScratch(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	stale, err := makeScratch(b.cfg.ScratchRoot, b.cfg.Dir.ID(), b.cfg.Hostname, b.cfg.Dir.Intent.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stale, "extra.json"), []byte(`{"stale":"yes"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.cfg.Environ = append(b.cfg.Environ, "SLURM_RESTART_COUNT=2")
	b.start()
	if ep := b.ready(); ep.Extra["stale"] != "" {
		t.Errorf("extra %v", ep.Extra)
	}
	if s := b.sentinel(); s.RestartCount != 2 {
		t.Errorf("sentinel %+v", s)
	}
	b.stop()
	b.nothingLeft()

	// A directory that is not ours is neither used nor touched.
	other := newBed(t, "ok")
	squat := filepath.Join(other.cfg.ScratchRoot, "aifb-"+other.cfg.Dir.ID()+"-testnode")
	if err := os.MkdirAll(filepath.Join(squat, "precious"), 0o700); err != nil {
		t.Fatal(err)
	}
	other.start()
	if code, err := other.wait(); code != 1 || !errors.Is(err, run.ErrNotOwned) {
		t.Errorf("code %d, %v", code, err)
	}
	if !exists(filepath.Join(squat, "precious")) {
		t.Error("another owner's directory was removed")
	}
}

func TestLogsOfEnginesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	cfg, err := b.cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSupervisor(cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.logLimit = 1000
	w, err := openLog(b.cfg.Dir, "vllm.out")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString(strings.Repeat("x", 999)); err != nil {
		t.Fatal(err)
	}
	s.trimLogs()
	if _, err := w.WriteString("tail"); err != nil {
		t.Fatal(err)
	}
	s.trimLogs()
	if _, err := w.WriteString("after"); err != nil {
		t.Fatal(err)
	}
	now, _ := os.ReadFile(b.cfg.Dir.File(run.LogsDir, "vllm.out"))
	old, _ := os.ReadFile(b.cfg.Dir.File(run.LogsDir, "vllm.out.1"))
	if string(now) != "after" || !strings.HasSuffix(string(old), "xxxtail") || len(old) != 1003 {
		t.Errorf("now %q, kept %d bytes", now, len(old))
	}
	if len(s.warned()) != 1 {
		t.Errorf("warnings %q", s.warned())
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
