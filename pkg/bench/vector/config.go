package vector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/bench/vector/data"
	"aifbench/pkg/bench/vector/exact"
)

// maxDataBytes bounds the vectors held in memory by one generator.
const maxDataBytes = 16 << 30

// Target is the server to be measured.
type Target struct {
	// URL is the server's address, such as http://127.0.0.1:8000, without user
	// or password.
	URL string `json:"url"`
	// KeyFile names a 0600 file whose first line is sent as a bearer token;
	// empty sends none. The token itself is never part of a configuration.
	KeyFile string `json:"key_file,omitempty"`
	// PersistDir is the server's persist directory where this process can read
	// it; empty leaves the figures of disk use null.
	PersistDir string `json:"persist_dir,omitempty"`
	Tenant     string `json:"tenant,omitempty"`
	Database   string `json:"database,omitempty"`
}

// Metric is how the distance of two vectors is computed.
type Metric = exact.Metric

// What a configuration can say of metric and data.
const (
	L2        = exact.L2
	Cosine    = exact.Cosine
	IP        = exact.IP
	Clustered = data.Clustered
	Uniform   = data.Uniform
)

// HNSW is the configuration asked of each fresh collection; zero leaves the
// server's default. It cannot be changed on a loaded index, so a sweep is one
// run a value.
type HNSW struct {
	MaxNeighbors   int `json:"max_neighbors,omitempty"`
	EfConstruction int `json:"ef_construction,omitempty"`
	EfSearch       int `json:"ef_search,omitempty"`
	SyncThreshold  int `json:"sync_threshold,omitempty"`
}

// Config is what a run of the vector engine measures. Each number of Vectors
// gets one fresh collection, each number of QueryConcurrency one query phase
// on it: the result is a curve over both.
type Config struct {
	Target            Target `json:"target"`
	Vectors           []int  `json:"vectors"`
	Dimension         int    `json:"dimension"`
	Queries           int    `json:"queries"` // distinct query vectors
	K                 int    `json:"k"`
	BatchSize         int    `json:"batch_size"`
	InsertConcurrency int    `json:"insert_concurrency"`
	QueryConcurrency  []int  `json:"query_concurrency"`
	// RatePerS is the number of queries a second of an open loop; 0 is a
	// closed loop. QueryConcurrency then bounds the queries in flight.
	RatePerS float64 `json:"rate_per_s,omitempty"`
	// Arrival is constant or poisson; empty is constant.
	Arrival  string          `json:"arrival,omitempty"`
	Metric   exact.Metric    `json:"metric"`
	HNSW     HNSW            `json:"hnsw"`
	Data     data.Spec       `json:"data"`
	Encoding chroma.Encoding `json:"encoding"`
	// WarmUpS is the length of the warm phase; at least one query a worker is
	// sent whatever it is.
	WarmUpS float64 `json:"warm_up_s"`
	// DurationS is the length of the query phase; 0 sends every query once.
	DurationS float64 `json:"duration_s"`
	// SettleS is waited between insert and warm-up. Chroma indexes before it
	// acknowledges, so nothing is due.
	SettleS         float64 `json:"settle_s"`
	RequestTimeoutS float64 `json:"request_timeout_s"`
	KeepCollection  bool    `json:"keep_collection"`
}

// Default returns the configuration that flags and files change. Its target
// is empty.
func Default() Config {
	return Config{
		Vectors: []int{10000}, Dimension: 128, Queries: 1000, K: 10,
		BatchSize: 250, InsertConcurrency: 1, QueryConcurrency: []int{1},
		Metric: exact.L2, Data: data.Spec{Kind: data.Clustered, Seed: 1, Clusters: 64},
		Encoding: chroma.Base64, WarmUpS: 1, DurationS: 10, RequestTimeoutS: 30,
	}
}

// Decode reads a configuration over the defaults and refuses unknown fields.
func Decode(doc []byte) (Config, error) {
	c := Default()
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("read vector configuration: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("read vector configuration: more than one document")
	}
	return c, nil
}

