package main_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/metrics/archive"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// on is the lab as a subtest sees it.
func (l *lab) on(t *testing.T) *lab {
	c := *l
	c.t = t
	return &c
}

// cache is a real part as the nodes see it.
func (l *lab) cache(path string) string { return filepath.Join(l.dir, "cache", path) }

// needs skips where a part of the lab was not set up.
func (l *lab) needs(parts ...string) {
	l.t.Helper()
	for _, p := range parts {
		if a := l.as(l.user, l.nodes()[0], "test", "-e", p); a.code != 0 {
			l.t.Skipf("SKIP-LAB: %s is not there; testdata/lab/setup.sh all gets it", p)
		}
	}
}

// vllm are the arguments of a real vLLM that needs no GPU and no network.
func (l *lab) vllm(more ...string) []string {
	args := []string{
		"--vllm-command", l.cache("vllm/fast/vllm"), "--model", l.cache("model"), "--served-name", "tiny", "--max-model-len", "2048", "--mem", "6G", "--share-node", "--dtype", "bfloat16", "--gpus", "0",
	}
	for _, a := range []string{"--enforce-eager", "--max-num-seqs", "32", "--kv-cache-memory-bytes", "67108864", "--distributed-executor-backend", "uni"} {
		args = append(args, "--vllm-arg="+a)
	}
	for _, e := range []string{"VLLM_ENABLE_V1_MULTIPROCESSING=0", "VLLM_CPU_OMP_THREADS_BIND=nobind", "OMP_NUM_THREADS=1"} {
		args = append(args, "--env", e)
	}
	return append(args, more...)
}

// value is a figure that must not be null.
func value(t *testing.T, s figure.Set, name string) float64 {
	t.Helper()
	f, ok := s[name]
	if !ok || f.Value == nil {
		t.Errorf("%s is missing: %s", name, f.Reason)
		return 0
	}
	return *f.Value
}

// valid demands a valid result whose figures are above 0.
func valid(t *testing.T, r result.Result, points int, names ...string) {
	t.Helper()
	if r.Verdict.Status != result.Valid {
		t.Errorf("%s: %s: %+v", r.Run, r.Verdict.Status, r.Verdict.Reasons)
	}
	sets := []figure.Set{r.Figures}
	if points > 1 {
		if len(r.Curve) != points {
			t.Fatalf("%s: %d points of a curve, want %d", r.Run, len(r.Curve), points)
		}
		sets = nil
		for _, p := range r.Curve {
			sets = append(sets, p.Figures)
		}
	}
	for _, s := range sets {
		for _, n := range names {
			if v := value(t, s, n); v <= 0 {
				t.Errorf("%s: %s is %v", r.Run, n, v)
			}
		}
	}
}

// seen are the rows of a summary that are not null, the sum over labels.
func seen(s promq.Summary) map[string]float64 {
	out := map[string]float64{}
	for _, r := range s.Rows {
		if r.Value != nil {
			out[r.Name] += *r.Value
		}
	}
	return out
}

func (l *lab) near(what string, got, want float64) {
	l.t.Helper()
	if got < want*0.6 || got > want*1.4 {
		l.t.Errorf("%s: Prometheus saw %.1f, the generator %.1f", what, got, want)
	}
}

