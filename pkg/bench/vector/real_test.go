package vector_test

import (
	"strings"
	"testing"
	"time"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/vector"
	"aifbench/pkg/bench/vector/exact"
	"aifbench/pkg/metrics/result"
)

// TestReal measures a real Chroma with every metric: nothing may be found
// wrong, the exact neighbours must agree with what it finds, and its disk use
// must be that of the ledger.
func TestReal(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	for _, m := range []exact.Metric{exact.L2, exact.Cosine, exact.IP} {
		cfg := small(s.url)
		cfg.Target.PersistDir = s.persist
		cfg.Metric, cfg.Vectors, cfg.BatchSize, cfg.Dimension = m, []int{2000}, 100, 32
		cfg.HNSW = vector.HNSW{EfSearch: 200, EfConstruction: 200, SyncThreshold: 1000}
		res, dir := run(t, cfg)
		for _, r := range res.Verdict.Reasons {
			if r.Rule != "send_lateness" && r.Rule != "client_cpu" {
				t.Errorf("%s: %+v", m, r)
			}
		}
		if res.Engine != "external" || value(t, res.Figures, "rows_count") != 2000 || leftover(t, s.url) != "0" {
			t.Errorf("%s: engine %q", m, res.Engine)
		}
		// An index searched this wide misses nearly nothing; ip is no metric, and
		// a graph index is honestly worse there.
		if r := value(t, res.Figures, "recall_mean_ratio"); !(r > 0.98 || m == exact.IP && r > 0.5) {
			t.Errorf("%s: recall %v", m, r)
		}
		// 2,000 elements of 4 d + 140 bytes, and small files beside them.
		if b := value(t, res.Figures, "index_bytes"); !(b > 2000*(4*32+140) && b < 2*2000*(4*32+140)) {
			t.Errorf("%s: index of %v bytes", m, b)
		}
		if b := value(t, res.Figures, "store_growth_bytes"); !(b > 0) {
			t.Errorf("%s: the store grew by %v bytes", m, b)
		}
		recomputed(t, res, dir)
	}
}

// TestRealEfMatters: a poor index must show a poor recall, else the figure
// could not tell anything.
func TestRealEfMatters(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	recall := func(h vector.HNSW) float64 {
		cfg := small(s.url)
		cfg.Vectors, cfg.BatchSize, cfg.Dimension, cfg.HNSW = []int{4000}, 500, 64, h
		res, _ := run(t, cfg)
		return value(t, res.Figures, "recall_mean_ratio")
	}
	poor := recall(vector.HNSW{MaxNeighbors: 4, EfConstruction: 10, EfSearch: 10})
	rich := recall(vector.HNSW{MaxNeighbors: 32, EfConstruction: 200, EfSearch: 200})
	if !(poor < 0.8 && rich > 0.97) {
		t.Errorf("recall %v of a poor index, %v of a rich one", poor, rich)
	}
}

// TestRealKilled kills the server in the middle of the load.
func TestRealKilled(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"insert", "query"} {
		s := startReal(t)
		cfg := small(s.url)
		cfg.Vectors, cfg.Dimension, cfg.BatchSize = []int{20000}, 32, 10
		if phase == "query" {
			cfg.Vectors, cfg.BatchSize, cfg.DurationS = []int{500}, 100, 600
		}
		dir := t.TempDir()
		killed := make(chan struct{})
		started := false
		env := load.Env{Dir: dir, DrainLimit: time.Second, Progress: func(p load.Progress) {
			if p.Phase == phase && p.Done > 10 && !started {
				started = true
				go func() { s.kill(); close(killed) }()
			}
		}}
		res, err := vector.Run(t.Context(), cfg, env)
		if err != nil {
			t.Fatal(err)
		}
		<-killed
		if res.Verdict.Status != result.Failed || !strings.Contains(rules(res.Verdict), "server_lost") {
			t.Errorf("%s: verdict %+v", phase, res.Verdict)
		}
		if phase == "insert" {
			null(t, res.Figures, "insert_vectors_per_s", "did not count its records")
		} else if value(t, res.Figures, "operations_ok_count") < 10 {
			t.Errorf("%s: %v", phase, res.Figures["operations_ok_count"])
		}
		recomputed(t, res, dir)
	}
}
