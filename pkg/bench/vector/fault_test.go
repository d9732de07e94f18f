package vector_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aifbench/pkg/bench/vector"
	"aifbench/pkg/metrics/result"
	sim "aifbench/pkg/services/sim/chroma"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		faults sim.Faults
		change func(*vector.Config)
		status result.Status
		rules  string
		errors map[string]int64
		check  func(*testing.T, result.Result)
	}{
		{
			name: "one query in fifty refused", faults: sim.Faults{RefuseEvery: 50, Only: "/query"}, status: result.Invalid, rules: "query_errors",
			// 202 calls with the two warm ones: numbers 50, 100, 150, 200.
			errors: map[string]int64{"query.refused_429": 4},
			check: func(t *testing.T, r result.Result) {
				if value(t, r.Figures, "query_refused_count") != 4 || value(t, r.Figures, "operations_ok_count") != 196 || value(t, r.Figures, "recall_mean_ratio") != 1 {
					t.Errorf("%v", r.Figures["query_refused_count"])
				}
			},
		},
		{
			name: "one query in two hundred fails", faults: sim.Faults{FailEvery: 150, Only: "/query"}, status: result.Valid, rules: "query_errors",
			errors: map[string]int64{"query.status_5xx": 1},
		},
		{
			name: "inserts refused", faults: sim.Faults{RefuseEvery: 10, Only: "/add"}, status: result.Invalid, rules: "insert_errors",
			errors: map[string]int64{"insert.refused_429": 3},
			check: func(t *testing.T, r result.Result) {
				// The refused vectors are in no rate, and recall is refused.
				if value(t, r.Figures, "rows_count") != 540 || value(t, r.Figures, "insert_failed_count") != 3 {
					t.Errorf("%v", r.Figures["rows_count"])
				}
				null(t, r.Figures, "recall_mean_ratio", "those of 600 vectors, the collection holds 540")
			},
		},
		{
			name: "acknowledged and forgotten", faults: sim.Faults{DropEvery: 100}, status: result.Invalid, rules: "rows", errors: map[string]int64{},
			check: func(t *testing.T, r result.Result) {
				null(t, r.Figures, "insert_vectors_per_s", "acknowledged 600 vectors and counts 594")
				null(t, r.Figures, "recall_mean_ratio", "those of 600 vectors")
			},
		},
		{
			name: "everything refused", faults: sim.Faults{RefuseEvery: 1}, status: result.Failed, rules: "insert_errors",
			errors: map[string]int64{"insert.refused_429": 30},
			check: func(t *testing.T, r result.Result) {
				null(t, r.Figures, "insert_vectors_per_s", "no batch was acknowledged")
				null(t, r.Figures, "query_per_s", "no answer was validated")
				null(t, r.Figures, "operations_ok_count", "no query was sent")
			},
		},
		{
			name: "every query refused", faults: sim.Faults{RefuseEvery: 1, Only: "/query"}, status: result.Failed, rules: "query_errors",
			errors: map[string]int64{"warm.refused_429": 2, "query.refused_429": 200},
			check: func(t *testing.T, r result.Result) {
				null(t, r.Figures, "query_per_s", "no answer was validated")
				null(t, r.Figures, "query_p50_ms", "no samples")
				null(t, r.Figures, "recall_mean_ratio", "no validated answer")
			},
		},
		{
			name: "a web page now and then", faults: sim.Faults{HTMLEvery: 60, Only: "/query"}, status: result.Invalid, rules: "query_errors",
			errors: map[string]int64{"query.malformed": 3},
		},
		{
			name: "web pages for inserts", faults: sim.Faults{HTMLEvery: 1, Only: "/add"}, status: result.Failed, rules: "insert_errors",
			errors: map[string]int64{"insert.malformed": 30},
		},
		{
			name: "answers cut short", faults: sim.Faults{CutEvery: 40, Only: "/query"}, status: result.Invalid, rules: "query_errors",
			errors: map[string]int64{"query.connection": 5},
		},
		{
			name: "ids of strangers", faults: sim.Faults{ForeignIDEvery: 1500}, status: result.Invalid, rules: "query_errors,invented_answers",
			errors: map[string]int64{"query.wrong_unknown_id": 1},
		},
		{
			name: "wrong distances", faults: sim.Faults{DistanceOffset: 0.01}, status: result.Failed, rules: "query_errors,invented_answers",
			errors: map[string]int64{"warm.wrong_distance": 2, "query.wrong_distance": 200},
			check: func(t *testing.T, r result.Result) {
				if value(t, r.Figures, "query_wrong_count") != 200 {
					t.Errorf("%v", r.Figures["query_wrong_count"])
				}
			},
		},
		{
			name: "dies in the insert phase", faults: sim.Faults{DieAfter: 12}, status: result.Failed, rules: "server_lost",
			// Seven batches in a row, and the count after them.
			errors: map[string]int64{"insert.connection": 8, "cleanup.connection": 1},
			check: func(t *testing.T, r result.Result) {
				null(t, r.Figures, "insert_vectors_per_s", "did not count its records")
				if !hasWarning(r, "cleanup") {
					t.Errorf("no warning about the collection: %v", r.Warnings)
				}
			},
		},
		{
			name: "dies in the query phase", faults: sim.Faults{DieAfter: 100}, status: result.Failed, rules: "server_lost,query_errors",
			change: func(c *vector.Config) { c.QueryConcurrency = []int{1} },
			errors: map[string]int64{"query.connection": 7, "cleanup.connection": 1},
			check: func(t *testing.T, r result.Result) {
				// 30 adds, 1 warm query, then 69 answers before the end.
				if value(t, r.Figures, "operations_ok_count") != 69 {
					t.Errorf("%v", r.Figures["operations_ok_count"])
				}
			},
		},
		{
			name: "too slow", faults: sim.Faults{Delay: time.Minute, DelayEvery: 100, Only: "/query"}, status: result.Invalid, rules: "query_errors",
			change: func(c *vector.Config) { c.RequestTimeoutS = 0.5; c.Queries = 99 },
			errors: map[string]int64{"query.timeout": 1},
		},
		{
			name: "data that do not tell apart", status: result.Valid, errors: map[string]int64{},
			change: func(c *vector.Config) { c.Vectors, c.BatchSize, c.K = []int{10}, 5, 10 },
			check: func(t *testing.T, r result.Result) {
				null(t, r.Figures, "recall_mean_ratio", "k 10 is not below the number of vectors 10")
				if value(t, r.Figures, "query_per_s") <= 0 {
					t.Error("speed needs no recall")
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := small(startSim(t, sim.Config{Faults: tc.faults}))
			if tc.change != nil {
				tc.change(&cfg)
			}
			res, dir := run(t, cfg)
			if status(res.Verdict) != tc.status || rules(res.Verdict) != tc.rules {
				t.Errorf("verdict %s by %q, want %s by %q: %+v", res.Verdict.Status, rules(res.Verdict), tc.status, tc.rules, res.Verdict.Reasons)
			}
			if !maps.Equal(res.Curve[0].Errors, tc.errors) {
				t.Errorf("errors %v, want %v", res.Curve[0].Errors, tc.errors)
			}
			if tc.check != nil {
				tc.check(t, res)
			}
			recomputed(t, res, dir)
		})
	}
}

