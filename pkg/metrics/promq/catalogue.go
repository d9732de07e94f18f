package promq

import "strings"

// method is how a summary becomes a number.
type method int

const (
	// The zero method evaluates one expression at the window's end.
	_ method = iota
	// fromZero subtracts the last value before the window from the last one
	// in it, taking a series that began inside the window as begun at zero:
	// what a pushed counter needs, whose first sample already counts events.
	fromZero
	// bucket takes a quantile of the increase of a classic histogram.
	bucket
)

// summary is one figure of a service and how it is asked for.
type summary struct {
	figure string
	method method
	// queries are the forms of the question by version of the service, newest
	// first; the first that matches a series is the answer. $sel stands for the
	// matchers, $w for the window's length, $step for a resolution.
	queries []string
	// by are labels that stay on the rows.
	by []string
	// q is the quantile of a bucket summary.
	q float64
	// scale multiplies the answer; 0 means 1.
	scale float64
	// perSecond divides it by the window's length.
	perSecond bool
	// hint says what the absence of all series means.
	hint string
}

// each puts every name in the place of $m.
func each(query string, names ...string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ReplaceAll(query, "$m", n))
	}
	return out
}

// Names of vLLM's metrics that were renamed, newest first. Counters carry
// _total on the wire in every version that Prometheus scrapes.
var (
	kvCache = []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}
	itl     = []string{"vllm:inter_token_latency_seconds_bucket", "vllm:time_per_output_token_seconds_bucket"}
)

const (
	noVLLM   = "no vllm: series; is the run scraped, and was the window inside its life?"
	noChroma = "no such counter; Chroma exports only what was called at least once, and only with OTLP on"
	noHost   = "no aifbench_node_ series; is the run's supervisor scraped?"
	noGPU    = "no aifbench_gpu_ series: no GPU on the nodes, or no nvidia-smi"
)

func vllmSummaries() []summary {
	counter := func(figure, metric string, perSecond bool, by ...string) summary {
		query := "sum(increase($m{$sel}[$w]))"
		if len(by) > 0 {
			query = "sum by (" + strings.Join(by, ", ") + ") (increase($m{$sel}[$w]))"
		}
		return summary{figure: figure, queries: each(query, metric), by: by, perSecond: perSecond, hint: noVLLM}
	}
	gauge := func(figure, fn string) summary {
		metric := "vllm:num_requests_running"
		if strings.Contains(figure, "waiting") {
			metric = "vllm:num_requests_waiting"
		}
		// The sum over engines must be taken before the maximum over time:
		// their peaks need not coincide.
		return summary{figure: figure, queries: each(fn+"(sum($m{$sel})[$w:$step])", metric), hint: noVLLM}
	}
	out := []summary{
		counter("scraped_prompt_tokens_per_s", "vllm:prompt_tokens_total", true),
		counter("scraped_generation_tokens_per_s", "vllm:generation_tokens_total", true),
		counter("scraped_generation_tokens_count", "vllm:generation_tokens_total", false),
		counter("scraped_requests_per_s", "vllm:request_success_total", true),
		counter("scraped_requests_count", "vllm:request_success_total", false, "finished_reason"),
		gauge("scraped_running_max_count", "max_over_time"),
		gauge("scraped_running_mean_count", "avg_over_time"),
		gauge("scraped_waiting_max_count", "max_over_time"),
		gauge("scraped_waiting_mean_count", "avg_over_time"),
		{figure: "scraped_kv_cache_max_ratio", queries: each("max(max_over_time($m{$sel}[$w]))", kvCache...), hint: noVLLM},
		{figure: "scraped_kv_cache_mean_ratio", queries: each("avg(avg_over_time($m{$sel}[$w]))", kvCache...), hint: noVLLM},
		counter("scraped_preemptions_count", "vllm:num_preemptions_total", false),
		{figure: "scraped_prefix_cache_hit_ratio", hint: noVLLM, queries: []string{
			"sum(increase(vllm:prefix_cache_hits_total{$sel}[$w])) / sum(increase(vllm:prefix_cache_queries_total{$sel}[$w]))",
			"sum(increase(vllm:gpu_prefix_cache_hits_total{$sel}[$w])) / sum(increase(vllm:gpu_prefix_cache_queries_total{$sel}[$w]))",
		}},
	}
	for _, h := range []struct {
		name    string
		metrics []string
	}{
		{"ttft", []string{"vllm:time_to_first_token_seconds_bucket"}},
		{"itl", itl},
		{"e2e", []string{"vllm:e2e_request_latency_seconds_bucket"}},
	} {
		for _, q := range []struct {
			name string
			q    float64
		}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}} {
			out = append(out, summary{
				figure: "scraped_" + h.name + "_" + q.name + "_ms", method: bucket, q: q.q, scale: 1000,
				queries: each("sum by (le) (increase($m{$sel}[$w]))", h.metrics...), hint: noVLLM,
			})
		}
	}
	return append(out, gpuSummaries()...)
}

