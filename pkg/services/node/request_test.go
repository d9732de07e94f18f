package node

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/services/run"
)

// bench makes a bench directory in the home of the run and asks for it.
func (b *bed) bench(mode string) run.Dir {
	b.t.Helper()
	bedSeq.Lock()
	bedSeq.n++
	now := time.Date(2026, 2, 1, 0, 0, bedSeq.n, 0, time.UTC)
	bedSeq.Unlock()
	dir, err := storeOf(b.cfg.Dir).Create(run.Intent{ID: run.NewID("vllm-bench", now), Verb: "bench", Service: "vllm", Nonce: run.NewNonce()})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(dir.File("mode"), []byte(mode), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.ask(run.Request{ID: dir.ID(), Kind: run.RequestBench, BenchDir: dir.Path})
	return dir
}

func (b *bed) ask(r run.Request) {
	b.t.Helper()
	if err := b.cfg.Dir.Ask(r); err != nil {
		b.t.Fatal(err)
	}
}

// answer waits for the last answer to a request.
func (b *bed) answer(id string) run.Answer {
	b.t.Helper()
	var a run.Answer
	b.until("answer to "+id, func() bool {
		var err error
		a, err = b.cfg.Dir.Answer(id)
		return err == nil && a.State != run.AnswerAccepted
	})
	return a
}

func TestBenchesBesideTheService(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	b.ready()
	first, second, bad := b.bench("quick"), b.bench("quick"), b.bench("no-result")
	for _, d := range []run.Dir{first, second} {
		if a := b.answer(d.ID()); a.State != run.AnswerDone || a.ExitCode == nil || *a.ExitCode != 0 {
			t.Errorf("answer %+v", a)
		}
		if !exists(d.File(run.ResultFile)) || !exists(d.File(run.LogsDir, "load.err")) {
			t.Errorf("no result or log of %s", d.ID())
		}
	}
	if a := b.answer(bad.ID()); a.State != run.AnswerFailed || a.ExitCode == nil || *a.ExitCode != 9 || !strings.Contains(a.Message, "no result") {
		t.Errorf("answer %+v", a)
	}
	for id, r := range map[string]run.Request{
		"no-dir":    {Kind: run.RequestBench, BenchDir: "/nonexistent"},
		"not-bench": {Kind: run.RequestBench, BenchDir: b.cfg.Dir.Path},
		"kind":      {Kind: "dance"},
	} {
		r.ID = id
		b.ask(r)
		if a := b.answer(id); a.State != run.AnswerFailed || a.Message == "" {
			t.Errorf("%s: %+v", id, a)
		}
	}
}

func TestStopLetsTheBenchSaveAndAnswersThoseThatWait(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	b.ready()
	running := b.bench("until-term")
	b.until("bench", func() bool { return exists(running.File("running")) })
	waiting := b.bench("quick")
	b.until("accepted", func() bool { _, err := b.cfg.Dir.Answer(waiting.ID()); return err == nil })
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	a, err := b.cfg.Dir.Answer(running.ID())
	if err != nil || a.State != run.AnswerDone || *a.ExitCode != 143 || !strings.Contains(a.Message, "stopped while it ran") {
		t.Errorf("answer %+v, %v", a, err)
	}
	a, err = b.cfg.Dir.Answer(waiting.ID())
	if err != nil || a.State != run.AnswerFailed || exists(waiting.File(run.ResultFile)) {
		t.Errorf("answer %+v, %v", a, err)
	}
	b.nothingLeft()
}

func TestBenchThatDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.cfg.DrainLimit = 100 * time.Millisecond
	b.start()
	b.ready()
	stuck := b.bench("stuck")
	b.until("bench", func() bool { return exists(stuck.File("running")) })
	b.stop()
	a, err := b.cfg.Dir.Answer(stuck.ID())
	if err != nil || a.State != run.AnswerFailed || *a.ExitCode != 137 {
		t.Errorf("answer %+v, %v", a, err)
	}
	b.nothingLeft()
}

func TestLoadAndEngineGetDisjointCPUs(t *testing.T) {
	t.Parallel()
	allowed, err := allowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if len(allowed) < 2 {
		t.Skip("SKIP-LAB: one CPU cannot be split")
	}
	b := newBed(t, "ok")
	b.cfg.Plan.LoadCPUs = "1"
	b.start()
	ep := b.ready()
	last := len(allowed) - 1
	if ep.Extra["load_cpus"] != fmt.Sprint(allowed[last]) || ep.Extra["engine_cpus"] != listCPUs(allowed[:last]) {
		t.Errorf("extra %v", ep.Extra)
	}
	d := b.bench("quick")
	b.answer(d.ID())
	raw, err := os.ReadFile(d.File("status.txt"))
	if err != nil || !strings.Contains(string(raw), fmt.Sprintf("Cpus_allowed_list:\t%d\n", allowed[last])) {
		t.Errorf("the generator's CPUs: %v %s", err, raw)
	}

	wrong := newBed(t, "ok")
	wrong.cfg.Plan.LoadCPUs = "8000-8001"
	wrong.start()
	if code, err := wrong.wait(); code != 1 || err == nil || !strings.Contains(err.Error(), "not in the allocation") {
		t.Errorf("code %d, %v", code, err)
	}
	wrong.nothingLeft()
}

func TestHTTPAndFlushRequests(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok").start()
	b.ready()
	b.ask(run.Request{ID: "get", Kind: run.RequestHTTP, Engine: "vllm", Method: "GET", Path: "/v1/models"})
	if a := b.answer("get"); a.State != run.AnswerDone || a.Status != 200 || string(a.Body) != `{"data":[{"id":"tiny"}]}` {
		t.Errorf("answer %+v %s", a, a.Body)
	}
	b.ask(run.Request{ID: "post", Kind: run.RequestHTTP, Method: "POST", Path: "/echo/a%2Fb?q=1", Body: "query=up"})
	var echo struct {
		Path, Query, Body string
		Header            map[string][]string
	}
	a := b.answer("post")
	if err := json.Unmarshal(a.Body, &echo); err != nil || echo.Path != "/echo/a%2Fb" || echo.Query != "q=1" || echo.Body != "query=up" ||
		echo.Header["Content-Type"][0] != "application/x-www-form-urlencoded" {
		t.Errorf("answer %+v %s", a, a.Body)
	}
	for id, r := range map[string]run.Request{
		"method": {Method: "DELETE", Path: "/"}, "path": {Method: "GET", Path: "@evil.example/"}, "engine": {Method: "GET", Path: "/", Engine: "none"},
	} {
		r.ID, r.Kind = id, run.RequestHTTP
		b.ask(r)
		if a := b.answer(id); a.State != run.AnswerFailed {
			t.Errorf("%s: %+v", id, a)
		}
	}
	b.ask(run.Request{ID: "flush", Kind: run.RequestFlush})
	if a := b.answer("flush"); a.State != run.AnswerDone {
		t.Errorf("flush: %+v", a)
	}
	if raw, err := os.ReadFile(b.cfg.Dir.File(run.TelemetryDir, "testnode.jsonl")); err != nil || len(raw) == 0 {
		t.Errorf("telemetry: %d bytes, %v", len(raw), err)
	}
}
