package figure

// llm holds the figures of its area.
//
// Start of a request is the moment it was handed to the HTTP client, before a
// connection is looked for; its intended start is when the schedule wanted it.
// A token event is a stream event that carries at least one output token: role
// events, empty events without a token and usage events are none.
var llm = []Def{
	{"ttft_p50_ms", "ms", Lower, "Median of time to first token: first token event minus start, over good requests sent in the window.", "vllm"},
	{"ttft_p95_ms", "ms", Lower, "95th percentile of time to first token: first token event minus start.", "vllm"},
	{"ttft_p99_ms", "ms", Lower, "99th percentile of time to first token: first token event minus start.", "vllm"},
	{"ttft_mean_ms", "ms", Lower, "Mean of time to first token: first token event minus start.", "vllm"},
	{"itl_p50_ms", "ms", Lower, "Median of the gaps between successive token events, pooled over good requests sent in the window.", "vllm"},
	{"itl_p95_ms", "ms", Lower, "95th percentile of the gaps between successive token events, pooled.", "vllm"},
	{"itl_p99_ms", "ms", Lower, "99th percentile of the gaps between successive token events, pooled.", "vllm"},
	{"itl_mean_ms", "ms", Lower, "Mean of the gaps between successive token events, pooled.", "vllm"},
	{"tpot_p50_ms", "ms", Lower, "Median over requests of (last minus first token event) / (output tokens - 1); requests of one token are left out.", "vllm"},
	{"tpot_p95_ms", "ms", Lower, "95th percentile over requests of (last minus first token event) / (output tokens - 1).", "vllm"},
	{"tpot_p99_ms", "ms", Lower, "99th percentile over requests of (last minus first token event) / (output tokens - 1).", "vllm"},
	{"tpot_mean_ms", "ms", Lower, "Mean over requests of (last minus first token event) / (output tokens - 1).", "vllm"},
	{"e2e_p50_ms", "ms", Lower, "Median of last token event minus start; usage and end marks are not waited for.", "vllm"},
	{"e2e_p95_ms", "ms", Lower, "95th percentile of last token event minus start.", "vllm"},
	{"e2e_p99_ms", "ms", Lower, "99th percentile of last token event minus start.", "vllm"},
	{"e2e_mean_ms", "ms", Lower, "Mean of last token event minus start.", "vllm"},
	{"ttft_response_p50_ms", "ms", Lower, "Median of first token event minus intended start.", "vllm"},
	{"ttft_response_p95_ms", "ms", Lower, "95th percentile of first token event minus intended start.", "vllm"},
	{"ttft_response_p99_ms", "ms", Lower, "99th percentile of first token event minus intended start.", "vllm"},
	{"ttft_response_mean_ms", "ms", Lower, "Mean of first token event minus intended start.", "vllm"},
	{"e2e_response_p50_ms", "ms", Lower, "Median of last token event minus intended start.", "vllm"},
	{"e2e_response_p95_ms", "ms", Lower, "95th percentile of last token event minus intended start.", "vllm"},
	{"e2e_response_p99_ms", "ms", Lower, "99th percentile of last token event minus intended start.", "vllm"},
	{"e2e_response_mean_ms", "ms", Lower, "Mean of last token event minus intended start.", "vllm"},
	{"output_tokens_per_s", "per_s", Higher, "Output tokens of good requests that arrived in the window over its length, whenever those requests were sent.", "vllm"},
	{"input_tokens_per_s", "per_s", Higher, "Prompt tokens of good requests whose first token event lies in the window, over its length.", "vllm"},
	{"total_tokens_per_s", "per_s", Higher, "Input and output tokens of the window over its length.", "vllm"},
	{"requests_per_s", "per_s", Higher, "Good requests whose last token event lies in the window, over its length.", "vllm"},
	{"output_tokens_count", "count", Neutral, "Output tokens of good requests sent in the window.", "vllm"},
	{"input_tokens_count", "count", Neutral, "Prompt tokens of good requests sent in the window, by the server's usage.", "vllm"},
	{"output_tokens_per_request", "count", Neutral, "output_tokens_count over good requests sent in the window.", "vllm"},
	{"tokens_per_event", "count", Neutral, "Output tokens over token events: above 1 the gaps are not gaps between tokens.", "vllm"},
	{"structured_finished_ratio", "ratio", Higher, "Good constrained answers that ended by themselves and not by their length, over all of them.", "vllm"},
	{"structured_parses_ratio", "ratio", Higher, "Good constrained answers that parse: JSON by a strict parser, other kinds when not empty.", "vllm"},
	{"structured_valid_ratio", "ratio", Higher, "Good constrained answers that follow the schema, pattern, choice or grammar, over all of them.", "vllm"},
}
