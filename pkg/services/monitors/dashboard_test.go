package monitors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/metrics/probe"
)

type board struct {
	UID         string            `json:"uid"`
	Title       string            `json:"title"`
	Annotations map[string]any    `json:"annotations"`
	Panels      []json.RawMessage `json:"panels"`
}

type panel struct {
	ID      int    `json:"id"`
	Title   string `json:"title"`
	GridPos struct{ H, W, X, Y int }
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

// expressions returns every expression of every dashboard with the variables
// of Grafana filled in.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all, err := Dashboards()
	if err != nil || len(all) != 3 {
		t.Fatalf("%d dashboards, %v", len(all), err)
	}
	fill := strings.NewReplacer("$__rate_interval", "2m", "$__range", "5m", "$run", ".+")
	out := map[string]string{}
	uids := map[string]bool{}
	for name, raw := range all {
		var b board
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.UID == "" || uids[b.UID] || b.Title == "" || b.Annotations == nil {
			t.Errorf("%s: uid %q, title %q", name, b.UID, b.Title)
		}
		uids[b.UID] = true
		ids := map[int]bool{}
		for _, raw := range b.Panels {
			var p panel
			if err := json.Unmarshal(raw, &p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %d %q", name, p.ID, p.Title)
			}
			ids[p.ID] = true
			for i, q := range p.Targets {
				out[fmt.Sprintf("%s/%s/%d", name, p.Title, i)] = fill.Replace(q.Expr)
			}
		}
	}
	return out
}

