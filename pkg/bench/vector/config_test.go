package vector

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Target = Target{URL: "http://127.0.0.1:1", KeyFile: "/k", PersistDir: "/d", Tenant: "t", Database: "d"}
	c.HNSW = HNSW{MaxNeighbors: 1, EfConstruction: 2, EfSearch: 3, SyncThreshold: 4}
	c.RatePerS, c.Arrival = 5, "poisson"
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{``, `{`, `{"vector":[1]}`, `{"hnsw":{"M":1}}`, `{"vectors":"10k"}`, `{} {}`, `[]`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	if c, err := Decode([]byte(`{"k":3}`)); err != nil || c.K != 3 || c.Dimension != Default().Dimension {
		t.Errorf("%+v %v", c, err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"":                             func(*Config) {},
		"not an http address":          func(c *Config) { c.Target.URL = "node:8000" },
		"put the key into a file":      func(c *Config) { c.Target.URL = "http://u:p@node:8000" },
		"vectors is empty":             func(c *Config) { c.Vectors = nil },
		"vectors 0 is not":             func(c *Config) { c.Vectors = []int{0} },
		"vectors 7 is given twice":     func(c *Config) { c.Vectors = []int{7, 7} },
		"more than":                    func(c *Config) { c.Vectors = []int{1 << 30} },
		"dimension 0":                  func(c *Config) { c.Dimension = 0 },
		"queries 0":                    func(c *Config) { c.Queries = 0 },
		"k 0":                          func(c *Config) { c.K = 0 },
		"batch_size -1":                func(c *Config) { c.BatchSize = -1 },
		"insert_concurrency 0":         func(c *Config) { c.InsertConcurrency = 0 },
		"query_concurrency is empty":   func(c *Config) { c.QueryConcurrency = nil },
		"query_concurrency 2 is given": func(c *Config) { c.QueryConcurrency = []int{2, 2} },
		"rate_per_s -1":                func(c *Config) { c.RatePerS = -1 },
		"rate_per_s needs duration_s":  func(c *Config) { c.RatePerS, c.DurationS = 1, 0 },
		`arrival "burst"`:              func(c *Config) { c.Arrival = "burst" },
		`metric "euclid"`:              func(c *Config) { c.Metric = "euclid" },
		"hnsw.ef_search -1":            func(c *Config) { c.HNSW.EfSearch = -1 },
		`data.kind "gauss"`:            func(c *Config) { c.Data.Kind = "gauss" },
		"data.clusters 0":              func(c *Config) { c.Data.Clusters = 0 },
		`encoding "cbor"`:              func(c *Config) { c.Encoding = "cbor" },
		"warm_up_s -1":                 func(c *Config) { c.WarmUpS = -1 },
		"request_timeout_s 0":          func(c *Config) { c.RequestTimeoutS = 0 },
	} {
		c := Default()
		c.Target.URL = "http://127.0.0.1:8000"
		change(&c)
		err := c.Validate()
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	c := Default()
	if err := c.Validate(); err == nil {
		t.Error("a configuration without a target was accepted")
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Vectors, c.BatchSize, c.Queries, c.DurationS = []int{1000, 1000000}, 1000, 500, 0
	want := []string{
		"insert of 1000 vectors in batches of 1000: at most 1 samples, p50 needs 20",
		"query: at most 500 samples, p99 needs 1000",
	}
	if got := c.Unsupported(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestCollectionName(t *testing.T) {
	t.Parallel()
	for run, want := range map[string]string{
		"chroma-20260101-000000-abcd": "aifbench-chroma-20260101-000000-abcd-10-n",
		"":                            "aifbench--10-n",
		"a b/../ü\x00":                "aifbench-a-b-..----10-n",
		strings.Repeat("x", 600):      "aifbench-" + strings.Repeat("x", 80) + "-10-n",
	} {
		if got := collectionName(run, 10, "n"); got != want {
			t.Errorf("%q: %q, want %q", run, got, want)
		}
	}
}
