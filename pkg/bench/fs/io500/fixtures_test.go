package io500

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aifbench/pkg/metrics/result"
)

// The recorded runs and the rules that must speak, worked out from the table of
// broken runs: what io500 itself says of each is in the comment.
func TestRecordedRuns(t *testing.T) {
	t.Parallel()
	short := []string{"io500_marked_invalid", "io500_error_line", "io500_stonewall_short", "io500_phase_short"}
	with := func(more ...string) []string { return append(slices.Clone(short), more...) }
	for _, c := range []struct {
		name   string
		status result.Status
		rules  []string // exactly the rules of severity error
		warns  []string
	}{
		{"scc_valid", result.Valid, nil, []string{"io500_page_cache", "io500_version"}}, // valid
		{"debug1", result.Invalid, short, nil},                                          // [INVALID], exit code 0
		{"extended", result.Invalid, short, nil},                                        // [INVALID], exit code 0
		{"cached", result.Invalid, short, []string{"io500_page_cache"}},
		{"slurm_pmi2", result.Invalid, short, nil},
		{"dryrun", result.Invalid, with("io500_phases_missing"), nil},
		{"norun", result.Invalid, with("io500_phases_missing"), nil},
		{"corrupt_md", result.Invalid, with("io500_verify_errors"), nil}, // io500 does not flag the corruption
		// --cleanup after a kill overwrote the results: exit code 0, no [INVALID], verify says OK.
		{"interrupted_term", result.Invalid, []string{"io500_phases_missing", "io500_error_line", "io500_failed_operations", "io500_stonewall_short"}, nil},
		{"interrupted_term.before_cleanup", result.Failed, []string{"io500_incomplete", "io500_error_line", "io500_stonewall_short"}, nil},
		{"enospc", result.Failed, []string{"io500_incomplete", "io500_error_line", "io500_stonewall_short"}, nil},
		{"wrongpmi", result.Failed, []string{"io500_incomplete", "io500_marked_invalid", "io500_error_line", "io500_stonewall_short", "io500_phase_short"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := Load(os.DirFS(filepath.Join("testdata", c.name)))
			if err != nil {
				t.Fatal(err)
			}
			v := Judge(f, Expect{})
			if v.Status != c.status {
				t.Errorf("status %s, want %s", v.Status, c.status)
			}
			var rules, warns []string
			for _, r := range v.Reasons {
				if r.Severity == result.Serious {
					rules = append(rules, r.Rule)
				} else {
					warns = append(warns, r.Rule)
				}
			}
			if got := slices.Compact(slices.Sorted(slices.Values(rules))); !slices.Equal(got, slices.Sorted(slices.Values(c.rules))) {
				t.Errorf("rules %v, want %v", got, c.rules)
			}
			for _, w := range c.warns {
				if !slices.Contains(warns, w) {
					t.Errorf("no warning %s in %v", w, warns)
				}
			}
			for _, w := range f.Warnings {
				if w.Line < 0 || w.File == "" || w.Code == "" {
					t.Errorf("warning without a place: %+v", w)
				}
			}
		})
	}
}

func TestHashByHand(t *testing.T) {
	t.Parallel()
	// 97, then 97*4+98 = 486.
	if got := hashPair("a", "b"); got != 486 {
		t.Errorf("hash %d, want 486", got)
	}
}

// Every score hash io500 printed comes out again, so parser and hash agree
// byte for byte with io500.
func TestHashesOfRecordedRuns(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"scc_valid", "debug1", "extended", "cached", "slurm_pmi2", "dryrun", "norun", "corrupt_md", "interrupted_term"} {
		f, err := Load(os.DirFS(filepath.Join("testdata", name)))
		if err != nil {
			t.Fatal(err)
		}
		if got := ScoreHash(*f.Result); got != f.Result.Hash {
			t.Errorf("%s: score hash %s, printed %s", name, got, f.Result.Hash)
		}
		// The recordings' paths were rewritten, so config-hash cannot come out;
		// both ways to compute it must agree all the same.
		text, err := os.ReadFile(filepath.Join("testdata", name, ConfigName))
		if err != nil {
			t.Fatal(err)
		}
		if a, b := ConfigHash(f.Config), FileHash(text); a != b {
			t.Errorf("%s: config hash %s from the schema, %s from the file", name, a, b)
		}
	}
}

// schema must be io500's own list.
func TestSchemaIsTheListOfIO500(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "list.ini"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got bytes.Buffer
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			fmt.Fprintln(&want, strings.TrimSpace(line))
		}
	}
	for _, s := range schema {
		fmt.Fprintf(&got, "[%s]\n", s.section)
		for _, o := range s.options {
			fmt.Fprintln(&got, strings.TrimSpace(o.key+" = "+o.value))
		}
	}
	if got.String() != want.String() {
		t.Errorf("schema differs from io500 --list:\n%s", got.String())
	}
}

func TestSummaryOfScoredRun(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "scc_valid", SummaryName))
	if err != nil {
		t.Fatal(err)
	}
	s := ParseSummary(SummaryName, text)
	if s.Version != "io500-isc26_v2-26-g02091cf254d8" || s.Mode != "standard" || len(s.Phases) != 14 || len(s.Warnings) != 0 {
		t.Errorf("%q %q, %d phases, warnings %v", s.Version, s.Mode, len(s.Phases), s.Warnings)
	}
	p, _ := s.Phase("mdtest-hard-delete")
	if p.Value != 1.369436 || p.Unit != "kIOPS" || p.Seconds != 292.242 || !p.Scored || p.Invalid {
		t.Errorf("%+v", p)
	}
	if *s.Score != (Totals{BW: 0.233834, MD: 32.944274, Total: 2.775515, BWUnit: "GiB/s", Line: 16}) {
		t.Errorf("%+v", *s.Score)
	}
}