// TestLabRealServices walks every verb over the four services with real vLLM,
// Chroma, Prometheus and Collector, each in a Slurm job of its own.
func TestLabRealServices(t *testing.T) {
	l := newLab(t)
	l.needs(l.cache("vllm/fast/vllm"), l.cache("model"), l.cache("chroma/bin/chroma"), l.cache("otelcol/otelcol"), "/usr/bin/prometheus")
	before := map[string][]string{}
	for _, n := range l.nodes() {
		before[n] = l.listening(n)
	}
	token := l.home + ".token"
	l.write(token, "hf_canaryToken0123456789\n")
	t.Cleanup(func() { _ = os.Remove(token) })
	step := func(name string, f func(l *lab)) {
		t.Helper()
		t.Run(name, func(t *testing.T) { f(l.on(t)) })
	}
	must := func(name string, f func(l *lab)) {
		t.Helper()
		if !t.Run(name, func(t *testing.T) { f(l.on(t)) }) {
			t.FailNow()
		}
	}
	started := map[string]labStart{}
	benches := map[string]result.Result{}
	must("start", func(l *lab) {
		if e := doc[labError](l, 3, "check", "all"); e.Error.Code != 3 || e.Error.Advice == "" {
			l.t.Errorf("check all without a run: %+v", e)
		}
		started["monitors"] = l.start("monitors", "-p", "gpu", "--collector", l.cache("otelcol/otelcol"), "--scrape-interval", "1s")
		started["vllm"] = l.start("vllm", l.vllm("--hf-token-file", token)...)
		started["chroma"] = l.start("chroma", "--chroma-command", l.cache("chroma/bin/chroma"), "--otlp-interval", "1s")
		started["lustre"] = l.start("lustre")
		again := doc[labStart](l, 0, append([]string{"start", "vllm"}, l.vllm("--hf-token-file", token)...)...)
		if !again.Existing || again.Run != started["vllm"].Run || again.JobID != started["vllm"].JobID {
			l.t.Errorf("the same start again: %+v, want the run %s", again, started["vllm"].Run)
		}
	})
	step("check", func(l *lab) {
		rows := doc[labRows](l, 0, "check", "all")
		if len(rows.Runs) != 4 {
			l.t.Fatalf("check all: %+v", rows)
		}
		nodes := map[string]string{}
		for _, r := range rows.Runs {
			s := started[r.Service]
			if r.Run != s.Run || r.JobID != s.JobID || !r.Ready || r.Code != 0 || r.Node == "" || r.Address == "" || r.Exposure == "" {
				l.t.Errorf("row of %s: %+v", r.Service, r)
			}
			nodes[r.Service] = r.Node
		}
		if nodes["monitors"] == nodes["vllm"] || nodes["chroma"] == nodes["vllm"] {
			l.t.Errorf("services share nodes, so scraping from another node was not shown: %v", nodes)
		}
		out := l.must(0, "check", "vllm").out
		if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[1], started["vllm"].Run) {
			l.t.Errorf("check vllm is not one line a run:\n%s", out)
		}
		if vllm := l.temporary(nodes["vllm"], l.opened(started["vllm"].Run)); len(vllm) == 0 {
			l.t.Error("vLLM's sockets and files are not in the run's own TMPDIR")
		}
		l.must(0, "check", "vllm", "--watch", "--until", "ready")
		l.must(2, "check", "vlm")
	})
	step("bench", func(l *lab) {
		load := []string{"--input-len", "32", "--output-len", "16"}
		curve := doc[result.Result](l, 0, append([]string{"bench", "vllm", "--concurrency", "1,4", "--requests", "30", "--gate", "output_tokens_per_s>=1"}, load...)...)
		valid(l.t, curve, 2, "ttft_p50_ms", "itl_p50_ms", "tpot_p50_ms", "e2e_p50_ms", "output_tokens_per_s", "requests_per_s")
		if len(curve.Gates) == 0 || !curve.Gates[0].Passed {
			l.t.Errorf("gates: %+v", curve.Gates)
		}
		for _, p := range curve.Curve {
			if n := value(l.t, p.Figures, "output_tokens_count"); n != 30*16 {
				l.t.Errorf("%s: %v tokens, want %d", p.Label, n, 30*16)
			}
			if f := p.Figures["ttft_p99_ms"]; f.Value != nil || f.Reason == "" {
				l.t.Errorf("a p99 of 30 samples: %+v", f)
			}
		}
		json := doc[result.Result](l, 0, append([]string{"bench", "vllm", "--structured", "json", "--api", "chat", "--requests", "10", "--concurrency", "4"}, "--output-len", "300")...)
		if v := value(l.t, json.Figures, "structured_valid_ratio"); v < 0 || v > 1 {
			l.t.Errorf("structured_valid_ratio %v", v)
		}
		value(l.t, json.Figures, "structured_parses_ratio")
		// The metrics' window is two seconds wider on both sides: the load before
		// must lie outside of it, with a scrape to spare.
		time.Sleep(4 * time.Second)
		chat := doc[result.Result](l, 0, append([]string{"bench", "vllm", "--api", "chat", "--concurrency", "4", "--duration", "6s"}, load...)...)
		valid(l.t, chat, 1, "ttft_p50_ms", "itl_p50_ms", "e2e_p50_ms", "output_tokens_per_s")
		benches["vllm"] = chat
		vectors := doc[result.Result](l, 0, "bench", "chroma", "--vectors", "2k", "--dimension", "64", "--queries", "100", "--duration", "6s", "--gate", "recall_mean_ratio>=0.5")
		valid(l.t, vectors, 1, "query_per_s", "query_p50_ms", "insert_vectors_per_s", "rows_count", "recall_mean_ratio", "index_bytes")
		benches["chroma"] = vectors
		files := doc[result.Result](l, 0, "bench", "lustre", "--phase-time", "6s")
		valid(l.t, files, 1, "ior_easy_write_gib_per_s", "mdtest_easy_write_kiops", "find_kiops", "ior_hard_read_gib_per_s", "mdtest_hard_delete_kiops")
		if f := files.Figures["io500_score"]; f.Value != nil || f.Reason == "" {
			l.t.Errorf("the built-in engine has an IO500 score: %+v", f)
		}
		if id, _ := files.Environment["job_id"].(string); id == "" || id == started["lustre"].JobID {
			l.t.Errorf("bench lustre had no job of its own: %q", id)
		}
		benches["lustre"] = files
		for s, want := range map[string]string{"vllm": "beside", "chroma": "beside", "lustre": "job"} {
			if got := benches[s].Environment["where"]; got != want {
				l.t.Errorf("bench %s ran %v, want %s", s, got, want)
			}
			if benches[s].Target != started[s].Run {
				l.t.Errorf("bench %s loaded %q", s, benches[s].Target)
			}
		}
		e := doc[labError](l, 2, "bench", "vllm", "--gate", "ttft_p98_ms<=5")
		if !strings.Contains(e.Error.Message, "ttft_p98_ms") {
			l.t.Errorf("unknown figure: %+v", e)
		}
		missed := doc[result.Result](l, 6, append([]string{"bench", "vllm", "--requests", "30", "--concurrency", "4", "--gate", "output_tokens_per_s>=1e9"}, load...)...)
		if len(missed.Gates) != 1 || missed.Gates[0].Passed || missed.Gates[0].Value == nil {
			l.t.Errorf("a gate nobody reaches: %+v", missed.Gates)
		}
		l.must(7, append([]string{"bench", "vllm", "--requests", "30", "--concurrency", "4", "--gate", "ttft_p99_ms<=1e9"}, load...)...)
	})
	step("metrics", func(l *lab) {
		b := benches["vllm"]
		window := func(b result.Result) []string {
			return []string{"--start", b.Window.Start.Add(-2 * time.Second).Format(time.RFC3339), "--end", b.Window.End.Add(2 * time.Second).Format(time.RFC3339)}
		}
		sum := doc[promq.Summary](l, 0, append([]string{"metrics", "vllm"}, window(b)...)...)
		got := seen(sum)
		l.near("generation tokens", got["scraped_generation_tokens_count"], value(l.t, b.Figures, "output_tokens_count"))
		for _, n := range []string{"scraped_generation_tokens_per_s", "scraped_prompt_tokens_per_s", "scraped_requests_count", "scraped_ttft_p50_ms", "host_cpu_ratio", "host_memory_used_max_bytes", "job_cpus_used_count"} {
			if got[n] <= 0 {
				l.t.Errorf("metrics vllm: %s is %v", n, got[n])
			}
		}
		for _, r := range sum.Rows {
			if r.Name == "gpu_util_max_ratio" && (r.Value != nil || r.Reason == "") {
				l.t.Errorf("no GPU here: %+v", r)
			}
		}
		b = benches["chroma"]
		got = seen(doc[promq.Summary](l, 0, append([]string{"metrics", "chroma"}, window(b)...)...))
		l.near("Chroma's queries", got["scraped_query_calls_count"], value(l.t, b.Figures, "operations_ok_count"))
		for _, n := range []string{"scraped_add_calls_count", "scraped_read_events_count", "host_cpu_ratio", "host_memory_used_max_bytes"} {
			if got[n] <= 0 {
				l.t.Errorf("metrics chroma: %s is %v", n, got[n])
			}
		}
		// The default window is that of the last bench.
		last := doc[promq.Summary](l, 0, "metrics", "lustre")
		if !last.Start.Equal(benches["lustre"].Window.Start.Truncate(time.Millisecond)) && last.Start.Sub(benches["lustre"].Window.Start).Abs() > time.Second {
			l.t.Errorf("window from %s, the bench began %s", last.Start, benches["lustre"].Window.Start)
		}
		got = seen(last)
		for _, n := range []string{"host_memory_used_max_bytes", "host_cpu_ratio", "host_load1_max_count"} {
			if got[n] <= 0 {
				l.t.Errorf("metrics lustre: %s is %v: %+v", n, got[n], last.Rows)
			}
		}
		got = seen(doc[promq.Summary](l, 0, "metrics", "monitors", "--last", "30s"))
		// The door of the lustre job went away with it, within this window.
		if up := got["targets_up_count"]; up < 6 || got["targets_count"]-up > 1 {
			l.t.Errorf("targets: %v of %v up", got["targets_up_count"], got["targets_count"])
		}
		own := l.must(0, "metrics", "vllm", "--query", `vllm:generation_tokens_total{run="$run"}`, "-o", "json").out
		if !strings.Contains(own, started["vllm"].Run) || !strings.Contains(own, "vllm:generation_tokens_total") {
			l.t.Errorf("--query: %s", own)
		}
		e := doc[labError](l, 2, "metrics", "vllm", "--query", "sum(")
		if e.Error.Code != 2 {
			l.t.Errorf("a bad query: %+v", e)
		}
	})
	step("logs, list, show, wait, report", func(l *lab) {
		for s, want := range map[string]string{"vllm": "Application startup complete", "chroma": "Connect to Chroma at", "monitors": "Completed loading of configuration file", "lustre": "ready"} {
			if out := l.must(0, "logs", s, "--lines", "400").out; !strings.Contains(out, want) {
				l.t.Errorf("logs %s lack %q:\n%s", s, want, tail(out))
			}
		}
		if out := l.must(0, "logs", "vllm", "--source", "supervisor", "--lines", "1").out; strings.Contains(out, "vllm.out") {
			l.t.Errorf("--source supervisor:\n%s", out)
		}
		list := doc[labRows](l, 0, "list").Runs
		for s, r := range benches {
			if !slices.ContainsFunc(list, func(x labRow) bool { return x.Run == r.Run && x.State == "DONE" }) {
				l.t.Errorf("list lacks bench %s of %s: %+v", r.Run, s, list)
			}
		}
		var show struct {
			Intent    runs.Intent
			Endpoint  *runs.Endpoint
			Sentinels []runs.Sentinel
		}
		raw := l.must(0, "show", started["vllm"].Run[:len(started["vllm"].Run)-2], "-o", "json").out
		if err := json.Unmarshal([]byte(raw), &show); err != nil || show.Intent.ID != started["vllm"].Run || show.Endpoint == nil || show.Endpoint.EngineVersion == "" || len(show.Sentinels) == 0 {
			l.t.Errorf("show by prefix: %v %+v", err, show)
		}
		l.must(0, "wait", "vllm")
		l.must(0, "wait", benches["vllm"].Run)
		page := l.home + "-report.html"
		l.must(0, "report", benches["chroma"].Run, page)
		html, err := os.ReadFile(page)
		if err != nil || !bytes.Contains(html, []byte(benches["chroma"].Run)) {
			l.t.Errorf("report: %v, %d bytes", err, len(html))
		}
		_ = os.Remove(page)
	})
	step("a killed shell loses nothing", func(l *lab) { l.killedShell() })
	step("an interrupted bench keeps its part", func(l *lab) { l.interruptedBench() })
	step("strangers", func(l *lab) { l.strangers(started, before) })
	step("save", func(l *lab) { l.saves(started) })
	step("secrets", func(l *lab) { l.secrets(started, "hf_canaryToken0123456789") })
	step("scancel during a bench", func(l *lab) {
		l.cancelledBench(started["vllm"])
		again := l.start("vllm", l.vllm("--hf-token-file", token)...)
		if again.Existing || again.Run == started["vllm"].Run {
			l.t.Fatalf("start after scancel: %+v", again)
		}
		r := doc[result.Result](l, 0, "bench", "vllm", "--requests", "20", "--concurrency", "4", "--input-len", "16", "--output-len", "8")
		valid(l.t, r, 1, "output_tokens_per_s")
		if r.Target != again.Run {
			l.t.Errorf("loaded %s, want %s", r.Target, again.Run)
		}
	})
	step("stop", func(l *lab) {
		data := l.opened(started["lustre"].Run).Intent.OwnedPaths
		l.note()
		var stopped struct {
			Runs []struct {
				Run     string   `json:"run"`
				Ended   bool     `json:"ended"`
				Removed []string `json:"removed"`
			}
		}
		raw := l.must(0, "stop", "all", "-o", "json").out
		if err := json.Unmarshal([]byte(raw), &stopped); err != nil || len(stopped.Runs) < 4 {
			l.t.Fatalf("stop all: %v\n%s", err, raw)
		}
		for _, r := range stopped.Runs {
			if !r.Ended {
				l.t.Errorf("%s has not ended", r.Run)
			}
			if r.Run == started["lustre"].Run && !slices.Equal(r.Removed, data) {
				l.t.Errorf("lustre removed %v, owned %v", r.Removed, data)
			}
		}
		l.nothingLeft()
		for s, r := range benches {
			if kept, err := result.Read(l.opened(r.Run).File(runs.ResultFile)); err != nil || kept.Run != r.Run {
				l.t.Errorf("the result of bench %s is gone: %v", s, err)
			}
			if s == "lustre" {
				continue // no process of its own was left to log
			}
			if logs := l.must(0, "logs", started[s].Run, "--source", "engine").out; strings.TrimSpace(logs) == "" {
				l.t.Errorf("the logs of %s are gone", s)
			}
		}
		l.must(0, "stop", "all") // nothing to stop is success
		l.must(3, "check", "all")
		l.must(3, "bench", "vllm")
	})
	step("clean", func(l *lab) {
		had := len(l.dirs())
		l.must(0, "clean", "--older-than", "1s", "--dry-run")
		if n := len(l.dirs()); n != had {
			l.t.Errorf("--dry-run removed %d runs", had-n)
		}
		l.must(0, "clean", "--older-than", "1d")
		if n := len(l.dirs()); n != had {
			l.t.Errorf("%d runs of today are gone", had-n)
		}
		l.must(0, "clean", "--older-than", "1s")
		for _, d := range l.dirs() {
			l.t.Errorf("%s is left: ended %v", d.ID(), d.State().Ended)
		}
	})
}

