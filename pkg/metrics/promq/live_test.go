package promq_test

import (
	"bufio"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/promq"
)

// The recorded world: 181 samples a second apart from this moment on, and the
// window that is summarised.
var (
	zero  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	start = zero.Add(60 * time.Second)
	end   = zero.Add(120 * time.Second)
)

// backfill writes the world as OpenMetrics: each series is a function of the
// seconds since zero; NaN leaves a sample out.
func backfill() string {
	var b strings.Builder
	put := func(series string, f func(t float64) float64) {
		for i := range 181 {
			if v := f(float64(i)); !math.IsNaN(v) {
				fmt.Fprintf(&b, "%s %v %d\n", series, v, zero.Unix()+int64(i))
			}
		}
	}
	rate := func(perSecond float64) func(float64) float64 { return func(t float64) float64 { return perSecond * t } }
	constant := func(v float64) func(float64) float64 { return func(float64) float64 { return v } }
	peak := func(v, at90 float64) func(float64) float64 {
		return func(t float64) float64 {
			if t == 90 {
				return at90
			}
			return v
		}
	}
	even := func(a, b float64) func(float64) float64 {
		return func(t float64) float64 {
			if int(t)%2 == 0 {
				return a
			}
			return b
		}
	}
	// vllm, an older version: renamed gauges and histograms under their old names.
	put(`vllm:generation_tokens_total{run="r1",engine="0"}`, rate(500))
	put(`vllm:generation_tokens_total{run="r2",engine="0"}`, rate(9))
	put(`vllm:prompt_tokens_total{run="r1",engine="0"}`, rate(100))
	put(`vllm:request_success_total{run="r1",engine="0",finished_reason="length"}`, rate(1))
	put(`vllm:request_success_total{run="r1",engine="0",finished_reason="stop"}`, rate(2))
	put(`vllm:num_requests_running{run="r1",engine="0"}`, even(10, 0))
	put(`vllm:num_requests_running{run="r1",engine="1"}`, even(0, 10))
	put(`vllm:num_requests_waiting{run="r1",engine="0"}`, even(0, 4))
	put(`vllm:gpu_cache_usage_perc{run="r1",engine="0"}`, peak(0.5, 0.75))
	put(`vllm:prefix_cache_hits_total{run="r1",engine="0"}`, rate(30))
	put(`vllm:prefix_cache_queries_total{run="r1",engine="0"}`, rate(40))
	put(`vllm:num_preemptions_total{run="r1",engine="0"}`, constant(3))
	for engine, le := range []string{"1", "1.0"} {
		for _, bucket := range []struct {
			le string
			n  float64
		}{{"0.01", 1}, {"0.1", 5}, {"0.25", 9}, {le, 10}, {"+Inf", 10}} {
			put(fmt.Sprintf(`vllm:time_to_first_token_seconds_bucket{run="r1",engine="%d",le="%s"}`, engine, bucket.le), rate(bucket.n))
		}
	}
	put(`vllm:e2e_request_latency_seconds_bucket{run="r1",engine="0",le="0.3"}`, rate(5))
	put(`vllm:e2e_request_latency_seconds_bucket{run="r1",engine="0",le="+Inf"}`, rate(5))
	put(`vllm:time_per_output_token_seconds_bucket{run="r1",engine="0",le="80"}`, constant(0))
	put(`vllm:time_per_output_token_seconds_bucket{run="r1",engine="0",le="+Inf"}`, rate(100))
	// chroma: what was never called does not exist; pushed counters begin late.
	put(`collection_query_total{run="c1"}`, func(t float64) float64 {
		if t < 80 {
			return math.NaN()
		}
		return 20 + (t - 80)
	})
	put(`collection_add_total{run="c1"}`, rate(2))
	put(`collection_get{run="c1"}`, constant(5))
	put(`metering_events_sent_read_total{run="c1"}`, func(t float64) float64 { return math.Mod(t, 90) })
	put(`cache_hit_total{run="c1"}`, rate(49))
	put(`cache_miss_total{run="c1"}`, rate(1))
	// nodes and GPUs.
	put(`aifbench_node_cpu_seconds_total{run="r1",node="n1",mode="idle"}`, rate(1))
	put(`aifbench_node_cpu_seconds_total{run="r1",node="n1",mode="iowait"}`, rate(0.5))
	put(`aifbench_node_cpu_seconds_total{run="r1",node="n1",mode="user"}`, rate(0.5))
	put(`aifbench_node_cpu_seconds_total{run="r1",node="n2",mode="idle"}`, rate(1))
	put(`aifbench_node_cpu_seconds_total{run="r1",node="n2",mode="user"}`, rate(1))
	put(`aifbench_node_load1{run="r1",node="n1"}`, peak(1.5, 2.5))
	put(`aifbench_node_memory_total_bytes{run="r1",node="n1"}`, constant(100e9))
	put(`aifbench_node_memory_available_bytes{run="r1",node="n1"}`, peak(60e9, 20e9))
	put(`aifbench_node_network_receive_bytes_total{run="r1",node="n1",device="eth0"}`, rate(1000))
	put(`aifbench_node_network_receive_bytes_total{run="r1",node="n1",device="lo"}`, rate(5000))
	put(`aifbench_node_network_transmit_bytes_total{run="r1",node="n1",device="eth0"}`, rate(700))
	put(`aifbench_node_disk_read_bytes_total{run="r1",node="n1",device="sda"}`, rate(2048))
	put(`aifbench_node_disk_read_bytes_total{run="r1",node="n1",device="sdb"}`, rate(2048))
	put(`aifbench_node_disk_written_bytes_total{run="r1",node="n1",device="sda"}`, rate(512))
	put(`aifbench_lustre_read_bytes_total{run="r1",node="n2",fs="scratch"}`, rate(3e6))
	put(`aifbench_lustre_written_bytes_total{run="r1",node="n2",fs="scratch"}`, rate(1e6))
	put(`aifbench_job_cpu_seconds_total{run="r1",node="n2"}`, rate(1.75))
	put(`aifbench_job_memory_used_bytes{run="r1",node="n2"}`, peak(1<<30, 3<<30))
	put(`aifbench_gpu_util_ratio{run="r1",node="n1",gpu="0"}`, peak(0.8, 0.95))
	put(`aifbench_gpu_memory_used_bytes{run="r1",node="n1",gpu="0"}`, constant(38<<30))
	put(`aifbench_gpu_memory_total_bytes{run="r1",node="n1",gpu="0"}`, constant(40<<30))
	put(`aifbench_gpu_temperature_celsius{run="r1",node="n1",gpu="0"}`, func(t float64) float64 { return 50 + t/60 })
	put(`aifbench_gpu_power_watts{run="r1",node="n1",gpu="0"}`, constant(300))
	put(`aifbench_gpu_power_watts{run="r1",node="n1",gpu="1"}`, constant(100))
	// monitors.
	put(`up{job="a"}`, constant(1))
	put(`up{job="b"}`, constant(0))
	put(`up{job="c"}`, even(1, 0))
	put(`scrape_duration_seconds{job="a"}`, peak(0.02, 0.5))
	put(`scrape_samples_scraped{job="a"}`, constant(150))
	b.WriteString("# EOF\n")
	return b.String()
}

