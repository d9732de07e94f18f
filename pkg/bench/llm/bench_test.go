package llm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aifbench/pkg/bench/llm"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
	sim "aifbench/pkg/services/sim/vllm"
)

// serve starts a simulator on loopback; it ends with the test.
func serve(t *testing.T, cfg sim.Config) string {
	t.Helper()
	s, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

// quick is a simulator that answers as fast as it can.
func quick() sim.Config {
	return sim.Config{TTFT: time.Millisecond, ITL: 100 * time.Microsecond}
}

func config(url string) llm.Config {
	c := llm.Default()
	c.Target.URL = url
	c.Concurrency, c.Requests, c.InputLen, c.OutputLen = []int{4}, 24, 8, 6
	return c
}

func bench(t *testing.T, cfg llm.Config) (result.Result, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := llm.Run(t.Context(), cfg, load.Env{Dir: dir, Run: "vllm-test"})
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// status is the verdict without the generator's own limits: in these tests the
// servers, the generators and the other tests share one process and its CPUs.
func status(v result.Verdict) result.Status {
	if v.Status == result.ClientLimited {
		return result.Valid
	}
	return v.Status
}

func rules(v result.Verdict) string {
	var out []string
	for _, r := range v.Reasons {
		if r.Rule != "client_cpu" && r.Rule != "send_lateness" {
			out = append(out, r.Rule)
		}
	}
	return strings.Join(out, " ")
}

func val(t *testing.T, s figure.Set, name string) float64 {
	t.Helper()
	f, ok := s[name]
	if !ok || f.Value == nil {
		t.Fatalf("%s is missing: %+v", name, f)
	}
	return *f.Value
}

// rows reads a record file as one map a row.
func rows(t *testing.T, dir, kind string) []map[string]any {
	t.Helper()
	r, err := record.Open(record.Path(dir, kind))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := record.JSONL(&b, r); err != nil {
		t.Fatal(err)
	}
	if w := r.Warning(); w != "" {
		t.Fatal(w)
	}
	var out []map[string]any
	dec := json.NewDecoder(&b)
	for dec.More() {
		m := map[string]any{}
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// The simulator tells when it wrote each token; no stamp of ours may be before
// that, and the figures must have its latencies at their lower end.
func TestTimesAreTrue(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	truth := map[string][]time.Time{}
	url := serve(t, sim.Config{TTFT: 50 * time.Millisecond, ITL: 10 * time.Millisecond, Trace: func(id string, _ int, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		truth[id] = append(truth[id], at)
	}})
	cfg := config(url)
	cfg.OutputLen = 11
	r, dir := bench(t, cfg)
	if status(r.Verdict) != result.Valid {
		t.Fatalf("%+v", r.Verdict)
	}
	// The server waits 50 ms and then ten times 10 ms, and is never early; the
	// upper limits only catch a wrong unit.
	if got := val(t, r.Figures, "ttft_p50_ms"); got < 50 || got > 5000 {
		t.Errorf("ttft p50 %v ms", got)
	}
	if got := val(t, r.Figures, "itl_mean_ms"); got < 5 || got > 1000 {
		t.Errorf("itl mean %v ms", got)
	}
	if got := val(t, r.Figures, "e2e_p50_ms"); got < 150 || got > 15000 {
		t.Errorf("e2e p50 %v ms", got)
	}
	if n := r.Figures["itl_p50_ms"].N; n != 24*10 {
		t.Errorf("%d gaps, want 240", n)
	}
	if f := r.Figures["ttft_p99_ms"]; f.Value != nil || !strings.Contains(f.Reason, "1000") {
		t.Errorf("a p99 of 24 requests: %+v", f)
	}
	zero := time.Unix(0, int64(rows(t, dir, "llm_points")[0]["zero_unix_ns"].(float64)))
	var late []float64
	for _, row := range rows(t, dir, "llm") {
		id := "vllm-test-0-" + jsonNumber(row["seq"])
		at := zero.Add(time.Duration(row["first_token_ns"].(float64)))
		mu.Lock()
		stamps := truth[id]
		mu.Unlock()
		if len(stamps) != 11 {
			t.Fatalf("%s: %d tokens written", id, len(stamps))
		}
		gaps := row["gaps_ns"].([]any)
		for k, wrote := range stamps {
			if k > 0 {
				at = at.Add(time.Duration(gaps[k-1].(float64)))
			}
			// JSON numbers of the epoch in ns are exact to 256 ns; wall and monotonic
			// clocks of one machine differ by less than the millisecond.
			d := at.Sub(wrote)
			if d < -time.Millisecond {
				t.Fatalf("%s token %d stamped %v before it was written", id, k, -d)
			}
			late = append(late, d.Seconds())
		}
	}
	slices.Sort(late)
	t.Logf("arrival after write: p50 %.3f ms, p99 %.3f ms", 1000*late[len(late)/2], 1000*late[len(late)*99/100])
	if p50 := late[len(late)/2]; p50 > 1 {
		t.Errorf("half the arrivals are stamped more than %.3f s after the write", p50)
	}
}

func jsonNumber(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestCountsReconcileWithTheServer(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Faults.EmptyEvery = 3 // tokens without text
	s, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	c := config(srv.URL)
	c.WarmupRequests = 5
	r, _ := bench(t, c)
	if status(r.Verdict) != result.Valid || rules(r.Verdict) != "" {
		t.Fatalf("%+v", r.Verdict)
	}
	if got := val(t, r.Figures, "output_tokens_count"); got != 24*6 {
		t.Errorf("output tokens %v, want 144", got)
	}
	if got := val(t, r.Figures, "input_tokens_count"); got != 24*8 {
		t.Errorf("input tokens %v, want 192", got)
	}
	if how := r.Figures["output_tokens_count"].How; !strings.Contains(how, "continuous_usage") {
		t.Errorf("how %q", how)
	}
	// 29 requests of 6 tokens, and one of 2 before the load.
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`vllm:generation_tokens_total{engine="0",model_name="sim"} 176.0`,
		`vllm:prompt_tokens_total{engine="0",model_name="sim"} 236.0`,
		`finished_reason="length"} 30.0`,
	} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("server does not say %s", want)
		}
	}
	if r.Engine != "sim" || !hasWarning(r, "simulator") {
		t.Errorf("a simulator passes for %q", r.Engine)
	}
}

func hasWarning(r result.Result, code string) bool {
	return slices.ContainsFunc(r.Warnings, func(w result.Warning) bool { return w.Code == code })
}

func TestDialects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults sim.Faults
		api    string
		how    string
		rule   string
		tokens float64
	}{
		"no usage":       {sim.Faults{NoUsage: true}, llm.Completions, "events_with_text", "counted_by_events", 144},
		"no ids":         {sim.Faults{RefuseIDs: true}, llm.Completions, "continuous_usage", "", 144},
		"chat":           {sim.Faults{}, llm.Chat, "continuous_usage", "", 144},
		"joined":         {sim.Faults{TokensPerChunk: 4}, llm.Completions, "continuous_usage", "", 144},
		"empty and mute": {sim.Faults{NoUsage: true, EmptyEvery: 2}, llm.Completions, "events_with_text", "counted_by_events", 72},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quick()
			s.Faults = c.faults
			cfg := config(serve(t, s))
			cfg.API = c.api
			r, _ := bench(t, cfg)
			if status(r.Verdict) != result.Valid || rules(r.Verdict) != c.rule {
				t.Fatalf("%+v", r.Verdict)
			}
			if f := r.Figures["output_tokens_count"]; f.Value == nil || *f.Value != c.tokens || !strings.Contains(f.How, c.how) {
				t.Fatalf("%+v", f)
			}
			if name == "joined" {
				if got := val(t, r.Figures, "tokens_per_event"); got != 3 { // 4 + 2
					t.Errorf("tokens per event %v", got)
				}
			}
		})
	}
}

