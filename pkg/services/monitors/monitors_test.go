package monitors

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"golang.org/x/crypto/bcrypt"

	"aifbench/pkg/services/run"
)

// hostile is a word that breaks out of any quoting that is not one.
const hostile = `it's "$HOME" ${env:X} ` + "`id`" + ` #{{.}} \n: é`

func TestRenderPrometheusQuotesAndParses(t *testing.T) {
	t.Parallel()
	jobs := []Job{
		{Name: "vllm-20260101-000000-abcd", KeyFile: "/home/" + hostile + "/key", TargetsFile: "/tmp/t.json"},
		{Name: "m:otlp", KeyFile: "/k", TargetsFile: "/u.json", Pushed: true},
	}
	raw, err := RenderPrometheus(jobs, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Global        map[string]string `yaml:"global"`
		ScrapeConfigs []struct {
			Name string `yaml:"job_name"`
			Auth struct {
				File string `yaml:"credentials_file"`
			} `yaml:"authorization"`
			SD []struct {
				Files []string `yaml:"files"`
			} `yaml:"file_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	if got.Global["scrape_interval"] != "2000ms" || len(got.ScrapeConfigs) != 2 {
		t.Errorf("%+v", got)
	}
	if c := got.ScrapeConfigs[0]; c.Name != jobs[0].Name || c.Auth.File != jobs[0].KeyFile || c.SD[0].Files[0] != "/tmp/t.json" {
		t.Errorf("%+v", c)
	}
}

func TestPromtoolTakesTheConfiguration(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIP-LAB: promtool is not on PATH: the rendered configuration is not checked")
	}
	dir := filepath.Join(t.TempDir(), `a "b" $c`)
	f := Files{Dir: dir}
	if err := f.Prepare("secret-key", filepath.Join(dir, "m.sock"), time.Second); err != nil {
		t.Fatal(err)
	}
	check := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			raw, _ := os.ReadFile(args[len(args)-1])
			t.Errorf("promtool %v: %v\n%s\n%s", args, err, out, raw)
		}
	}
	check("check", "config", f.PrometheusConfig())
	check("check", "web-config", f.WebConfig())
	key := filepath.Join(dir, "key")
	targets := filepath.Join(dir, "targets", "x.json")
	for _, p := range []string{key, targets} {
		if err := os.WriteFile(p, []byte("[]"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := RenderPrometheus([]Job{{Name: "a", KeyFile: key, TargetsFile: targets}, {Name: "b", KeyFile: key, TargetsFile: targets, Pushed: true}}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.WriteFile(f.PrometheusConfig(), raw); err != nil {
		t.Fatal(err)
	}
	check("check", "config", f.PrometheusConfig())
}

func TestCollectorTakesTheConfiguration(t *testing.T) {
	t.Parallel()
	otelcol := filepath.Join(os.Getenv("AIFBENCH_CACHE"), "otelcol", "otelcol")
	if os.Getenv("AIFBENCH_CACHE") == "" || !fileExists(otelcol) {
		t.Skip("SKIP-LAB: no Collector in AIFBENCH_CACHE: the rendered configuration is not checked")
	}
	f := Files{Dir: filepath.Join(t.TempDir(), `a "b" $c ${x}`)}
	if err := f.Prepare("secret-key", filepath.Join(f.Dir, "m.sock"), time.Second); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(otelcol, "validate", "--config", f.CollectorConfig()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPrepareKeepsTheKeyOutOfEveryFile(t *testing.T) {
	t.Parallel()
	const key = "canary-0123456789abcdef"
	f := Files{Dir: filepath.Join(t.TempDir(), "m")}
	if err := f.Prepare(key, "/s", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := f.PrepareGrafana("http://127.0.0.1:1", "/runs/x/key", time.Second); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := filepath.WalkDir(f.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if e.IsDir() {
			return nil
		}
		n++
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), key) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil || n < 8 {
		t.Errorf("%d files, %v", n, err)
	}
	var web struct {
		Users map[string]string `yaml:"basic_auth_users"`
	}
	raw, err := os.ReadFile(f.WebConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &web); err != nil {
		t.Fatal(err)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(web.Users[User]), []byte(key)); err != nil {
		t.Errorf("the key does not open Prometheus: %v", err)
	}
	if err := (Files{Dir: "/tmp/" + strings.Repeat("x", 100)}).Prepare(key, "/s", time.Second); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("a path too long for a socket: %v", err)
	}
	_ = os.RemoveAll("/tmp/" + strings.Repeat("x", 100))
}

func fileExists(p string) bool { _, err := os.Stat(p); return err == nil }

// addRun makes a run with the given doors.
func addRun(t *testing.T, home, service, id string, doors ...run.Door) run.Dir {
	t.Helper()
	d, err := run.Store{Home: home}.Create(run.Intent{ID: id, Verb: "start", Service: service, Nonce: run.NewNonce()})
	if err != nil {
		t.Fatal(err)
	}
	for _, door := range doors {
		if err := run.WriteJSON(d.File(run.DoorsDir, door.Host+".json"), door); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func readTargets(t *testing.T, path string) []group {
	t.Helper()
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var g []group
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestDiscoveryFollowsTheLiveRuns(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	f := Files{Dir: filepath.Join(t.TempDir(), "m")}
	if err := f.Prepare("k", "/s", time.Second); err != nil {
		t.Fatal(err)
	}
	const vllm, mon, dead, odd = "vllm-20260101-000000-abcd", "monitors-20260101-000001-abcd", "chroma-20260101-000002-abcd", "vllm-20260101-000003-abcd"
	v := addRun(t, home, "vllm", vllm, run.Door{Host: "n1", URL: "http://10.0.0.1:4000", MetricsPaths: []string{"/metrics", "/engine/vllm/metrics"}})
	addRun(t, home, "monitors", mon, run.Door{Host: "n2", URL: "http://[fd00::1]:5000", MetricsPaths: []string{"/metrics", "/engine/collector/metrics"}})
	x := addRun(t, home, "chroma", dead, run.Door{Host: "n3", URL: "http://10.0.0.3:1", MetricsPaths: []string{"/metrics"}})
	if err := x.WriteSentinel(run.Sentinel{Host: "n3", Phase: run.SentinelEnded}); err != nil {
		t.Fatal(err)
	}
	addRun(t, home, "vllm", odd, run.Door{Host: "n4", URL: "gopher://10.0.0.4", MetricsPaths: []string{"/metrics"}})
	if err := os.MkdirAll(filepath.Join(home, "runs", "vllm-20260101-000004-abcd", "doors", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := Discovery{Store: run.Store{Home: home}, Files: f, Interval: time.Second}

	reload, problems, err := d.Scan()
	if err != nil || !reload || len(problems) != 2 {
		t.Fatalf("reload %v, problems %v, %v", reload, problems, err)
	}
	want := []group{
		{Targets: []string{"10.0.0.1:4000"}, Labels: map[string]string{"__metrics_path__": "/metrics", "run": vllm, "service": "vllm", "node": "n1", "part": "node"}},
		{Targets: []string{"10.0.0.1:4000"}, Labels: map[string]string{"__metrics_path__": "/engine/vllm/metrics", "run": vllm, "service": "vllm", "node": "n1", "part": "vllm"}},
	}
	if d := cmp.Diff(want, readTargets(t, f.targets(vllm))); d != "" {
		t.Error(d)
	}
	pushed := readTargets(t, f.targets(mon+".otlp"))
	if len(pushed) != 1 || pushed[0].Targets[0] != "[fd00::1]:5000" || pushed[0].Labels["part"] != "collector" || len(readTargets(t, f.targets(mon))) != 1 {
		t.Errorf("pushed %v", pushed)
	}
	config := func() string {
		raw, err := os.ReadFile(f.PrometheusConfig())
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if c := config(); !strings.Contains(c, `"`+vllm+`"`) || !strings.Contains(c, v.File(run.KeyFile)) || strings.Contains(c, dead) || strings.Contains(c, odd) {
		t.Errorf("configuration:\n%s", c)
	}

	if reload, _, err := d.Scan(); reload || err != nil {
		t.Errorf("nothing changed: reload %v, %v", reload, err)
	}
	// Another door of a known run changes targets alone.
	if err := run.WriteJSON(v.File(run.DoorsDir, "n5.json"), run.Door{Host: "n5", URL: "http://10.0.0.5:1", MetricsPaths: []string{"/metrics"}}); err != nil {
		t.Fatal(err)
	}
	if reload, _, err := d.Scan(); reload || err != nil || len(readTargets(t, f.targets(vllm))) != 3 {
		t.Errorf("a further door: reload %v, %v", reload, err)
	}
	// A run that stopped takes its job and its targets along.
	for _, n := range []string{"n1.json", "n5.json"} {
		if err := os.Remove(v.File(run.DoorsDir, n)); err != nil {
			t.Fatal(err)
		}
	}
	if reload, _, err := d.Scan(); !reload || err != nil || strings.Contains(config(), vllm) || fileExists(f.targets(vllm)) {
		t.Errorf("a run that stopped: reload %v, %v", reload, err)
	}
}

func TestFindTakesTheNewestThatIsReady(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	store := run.Store{Home: home}
	if err := os.MkdirAll(store.RunsDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Find(store); !errors.Is(err, ErrNoMonitors) {
		t.Errorf("none: %v", err)
	}
	publish := func(d run.Dir, extra map[string]string) {
		if err := run.WriteJSON(d.File(run.EndpointFile), run.Endpoint{Nonce: d.Intent.Nonce, DoorURL: "http://x:1", Extra: extra}); err != nil {
			t.Fatal(err)
		}
	}
	otlp := map[string]string{"otlp": "/tunnel/otlp"}
	old := addRun(t, home, "monitors", "monitors-20260101-000001-abcd")
	publish(old, otlp)
	publish(addRun(t, home, "monitors", "monitors-20260101-000002-abcd"), nil) // no Collector
	addRun(t, home, "monitors", "monitors-20260101-000003-abcd")               // not ready
	d, _, err := Find(store)
	if err != nil || d.ID() != old.ID() {
		t.Errorf("found %s, %v", d.ID(), err)
	}
	newer := addRun(t, home, "monitors", "monitors-20260101-000004-abcd")
	publish(newer, otlp)
	if d, _, err := Find(store); err != nil || d.ID() != newer.ID() {
		t.Errorf("found %s, %v", d.ID(), err)
	}
	// One that was killed leaves its endpoint; the scheduler's word ends it.
	if err := newer.Append(time.Now(), run.Event{Kind: run.EventEnded}); err != nil {
		t.Fatal(err)
	}
	if d, _, err := Find(store); err != nil || d.ID() != old.ID() {
		t.Errorf("found %s, %v", d.ID(), err)
	}
}
