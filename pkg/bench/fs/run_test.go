package fs_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/datadir"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// tiny is a run that needs some tens of milliseconds.
func tiny(dir string) fs.Config {
	return fs.Config{
		DataDir: dir, Engine: fs.EngineNative, Procs: 2, PhaseSeconds: 0.05,
		MaxBytes: 24 << 20, MaxFiles: 240,
	}
}

func environ(t *testing.T) load.Env {
	t.Helper()
	return load.Env{Dir: t.TempDir(), Run: "lustre-20260101-000000-abcd", DrainLimit: 20 * time.Second}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestNativeRunIsValidAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, env := filepath.Join(t.TempDir(), "data"), environ(t)
	res, err := fs.Run(t.Context(), tiny(dir), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict.Status != result.Valid {
		t.Fatalf("verdict %+v", res.Verdict)
	}
	for _, spec := range phases.Order() {
		name := strings.ReplaceAll(strings.ToLower(spec.Name), "-", "_")
		if spec.Data {
			name += "_gib_per_s"
		} else {
			name += "_kiops"
		}
		f, ok := res.Figures[name]
		if !ok || f.Value == nil || *f.Value <= 0 {
			t.Errorf("figure %s is %+v", name, f)
		}
	}
	if f := res.Figures["io500_score"]; f.Value != nil || !strings.Contains(f.Reason, "not IO500") {
		t.Errorf("io500_score is %+v, want null and why", f)
	}
	// 240 files for two ranks allow (240-2-8-2)/2/2 = 57 files a rank and kind;
	// a slow machine makes fewer, but what is made is what is statted and deleted.
	made := map[string]int64{}
	for _, p := range res.Curve[0].Phases {
		made[p.Name] = p.Ops
	}
	easy, hard := made[phases.MDEasyWrite], made[phases.MDHardWrite]
	if v := *res.Figures["fs_files_created_count"].Value; v != float64(easy+hard) || easy > 114 || hard > 114 || easy%2 != 0 || hard%2 != 0 {
		t.Errorf("files created %v of %d and %d", v, easy, hard)
	}
	if made[phases.MDEasyStat] != easy || made[phases.MDEasyDel] != easy || made[phases.MDHardStat] != hard || made[phases.MDHardRead] != hard || made[phases.MDHardDel] != hard {
		t.Errorf("operations %v", made)
	}
	// No item 0..56 of rank 0 or 1 has a name with 01; 101 would be the first.
	if v := *res.Figures["find_matched_count"].Value; v != 0 {
		t.Errorf("matched %v, want 0 among 57 items a rank", v)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("data directory is still there: %v", names(t, dir))
	}
	// The raw rows give the same figures and verdict again.
	again, err := fs.Recompute(env.Dir)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(res.Figures)
	got, _ := json.Marshal(again.Figures)
	if string(want) != string(got) {
		t.Errorf("recomputed figures differ:\n%s\n%s", got, want)
	}
	if again.Verdict.Status != res.Verdict.Status || len(again.Curve[0].Phases) != 13 {
		t.Errorf("recomputed verdict %v, %d phases", again.Verdict, len(again.Curve[0].Phases))
	}
}

func TestInterruptedInEveryPhase(t *testing.T) {
	t.Parallel()
	for i, spec := range phases.Order() {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			dir, env := t.TempDir(), environ(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			env.Progress = func(p load.Progress) {
				if p.Phase == spec.Name {
					cancel(load.ErrInterrupted)
				}
			}
			res, err := fs.Run(ctx, tiny(dir), env, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Status != result.Interrupted {
				t.Fatalf("verdict %+v", res.Verdict)
			}
			for k, p := range res.Curve[0].Phases {
				if k < i && p.Status != phases.Done {
					t.Errorf("phase %s is %s, want done", p.Name, p.Status)
				}
				if k > i && p.Status != phases.NotRun {
					t.Errorf("phase %s is %s, want not_run", p.Name, p.Status)
				}
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestTimeLimitIsTruncated(t *testing.T) {
	t.Parallel()
	env := environ(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	env.Progress = func(p load.Progress) {
		if p.Phase == phases.Find {
			cancel(load.ErrTimeLimit)
		}
	}
	res, err := fs.Run(ctx, tiny(t.TempDir()), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict.Status != result.Truncated {
		t.Fatalf("verdict %+v", res.Verdict)
	}
	if f := res.Figures["mdtest_hard_write_kiops"]; f.Value == nil {
		t.Error("a finished phase lost its figure")
	}
	if f := res.Figures["ior_easy_read_gib_per_s"]; f.Value != nil || f.Reason == "" {
		t.Errorf("a phase that did not run has %+v", f)
	}
}

func TestKeepData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := tiny(dir)
	cfg.KeepData = true
	res, err := fs.Run(t.Context(), cfg, environ(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "aifbench-lustre-20260101-000000-abcd", "ior-hard", "file")); err != nil {
		t.Error(err)
	}
	if len(res.Warnings) != 1 || res.Warnings[0].Code != "data_kept" {
		t.Errorf("warnings %+v", res.Warnings)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.tex")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := fs.Run(t.Context(), tiny(dir), environ(t), nil)
	if !errors.Is(err, datadir.ErrForeign) {
		t.Fatalf("error %v, want ErrForeign", err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the directory now holds %v", got)
	}
}

func TestPreparedDirectoryKeepsItsMarkerAndForeignFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := datadir.Prepare(dir, "0123abcd", "lustre-run"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := tiny(dir)
	if _, err := fs.Run(t.Context(), cfg, environ(t), nil); !errors.Is(err, datadir.ErrForeign) {
		t.Fatalf("without the nonce: %v, want ErrForeign", err)
	}
	cfg.Nonce = "0123abcd"
	env := environ(t)
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	env.Progress = func(p load.Progress) {
		if p.Phase != phases.RndRead {
			return
		}
		work := filepath.Join(dir, "aifbench-"+env.Run)
		// Planted while the benchmark runs: a link under one of its own names
		// and a file of somebody else.
		_ = os.Symlink(outside, filepath.Join(work, "ior-easy", "ior_file_easy.00000007"))
		_ = os.Symlink(filepath.Dir(outside), filepath.Join(work, "mdtest-hard", "test-dir.0-0", "mdtest_tree.9"))
		_ = os.WriteFile(filepath.Join(work, "foreign"), nil, 0o600)
	}
	res, err := fs.Run(t.Context(), cfg, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, w := range res.Warnings {
		found = found || w.Code == "foreign_left" && strings.Contains(w.Message, "foreign") && strings.HasPrefix(w.Message, "3 entries")
	}
	if !found {
		t.Errorf("warnings %+v, want three foreign entries named", res.Warnings)
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
		t.Errorf("the link's target: %q, %v", text, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "aifbench-"+env.Run, "ior-hard")); !errors.Is(err, os.ErrNotExist) {
		t.Error("our own ior-hard was left")
	}
	for _, name := range []string{datadir.MarkerName, "notes", "aifbench-" + env.Run + "/foreign"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown key": {`{"data_dir":"/x","colour":1}`, "colour"},
		"trailing":    {`{"data_dir":"/x"} {}`, "after"},
	} {
		if _, err := fs.Decode([]byte(c.text)); err == nil || !errors.Is(err, fs.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*fs.Config){
		"relative":  func(c *fs.Config) { c.DataDir = "x" },
		"root":      func(c *fs.Config) { c.DataDir = "/../" },
		"empty":     func(c *fs.Config) { c.DataDir = "" },
		"engine":    func(c *fs.Config) { c.Engine = "fio" },
		"procs":     func(c *fs.Config) { c.Procs = -1 },
		"seconds":   func(c *fs.Config) { c.PhaseSeconds = -1 },
		"few files": func(c *fs.Config) { c.MaxFiles = 5 },
		"few bytes": func(c *fs.Config) { c.MaxBytes = 1 << 20 },
		"no binary": func(c *fs.Config) { c.Engine = fs.EngineIO500 },
		"ini key": func(c *fs.Config) {
			c.Engine = fs.EngineIO500
			c.PhaseSeconds = 1
			c.IO500.Binary = "io500"
			c.IO500.INI = map[string]string{"ior-easy.blocksizes": "1m"}
		},
		"ini reserved": func(c *fs.Config) {
			c.Engine = fs.EngineIO500
			c.PhaseSeconds = 1
			c.IO500.Binary = "io500"
			c.IO500.INI = map[string]string{"global.DataDir": "/etc"}
		},
		"half second": func(c *fs.Config) { c.Engine = fs.EngineIO500; c.PhaseSeconds = 1.5; c.IO500.Binary = "io500" },
	} {
		cfg := tiny("/somewhere").WithDefaults()
		change(&cfg)
		if err := cfg.WithDefaults().Validate(); !errors.Is(err, fs.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if err := (fs.Config{DataDir: "/somewhere"}).WithDefaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func TestDefaultsStaySmall(t *testing.T) {
	t.Parallel()
	for _, procs := range []int{1, 2, 3, 16, 64} {
		c := fs.Config{Procs: procs}.WithDefaults()
		l := phases.Plan{Ranks: procs, MaxBytes: c.MaxBytes, MaxFiles: c.MaxFiles}.Limits()
		n := int64(procs)
		if files := n*(l.EasyFiles+l.HardFiles) + 2*n + 10; files >= 50_000 {
			t.Errorf("%d ranks: %d files", procs, files)
		}
		if bytes := n * (l.EasyTransfers*2<<20 + l.HardTransfers*47008 + l.HardFiles*4096); bytes >= 1<<30 {
			t.Errorf("%d ranks: %d bytes", procs, bytes)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"data_dir":"/x","procs":2,"io500":{"binary":"b","ini":{"a.b":"c"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := fs.Decode(b)
		if err != nil {
			return
		}
		if c = c.WithDefaults(); c.Validate() == nil && (!filepath.IsAbs(c.DataDir) || c.Procs < 1) {
			t.Errorf("%+v is taken", c)
		}
	})
}