// proxy lets a test change what passes between the engine and a store.
func proxy(t *testing.T, change func(w http.ResponseWriter, req *http.Request, store http.Handler)) string {
	t.Helper()
	store := sim.New(sim.Config{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { change(w, req, store) }))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

func TestLiars(t *testing.T) {
	t.Parallel()
	isCreate := func(req *http.Request) bool {
		return req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/collections")
	}
	post := func(store http.Handler, path, body string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		store.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
		return rec
	}
	rewrite := func(suffix string, status int, body string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, req *http.Request, store http.Handler) {
			if !strings.HasSuffix(req.URL.Path, suffix) {
				store.ServeHTTP(w, req)
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	var queries atomic.Int64
	for _, tc := range []struct {
		name   string
		change func(http.ResponseWriter, *http.Request, http.Handler)
		status result.Status
		rule   string
		left   string
	}{
		{
			// The new collection comes back full: an old one under its name.
			name: "stale collection", status: result.Invalid, rule: "fresh_collection", left: "1",
			change: func(w http.ResponseWriter, req *http.Request, store http.Handler) {
				if !isCreate(req) {
					store.ServeHTTP(w, req)
					return
				}
				b, _ := io.ReadAll(req.Body)
				made := post(store, req.URL.Path, string(b))
				var doc struct{ ID string }
				_ = json.Unmarshal(made.Body.Bytes(), &doc)
				post(store, req.URL.Path+"/"+doc.ID+"/add", `{"ids":["old"],"embeddings":[[`+strings.Repeat("0,", 15)+`0]]}`)
				_, _ = w.Write(made.Body.Bytes())
			},
		},
		{
			name: "dead setting", status: result.Invalid, rule: "configuration_echo", left: "0",
			change: func(w http.ResponseWriter, req *http.Request, store http.Handler) {
				if isCreate(req) {
					b, _ := io.ReadAll(req.Body)
					req.Body = io.NopCloser(strings.NewReader(strings.Replace(string(b), `,"ef_search":15`, "", 1)))
				}
				store.ServeHTTP(w, req)
			},
		},
		{
			name: "wrong dimension", status: result.Failed, rule: "insert_errors", left: "0",
			change: rewrite("/add", 400, `{"error":"InvalidArgumentError","message":"Collection expecting embedding with dimension of 3, got 16"}`),
		},
		{name: "NaN distances", status: result.Failed, rule: "query_errors", left: "0", change: rewrite("/query", 200, `{"ids":[["x"]],"distances":[[NaN]]}`)},
		{name: "null distances", status: result.Failed, rule: "query_errors", left: "0", change: rewrite("/query", 200, `{"ids":[["x"]],"distances":[[null]]}`)},
		{name: "empty answers", status: result.Failed, rule: "query_errors", left: "0", change: rewrite("/query", 200, `{"ids":[[]],"distances":[[]]}`)},
		{name: "other vectors", status: result.Invalid, rule: "read_back", left: "0", change: rewrite("/get", 200, `{"ids":[],"embeddings":[]}`)},
		{
			// A restart that lost its data: the count falls after the queries.
			name: "records vanish", status: result.Invalid, rule: "rows", left: "0",
			change: func(w http.ResponseWriter, req *http.Request, store http.Handler) {
				if strings.HasSuffix(req.URL.Path, "/query") {
					queries.Add(1)
				}
				if strings.HasSuffix(req.URL.Path, "/count") && queries.Load() > 100 {
					_, _ = io.WriteString(w, "599")
					return
				}
				store.ServeHTTP(w, req)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := proxy(t, tc.change)
			cfg := small(url)
			cfg.HNSW.EfSearch = 15
			res, _ := run(t, cfg)
			if res.Verdict.Status != tc.status || !strings.Contains(rules(res.Verdict), tc.rule) {
				t.Errorf("verdict %s by %q, want %s by %s: %+v", res.Verdict.Status, rules(res.Verdict), tc.status, tc.rule, res.Verdict.Reasons)
			}
			if n := leftover(t, url); n != tc.left {
				t.Errorf("%s collections are left, want %s", n, tc.left)
			}
		})
	}
}