func tail(s string) string {
	if len(s) > 2000 {
		return "..." + s[len(s)-2000:]
	}
	return s
}

// saves archives runs in both formats, checks every sum with other programs
// and gives the archives to the search for secrets.
func (l *lab) saves(started map[string]labStart) {
	t := l.t
	t.Helper()
	file := l.home + "-save.zip"
	l.must(0, "save", "vllm", file)
	t.Cleanup(func() { _ = os.Remove(file) })
	l.must(10, "save", "vllm", file)
	l.must(0, "save", "vllm", file, "--force")
	l.must(2, "save", "vllm", l.home+"-save.rar")
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	members := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		members[f.Name] = string(raw)
	}
	l.manifest(members, started["vllm"].Run)
	tarball := l.home + "-save.tar.zst"
	l.must(0, "save", "all", tarball)
	t.Cleanup(func() { _ = os.Remove(tarball) })
	dir := t.TempDir()
	if out, err := exec.Command("tar", "--zstd", "-xf", tarball, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	l.manifest(tree(t, dir), started["chroma"].Run)
}

// tree are the regular files below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// manifest compares members with their manifest by sha256sum.
func (l *lab) manifest(members map[string]string, run string) {
	t := l.t
	t.Helper()
	m, err := archive.DecodeManifest([]byte(members["MANIFEST.json"]))
	if err != nil {
		t.Fatalf("manifest: %v; members %v", err, slices.Sorted(maps.Keys(members)))
	}
	if len(m.Members) != len(members)-1 {
		t.Errorf("%d members, the manifest has %d", len(members)-1, len(m.Members))
	}
	for _, want := range []string{"run.json", "job.sbatch", "endpoint.json"} {
		if _, ok := members[run+"/"+want]; !ok {
			t.Errorf("the archive lacks %s/%s", run, want)
		}
	}
	for _, e := range m.Members {
		cmd := exec.Command("sha256sum")
		cmd.Stdin = strings.NewReader(members[e.Name])
		out, err := cmd.Output()
		if sum, _, _ := strings.Cut(string(out), " "); err != nil || sum != e.SHA256 {
			t.Errorf("%s: sha256sum %s (%v), manifest %s", e.Name, sum, err, e.SHA256)
		}
	}
	for name, text := range members {
		if filepath.Base(name) == runs.KeyFile {
			t.Errorf("a key is inside: %s", name)
		}
		for what, secret := range l.canaries() {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds the %s", name, what)
			}
		}
	}
}