func TestStructured(t *testing.T) {
	t.Parallel()
	for _, kind := range llm.Structured {
		for _, api := range llm.APIs {
			t.Run(kind+" "+api, func(t *testing.T) {
				t.Parallel()
				cfg := config(serve(t, quick()))
				cfg.API, cfg.Structured, cfg.IgnoreEOS, cfg.OutputLen = api, kind, false, 64
				r, _ := bench(t, cfg)
				if status(r.Verdict) != result.Valid || rules(r.Verdict) != "" {
					t.Fatalf("%+v", r.Verdict)
				}
				for _, f := range []string{"structured_finished_ratio", "structured_parses_ratio", "structured_valid_ratio"} {
					if got := val(t, r.Figures, f); got != 1 {
						t.Errorf("%s %v", f, got)
					}
				}
			})
		}
	}
	t.Run("ignored", func(t *testing.T) {
		t.Parallel()
		s := quick()
		s.Faults.IgnoreStructured = true
		cfg := config(serve(t, s))
		cfg.Structured, cfg.IgnoreEOS = llm.Structured[0], false
		r, _ := bench(t, cfg)
		if r.Verdict.Status != result.Invalid || !strings.HasPrefix(rules(r.Verdict), "constraint_ignored") || val(t, r.Figures, "structured_valid_ratio") != 0 {
			t.Fatalf("%+v", r.Verdict)
		}
	})
	t.Run("truncated", func(t *testing.T) {
		t.Parallel()
		cfg := config(serve(t, quick()))
		cfg.Structured, cfg.IgnoreEOS, cfg.OutputLen = "json", false, 3
		r, _ := bench(t, cfg)
		if val(t, r.Figures, "structured_finished_ratio") != 0 || val(t, r.Figures, "structured_valid_ratio") != 0 || rules(r.Verdict) != "structured_truncated" {
			t.Fatalf("%+v", r.Verdict)
		}
	})
}

func TestFaultsDecideTheVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults sim.Faults
		status result.Status
		rule   string
		class  string
	}{
		"dies in mid-load": {sim.Faults{DieAfter: 60}, result.Failed, "server_failing", ""},
		"some refused":     {sim.Faults{ErrorRate: 0.25}, result.Invalid, "error_ratio", "http_503"},
		"cut streams":      {sim.Faults{CutAfter: 3}, result.Failed, "all_failed", "truncated"},
		"engine error":     {sim.Faults{FailAfter: 3}, result.Failed, "all_failed", "stream_error"},
		"stalls":           {sim.Faults{StallAfter: 3}, result.Failed, "all_failed", "idle_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quick()
			s.Faults = c.faults
			cfg := config(serve(t, s))
			cfg.IdleTimeoutS = 0.1
			if c.faults.DieAfter > 0 {
				cfg.Requests = 500
			}
			r, _ := bench(t, cfg)
			if r.Verdict.Status != c.status || !strings.Contains(rules(r.Verdict), c.rule) {
				t.Fatalf("%+v", r.Verdict)
			}
			p := r.Curve[0]
			if c.class != "" && p.Errors[c.class] == 0 {
				t.Errorf("errors %v", p.Errors)
			}
			if p.Verdict.Reasons[0].Evidence == "" || len(p.Notes) == 0 && c.class != "" {
				t.Errorf("no evidence: %+v", p)
			}
			ok, failed := val(t, p.Figures, "operations_ok_count"), val(t, p.Figures, "operations_failed_count")
			if name == "some refused" && (ok != 18 || failed != 6) {
				t.Errorf("%v good, %v failed of 24 with one in four refused", ok, failed)
			}
			if ok == 0 && p.Figures["ttft_mean_ms"].Value != nil {
				t.Error("a latency of nothing")
			}
		})
	}
}

// A few failures under the limit are a warning.
func TestFewFailuresWarn(t *testing.T) {
	t.Parallel()
	s := quick()
	s.Faults.ErrorRate = 0.05
	cfg := config(serve(t, s))
	cfg.Requests, cfg.MaxErrorRatio = 40, 0.1
	r, _ := bench(t, cfg)
	if status(r.Verdict) != result.Valid || rules(r.Verdict) != "some_failed" || r.Curve[0].Errors["http_503"] != 2 {
		t.Fatalf("%+v %v", r.Verdict, r.Curve[0].Errors)
	}
}