var listening = regexp.MustCompile(`msg="?Listening on"?.* address=(127\.0\.0\.1:[0-9]+)`)

// prometheus starts the named server on the backfilled world and returns a
// client of it.
func prometheus(t *testing.T, server, promtool string) *promq.Client {
	t.Helper()
	dir := t.TempDir()
	om := filepath.Join(dir, "world.om")
	if err := os.WriteFile(om, []byte(backfill()), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if out, err := exec.CommandContext(t.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", om, data).CombinedOutput(); err != nil {
		t.Fatalf("backfill: %v\n%s", err, out)
	}
	cmd := exec.Command(server, "--config.file="+config, "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=100y",
		"--web.listen-address=127.0.0.1:0", "--log.format=logfmt")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var log strings.Builder
		heard := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil && !heard {
				heard = true
				address <- m[1]
			}
		}
		if !heard {
			t.Logf("prometheus said:\n%s", log.String())
			address <- ""
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
		_ = cmd.Wait()
	})
	var addr string
	select {
	case addr = <-address:
	case <-time.After(time.Minute):
	}
	if addr == "" {
		t.Fatal("prometheus did not listen")
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := promq.New("http://"+addr, promq.Options{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = c.Query(t.Context(), "vector(1)", end); err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// servers lists the Prometheus binaries to test with: the one on PATH and, when
// the variable is set, another version.
func servers(t *testing.T) (list []string, promtool string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIP-LAB: no promtool on PATH; the summaries were not run against a real Prometheus")
	}
	if p, err := exec.LookPath("prometheus"); err == nil {
		list = append(list, p)
	}
	if p := os.Getenv("AIFBENCH_PROMETHEUS"); p != "" {
		list = append(list, p)
	}
	if len(list) == 0 {
		t.Skip("SKIP-LAB: no prometheus on PATH; the summaries were not run against a real Prometheus")
	}
	return list, promtool
}

type expected struct {
	value  float64
	reason string // part of it, for null
	// tolerance is relative; 0 means 1e-9. Counters are extrapolated and range
	// selectors differ by one sample between 2.x and 3.x, so some have more.
	tolerance float64
	lower     float64
	upper     float64
	warning   string
}

func TestLive(t *testing.T) {
	t.Parallel()
	list, promtool := servers(t)
	gpu0, gpu1 := " gpu=0 node=n1", " gpu=1 node=n1"
	cases := map[string]struct {
		service string
		sel     promq.Selector
		want    map[string]expected
	}{
		"vllm": {"vllm", promq.Selector{"run": "r1"}, map[string]expected{
			"scraped_generation_tokens_per_s":               {value: 500},
			"scraped_generation_tokens_count":               {value: 30000},
			"scraped_prompt_tokens_per_s":                   {value: 100},
			"scraped_requests_per_s":                        {value: 3},
			"scraped_requests_count finished_reason=length": {value: 60},
			"scraped_requests_count finished_reason=stop":   {value: 120},
			"scraped_running_max_count":                     {value: 10},
			"scraped_running_mean_count":                    {value: 10},
			"scraped_waiting_max_count":                     {value: 4},
			"scraped_waiting_mean_count":                    {value: 2, tolerance: 0.02},
			"scraped_kv_cache_max_ratio":                    {value: 0.75},
			"scraped_kv_cache_mean_ratio":                   {value: 0.5, tolerance: 0.02},
			"scraped_preemptions_count":                     {value: 0},
			"scraped_prefix_cache_hit_ratio":                {value: 0.75},
			"scraped_ttft_p50_ms":                           {value: 100, lower: 10, upper: 100},
			"scraped_ttft_p95_ms":                           {value: 625, lower: 250, upper: 1000},
			"scraped_ttft_p99_ms":                           {value: 925, lower: 250, upper: 1000},
			"scraped_e2e_p50_ms":                            {value: 150, lower: 0, upper: 300},
			"scraped_e2e_p95_ms":                            {value: 285, lower: 0, upper: 300},
			"scraped_e2e_p99_ms":                            {reason: "300 observations, quantile 0.99 needs 1000"},
			"scraped_itl_p50_ms":                            {reason: "above the largest finite bucket bound, 80000 ms"},
			"host_cpu_ratio node=n1":                        {value: 0.25},
			"host_cpu_ratio node=n2":                        {value: 0.5},
			"host_load1_max_count node=n1":                  {value: 2.5},
			"host_memory_used_max_bytes node=n1":            {value: 80e9},
			"host_memory_used_max_ratio node=n1":            {value: 0.8},
			"host_network_receive_bytes_per_s node=n1":      {value: 1000},
			"host_network_transmit_bytes_per_s node=n1":     {value: 700},
			"host_disk_read_bytes_per_s node=n1":            {value: 4096},
			"host_disk_written_bytes_per_s node=n1":         {value: 512},
			"gpu_util_max_ratio" + gpu0:                     {value: 0.95},
			"gpu_util_mean_ratio" + gpu0:                    {value: 0.8025, tolerance: 0.001},
			"gpu_memory_used_max_bytes" + gpu0:              {value: 38 << 30},
			"gpu_memory_used_max_ratio" + gpu0:              {value: 0.95},
			"gpu_temperature_max_celsius" + gpu0:            {value: 52},
			"gpu_temperature_slope_celsius_per_s" + gpu0:    {value: 1.0 / 60, tolerance: 1e-6},
			"gpu_power_mean_watts" + gpu0:                   {value: 300},
			"gpu_power_mean_watts" + gpu1:                   {value: 100},
			"gpu_power_max_watts" + gpu1:                    {value: 100},
			"gpu_energy_joules":                             {value: 24000},
		}},
		"other run": {"vllm", promq.Selector{"run": "r2"}, map[string]expected{
			"scraped_generation_tokens_per_s": {value: 9},
			"scraped_prompt_tokens_per_s":     {reason: "no vllm: series"},
			"gpu_util_max_ratio":              {reason: "no GPU"},
			"host_cpu_ratio":                  {reason: "aifbench_node_"},
			"host_lustre_read_bytes_per_s":    {reason: "no Lustre mount"},
			"scraped_ttft_p50_ms":             {reason: "no vllm: series"},
		}},
		"chroma": {"chroma", promq.Selector{"run": "c1"}, map[string]expected{
			"scraped_query_calls_count":  {value: 60, warning: "began inside the window"},
			"scraped_query_calls_per_s":  {value: 1, warning: "began inside the window"},
			"scraped_add_calls_count":    {value: 120},
			"scraped_add_calls_per_s":    {value: 2},
			"scraped_get_calls_count":    {value: 0},
			"scraped_upsert_calls_count": {reason: "no such counter"},
			"scraped_read_events_count":  {reason: "reset"},
			"scraped_cache_hit_ratio":    {value: 0.98},
		}},
		"monitors": {"monitors", nil, map[string]expected{
			"targets_count":         {value: 3},
			"targets_up_count":      {value: 2},
			"targets_up_ratio":      {value: 0.5, tolerance: 0.01},
			"scrape_duration_max_s": {value: 0.5},
			"scraped_samples_per_s": {value: 150, tolerance: 0.02},
		}},
		"lustre": {"lustre", promq.Selector{"run": "r1", "node": "n2"}, map[string]expected{
			"host_cpu_ratio node=n2":     {value: 0.5},
			"host_memory_used_max_bytes": {reason: "aifbench_node_"},

			"host_lustre_read_bytes_per_s node=n2":    {value: 3e6},
			"host_lustre_written_bytes_per_s node=n2": {value: 1e6},
			"job_cpus_used_count node=n2":             {value: 1.75},
			"job_memory_used_max_bytes node=n2":       {value: 3 << 30},
		}},
	}
	for _, server := range list {
		t.Run(strings.ReplaceAll(server, "/", "_"), func(t *testing.T) {
			t.Parallel()
			c := prometheus(t, server, promtool)
			for name, tc := range cases {
				s, err := promq.Summarise(t.Context(), c, tc.service, tc.sel, start, end)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				check(t, name, s, tc.want)
			}
			sameAsServer(t, c)
			trace(t, c)
		})
	}
}

func check(t *testing.T, name string, s *promq.Summary, want map[string]expected) {
	t.Helper()
	rows := map[string]promq.Row{}
	for _, r := range s.Rows {
		id := r.Name
		for _, l := range []string{"finished_reason", "gpu", "node"} {
			if v, ok := r.Labels[l]; ok {
				id += " " + l + "=" + v
			}
		}
		if _, twice := rows[id]; twice {
			t.Errorf("%s: row %s twice", name, id)
		}
		rows[id] = r
		if strings.Contains(r.Reason, "bad_data") || strings.Contains(r.Reason, "execution") {
			t.Errorf("%s: %s is refused by the server: %s\n%s", name, id, r.Reason, r.Query)
		}
	}
	for id, w := range want {
		r, ok := rows[id]
		if !ok {
			t.Errorf("%s: no row %s", name, id)
			continue
		}
		if w.reason != "" {
			if r.Value != nil || !strings.Contains(r.Reason, w.reason) {
				t.Errorf("%s: %s is %+v, want null with %q", name, id, r, w.reason)
			}
			continue
		}
		if r.Value == nil {
			t.Errorf("%s: %s is null: %s\n%s", name, id, r.Reason, r.Query)
			continue
		}
		tolerance := w.tolerance
		if tolerance == 0 {
			tolerance = 1e-9
		}
		if math.Abs(*r.Value-w.value) > tolerance*math.Max(1e-3, math.Abs(w.value)) {
			t.Errorf("%s: %s is %v, want %v\n%s", name, id, *r.Value, w.value, r.Query)
		}
		if w.upper != 0 && (r.Lower == nil || r.Upper == nil || *r.Lower != w.lower || *r.Upper != w.upper || r.N == 0) {
			t.Errorf("%s: %s has bounds %v..%v, want %v..%v", name, id, r.Lower, r.Upper, w.lower, w.upper)
		}
		if w.warning == "" && len(r.Warnings) != 0 {
			t.Errorf("%s: %s has doubts %q", name, id, r.Warnings)
		}
		if w.warning != "" && !strings.Contains(strings.Join(r.Warnings, ";"), w.warning) {
			t.Errorf("%s: %s has warnings %q, want %q", name, id, r.Warnings, w.warning)
		}
	}
}

// sameAsServer compares our quantiles of buckets with the server's own.
func sameAsServer(t *testing.T, c *promq.Client) {
	t.Helper()
	s, err := promq.Summarise(t.Context(), c, "vllm", promq.Selector{"run": "r1", "engine": "0"}, start, end)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range s.Rows {
		q, ok := map[string]string{"scraped_ttft_p50_ms": "0.5", "scraped_ttft_p95_ms": "0.95", "scraped_e2e_p50_ms": "0.5"}[r.Name]
		if !ok {
			continue
		}
		a, err := c.Query(t.Context(), "histogram_quantile("+q+", "+r.Query+")", end)
		if err != nil {
			t.Fatal(err)
		}
		v := a.Value.(model.Vector)
		if len(v) != 1 || r.Value == nil || math.Abs(float64(v[0].Value)*1000-*r.Value) > 1e-6 {
			t.Errorf("%s is %v, the server says %v s", r.Name, r.Value, v)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d quantiles compared, want 3", n)
	}
}

// trace checks the series for charts.
func trace(t *testing.T, c *promq.Client) {
	t.Helper()
	lines, warnings, err := promq.Trends(t.Context(), c, "vllm", promq.Selector{"run": "r1"}, start, end)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %q", warnings)
	}
	found := map[string]bool{}
	for _, l := range lines {
		found[l.Chart+" "+l.Name] = true
		if l.Chart == "token throughput" {
			for _, p := range l.Points {
				if math.Abs(float64(*p.Value)-500) > 1e-6 {
					t.Errorf("%v tokens/s at %v, want 500", *p.Value, p.TimeS)
				}
			}
		}
		if len(l.Points) < 30 {
			t.Errorf("%s %s has %d points", l.Chart, l.Name, len(l.Points))
		}
	}
	for _, want := range []string{"token throughput generated", "GPU temperature n1 GPU 0"} {
		if !found[want] {
			t.Errorf("no line %q among %v", want, found)
		}
	}
}

func TestEverySummaryIsAFigure(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, service := range promq.Services() {
		q := &asked{answer: func(string) (*promq.Answer, error) { return none(), nil }}
		s, err := promq.Summarise(t.Context(), q, service, nil, start, end)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Rows {
			names[r.Name] = true
		}
	}
	for _, d := range figure.All() {
		if strings.HasPrefix(d.Name, "scraped_") && !names[d.Name] {
			t.Errorf("%s is in the table and nobody asks for it", d.Name)
		}
	}
}
