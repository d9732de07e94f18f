package vector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/bench/vector"
	"aifbench/pkg/bench/vector/exact"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
	sim "aifbench/pkg/services/sim/chroma"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, cfg vector.Config) (result.Result, string) {
	t.Helper()
	dir := t.TempDir()
	res, err := vector.Run(t.Context(), cfg, load.Env{Dir: dir, Run: "chroma-test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.Encode(&res); err != nil {
		t.Fatal(err)
	}
	return res, dir
}

func value(t *testing.T, s figure.Set, name string) float64 {
	t.Helper()
	f, ok := s[name]
	if !ok || f.Value == nil {
		t.Errorf("%s is missing: %q", name, f.Reason)
		return math.NaN()
	}
	return *f.Value
}

func null(t *testing.T, s figure.Set, name, reason string) {
	t.Helper()
	if f, ok := s[name]; !ok || f.Value != nil || !strings.Contains(f.Reason, reason) {
		t.Errorf("%s is %+v, want null because of %q", name, f, reason)
	}
}

func rules(v result.Verdict) string {
	var out []string
	for _, r := range v.Reasons {
		if !ofTheMachine[r.Rule] {
			out = append(out, r.Rule)
		}
	}
	return strings.Join(out, ",")
}

// ofTheMachine are the rules that speak of how busy the machine is, which no
// test decides: here the server shares the generator's process.
var ofTheMachine = map[string]bool{"client_cpu": true, "send_lateness": true, "dropped_starts": true}

// status is the verdict without those rules.
func status(v result.Verdict) result.Status {
	if v.Status == result.ClientLimited {
		return result.Valid
	}
	return v.Status
}

// leftover counts the collections on a server.
func leftover(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/api/v2/tenants/default_tenant/databases/default_database/collections_count") //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(b)
}

func TestRunClean(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*vector.Config)
	}{
		{"l2", func(*vector.Config) {}},
		{"cosine, json", func(c *vector.Config) { c.Metric, c.Encoding = exact.Cosine, "json" }},
		{"ip, many inserters", func(c *vector.Config) { c.Metric, c.InsertConcurrency = exact.IP, 4 }},
		{"batches that do not divide", func(c *vector.Config) { c.BatchSize = 77 }},
		{"one batch", func(c *vector.Config) { c.BatchSize = 600 }},
		{"settings", func(c *vector.Config) {
			c.HNSW = vector.HNSW{MaxNeighbors: 8, EfConstruction: 20, EfSearch: 15, SyncThreshold: 100}
		}},
		{"by time", func(c *vector.Config) { c.DurationS, c.WarmUpS = 0.2, 0.05 }},
		{"open loop", func(c *vector.Config) { c.DurationS, c.RatePerS, c.Arrival = 0.3, 300, "poisson" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := startSim(t, sim.Config{})
			cfg := small(url)
			tc.change(&cfg)
			res, _ := run(t, cfg)
			// A busy machine may limit the client; nothing else may speak.
			for _, r := range res.Verdict.Reasons {
				if r.Rule != "send_lateness" && r.Rule != "client_cpu" && r.Rule != "dropped_starts" {
					t.Errorf("%+v", r)
				}
			}
			f := res.Figures
			if value(t, f, "rows_count") != 600 || value(t, f, "recall_mean_ratio") != 1 || value(t, f, "recall_min_ratio") != 1 || value(t, f, "error_ratio") != 0 {
				t.Errorf("rows %v recall %v", value(t, f, "rows_count"), value(t, f, "recall_mean_ratio"))
			}
			for _, name := range []string{"create_ms", "insert_vectors_per_s", "insert_per_s", "insert_mb_per_s", "query_per_s", "data_contrast_ratio", "recall_random_ratio"} {
				if name == "data_contrast_ratio" && cfg.Metric == exact.IP {
					null(t, f, name, "not defined for ip")
					continue
				}
				if v := value(t, f, name); !(v > 0) {
					t.Errorf("%s is %v", name, v)
				}
			}
			if got := value(t, f, "insert_vectors_per_s") / value(t, f, "insert_per_s") * math.Ceil(600/float64(cfg.BatchSize)); math.Abs(got-600) > 1e-6 {
				t.Errorf("vectors and batches a second belong to %v vectors", got)
			}
			if n := leftover(t, url); n != "0" {
				t.Errorf("%s collections are left on the server", n)
			}
			if res.Engine != "sim" || !hasWarning(res, "sim_engine") {
				t.Errorf("engine %q warnings %v", res.Engine, res.Warnings)
			}
			var phases []string
			for _, p := range res.Curve[0].Phases {
				phases = append(phases, p.Name)
				if p.Status != "ok" || p.EndS < p.StartS {
					t.Errorf("phase %+v", p)
				}
			}
			if want := []string{"create", "insert", "settle", "warm", "query", "cleanup"}; !slices.Equal(phases, want) {
				t.Errorf("phases %v", phases)
			}
		})
	}
}

