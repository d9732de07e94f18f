package fs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/result"
)

func TestCorruptDataInvalidatesAndIsLocated(t *testing.T) {
	t.Parallel()
	dir, env := t.TempDir(), environ(t)
	done := false
	env.Progress = func(p load.Progress) {
		if p.Phase != phases.EasyRead || done {
			return
		}
		done = true
		path := filepath.Join(dir, "aifbench-"+env.Run, "ior-easy", "ior_file_easy.00000001")
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := f.WriteAt([]byte{0xff}, 8191); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	res, err := fs.Run(t.Context(), tiny(dir), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict.Status != result.Invalid {
		t.Fatalf("verdict %+v", res.Verdict)
	}
	said := ""
	for _, r := range res.Verdict.Reasons {
		if r.Rule == "corrupt_data" && strings.HasPrefix(r.Message, phases.EasyRead) {
			said = r.Evidence
		}
	}
	if !strings.Contains(said, "ior-easy/ior_file_easy.00000001 at offset 8191") {
		t.Errorf("evidence %q", said)
	}
	if v := res.Figures["fs_corrupt_blocks_count"].Value; v == nil || *v < 1 {
		t.Errorf("corrupt blocks %v", v)
	}
	again, err := fs.Recompute(env.Dir)
	if err != nil || again.Verdict.Status != result.Invalid {
		t.Errorf("recomputed %+v, %v", again.Verdict, err)
	}
}

// A killed run leaves a record file without its end; what had finished counts.
func TestRecomputeOfCutRecords(t *testing.T) {
	t.Parallel()
	env := environ(t)
	if _, err := fs.Run(t.Context(), tiny(t.TempDir()), env, nil); err != nil {
		t.Fatal(err)
	}
	path := record.Path(env.Dir, phases.RecordKind)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for share := range 10 {
		if err := os.WriteFile(path, text[:len(text)*(share+1)/11], 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := fs.Recompute(env.Dir)
		if err != nil {
			if share > 2 {
				t.Errorf("%d/11: %v", share+1, err)
			}
			continue // the header itself was cut
		}
		if res.Verdict.Status == result.Valid || len(res.Warnings) == 0 {
			t.Errorf("%d/11 of a record file gives %s, warnings %v", share+1, res.Verdict.Status, res.Warnings)
		}
		if f, ok := res.Figures["mdtest_hard_delete_kiops"]; !ok || f.Value != nil && share < 5 {
			t.Errorf("%d/11: lost phase has %+v", share+1, f)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Recompute(env.Dir); err == nil {
		t.Error("an empty directory was recomputed")
	}
}

func TestDirectIsUsedOrRefusedByName(t *testing.T) {
	t.Parallel()
	cfg := tiny(t.TempDir())
	cfg.Direct = true
	res, err := fs.Run(t.Context(), cfg, environ(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := res.Figures["ior_easy_write_gib_per_s"]
	switch res.Verdict.Status {
	case result.Valid:
		if !strings.Contains(f.How, "O_DIRECT") || strings.Contains(res.Figures["ior_hard_write_gib_per_s"].How, "O_DIRECT") {
			t.Errorf("how %q", f.How)
		}
	case result.Failed:
		if !strings.Contains(f.Reason, "O_DIRECT") {
			t.Errorf("reason %q", f.Reason)
		}
	default:
		t.Errorf("verdict %+v", res.Verdict)
	}
}
