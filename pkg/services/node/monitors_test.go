package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm"
	"aifbench/templates"
)

// newMonitors is a monitors run with the real programs of the lab; collector
// may be "" for none.
func newMonitors(t *testing.T, home, prometheus, collector string) *bed {
	t.Helper()
	b := newBedIn(t, home, "monitors", "ok")
	b.cfg.Plan.Model = ""
	b.cfg.Plan.Procs = nil
	b.cfg.Plan.Monitors = &Monitors{Home: home, ScrapeIntervalS: 1, PrometheusBin: prometheus, CollectorBin: collector}
	for name, bin := range map[string]string{monitors.Prometheus: prometheus, monitors.Collector: collector} {
		if bin == "" {
			continue
		}
		p, err := MonitorProc(name)
		if err != nil {
			t.Fatal(err)
		}
		p.Script = "engine-" + name + ".sh"
		text, err := templates.FS.ReadFile(p.Script + ".tmpl")
		if err != nil {
			t.Fatal(err)
		}
		script, err := slurm.Render(p.Script, string(text), struct {
			Command   []string
			Retention string
		}{[]string{bin}, "1h"})
		if err != nil {
			t.Fatal(err)
		}
		if err := run.WriteExecutable(b.cfg.Dir.File(p.Script), script); err != nil {
			t.Fatal(err)
		}
		b.cfg.Plan.Procs = append(b.cfg.Plan.Procs, p)
	}
	return b
}

func labPrograms(t *testing.T) (prometheus, collector string) {
	t.Helper()
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("SKIP-LAB: prometheus is not on PATH: no door was scraped")
	}
	if cache := os.Getenv("AIFBENCH_CACHE"); cache != "" && exists(filepath.Join(cache, "otelcol", "otelcol")) {
		collector = filepath.Join(cache, "otelcol", "otelcol")
	}
	return prometheus, collector
}

// query asks the run's Prometheus through its door and returns the labels and
// value of each series.
func (b *bed) query(ep run.Endpoint, promql string) []map[string]string {
	b.t.Helper()
	code, body, _ := b.get(ep.DoorURL+"/engine/prometheus/api/v1/query?query="+url.QueryEscape(promql), "Bearer "+b.key())
	if code != 200 {
		b.t.Fatalf("query %s: %d %s", promql, code, body)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		b.t.Fatal(err)
	}
	var out []map[string]string
	for _, r := range answer.Data.Result {
		r.Metric["="] = fmt.Sprint(r.Value[1])
		out = append(out, r.Metric)
	}
	return out
}

