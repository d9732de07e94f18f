package fs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/io500"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// player stands for srun and io500: it leaves data and a recorded run.
type player struct {
	play   string
	code   int
	err    error
	cancel func()
	calls  int
}

func (p *player) Launch(ctx context.Context, name string, args []string, dir string, _ []string, _, _ io.Writer) (int, error) {
	if name == "lfs" {
		return 0, errors.New("executable file not found")
	}
	p.calls++
	ini, err := os.ReadFile(args[len(args)-1])
	if err != nil {
		return 0, err
	}
	v, _ := io500.ParseINI("io500.ini", ini)
	left := filepath.Join(v["global.datadir"], "ior-easy")
	if err := errors.Join(os.MkdirAll(left, 0o700), os.WriteFile(filepath.Join(left, "ior_file_easy.00000000"), []byte("leaked"), 0o600)); err != nil {
		return 0, err
	}
	if p.play != "" {
		if err := os.CopyFS(v["global.resultdir"], os.DirFS(filepath.Join("io500", "testdata", p.play))); err != nil {
			return 0, err
		}
	}
	if p.cancel != nil {
		p.cancel()
		<-ctx.Done()
		return p.code, ctx.Err()
	}
	return p.code, p.err
}

func real500(dir string) fs.Config {
	return fs.Config{
		DataDir: dir, Engine: fs.EngineIO500, Procs: 2,
		IO500: io500.Config{Binary: "/opt/io500/io500", Launcher: io500.LauncherSrun, Mode: io500.ModeSCC},
	}
}

func TestRealEngineIsJudgedByItsFilesNotItsExitCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		play   player
		status result.Status
		rule   string
	}{
		{"valid", player{play: "scc_valid"}, result.Valid, ""},
		{"marked invalid, exit code 0", player{play: "debug1"}, result.Invalid, "io500_marked_invalid"},
		{"corrupted small files, exit code 0", player{play: "corrupt_md"}, result.Invalid, "io500_verify_errors"},
		{"overwritten by cleanup, exit code 0", player{play: "interrupted_term"}, result.Invalid, "io500_phases_missing"},
		{"killed, exit code 0 as MPICH gives it", player{play: "interrupted_term.before_cleanup"}, result.Failed, "io500_incomplete"},
		{"device full", player{play: "enospc", code: 134}, result.Failed, "io500_exit_code"},
		{"nothing left, exit code 0", player{}, result.Failed, "io500_no_results"},
		{"not started", player{err: errors.New("srun: executable file not found")}, result.Failed, "io500_launch"},
		{"valid files and exit code 1", player{play: "scc_valid", code: 1}, result.Failed, "io500_exit_code"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, env := t.TempDir(), environ(t)
			res, err := fs.Run(t.Context(), real500(dir), env, &c.play)
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Status != c.status || c.play.calls != 1 {
				t.Fatalf("verdict %+v after %d launches", res.Verdict, c.play.calls)
			}
			found := c.rule == ""
			for _, r := range res.Verdict.Reasons {
				found = found || r.Rule == c.rule
			}
			if !found {
				t.Errorf("rule %s did not speak: %+v", c.rule, res.Verdict.Reasons)
			}
			score := res.Figures["io500_score"]
			if (c.status == result.Valid) != (score.Value != nil) {
				t.Errorf("score %+v of a run that is %s", score, c.status)
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if c.play.play == "" {
				return
			}
			again, err := fs.Recompute(env.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := again.Figures["ior_easy_write_gib_per_s"].Value, res.Figures["ior_easy_write_gib_per_s"].Value; (a == nil) != (b == nil) || a != nil && *a != *b {
				t.Errorf("recomputed %v, was %v", a, b)
			}
		})
	}
}

func TestRealEngineFigures(t *testing.T) {
	t.Parallel()
	res, err := fs.Run(t.Context(), real500(t.TempDir()), environ(t), &player{play: "scc_valid"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"ior_easy_write_gib_per_s": 0.207380, "find_kiops": 236.2827, "mdtest_hard_delete_kiops": 1.369436,
		"ior_rnd4k_easy_read_gib_per_s": 0.103473,
	} {
		if f := res.Figures[name]; f.Value == nil || *f.Value != want {
			t.Errorf("%s is %+v, want %v", name, f, want)
		}
	}
	// sqrt(0.233834 * 32.944274) = 2.775515 as printed.
	if f := res.Figures["io500_score"]; f.Value == nil || *f.Value < 2.7755 || *f.Value > 2.77553 {
		t.Errorf("score %+v", f)
	}
}

func TestRealEngineInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	dir := t.TempDir()
	p := &player{play: "interrupted_term.before_cleanup", code: 143, cancel: func() { cancel(load.ErrInterrupted) }}
	res, err := fs.Run(ctx, real500(dir), environ(t), p)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict.Status != result.Interrupted {
		t.Errorf("verdict %+v", res.Verdict)
	}
	if f := res.Figures["ior_easy_write_gib_per_s"]; f.Value == nil || *f.Value != 0.365434 {
		t.Errorf("the finished phase is %+v", f)
	}
	if f := res.Figures["mdtest_easy_write_kiops"]; f.Value != nil || !strings.Contains(f.Reason, "no value") {
		t.Errorf("the unfinished phase is %+v", f)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("leaked data: %v", left)
	}
}
