package io500

import (
	"os"
	"path/filepath"
	"testing"

	"aifbench/pkg/metrics/result"
)

// corpus is a folder of published runs beside a checkout, one folder a run.
const corpus = "../../../../../shared/io500-corpus"

// wrongScores are published runs whose score does not follow from their phases:
// one prints BW*MD without the root, one a bandwidth 0.2 % too large.
var wrongScores = map[string]bool{"2019-193-03": true, "2019-105-04": true}

func corpusRuns(t *testing.T) []string {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(corpus, "*", SummaryName))
	if err != nil || len(runs) == 0 {
		t.Skip("SKIP-SHARED: no folder of published runs at " + corpus)
	}
	for i := range runs {
		runs[i] = filepath.Dir(runs[i])
	}
	return runs
}

// Every published run has a score, so the parser must reach it, and all but
// what is named here must be clean.
func TestPublishedRuns(t *testing.T) {
	t.Parallel()
	generations := map[string]int{}
	var scoreHashes, scoreHits, configHashes, configHits, invalid int
	for _, dir := range corpusRuns(t) {
		name := filepath.Base(dir)
		f, err := Load(os.DirFS(dir))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		generations[f.Summary.Generation]++
		if f.Summary.Score == nil {
			t.Errorf("%s: no score", name)
			continue
		}
		for _, p := range Scored() {
			if _, ok := f.Summary.Phase(p); !ok {
				t.Errorf("%s: no %s", name, p)
			}
		}
		for _, w := range f.Warnings {
			switch w.Code {
			case "summary_unit", "result_key_before_section", "ini_unknown_key", "result_timestamp_score", "result_line_glued", "summary_phase_unknown", "result_key_unknown":
			default:
				t.Logf("%s: %+v", name, w)
			}
		}
		v := Judge(f, Expect{})
		for _, r := range v.Reasons {
			if r.Severity == result.Serious {
				t.Logf("%s: %s %s: %s (%s)", name, v.Status, r.Rule, r.Message, r.Evidence)
			}
			if r.Rule == "io500_score_wrong" && !wrongScores[name] {
				t.Errorf("%s: %s", name, r.Evidence)
			}
		}
		if v.Status != result.Valid {
			invalid++
		}
		if f.Result == nil {
			continue
		}
		if f.Result.Hash != "" {
			scoreHashes++
			if ScoreHash(*f.Result) == f.Result.Hash {
				scoreHits++
			} else {
				t.Logf("%s: score hash %s, printed %s", name, ScoreHash(*f.Result), f.Result.Hash)
			}
		}
		text, err := os.ReadFile(filepath.Join(dir, ConfigName))
		if want := f.Result.Run["config-hash"]; err == nil && want != "" {
			configHashes++
			if FileHash(text) == want {
				configHits++
			}
		}
	}
	t.Logf("generations %v; score hash %d of %d; config hash %d of %d; not valid: %d", generations, scoreHits, scoreHashes, configHits, configHashes, invalid)
	// Three configurations were replaced by hand after the run.
	if scoreHits < scoreHashes-2 || configHits < configHashes-3 {
		t.Errorf("score hash %d of %d, config hash %d of %d", scoreHits, scoreHashes, configHits, configHashes)
	}
}