// post sends JSON to an engine and decodes its answer.
func (b *bed) post(u, body string, into any) {
	b.t.Helper()
	resp, err := b.client.Post(u, "application/json", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.t.Fatalf("POST %s: %d %s %v", u, resp.StatusCode, raw, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil {
		b.t.Fatal(err)
	}
}

func TestPrometheusScrapesLiveRunsThroughTheirDoors(t *testing.T) {
	t.Parallel()
	prometheus, _ := labPrograms(t)
	home := t.TempDir()
	engine := newBedIn(t, home, "vllm", "ok").start()
	engine.ready()
	b := newMonitors(t, home, prometheus, "").start()
	ep := b.ready()

	// Nobody without the key: not at the door, not on loopback.
	for _, auth := range []string{"", "Bearer wrong", "Bearer " + b.key()} {
		if code, _, _ := b.get(ep.Extra["prometheus_url"]+"/api/v1/query?query=up", auth); code != 401 {
			t.Errorf("Prometheus on loopback with %.10q: %d", auth, code)
		}
	}
	if code, _, _ := b.get(ep.DoorURL+"/engine/prometheus/api/v1/query?query=up", "Bearer "+engine.key()); code != 401 {
		t.Error("the key of another run opens the monitors' door")
	}

	var got []map[string]string
	b.until("scrape of the engine", func() bool {
		got = b.query(ep, `engine_up{run="`+engine.cfg.Dir.ID()+`"}`)
		return len(got) > 0
	})
	if m := got[0]; m["service"] != "vllm" || m["node"] != "testnode" || m["part"] != "vllm" || m["job"] != engine.cfg.Dir.ID() || m["="] != "1" {
		t.Errorf("labels %v", m)
	}
	for _, q := range []string{
		`aifbench_node_memory_total_bytes{run="` + engine.cfg.Dir.ID() + `",part="node",service="vllm",node="testnode"}`,
		`aifbench_process_resident_memory_bytes{run="` + b.cfg.Dir.ID() + `",proc="prometheus",service="monitors"}`,
		`prometheus_build_info{run="` + b.cfg.Dir.ID() + `"}`,
	} {
		b.until(q, func() bool { return len(b.query(ep, q)) == 1 })
	}
	if bad := b.query(ep, `{__name__=~".+",exported_run=~".+"}`); len(bad) != 0 {
		t.Errorf("labels were exported: %v", bad[0])
	}

	// A run that stops goes from the targets.
	engine.stop()
	b.until("end of the targets", func() bool {
		_, body, _ := b.get(ep.DoorURL+"/engine/prometheus/api/v1/targets?state=active", "Bearer "+b.key())
		return !strings.Contains(body, engine.cfg.Dir.ID())
	})

	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	b.nothingLeft()
	snapshot := b.cfg.Dir.File(run.TelemetryDir, SnapshotDir)
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal(err)
	}
	// A snapshot has no write-ahead log and promtool wants one.
	if err := os.Mkdir(filepath.Join(snapshot, "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(promtool, "tsdb", "dump", "--match", `engine_up`, snapshot).CombinedOutput()
	if err != nil || !strings.Contains(string(out), engine.cfg.Dir.ID()) {
		t.Errorf("the snapshot does not hold what was scraped: %v\n%.2000s", err, out)
	}
	key := b.key()
	err = filepath.WalkDir(b.cfg.Dir.Path, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == run.KeyFile {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), key) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// When the scheduler ends Prometheus in the same moment, there is no one to
// ask for a snapshot: what is on disk is kept.
func TestSnapshotOfAPrometheusThatWasToldToEndToo(t *testing.T) {
	t.Parallel()
	prometheus, _ := labPrograms(t)
	b := newMonitors(t, t.TempDir(), prometheus, "").start()
	ep := b.ready()
	q := `aifbench_node_load1`
	b.until(q, func() bool { return len(b.query(ep, q)) == 1 })
	told := 0
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range procs {
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(raw), "--storage.tsdb.path="+b.cfg.ScratchRoot+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		told++
	}
	if told != 1 {
		t.Fatalf("%d Prometheus servers of this run", told)
	}
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	out, err := exec.Command("promtool", "tsdb", "dump", "--match", q, b.cfg.Dir.File(run.TelemetryDir, SnapshotDir)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), b.cfg.Dir.ID()) {
		t.Errorf("the data is not kept: %v\n%.2000s", err, out)
	}
}

// A Chroma pushes OTLP over gRPC to its supervisor's loopback port; bytes go
// through the monitors' door to the Collector and come out as series of the
// run that pushed them.
func TestPushedTelemetryArrivesThroughTheTunnel(t *testing.T) {
	t.Parallel()
	prometheus, collector := labPrograms(t)
	if collector == "" {
		t.Skip("SKIP-LAB: no Collector in AIFBENCH_CACHE: nothing was pushed")
	}
	chroma := filepath.Join(os.Getenv("AIFBENCH_CACHE"), "chroma", "bin", "chroma")
	if !exists(chroma) {
		t.Skip("SKIP-LAB: no Chroma in AIFBENCH_CACHE: nothing was pushed")
	}
	home := t.TempDir()
	b := newMonitors(t, home, prometheus, collector).start()
	ep := b.ready()
	if ep.Extra["otlp"] == "" {
		t.Fatalf("extra %v", ep.Extra)
	}

	db := newBedIn(t, home, "chroma", "ok")
	script := `#!/bin/sh
printf 'listen_address: "127.0.0.1"\n' > "$AIFBENCH_SCRATCH/c.yaml"
export CHROMA_PORT="$AIFBENCH_PORT" CHROMA_PERSIST_PATH="$AIFBENCH_SCRATCH/p" OTEL_METRIC_EXPORT_INTERVAL=500 RUST_LOG=error
export CHROMA_OPEN_TELEMETRY__ENDPOINT="$AIFBENCH_OTLP_ENDPOINT" CHROMA_OPEN_TELEMETRY__SERVICE_NAME="$AIFBENCH_RUN_ID"
exec ` + chroma + ` run "$AIFBENCH_SCRATCH/c.yaml"
`
	if err := run.WriteExecutable(db.cfg.Dir.File("engine.sh"), []byte(script)); err != nil {
		t.Fatal(err)
	}
	db.cfg.Plan.ForwardOTLP, db.cfg.Plan.Model = true, ""
	db.cfg.Plan.Procs[0].Ready = Probe{Paths: []string{"/api/v2/healthcheck"}}
	db.cfg.Plan.Procs[0].SendKey, db.cfg.Plan.Procs[0].MetricsPath = false, ""
	db.start()
	dep := db.ready()
	if dep.Extra["otlp_forwarded"] != "true" {
		t.Fatalf("extra %v", dep.Extra)
	}
	db.get(dep.DoorURL+"/engine/chroma/api/v2/heartbeat", "Bearer "+db.key())
	var got []map[string]string
	b.until("pushed series", func() bool {
		got = b.query(ep, `heartbeat_total{run="`+db.cfg.Dir.ID()+`"}`)
		return len(got) > 0
	})
	if m := got[0]; m["service"] != "chroma" || m["service_name"] != db.cfg.Dir.ID() {
		t.Errorf("labels %v", m)
	}
	// Every name that the dashboard asks for comes out of a real server and a
	// real Collector once each operation was used.
	const base = "/api/v2/tenants/default_tenant/databases/default_database/collections"
	var made struct{ ID string }
	db.post(dep.LocalURL+base, `{"name":"demo"}`, &made)
	record := `{"ids":["a"],"embeddings":[[1,2]]}`
	for path, body := range map[string]string{
		"/add": record, "/upsert": record, "/get": `{}`, "/query": `{"query_embeddings":[[1,2]],"n_results":1}`,
	} {
		db.post(dep.LocalURL+base+"/"+made.ID+path, body, nil)
	}
	req, err := http.NewRequest(http.MethodDelete, dep.LocalURL+base+"/demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := db.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	boards, err := monitors.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`([a-z_]+)\{run=~`).FindAllStringSubmatch(string(bytes.ReplaceAll(boards["chroma.json"], []byte(`\"`), []byte(`"`))), -1)
	if len(names) < 10 {
		t.Fatalf("names of the dashboard: %v", names)
	}
	for _, n := range names {
		b.until(n[1], func() bool { return len(b.query(ep, n[1]+`{run="`+db.cfg.Dir.ID()+`"}`)) > 0 })
	}

	// OTLP over HTTP through the door, with the key and without.
	push := func(auth string) int {
		req, err := http.NewRequest(http.MethodPost, ep.DoorURL+"/otlp/v1/metrics", strings.NewReader(`{"resourceMetrics":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", auth)
		resp, err := b.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if code := push("Bearer " + b.key()); code != 200 {
		t.Errorf("push with the key: %d", code)
	}
	if code := push("Bearer " + db.key()); code != 401 {
		t.Errorf("push with another key: %d", code)
	}
	if c, err := dialTunnel(context.Background(), ep.DoorURL, db.key()); err == nil {
		c.Close()
		t.Error("the tunnel opens with another run's key")
	}
	db.stop()
	b.stop()
	db.nothingLeft()
	b.nothingLeft()
}

func TestWithoutMonitorsAnEngineIsNotToldToPush(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.cfg.Plan.ForwardOTLP = true
	b.start()
	if ep := b.ready(); ep.Extra["otlp_forwarded"] != "false" {
		t.Errorf("extra %v", ep.Extra)
	}
	raw, err := os.ReadFile(b.cfg.Dir.File("engine.sh.env"))
	if err != nil || strings.Contains(string(raw), "AIFBENCH_OTLP_ENDPOINT") {
		t.Errorf("%v", err)
	}
}