func chromaSummaries() []summary {
	// The Collector adds _total to monotonic sums unless told not to.
	calls := func(figure, name string, perSecond bool) summary {
		return summary{figure: figure, method: fromZero, queries: []string{name + "_total", name}, perSecond: perSecond, hint: noChroma}
	}
	return append([]summary{
		calls("scraped_query_calls_count", "collection_query", false),
		calls("scraped_query_calls_per_s", "collection_query", true),
		calls("scraped_add_calls_count", "collection_add", false),
		calls("scraped_add_calls_per_s", "collection_add", true),
		calls("scraped_get_calls_count", "collection_get", false),
		calls("scraped_count_calls_count", "collection_count", false),
		calls("scraped_upsert_calls_count", "collection_upsert", false),
		calls("scraped_update_calls_count", "collection_update", false),
		calls("scraped_delete_calls_count", "collection_delete", false),
		calls("scraped_read_events_count", "metering_events_sent_read", false),
		calls("scraped_write_events_count", "metering_events_sent_write", false),
		{figure: "scraped_cache_hit_ratio", hint: noChroma, queries: []string{
			"sum(increase(cache_hit_total{$sel}[$w])) / (sum(increase(cache_hit_total{$sel}[$w])) + sum(increase(cache_miss_total{$sel}[$w])))",
			"sum(increase(cache_hit{$sel}[$w])) / (sum(increase(cache_hit{$sel}[$w])) + sum(increase(cache_miss{$sel}[$w])))",
		}},
	}, hostSummaries()...)
}

func hostSummaries() []summary {
	one := func(figure, query string) summary {
		return summary{figure: figure, queries: []string{query}, by: []string{"node"}, hint: noHost}
	}
	rate := func(figure, metric, extra string) summary {
		hint := noHost
		if strings.Contains(metric, "lustre") {
			hint = "no aifbench_lustre_ series: no Lustre mount on the nodes"
		}
		return summary{
			figure: figure, by: []string{"node"}, perSecond: true, hint: hint,
			queries: []string{"sum by (node) (increase(" + metric + "{$sel" + extra + "}[$w]))"},
		}
	}
	return []summary{
		one("host_cpu_ratio", `1 - sum by (node) (increase(aifbench_node_cpu_seconds_total{$sel,mode=~"idle|iowait"}[$w])) / sum by (node) (increase(aifbench_node_cpu_seconds_total{$sel}[$w]))`),
		one("host_load1_max_count", "max by (node) (max_over_time(aifbench_node_load1{$sel}[$w]))"),
		one("host_memory_used_max_bytes", "max by (node) (max_over_time((aifbench_node_memory_total_bytes{$sel} - aifbench_node_memory_available_bytes{$sel})[$w:$step]))"),
		one("host_memory_used_max_ratio", "max by (node) (max_over_time((1 - aifbench_node_memory_available_bytes{$sel} / aifbench_node_memory_total_bytes{$sel})[$w:$step]))"),
		rate("host_network_receive_bytes_per_s", "aifbench_node_network_receive_bytes_total", `,device!="lo"`),
		rate("host_network_transmit_bytes_per_s", "aifbench_node_network_transmit_bytes_total", `,device!="lo"`),
		rate("host_disk_read_bytes_per_s", "aifbench_node_disk_read_bytes_total", ""),
		rate("host_disk_written_bytes_per_s", "aifbench_node_disk_written_bytes_total", ""),
		rate("host_lustre_read_bytes_per_s", "aifbench_lustre_read_bytes_total", ""),
		rate("host_lustre_written_bytes_per_s", "aifbench_lustre_written_bytes_total", ""),
		rate("job_cpus_used_count", "aifbench_job_cpu_seconds_total", ""),
		one("job_memory_used_max_bytes", "max by (node) (max_over_time(aifbench_job_memory_used_bytes{$sel}[$w]))"),
	}
}