func hasWarning(r result.Result, code string) bool {
	return slices.ContainsFunc(r.Warnings, func(w result.Warning) bool { return w.Code == code })
}

// TestSimCannotPass: whatever a caller believes, the sim names itself.
func TestSimCannotPass(t *testing.T) {
	t.Parallel()
	url := startSim(t, sim.Config{})
	res, err := vector.Run(t.Context(), small(url), load.Env{Dir: t.TempDir(), Engine: "native"})
	if err != nil {
		t.Fatal(err)
	}
	if res.Engine != "sim" || !hasWarning(res, "sim_engine") {
		t.Errorf("engine %q %v", res.Engine, res.Warnings)
	}
}

func TestCurve(t *testing.T) {
	t.Parallel()
	url := startSim(t, sim.Config{})
	cfg := small(url)
	cfg.Vectors, cfg.QueryConcurrency = []int{100, 300}, []int{1, 3}
	cfg.KeepCollection = true
	res, dir := run(t, cfg)
	var labels []string
	for _, p := range res.Curve {
		labels = append(labels, p.Label)
		if n, ok := p.Params["vectors"].(int); !ok || value(t, p.Figures, "rows_count") != float64(n) {
			t.Errorf("%s: rows %v", p.Label, p.Figures["rows_count"])
		}
	}
	want := []string{
		"vectors=100,query_concurrency=1", "vectors=100,query_concurrency=3",
		"vectors=300,query_concurrency=1", "vectors=300,query_concurrency=3",
	}
	if !slices.Equal(labels, want) {
		t.Errorf("%v", labels)
	}
	// One fresh collection a size, shared by its two points.
	a, b, c := res.Curve[0].Notes["collection"], res.Curve[1].Notes["collection"], res.Curve[2].Notes["collection"]
	if a != b || a == c || leftover(t, url) != "2" || !hasWarning(res, "collection_kept") {
		t.Errorf("collections %s %s %s", a, b, c)
	}
	if res.Curve[1].Figures["insert_vectors_per_s"].Value == nil || *res.Curve[1].Figures["insert_vectors_per_s"].Value != *res.Curve[0].Figures["insert_vectors_per_s"].Value {
		t.Error("points of one collection disagree about its insertion")
	}
	recomputed(t, res, dir)
}

// recomputed checks that every figure that samples can tell follows from the
// record file alone.
func recomputed(t *testing.T, res result.Result, dir string) {
	t.Helper()
	again, err := vector.Recompute(dir)
	if err != nil || hasWarning(again, "records_cut") {
		t.Fatal(err, again.Warnings)
	}
	points := again.Curve
	if again.Engine != res.Engine || again.Run != res.Run || hasWarning(again, "sim_engine") != hasWarning(res, "sim_engine") {
		t.Errorf("recomputed as engine %q run %q %v", again.Engine, again.Run, again.Warnings)
	}
	if result.Worst(again.Verdict.Status, res.Verdict.Status) != res.Verdict.Status && again.Verdict.Status != result.Truncated {
		t.Errorf("recomputed verdict %s is worse than %s", again.Verdict.Status, res.Verdict.Status)
	}
	if len(points) != len(res.Curve) {
		t.Fatalf("%d points, want %d", len(points), len(res.Curve))
	}
	notSamples := []string{
		"achieved_rate_per_s", "send_lateness_p50_ms", "send_lateness_p99_ms", "client_cpu_ratio",
		"index_bytes", "index_bytes_per_vector", "store_growth_bytes", "recall_random_ratio", "data_contrast_ratio",
	}
	for i, p := range points {
		want := maps.Clone(res.Curve[i].Figures)
		for _, name := range notSamples {
			delete(want, name)
		}
		a, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(p.Figures)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s:\nresult   %s\nrecords  %s", p.Label, a, b)
		}
		if !maps.Equal(p.Errors, res.Curve[i].Errors) {
			t.Errorf("%s: errors %v, records %v", p.Label, res.Curve[i].Errors, p.Errors)
		}
	}
}

// TestNoChroma: an address that is no Chroma, or nothing at all, is a failed
// result and not a crash.
func TestNoChroma(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>hello</html>")
	}))
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	t.Cleanup(func() { page.CloseClientConnections(); page.Close() })
	for _, url := range []string{page.URL, closed.URL} {
		res, _ := run(t, small(url))
		if res.Verdict.Status != result.Failed || rules(res.Verdict) != "server" || res.Engine != "external" || len(res.Curve) != 0 {
			t.Errorf("%s: %+v", url, res.Verdict)
		}
	}
}

