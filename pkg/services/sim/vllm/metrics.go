package vllm

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// metrics holds vLLM's metric names over the simulator's own events. One mutex
// is enough: a token costs it some 100 ns.
type metrics struct {
	model            string
	running, waiting atomic.Int64

	mu         sync.Mutex
	prompt     int64
	generated  int64
	finishedBy map[string]int64
	hists      []*hist
	byName     map[string]*hist
}

type hist struct {
	name, help string
	bounds     []float64
	counts     []int64
	n          int64
	sum        float64
}

// Bucket bounds of vLLM 0.32.
var (
	ttftBounds  = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	itlBounds   = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	phaseBounds = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	sizeBounds  = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
	nBounds     = []float64{1, 2, 5, 10, 20}
	iterBounds  = []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}
)

func newMetrics(model string) *metrics {
	m := &metrics{model: model, finishedBy: map[string]int64{}, byName: map[string]*hist{}}
	for _, h := range []*hist{
		{name: "time_to_first_token_seconds", help: "Histogram of time to first token in seconds.", bounds: ttftBounds},
		{name: "inter_token_latency_seconds", help: "Histogram of inter-token latency in seconds.", bounds: itlBounds},
		{name: "request_time_per_output_token_seconds", help: "Histogram of time_per_output_token_seconds per request.", bounds: itlBounds},
		{name: "e2e_request_latency_seconds", help: "Histogram of e2e request latency in seconds.", bounds: phaseBounds},
		{name: "request_queue_time_seconds", help: "Histogram of time spent in WAITING phase for request.", bounds: phaseBounds},
		{name: "request_inference_time_seconds", help: "Histogram of time spent in RUNNING phase for request.", bounds: phaseBounds},
		{name: "request_prefill_time_seconds", help: "Histogram of time spent in PREFILL phase for request.", bounds: phaseBounds},
		{name: "request_decode_time_seconds", help: "Histogram of time spent in DECODE phase for request.", bounds: phaseBounds},
		{name: "request_prompt_tokens", help: "Number of prefill tokens processed.", bounds: sizeBounds},
		{name: "request_generation_tokens", help: "Number of generation tokens processed.", bounds: sizeBounds},
		{name: "request_max_num_generation_tokens", help: "Histogram of maximum number of requested generation tokens.", bounds: sizeBounds},
		{name: "request_params_n", help: "Histogram of the n request parameter.", bounds: nBounds},
		{name: "request_params_max_tokens", help: "Histogram of the max_tokens request parameter.", bounds: sizeBounds},
		{name: "iteration_tokens_total", help: "Histogram of number of tokens per engine_step.", bounds: iterBounds},
	} {
		h.counts = make([]int64, len(h.bounds)+1)
		m.hists = append(m.hists, h)
		m.byName[h.name] = h
	}
	return m
}

func (h *hist) observe(v float64, n int64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i] += n
	h.n += n
	h.sum += v * float64(n)
}

func (m *metrics) admitted(prompt int, queued time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prompt += int64(prompt)
	m.byName["request_queue_time_seconds"].observe(queued.Seconds(), 1)
}

// token counts n tokens that were written together, since after those before.
func (m *metrics) token(from, n int, since, sinceArrival time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generated += int64(n)
	m.byName["iteration_tokens_total"].observe(float64(n), 1)
	if from == 0 {
		m.byName["time_to_first_token_seconds"].observe(sinceArrival.Seconds(), 1)
		return
	}
	m.byName["inter_token_latency_seconds"].observe(since.Seconds(), 1)
}

func (m *metrics) finish(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finishedBy[reason]++
}

