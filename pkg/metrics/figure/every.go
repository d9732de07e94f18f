package figure

// every holds the figures that every kind of load reports.
var every = []Def{
	{"operations_ok_count", "count", Neutral, "Operations whose answer was complete and validated.", ""},
	{"operations_failed_count", "count", Lower, "Operations that ended in an error of any class.", ""},
	{"error_ratio", "ratio", Lower, "operations_failed_count over all operations of the window.", ""},
	{"achieved_rate_per_s", "per_s", Neutral, "Operations sent in the window over its length, to be compared with the rate asked for.", ""},
	{"send_lateness_p50_ms", "ms", Lower, "Median of actual start minus intended start: how late the generator itself was.", ""},
	{"send_lateness_p99_ms", "ms", Lower, "99th percentile of actual start minus intended start.", ""},
	{"client_cpu_ratio", "ratio", Lower, "CPU time the load generator used over window length times the CPUs it may use.", ""},
}