// TestInterrupted ends runs in the middle: the result says so, what was
// recorded is readable, and the collection is gone.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		phase string
		cause error
		want  result.Status
	}{
		{"insert", load.ErrInterrupted, result.Interrupted},
		{"query", load.ErrInterrupted, result.Interrupted},
		{"query", load.ErrTimeLimit, result.Truncated},
	} {
		t.Run(tc.phase+" "+string(tc.want), func(t *testing.T) {
			t.Parallel()
			url := startSim(t, sim.Config{Faults: sim.Faults{Delay: 2 * time.Millisecond}})
			cfg := small(url)
			cfg.QueryConcurrency = []int{1, 2}
			cfg.DurationS = 600
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			dir := t.TempDir()
			env := load.Env{Dir: dir, Run: "r", DrainLimit: 2 * time.Second, Progress: func(p load.Progress) {
				if p.Phase == tc.phase && (p.Done > 20 || tc.phase == "insert") {
					cancel(tc.cause)
				}
			}}
			res, err := vector.Run(ctx, cfg, env)
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Status != tc.want || !strings.Contains(rules(res.Verdict), "ended_early") || len(res.Curve) != 1 {
				t.Errorf("verdict %+v, %d points", res.Verdict, len(res.Curve))
			}
			if n := leftover(t, url); n != "0" {
				t.Errorf("%s collections are left", n)
			}
			if tc.phase == "query" && value(t, res.Figures, "operations_ok_count") < 20 {
				t.Errorf("%v", res.Figures["operations_ok_count"])
			}
			recomputed(t, res, dir)
		})
	}
}

// TestCutRecords: a record file that was cut in the middle still yields
// figures, and says that it was cut.
func TestCutRecords(t *testing.T) {
	t.Parallel()
	cfg := small(startSim(t, sim.Config{}))
	cfg.Queries = 2000
	_, dir := run(t, cfg)
	path := record.Path(dir, "vector")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := t.TempDir()
	if err := os.WriteFile(filepath.Join(cut, filepath.Base(path)), b[:len(b)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := vector.Recompute(cut)
	if err != nil || !hasWarning(res, "records_cut") || len(res.Curve) != 1 || res.Verdict.Status != result.Truncated {
		t.Fatalf("%v %+v", err, res.Verdict)
	}
	if n := value(t, res.Figures, "operations_ok_count"); !(n > 100 && n < 2000) {
		t.Errorf("%v operations", n)
	}
	null(t, res.Figures, "query_per_s", "no window")
	if _, err := vector.Run(t.Context(), cfg, load.Env{Dir: dir}); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("records were overwritten: %v", err)
	}
}

// TestOpenLoopShowsStalls: one worker and a stall; the queries that were due
// meanwhile waited, which the response time tells and the service time hides.
func TestOpenLoopShowsStalls(t *testing.T) {
	t.Parallel()
	cfg := small(startSim(t, sim.Config{Faults: sim.Faults{Delay: 300 * time.Millisecond, DelayEvery: 100, Only: "/query"}}))
	cfg.Vectors, cfg.QueryConcurrency = []int{100}, []int{1}
	cfg.RatePerS, cfg.DurationS = 200, 3
	res, _ := run(t, cfg)
	service, response := value(t, res.Figures, "query_p95_ms"), value(t, res.Figures, "query_response_p95_ms")
	if !(response > service+100) {
		t.Errorf("service p95 %v ms, response p95 %v ms", service, response)
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	const key = "canary-key-value"
	var seen atomic.Int64
	url := proxy(t, func(w http.ResponseWriter, req *http.Request, store http.Handler) {
		if req.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seen.Add(1)
		store.ServeHTTP(w, req)
	})
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := small(url)
	cfg.Target.KeyFile = path
	res, dir := run(t, cfg)
	if res.Verdict.Status == result.Failed || seen.Load() < 200 {
		t.Errorf("%+v", res.Verdict)
	}
	doc, err := result.Encode(&res)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := os.ReadFile(record.Path(dir, "vector"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(doc, []byte(key)) || bytes.Contains(rec, []byte(key)) {
		t.Error("the key is in a result or a record")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := vector.Run(t.Context(), cfg, load.Env{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others read: %v", err)
	}
}

// TestDiskOfSim: the snapshot of 600 vectors of 16 float32 and 16 bytes of
// header is found as the one directory that appeared; a store without SQLite
// has no growth, and that is null and not 0.
func TestDiskOfSim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small(startSim(t, sim.Config{PersistDir: dir}))
	cfg.Target.PersistDir, cfg.HNSW.SyncThreshold = dir, 100
	res, _ := run(t, cfg)
	if b := value(t, res.Figures, "index_bytes"); b != 600*16*4+16 {
		t.Errorf("index of %v bytes", b)
	}
	null(t, res.Figures, "store_growth_bytes", "chroma.sqlite3")
	cfg.Target.PersistDir = filepath.Join(dir, "absent")
	res, _ = run(t, cfg)
	null(t, res.Figures, "index_bytes", "persist directory")
	if res.Verdict.Status == result.Failed || res.Verdict.Status == result.Invalid {
		t.Errorf("an unreadable directory spoiled the run: %+v", res.Verdict)
	}
}