// history writes OpenMetrics with two minutes of every series that a lab with
// a GPU, a Lustre mount, a vLLM and a Chroma would have. vLLM's names were
// recorded from a real server; ours come from the exporter itself; Chroma's
// are those a real Collector made of a real server's.
func history(t *testing.T, end time.Time) []byte {
	t.Helper()
	series := map[string]string{} // series -> type
	recorded, err := os.ReadFile("testdata/vllm-0.32.0.prom")
	if err != nil {
		t.Fatal(err)
	}
	const base = `run="r-1",service="s",node="n1"`
	for _, l := range strings.Split(string(recorded), "\n") {
		if name, _, ok := strings.Cut(l, "} "); ok && !strings.HasPrefix(l, "#") {
			series[name+","+base+`,part="vllm"}`] = ""
		}
	}
	root := t.TempDir()
	dir := filepath.Join(root, "proc/fs/lustre/llite/work-ff")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stats"), []byte("read_bytes 1 samples [bytes] 1 1 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []probe.Collector{
		{SMI: gpuRunner, Groups: func() map[string]int { return map[string]int{"vllm": processGroup()} }},
		{Root: root},
	} {
		var b bytes.Buffer
		s := c.Collect(t.Context())
		s.Missing = nil
		if err := probe.WriteText(&b, s, []probe.Label{{Name: "run", Value: "r-1"}, {Name: "service", Value: "s"}, {Name: "node", Value: "n1"}}); err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(b.String(), "\n") {
			if i := strings.LastIndexByte(l, ' '); i > 0 && !strings.HasPrefix(l, "#") {
				series[l[:i]] = ""
			}
		}
	}
	for _, n := range []string{
		"collection_query_total", "collection_add_total", "collection_get_total", "collection_upsert_total", "metering_events_sent_read_total",
		"metering_events_sent_write_total", "create_collection_total", "delete_collection_total", "cache_hit_total", "cache_miss_total",
		"tokio_worker_busy_duration_seconds_total", "tokio_active_tasks", "tokio_global_queue_depth",
	} {
		series[n+"{"+base+"}"] = ""
	}
	// A machine without its own cgroup memory file still shows the panel.
	series[`aifbench_job_memory_used_bytes{`+base+`}`] = ""
	series[`aifbench_node_disk_read_bytes_total{`+base+`,device="sda"}`] = ""
	series[`aifbench_node_disk_written_bytes_total{`+base+`,device="sda"}`] = ""
	series[`aifbench_node_network_receive_bytes_total{`+base+`,device="eth9"}`] = ""
	series[`aifbench_node_network_transmit_bytes_total{`+base+`,device="eth9"}`] = ""

	byName := map[string][]string{}
	for s := range series {
		name, _, _ := strings.Cut(s, "{")
		byName[name] = append(byName[name], s)
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	var b bytes.Buffer
	for _, n := range names {
		fmt.Fprintf(&b, "# TYPE %s unknown\n", n)
		sort.Strings(byName[n])
		for _, s := range byName[n] {
			for i := range 9 {
				fmt.Fprintf(&b, "%s %d %d\n", s, (i+1)*bucketWeight(s), end.Add(time.Duration(i-8)*15*time.Second).Unix())
			}
		}
	}
	b.WriteString("# EOF\n")
	return b.Bytes()
}

var leLabel = regexp.MustCompile(`le="([^"]+)"`)

// bucketWeight keeps cumulative buckets monotonic.
func bucketWeight(s string) int {
	m := leLabel.FindStringSubmatch(s)
	if m == nil {
		return 10
	}
	le, err := strconv.ParseFloat(m[1], 64)
	if err != nil || le > 5000 {
		return 5000
	}
	return 1 + int(le)
}

// Every expression of every dashboard is executed by every Prometheus at
// hand, over a history that has what it asks for: a wrong name, label or
// matcher shows as an empty answer, wrong syntax as an error.
func TestDashboardsAnswerOnARealPrometheus(t *testing.T) {
	t.Parallel()
	exprs := expressions(t)
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIP-LAB: promtool is not on PATH: no dashboard expression was executed")
	}
	var servers []string
	if p, err := exec.LookPath("prometheus"); err == nil {
		servers = append(servers, p)
	}
	if p := filepath.Join(os.Getenv("AIFBENCH_CACHE"), "prometheus-3.16"); os.Getenv("AIFBENCH_CACHE") != "" && fileExists(p) {
		servers = append(servers, p)
	}
	if len(servers) == 0 {
		t.Skip("SKIP-LAB: no prometheus on PATH or in AIFBENCH_CACHE: no dashboard expression was executed")
	}
	// Whole seconds inside one block of two hours.
	end := time.Now().Truncate(2 * time.Hour).Add(-time.Hour)
	dir := t.TempDir()
	om := filepath.Join(dir, "h.om")
	if err := os.WriteFile(om, history(t, end), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, server := range servers {
		data := filepath.Join(dir, fmt.Sprintf("data%d", i))
		if out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", om, data).CombinedOutput(); err != nil {
			t.Fatalf("backfill: %v\n%s", err, out)
		}
		base := serve(t, server, data)
		for where, e := range exprs {
			var answer struct {
				Status, Error string
				Warnings      []string
				Data          struct {
					Result []struct {
						Value [2]any `json:"value"`
					}
				}
			}
			ask(t, base+"/api/v1/format_query?query="+url.QueryEscape(e), &struct{ Status string }{})
			ask(t, base+"/api/v1/query?time="+strconv.FormatInt(end.Unix(), 10)+"&query="+url.QueryEscape(e), &answer)
			if answer.Status != "success" || len(answer.Data.Result) == 0 || len(answer.Warnings) > 0 {
				t.Errorf("%s on %s: %s %d series, %v\n%s", where, filepath.Base(server), answer.Error, len(answer.Data.Result), answer.Warnings, e)
			}
			for _, r := range answer.Data.Result {
				if r.Value[1] == "NaN" {
					t.Errorf("%s is NaN\n%s", where, e)
				}
			}
		}
	}
}

func ask(t *testing.T, u string, into any) {
	t.Helper()
	resp, err := http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Errorf("%s: %d %s", u, resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Errorf("%s: %v", u, err)
	}
}

var listening = regexp.MustCompile(`Listening on"? .*address=([0-9.:]+)`)

// serve starts a Prometheus on data and ends it with the test.
func serve(t *testing.T, bin, data string) string {
	t.Helper()
	config := filepath.Join(filepath.Dir(data), "empty.yml")
	if err := os.WriteFile(config, []byte("scrape_configs: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := data + ".log"
	w, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address=127.0.0.1:0", "--storage.tsdb.retention.time=10y")
	cmd.Stderr, cmd.Stdout = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	for range 1200 {
		raw, _ := os.ReadFile(log)
		if m := listening.FindSubmatch(raw); m != nil {
			base := "http://" + string(m[1])
			if resp, err := http.Get(base + "/-/ready"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == 200 {
					return base
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	raw, _ := os.ReadFile(log)
	t.Fatalf("%s is not ready:\n%s", bin, raw)
	return ""
}
