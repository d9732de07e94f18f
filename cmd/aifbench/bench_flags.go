package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/io500"
	"aifbench/pkg/bench/llm"
	"aifbench/pkg/bench/vector"
	"aifbench/pkg/bench/vector/chroma"
)

// counts is a list flag of whole numbers with k and m: 1k,10k,1m.
type counts struct{ list *[]int }

func (c counts) Type() string { return "list" }
func (c counts) String() string {
	words := make([]string, len(*c.list))
	for i, n := range *c.list {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ",")
}

func (c counts) Set(s string) error {
	var out []int
	for _, w := range strings.Split(s, ",") {
		text, factor := strings.ToLower(strings.TrimSpace(w)), 1
		switch {
		case strings.HasSuffix(text, "k"):
			text, factor = strings.TrimSuffix(text, "k"), 1000
		case strings.HasSuffix(text, "m"):
			text, factor = strings.TrimSuffix(text, "m"), 1_000_000
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1_000_000_000/factor {
			return fmt.Errorf("%q is not a list of whole numbers such as 1,8,64 or 1k,10k", s)
		}
		out = append(out, n*factor)
	}
	*c.list = out
	return nil
}

type llmWorkload struct {
	cfg                                    llm.Config
	duration, warmup, connect, first, idle time.Duration
	model                                  string
	ignoreEOS                              bool
}

func (w *llmWorkload) addFlags(cmd *cobra.Command) {
	w.cfg = llm.Default()
	f := cmd.Flags()
	enumFlag(cmd, &w.cfg.API, "api", "", w.cfg.API, "API to call", llm.APIs)
	enumFlag(cmd, &w.cfg.Arrival, "arrival", "", w.cfg.Arrival, "closed loop, or open loop with constant or poisson gaps (with --rate: poisson)", llm.Arrivals)
	f.Var(counts{&w.cfg.Concurrency}, "concurrency", "requests in flight of a closed loop; a list gives a curve")
	f.Float64SliceVar(&w.cfg.RatePerS, "rate", nil, "requests per second of an open loop; a list gives a curve")
	f.Int64VarP(&w.cfg.Requests, "requests", "n", w.cfg.Requests, "requests of each point (0: bounded by --duration)")
	f.DurationVar(&w.duration, "duration", 0, "length of each point's window (0: bounded by --requests)")
	f.DurationVar(&w.warmup, "warmup", 0, "time of load before each window, not counted")
	f.Int64Var(&w.cfg.WarmupRequests, "warmup-requests", 0, "requests before each window, not counted")
	f.IntVar(&w.cfg.InputLen, "input-len", w.cfg.InputLen, "prompt tokens")
	f.IntVar(&w.cfg.OutputLen, "output-len", w.cfg.OutputLen, "tokens to generate")
	f.Uint64Var(&w.cfg.Seed, "seed", w.cfg.Seed, "seed of prompts and arrivals")
	f.BoolVar(&w.ignoreEOS, "ignore-eos", true, "generate all of --output-len (off with --structured)")
	f.Float64Var(&w.cfg.Temperature, "temperature", w.cfg.Temperature, "sampling temperature")
	enumFlag(cmd, &w.cfg.Structured, "structured", "", "", "constrain the output and report how much of it is valid", append([]string{""}, llm.Structured...))
	f.StringVar(&w.cfg.Dataset, "dataset", w.cfg.Dataset, "random, or a file of JSON lines with prompt or messages")
	f.StringVar(&w.model, "model", "", "model to ask for (default: the one served)")
	f.DurationVar(&w.connect, "connect-timeout", 10*time.Second, "time to connect")
	f.DurationVar(&w.first, "first-token-timeout", 5*time.Minute, "time to the first token")
	f.DurationVar(&w.idle, "idle-timeout", time.Minute, "silence between two reads of a stream")
	f.Float64Var(&w.cfg.MaxErrorRatio, "max-error-ratio", w.cfg.MaxErrorRatio, "share of failed requests above which a point is invalid")
}

func (w *llmWorkload) config(cmd *cobra.Command, t target) (any, error) {
	c := w.cfg
	c.Target = llm.Target{URL: t.url, KeyFile: t.keyFile, Model: t.model}
	if w.model != "" {
		c.Target.Model = w.model
	}
	c.DurationS, c.WarmupS = w.duration.Seconds(), w.warmup.Seconds()
	c.ConnectTimeoutS, c.FirstTokenTimeoutS, c.IdleTimeoutS = w.connect.Seconds(), w.first.Seconds(), w.idle.Seconds()
	changed := cmd.Flags().Changed
	if w.duration > 0 && !changed("requests") {
		c.Requests = 0
	}
	if len(c.RatePerS) > 0 {
		if !changed("arrival") {
			c.Arrival = llm.Poisson
		}
		if !changed("concurrency") {
			c.Concurrency = nil
		}
	}
	c.IgnoreEOS = w.ignoreEOS
	if c.Structured != "" && !changed("ignore-eos") {
		c.IgnoreEOS = false
	}
	if c.Dataset != llm.Random && !filepath.IsAbs(c.Dataset) {
		abs, err := filepath.Abs(c.Dataset)
		if err != nil {
			return nil, usage("--dataset: "+err.Error(), "give a path")
		}
		c.Dataset = abs
	}
	if err := c.Validate(); err != nil {
		return nil, usage(err.Error(), "`aifbench bench vllm --help` lists the flags")
	}
	return c, nil
}

type vectorWorkload struct {
	cfg                               vector.Config
	metric, encoding                  string
	duration, warmup, settle, timeout time.Duration
}

func (w *vectorWorkload) addFlags(cmd *cobra.Command) {
	w.cfg = vector.Default()
	f := cmd.Flags()
	f.Var(counts{&w.cfg.Vectors}, "vectors", "vectors to insert; a list gives a curve, one fresh collection each")
	f.IntVarP(&w.cfg.Dimension, "dimension", "d", w.cfg.Dimension, "dimension of the vectors")
	f.IntVar(&w.cfg.Queries, "queries", w.cfg.Queries, "distinct query vectors")
	f.IntVarP(&w.cfg.K, "neighbours", "k", w.cfg.K, "neighbours asked for")
	f.IntVar(&w.cfg.BatchSize, "batch-size", w.cfg.BatchSize, "vectors an insert")
	f.IntVar(&w.cfg.InsertConcurrency, "insert-concurrency", w.cfg.InsertConcurrency, "inserts in flight")
	f.Var(counts{&w.cfg.QueryConcurrency}, "concurrency", "queries in flight; a list gives a curve")
	f.Float64Var(&w.cfg.RatePerS, "rate", 0, "queries per second of an open loop (0: closed loop)")
	enumFlag(cmd, &w.cfg.Arrival, "arrival", "", "", "gaps of the open loop", []string{"", "constant", "poisson"})
	enumFlag(cmd, &w.metric, "metric", "", string(w.cfg.Metric), "distance", []string{string(vector.L2), string(vector.Cosine), string(vector.IP)})
	f.IntVar(&w.cfg.HNSW.MaxNeighbors, "max-neighbors", 0, "HNSW M (0: the server's default)")
	f.IntVar(&w.cfg.HNSW.EfConstruction, "ef-construction", 0, "HNSW ef at build (0: the server's default)")
	f.IntVar(&w.cfg.HNSW.EfSearch, "ef-search", 0, "HNSW ef at search (0: the server's default)")
	enumFlag(cmd, &w.cfg.Data.Kind, "data", "", w.cfg.Data.Kind, "vectors to generate", []string{vector.Clustered, vector.Uniform})
	f.Uint64Var(&w.cfg.Data.Seed, "seed", w.cfg.Data.Seed, "seed of the vectors")
	enumFlag(cmd, &w.encoding, "encoding", "", string(w.cfg.Encoding), "how vectors are sent", []string{string(chroma.Base64), string(chroma.JSON)})
	f.DurationVar(&w.duration, "duration", 10*time.Second, "length of each query window (0: every query once)")
	f.DurationVar(&w.warmup, "warmup", time.Second, "queries before each window, not counted")
	f.DurationVar(&w.settle, "settle", 0, "pause between insert and warm-up")
	f.DurationVar(&w.timeout, "request-timeout", 30*time.Second, "time for one request")
	f.BoolVar(&w.cfg.KeepCollection, "keep-collection", false, "leave the collections on the server")
}

func (w *vectorWorkload) config(_ *cobra.Command, t target) (any, error) {
	c := w.cfg
	c.Target = vector.Target{URL: t.url, KeyFile: t.keyFile, PersistDir: t.dir}
	c.Metric, c.Encoding = vector.Metric(w.metric), chroma.Encoding(w.encoding)
	c.DurationS, c.WarmUpS, c.SettleS, c.RequestTimeoutS = w.duration.Seconds(), w.warmup.Seconds(), w.settle.Seconds(), w.timeout.Seconds()
	if err := c.Validate(); err != nil {
		return nil, usage(err.Error(), "`aifbench bench chroma --help` lists the flags")
	}
	return c, nil
}

type fsWorkload struct {
	cfg       fs.Config
	phaseTime time.Duration
	nodes     int
	scc       bool
	ini       []string
}

func (w *fsWorkload) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.cfg.IO500.Binary, "io500", "", "io500 binary to run; without it the built-in engine does the phases")
	enumFlag(cmd, &w.cfg.IO500.Launcher, "launcher", "", io500.LauncherSrun, "how io500 is started", []string{io500.LauncherSrun, io500.LauncherMpirun, io500.LauncherNone})
	f.StringArrayVar(&w.cfg.IO500.Args, "launcher-arg", nil, "further argument of the launcher, e.g. --mpi=pmix; repeatable")
	f.BoolVar(&w.scc, "scc", false, "rules of the student cluster competition: 30 s stonewall")
	f.StringArrayVar(&w.ini, "ini", nil, "SECTION.KEY=VALUE of io500's configuration; repeatable")
	f.IntVar(&w.cfg.Procs, "procs", 0, "ranks (0: up to 4 of the CPUs)")
	f.IntVar(&w.nodes, "nodes", 1, "nodes of the job that runs io500")
	f.DurationVar(&w.phaseTime, "phase-time", 0, "stonewall of the write phases (0: 1.5 s built in, the rules' for io500)")
	f.Int64Var(&w.cfg.MaxBytes, "max-bytes", 0, "most bytes the built-in engine writes (0: 768 MiB)")
	f.Int64Var(&w.cfg.MaxFiles, "max-files", 0, "most files the built-in engine makes (0: 40000)")
	f.BoolVar(&w.cfg.Direct, "direct", false, "O_DIRECT in ior-easy of the built-in engine")
	f.BoolVar(&w.cfg.KeepData, "keep-data", false, "leave the data in place")
	f.Uint32Var(&w.cfg.Seed, "seed", 0, "seed of the data pattern (0: from the run)")
}