func gpuSummaries() []summary {
	by := []string{"node", "gpu"}
	over := func(figure, fn, metric string) summary {
		return summary{figure: figure, by: by, hint: noGPU, queries: []string{"max by (node, gpu) (" + fn + "(" + metric + "{$sel}[$w]))"}}
	}
	return []summary{
		over("gpu_util_max_ratio", "max_over_time", "aifbench_gpu_util_ratio"),
		over("gpu_util_mean_ratio", "avg_over_time", "aifbench_gpu_util_ratio"),
		over("gpu_memory_used_max_bytes", "max_over_time", "aifbench_gpu_memory_used_bytes"),
		{figure: "gpu_memory_used_max_ratio", by: by, hint: noGPU, queries: []string{
			"max by (node, gpu) (max_over_time((aifbench_gpu_memory_used_bytes{$sel} / aifbench_gpu_memory_total_bytes{$sel})[$w:$step]))",
		}},
		over("gpu_temperature_max_celsius", "max_over_time", "aifbench_gpu_temperature_celsius"),
		over("gpu_temperature_slope_celsius_per_s", "deriv", "aifbench_gpu_temperature_celsius"),
		over("gpu_power_mean_watts", "avg_over_time", "aifbench_gpu_power_watts"),
		over("gpu_power_max_watts", "max_over_time", "aifbench_gpu_power_watts"),
		{figure: "gpu_energy_joules", hint: noGPU, queries: []string{"sum(avg_over_time(aifbench_gpu_power_watts{$sel}[$w])) * $seconds"}},
	}
}

func monitorsSummaries() []summary {
	const none = "no target is known to this Prometheus"
	return []summary{
		{figure: "targets_count", queries: []string{"count(last_over_time(up{$sel}[$w]))"}, hint: none},
		{figure: "targets_up_count", queries: []string{"sum(last_over_time(up{$sel}[$w]))"}, hint: none},
		{figure: "targets_up_ratio", queries: []string{"avg(avg_over_time(up{$sel}[$w]))"}, hint: none},
		{figure: "scrape_duration_max_s", queries: []string{"max(max_over_time(scrape_duration_seconds{$sel}[$w]))"}, hint: none},
		{figure: "scraped_samples_per_s", queries: []string{"sum(sum_over_time(scrape_samples_scraped{$sel}[$w]))"}, perSecond: true, hint: none},
	}
}

// summariesOf lists the summaries of a service; lustre has no series of its
// own but its nodes'.
func summariesOf(service string) []summary {
	switch service {
	case "vllm":
		return append(vllmSummaries(), hostSummaries()...)
	case "chroma":
		return chromaSummaries()
	case "lustre":
		return hostSummaries()
	case "monitors":
		return append(monitorsSummaries(), hostSummaries()...)
	}
	return nil
}