// Validate refuses a configuration that cannot be run; every message says
// what to change.
func (c Config) Validate() error {
	var bad []string
	say := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	if _, err := chroma.ParseURL(c.Target.URL); err != nil {
		bad = append(bad, err.Error())
	}
	say(len(c.Vectors) > 0, "vectors is empty; give at least one number, such as 10000")
	say(c.Dimension >= 1 && c.Dimension <= 65536, "dimension %d is not within 1 and 65536", c.Dimension)
	for i, n := range c.Vectors {
		say(n >= 1 && n <= math.MaxInt32, "vectors %d is not within 1 and %d", n, math.MaxInt32)
		say(c.Dimension < 1 || n < 1 || int64(n) <= maxDataBytes/4/int64(c.Dimension),
			"vectors %d of dimension %d take more than %d bytes; use fewer", n, c.Dimension, int64(maxDataBytes))
		say(!slices.Contains(c.Vectors[:i], n), "vectors %d is given twice", n)
	}
	say(c.Queries >= 1 && c.Queries <= 1_000_000, "queries %d is not within 1 and 1000000", c.Queries)
	say(c.K >= 1 && c.K <= 1000, "k %d is not within 1 and 1000", c.K)
	say(c.BatchSize >= 1 && c.BatchSize <= 1_000_000, "batch_size %d is not within 1 and 1000000", c.BatchSize)
	say(c.InsertConcurrency >= 1 && c.InsertConcurrency <= 4096, "insert_concurrency %d is not within 1 and 4096", c.InsertConcurrency)
	say(len(c.QueryConcurrency) > 0, "query_concurrency is empty; give at least one number, such as 1")
	for i, n := range c.QueryConcurrency {
		say(n >= 1 && n <= 4096, "query_concurrency %d is not within 1 and 4096", n)
		say(!slices.Contains(c.QueryConcurrency[:i], n), "query_concurrency %d is given twice", n)
	}
	say(c.RatePerS == 0 || (c.RatePerS > 0 && c.RatePerS <= 1e6), "rate_per_s %g is not within 0 and 1000000", c.RatePerS)
	say(c.RatePerS == 0 || c.DurationS > 0, "rate_per_s needs duration_s above 0")
	say(slices.Contains([]string{"", "constant", "poisson"}, c.Arrival), "arrival %q is not constant or poisson", c.Arrival)
	say(slices.Contains([]exact.Metric{exact.L2, exact.Cosine, exact.IP}, c.Metric), "metric %q is not l2, cosine or ip", c.Metric)
	for name, v := range map[string]int{"max_neighbors": c.HNSW.MaxNeighbors, "ef_construction": c.HNSW.EfConstruction, "ef_search": c.HNSW.EfSearch, "sync_threshold": c.HNSW.SyncThreshold} {
		say(v >= 0 && v <= 1_000_000, "hnsw.%s %d is not within 0 and 1000000", name, v)
	}
	say(slices.Contains([]string{data.Clustered, data.Uniform}, c.Data.Kind), "data.kind %q is not clustered or uniform", c.Data.Kind)
	say(c.Data.Kind != data.Clustered || (c.Data.Clusters >= 1 && c.Data.Clusters <= 100_000), "data.clusters %d is not within 1 and 100000", c.Data.Clusters)
	say(c.Encoding == chroma.Base64 || c.Encoding == chroma.JSON, "encoding %q is not base64 or json", c.Encoding)
	for name, v := range map[string]float64{"warm_up_s": c.WarmUpS, "duration_s": c.DurationS, "settle_s": c.SettleS} {
		say(v >= 0 && v <= 30*24*3600, "%s %g is not within 0 and 2592000", name, v)
	}
	say(c.RequestTimeoutS >= 0.001 && c.RequestTimeoutS <= 3600, "request_timeout_s %g is not within 0.001 and 3600", c.RequestTimeoutS)
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return fmt.Errorf("check vector configuration: %s", strings.Join(bad, "; "))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