// Cutting a good run at every byte must never pass for a whole one, and never
// panic.
func TestEveryCutIsSeen(t *testing.T) {
	t.Parallel()
	summary, err := os.ReadFile(filepath.Join("testdata", "scc_valid", SummaryName))
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.LastIndex(string(summary), "TOTAL 2.77551")
	for n := range whole {
		s := ParseSummary(SummaryName, summary[:n])
		v := Judge(Folder{Summary: &s}, Expect{Stonewall: 30})
		if v.Status == result.Valid {
			t.Fatalf("cut at %d of %d passes", n, len(summary))
		}
	}
}

func TestGenerationsAndOddities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, line, generation string
		codes                  []string
		phase                  string
		value                  float64
		invalid                bool
	}{
		{"bash", "[RESULT] BW   phase 1            ior_easy_write              836.649 GB/s : time 367.18 seconds", GenerationBash, []string{"summary_unit"}, "ior-easy-write", 836.649, false},
		{"bash GiB", "[RESULT] IOPS phase 3                      find             3110.120 kiops : time  44.37 seconds", GenerationBash, nil, "find", 3110.12, false},
		{"first", "[RESULT-invalid]       ior-easy-read        1.5 GiB/s  : time 3.5 seconds", GenerationFirst, nil, "ior-easy-read", 1.5, true},
		{"now", "[RESULT]    mdtest-easy-write       50.076574 kIOPS : time 2.549 seconds [INVALID]", GenerationNow, nil, "mdtest-easy-write", 50.076574, true},
		{"mib", "[RESULT]       ior-hard-write        2 MiB/s : time 1 seconds", GenerationNow, []string{"summary_unit"}, "ior-hard-write", 2, false},
		{"unknown phase", "[RESULT]       ior-soft-write        2 GiB/s : time 1 seconds", GenerationNow, []string{"summary_phase_unknown"}, "ior-soft-write", 2, false},
		{"crlf", "[RESULT]       ior-hard-write        2 GiB/s : time 1 seconds\r", GenerationNow, nil, "ior-hard-write", 2, false},
	} {
		s := ParseSummary("s", []byte("\n"+c.line+"\n"))
		p, ok := s.Phase(c.phase)
		if !ok || p.Value != c.value || p.Invalid != c.invalid || p.Line != 2 || s.Generation != c.generation {
			t.Errorf("%s: %+v %v, generation %s", c.name, p, ok, s.Generation)
		}
		var codes []string
		for _, w := range s.Warnings {
			if w.Code != "summary_cut" {
				codes = append(codes, w.Code)
				if w.Line != 2 {
					t.Errorf("%s: warning at line %d", c.name, w.Line)
				}
			}
		}
		if !slices.Equal(codes, c.codes) {
			t.Errorf("%s: warnings %v, want %v", c.name, codes, c.codes)
		}
	}
	s := ParseSummary("s", []byte("[SCORE INVALID] Bandwidth 1 GB/s : IOPS 2 kiops : TOTAL 3\n[SCORE] Bandwidth x GB/s : IOPS 2 kiops : TOTAL 3\n"))
	if s.Score == nil || !s.Score.Invalid || s.Score.BWUnit != "GB/s" {
		t.Errorf("%+v", s.Score)
	}
	r := ParseResult("r", []byte("procs = 2\n[run]\n[ior-easy-write]\n; WARNING too many open files, mind the limits!exe             = ./ior -C\nscore           = 1.5\n[SCORE]\nSCORE           = 13.9 [INVALID]\nhash = AB\n; END 2026\n"))
	p, _ := r.Phase("ior-easy-write")
	if p.Pairs["exe"] != "./ior -C" || p.ScoreText != "1.5" || r.Run["procs"] != "2" || !r.Invalid || r.ScoreText != "13.9" || !r.Ended {
		t.Errorf("%+v", r)
	}
	var codes []string
	for _, w := range r.Warnings {
		codes = append(codes, fmt.Sprintf("%s:%d", w.Code, w.Line))
	}
	if got := strings.Join(codes, " "); got != "result_key_before_section:1 result_line_glued:4" {
		t.Errorf("warnings %s", got)
	}
}

func TestTamperedScoreIsSeen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "scc_valid")
	f, err := Load(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	f.Summary.Score.Total *= 1.001
	has := func(v result.Verdict, rule string) bool {
		return slices.ContainsFunc(v.Reasons, func(r result.Reason) bool { return r.Rule == rule })
	}
	if v := Judge(f, Expect{}); v.Status != result.Invalid || !has(v, "io500_score_wrong") {
		t.Errorf("%+v", v)
	}
	f, _ = Load(os.DirFS(dir))
	for i := range f.Result.Phases {
		if f.Result.Phases[i].Name == "find" {
			f.Result.Phases[i].ScoreText = "999.000000"
		}
	}
	if v := Judge(f, Expect{}); v.Status != result.Invalid || !has(v, "io500_files_differ") || !has(v, "io500_hash_differs") {
		t.Errorf("%+v", v)
	}
	f, _ = Load(os.DirFS(dir))
	if v := Judge(f, Expect{Procs: 4}); v.Status != result.Invalid || !has(v, "io500_wrong_ranks") {
		t.Errorf("%+v", v)
	}
	if v := Judge(f, Expect{Procs: 2, Stonewall: 300}); v.Status != result.Invalid || !has(v, "io500_phase_short") {
		t.Errorf("%+v", v)
	}
}