func (m *metrics) finished(reason string, prompt, n, maxTokens int, begun, ended, arrived time.Time, ttft time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finishedBy[reason]++
	run := ended.Sub(begun)
	decode := max(run-ttft, 0)
	for name, v := range map[string]float64{
		"e2e_request_latency_seconds":       ended.Sub(arrived).Seconds(),
		"request_inference_time_seconds":    run.Seconds(),
		"request_prefill_time_seconds":      ttft.Seconds(),
		"request_decode_time_seconds":       decode.Seconds(),
		"request_prompt_tokens":             float64(prompt),
		"request_generation_tokens":         float64(n),
		"request_max_num_generation_tokens": float64(n),
		"request_params_n":                  1,
		"request_params_max_tokens":         float64(maxTokens),
	} {
		m.byName[name].observe(v, 1)
	}
	if n > 1 {
		m.byName["request_time_per_output_token_seconds"].observe(decode.Seconds()/float64(n-1), 1)
	}
}

func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(s.metrics.text(s.cfg.Slots))
}

// text writes the Prometheus text format, version 0.0.4.
func (m *metrics) text(slots int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b bytes.Buffer
	labels := fmt.Sprintf(`engine="0",model_name="%s"`, labelEscaper.Replace(m.model))
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, kind)
	}
	sample := func(name, extra string, v float64) {
		fmt.Fprintf(&b, "vllm:%s{%s%s} %s\n", name, labels, extra, number(v))
	}
	running, waiting := float64(m.running.Load()), float64(m.waiting.Load())
	for _, g := range []struct {
		name, help string
		v          float64
	}{
		{"num_requests_running", "Number of requests in model execution batches.", running},
		{"num_requests_waiting", "Number of requests waiting to be processed.", waiting},
		{"kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage. The simulator counts slots.", running / float64(slots)},
	} {
		family(g.name, "gauge", g.help)
		sample(g.name, "", g.v)
	}
	family("num_requests_waiting_by_reason", "gauge", "Number of waiting requests by reason.")
	sample("num_requests_waiting_by_reason", `,reason="capacity"`, waiting)
	sample("num_requests_waiting_by_reason", `,reason="deferred"`, 0)
	family("engine_sleep_state", "gauge", "Engine sleep state.")
	sample("engine_sleep_state", `,sleep_state="awake"`, 1)
	family("cache_config_info", "gauge", "Information of the cache config.")
	sample("cache_config_info", `,num_gpu_blocks="0",block_size="0",simulator="`+Name+`"`, 1)
	for _, c := range []struct {
		name, help string
		v          float64
	}{
		{"prompt_tokens_total", "Number of prefill tokens processed.", float64(m.prompt)},
		{"generation_tokens_total", "Number of generation tokens processed.", float64(m.generated)},
		{"prompt_tokens_cached_total", "Number of prompt tokens found in a cache.", 0},
		{"num_preemptions_total", "Cumulative number of preemptions.", 0},
		{"prefix_cache_queries_total", "Prefix cache queries, in tokens.", float64(m.prompt)},
		{"prefix_cache_hits_total", "Prefix cache hits, in tokens.", 0},
	} {
		family(c.name, "counter", c.help)
		sample(c.name, "", c.v)
	}
	family("prompt_tokens_by_source_total", "counter", "Number of prompt tokens by source.")
	sample("prompt_tokens_by_source_total", `,source="local_compute"`, float64(m.prompt))
	sample("prompt_tokens_by_source_total", `,source="local_cache_hit"`, 0)
	family("request_success_total", "counter", "Count of successfully processed requests.")
	for _, reason := range []string{"stop", "length", "abort", "error", "repetition"} {
		sample("request_success_total", `,finished_reason="`+reason+`"`, float64(m.finishedBy[reason]))
	}
	for _, h := range m.hists {
		family(h.name, "histogram", h.help)
		var sum int64
		for i, bound := range h.bounds {
			sum += h.counts[i]
			sample(h.name+"_bucket", `,le="`+number(bound)+`"`, float64(sum))
		}
		sample(h.name+"_bucket", `,le="+Inf"`, float64(h.n))
		sample(h.name+"_sum", "", h.sum)
		sample(h.name+"_count", "", float64(h.n))
	}
	return b.Bytes()
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// number writes a float as the Python client does: 1.0, 0.25, 2.5e-05.
func number(v float64) string {
	t := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(t, ".e") {
		t += ".0"
	}
	return t
}