// tasksPerNode spreads the ranks over the nodes.
func (w *fsWorkload) tasksPerNode() int {
	if w.cfg.IO500.Binary == "" || w.cfg.Procs == 0 {
		return 1
	}
	return (w.cfg.Procs + w.nodes - 1) / w.nodes
}

func (w *fsWorkload) config(_ *cobra.Command, t target) (any, error) {
	c := w.cfg
	if w.nodes < 1 {
		return nil, usage("--nodes must be 1 or more", "e.g. --nodes 2")
	}
	if w.nodes > 1 && c.IO500.Binary == "" {
		return nil, usage("the built-in engine runs on one node", "leave --nodes out, or give --io500")
	}
	if w.scc {
		c.IO500.Mode = io500.ModeSCC
	}
	for _, kv := range w.ini {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || !strings.Contains(k, ".") {
			return nil, usage(fmt.Sprintf("--ini %q", kv), "write SECTION.KEY=VALUE")
		}
		if c.IO500.INI == nil {
			c.IO500.INI = map[string]string{}
		}
		c.IO500.INI[k] = v
	}
	c.DataDir, c.PhaseSeconds = t.dir, w.phaseTime.Seconds()
	if c.IO500.Binary != "" {
		abs, err := filepath.Abs(c.IO500.Binary)
		if err != nil {
			return nil, usage("--io500: "+err.Error(), "give a path")
		}
		c.IO500.Binary = abs
	}
	full := c.WithDefaults()
	if err := full.Validate(); err != nil {
		return nil, usage(err.Error(), "`aifbench bench lustre --help` lists the flags")
	}
	// Left to the generator: how many CPUs it has is known on its node.
	full.Procs = c.Procs
	return full, nil
}