func TestRefusedBeforeTheLoad(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("wrong-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secured := quick()
	secured.Key = "right-key"
	page := func(status int, kind, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for name, c := range map[string]struct{ url, evidence string }{
		"wrong key":  {serve(t, secured), "http_401"},
		"html":       {page(200, "text/html", "<html><script>x</script>"), "bad_stream"},
		"503":        {page(503, "text/plain", "loading\x1b[2J"), `http_503: loading\x1b[2J`},
		"no service": {"http://127.0.0.1:1", "connect_refused"},
	} {
		cfg := config(c.url)
		cfg.Target.KeyFile = key
		r, _ := bench(t, cfg)
		if r.Verdict.Status != result.Failed || rules(r.Verdict) != "preflight" || !strings.Contains(r.Verdict.Reasons[0].Evidence, c.evidence) {
			t.Errorf("%s: %+v", name, r.Verdict)
		}
		doc, err := json.Marshal(r)
		if err != nil || bytes.Contains(doc, []byte("wrong-key")) || bytes.Contains(doc, []byte("<script>")) {
			t.Errorf("%s: %v\n%s", name, err, doc)
		}
	}
}

func TestHostileModelName(t *testing.T) {
	t.Parallel()
	s := quick()
	s.Model = "evil</script>\x1b[2J\"\n"
	r, _ := bench(t, config(serve(t, s)))
	if status(r.Verdict) != result.Valid {
		t.Fatalf("%+v", r.Verdict)
	}
	doc, err := json.Marshal(r)
	if err != nil || bytes.Contains(doc, []byte("</script>")) || bytes.Contains(doc, []byte{0x1b}) {
		t.Fatalf("%v %s", err, doc)
	}
	cfg := config(serve(t, s))
	cfg.Target.Model = "other\x1b"
	if _, err := llm.Run(t.Context(), cfg, load.Env{Dir: t.TempDir()}); err == nil || strings.ContainsRune(err.Error(), 0x1b) || !strings.Contains(err.Error(), "evil") {
		t.Fatalf("%v", err)
	}
}

func TestInterruptionLeavesAPartialResult(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]result.Status{load.ErrInterrupted: result.Interrupted, load.ErrTimeLimit: result.Truncated} {
		s := quick()
		s.TTFT = 20 * time.Millisecond
		cfg := config(serve(t, s))
		cfg.Requests, cfg.Concurrency = 100000, []int{4, 8}
		ctx, cancel := context.WithCancelCause(t.Context())
		var once sync.Once
		dir := t.TempDir()
		r, err := llm.Run(ctx, cfg, load.Env{Dir: dir, DrainLimit: 5 * time.Second, Progress: func(p load.Progress) {
			if p.Done > 10 {
				once.Do(func() { cancel(cause) })
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict.Status != want || len(r.Curve) != 1 || !strings.Contains(rules(r.Verdict), "points_missing") {
			t.Fatalf("%d points, %+v", len(r.Curve), r.Verdict)
		}
		if n := val(t, r.Curve[0].Figures, "operations_ok_count"); n < 10 || len(r.Curve[0].Errors) != 0 {
			t.Fatalf("%v good, errors %v", n, r.Curve[0].Errors)
		}
		same(t, r, dir)
	}
}

func same(t *testing.T, r result.Result, dir string) {
	t.Helper()
	doc, err := result.Encode(&r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.Decode(doc); err != nil {
		t.Fatal(err)
	}
	again, err := llm.Recompute(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(again, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Fatalf("recomputed result differs:\n%s\n%s", a, b)
	}
}

func TestCurvesAndRecompute(t *testing.T) {
	t.Parallel()
	url := serve(t, sim.Config{TTFT: 5 * time.Millisecond, ITL: time.Millisecond, Slots: 2})
	closed := config(url)
	closed.Concurrency, closed.WarmupRequests = []int{1, 8}, 4
	r, dir := bench(t, closed)
	if len(r.Curve) != 2 || r.Curve[1].Params["concurrency"] != 8 {
		t.Fatalf("%+v", r.Curve)
	}
	// Two slots: eight at once wait three rounds, one waits never.
	if a, b := val(t, r.Curve[0].Figures, "ttft_p50_ms"), val(t, r.Curve[1].Figures, "ttft_p50_ms"); b < 2*a {
		t.Errorf("ttft %v ms alone and %v ms at 8", a, b)
	}
	same(t, r, dir)
	if _, err := llm.Run(t.Context(), closed, load.Env{Dir: dir}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second run over the samples of the first: %v", err)
	}

	for _, arrival := range []string{llm.Constant, llm.Poisson} {
		open := config(url)
		open.Arrival, open.Concurrency, open.RatePerS = arrival, nil, []float64{50, 100}
		open.Requests, open.DurationS, open.WarmupS = 0, 0.5, 0.1
		r, dir := bench(t, open)
		if len(r.Curve) != 2 || val(t, r.Curve[0].Figures, "operations_ok_count") < 5 {
			t.Fatalf("%+v", r.Curve)
		}
		for _, p := range r.Curve {
			if p.Window.DurationS != 0.5 {
				t.Errorf("window of %v s", p.Window.DurationS)
			}
		}
		if arrival == llm.Constant {
			if n := val(t, r.Curve[1].Figures, "operations_ok_count"); n != 50 {
				t.Errorf("%v requests at 100/s in 0.5 s", n)
			}
		}
		same(t, r, dir)
	}
}

// A generator that was killed leaves a cut file: what is there counts.
func TestRecomputeOfACutFile(t *testing.T) {
	t.Parallel()
	r, dir := bench(t, config(serve(t, quick())))
	for _, kind := range []string{"llm", "llm_points"} {
		path := record.Path(dir, kind)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b[:len(b)-12], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut, err := llm.Recompute(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !hasWarning(cut, "records_cut") || cut.Verdict.Status != result.Interrupted {
		t.Fatalf("%+v %+v", cut.Verdict, cut.Warnings)
	}
	// The cut took the end mark of both files and more: the point's row is gone,
	// the samples stand in one block that is whole or is not.
	if len(r.Curve) != 1 || len(cut.Curve) > 1 {
		t.Fatalf("%d points", len(cut.Curve))
	}
}

func TestDatasetAndConfigErrors(t *testing.T) {
	t.Parallel()
	url := serve(t, quick())
	file := filepath.Join(t.TempDir(), "prompts.jsonl")
	if err := os.WriteFile(file, []byte("{\"prompt\":\"one two\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"three\"}],\"output_len_tokens\":3}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(url)
	cfg.API, cfg.Dataset = llm.Chat, file
	r, _ := bench(t, cfg)
	if got := val(t, r.Figures, "output_tokens_count"); got != 12*6+12*3 {
		t.Errorf("output tokens %v", got)
	}
	for name, change := range map[string]func(*llm.Config){
		"no url":            func(c *llm.Config) { c.Target.URL = "" },
		"password in url":   func(c *llm.Config) { c.Target.URL = "http://u:sk-canary@127.0.0.1:1" },
		"scheme":            func(c *llm.Config) { c.Target.URL = "ftp://x" },
		"api":               func(c *llm.Config) { c.API = "chta" },
		"no concurrency":    func(c *llm.Config) { c.Concurrency = nil },
		"rate and closed":   func(c *llm.Config) { c.RatePerS = []float64{1} },
		"rate 0":            func(c *llm.Config) { c.Arrival, c.Concurrency, c.RatePerS = llm.Poisson, nil, []float64{0} },
		"no end":            func(c *llm.Config) { c.Requests = 0 },
		"negative length":   func(c *llm.Config) { c.InputLen = -1 },
		"structured typo":   func(c *llm.Config) { c.Structured, c.IgnoreEOS = "jsn", false },
		"structured, eos":   func(c *llm.Config) { c.Structured = "json" },
		"too long":          func(c *llm.Config) { c.InputLen = 5000 },
		"no dataset":        func(c *llm.Config) { c.Dataset = file + ".not" },
		"key file":          func(c *llm.Config) { c.Target.KeyFile = file + ".not" },
		"dataset, wrong":    func(c *llm.Config) { c.Dataset = file },
		"negative duration": func(c *llm.Config) { c.DurationS = -1 },
	} {
		c := config(url)
		change(&c)
		if _, err := llm.Run(t.Context(), c, load.Env{Dir: t.TempDir()}); err == nil || strings.Contains(err.Error(), "sk-canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := llm.DecodeConfig([]byte(`{"concurency":[1]}`)); err == nil {
		t.Error("a typo in a configuration is accepted")
	}
	if c, err := llm.DecodeConfig([]byte(`{"target":{"url":"http://x"},"arrival":"poisson","rate_per_s":[2]}`)); err != nil || c.Validate() != nil {
		t.Errorf("%v %v", err, c.Validate())
	}
}