// canaries are the keys of all runs.
func (l *lab) canaries() map[string]string {
	l.t.Helper()
	out := map[string]string{"Hugging Face token": "hf_canaryToken0123456789"}
	for _, d := range l.dirs() {
		k, err := d.Key()
		if err != nil {
			l.t.Fatal(err)
		}
		out["key of "+d.ID()] = k
	}
	return out
}

// secrets searches every place where others or an archive could find a secret.
func (l *lab) secrets(started map[string]labStart, token string) {
	t := l.t
	t.Helper()
	arg, userinfo := "canaryArgument01234", "canaryUserinfo01234"
	for _, args := range [][]string{
		l.vllm("--vllm-arg=--api-key=" + arg),
		l.vllm("--vllm-arg=--some-token", "--vllm-arg="+arg),
		l.vllm("--env", "HF_TOKEN="+arg),
	} {
		if a := l.must(2, append([]string{"start", "vllm", "--new"}, args...)...); strings.Contains(a.out+a.err, arg) {
			t.Errorf("%q: the secret is printed:\n%s%s", args, a.out, a.err)
		}
	}
	if a := l.must(2, "bench", "vllm", "--endpoint", "http://me:"+userinfo+"@127.0.0.1:1", "-o", "json"); strings.Contains(a.out+a.err, userinfo) {
		t.Errorf("--endpoint: the secret is printed:\n%s%s", a.out, a.err)
	}
	secrets := l.canaries()
	secrets["argument"], secrets["user of an endpoint"] = arg, userinfo
	search := func(where, text string) {
		t.Helper()
		for what, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s holds the %s", where, what)
			}
		}
	}
	if l.ab("show", "vllm", "-o", "json").code != 0 || secrets["Hugging Face token"] != token {
		t.Error("the run with the token is gone")
	}
	for name, text := range tree(t, l.home) {
		if filepath.Base(name) == runs.KeyFile {
			info, err := os.Stat(filepath.Join(l.home, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
			continue
		}
		search(name, text)
	}
	for _, n := range l.nodes() {
		search("ps -ef on "+n, l.labsh("in", n, "ps", "-efww").out)
	}
	for _, d := range l.dirs() {
		id := d.State().JobID
		if id == "" {
			continue
		}
		search("scontrol show job "+id, l.labsh("in", "login1", "scontrol", "show", "job", id).out)
		script := l.labsh("in", "login1", "sacct", "-B", "-j", id).out
		search("the stored script of "+id, script)
		search("the stored environment of "+id, l.labsh("in", "login1", "sacct", "--env-vars", "-j", id).out)
		search("sacct of "+id, l.labsh("in", "login1", "sacct", "-P", "-o", "ALL", "-j", id).out)
	}
	if script := l.labsh("in", "login1", "sacct", "-B", "-j", started["vllm"].JobID).out; !strings.Contains(script, "node run --run") {
		t.Errorf("this Slurm stores no scripts, so nothing was searched:\n%s", tail(script))
	}
}

// open is a port of a node and the paths of it that answer anybody.
var openOfVLLM = []string{"/health", "/metrics", "/version", "/ping", "/load", "/tokenize", "/docs", "/openapi.json"}

// strangers lets another user try every port that the runs opened, read what
// they keep, and end their jobs.
func (l *lab) strangers(started map[string]labStart, before map[string][]string) {
	t := l.t
	t.Helper()
	paths := []string{
		"/", "/metrics", "/v1/models", "/health", "/engine/", "/engine/v1/models", "/engine/prometheus/api/v1/query?query=up", "/api/v1/query?query=up",
		"/api/v1/status/config", "/-/healthy", "/otlp/v1/metrics", "/api/v2/heartbeat", "/api/v2/tenants/default_tenant/databases/default_database/collections",
	}
	local := map[string]string{} // service: its own port on loopback
	for s, st := range started {
		if ep, err := l.opened(st.Run).ReadEndpoint(); err == nil && ep.LocalURL != "" {
			local[s] = ep.Node + " " + ep.LocalURL[strings.LastIndexByte(ep.LocalURL, ':')+1:]
		}
	}
	tried, refused := 0, 0
	for _, node := range l.nodes() {
		addr := strings.TrimSpace(l.labsh("in", node, "hostname", "-I").out)
		for _, port := range l.listening(node) {
			if slices.Contains(before[node], port) {
				continue
			}
			for _, from := range []string{node, "login1"} {
				host := addr
				hosts := []string{host}
				if from == node {
					hosts = append(hosts, "127.0.0.1")
				}
				for _, host := range hosts {
					var script strings.Builder
					// A port that speaks no HTTP answers nothing, whatever is asked.
					fmt.Fprintf(&script, "c=$(curl -s -m 2 -o /dev/null -w '%%{http_code}' 'http://%s:%s/')\nif [ \"$c\" = 000 ]; then echo '/ 000'; exit; fi\n", host, port)
					for _, p := range paths {
						for _, auth := range []string{"", " -H 'Authorization: Bearer wrong'"} {
							fmt.Fprintf(&script, "curl -s -m 5 -o /dev/null -w '%s %%{http_code}\\n'%s 'http://%s:%s%s'\n", p, auth, host, port, p)
						}
					}
					a := l.as("mallory", from, "sh", "-c", script.String())
					for line := range strings.Lines(a.out) {
						p, code, _ := strings.Cut(strings.TrimSpace(line), " ")
						tried++
						switch {
						case code == "000" || code == "401" || code == "403":
							refused++
						case node+" "+port == local["vllm"] && (slices.Contains(openOfVLLM, p) || code == "404"):
						case node+" "+port == local["chroma"]:
							// Chroma checks no keys. Its node is asked for alone, see below.
						default:
							t.Errorf("mallory on %s: http://%s:%s%s of %s answers %s", from, host, port, p, node, code)
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests, %d refused", tried, refused)
	if tried < 100 || refused == 0 {
		t.Errorf("only %d requests were tried, %d refused", tried, refused)
	}
	// Nobody else gets onto Chroma's node while it runs.
	chroma := l.opened(started["chroma"].Run)
	ep, err := chroma.ReadEndpoint()
	if err != nil {
		t.Fatal(err)
	}
	if a := l.as("mallory", "login1", "srun", "--immediate=5", "-n1", "--mem=10M", "--nodelist="+ep.Node, "true"); a.code == 0 {
		t.Errorf("mallory's job got onto %s beside Chroma", ep.Node)
	}
	for s, st := range started {
		d := l.opened(st.Run)
		for _, p := range []string{d.Path, d.File(runs.KeyFile), d.File("run.json"), d.File(runs.LogsDir), l.home} {
			if a := l.as("mallory", "login1", "sh", "-c", "ls -l '"+p+"'; cat '"+p+"'"); a.code == 0 || a.out != "" {
				t.Errorf("mallory reads %s of %s:\n%s", p, s, a.out)
			}
		}
		if d.State().JobEnded {
			continue
		}
		if a := l.as("mallory", "login1", "scancel", st.JobID); a.code == 0 {
			t.Errorf("mallory's scancel of %s succeeded", s)
		}
		ep, err := d.ReadEndpoint()
		if err != nil || ep.Node == "" {
			continue
		}
		scratch := strings.Fields(l.labsh("in", ep.Node, "find", filepath.Join(l.dir, "nodelocal"), "-maxdepth", "1", "-name", "*"+st.Run+"*").out)
		if len(scratch) == 0 {
			if s != "lustre" {
				t.Errorf("no scratch of %s on %s", s, ep.Node)
			}
			continue
		}
		for _, p := range scratch {
			if a := l.as("mallory", ep.Node, "find", p); strings.Count(a.out, "\n") > 1 {
				t.Errorf("mallory reads the scratch of %s:\n%s", s, a.out)
			}
		}
	}
	for _, r := range doc[labRows](l, 0, "check", "all").Runs {
		if !r.Ready {
			t.Errorf("%s did not survive the stranger: %+v", r.Service, r)
		}
	}
}
