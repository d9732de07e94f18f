package io500

import (
	"fmt"
	"strings"

	"aifbench/pkg/metrics/result"
)

// Expect is what the caller knows of the run beside its files. Zero values are
// not checked.
type Expect struct {
	Procs     int64
	Stonewall int // seconds that the rules ask for
}

// Judge decides over a run by its files alone; the exit code of io500, which
// is 0 for an invalid run, never enters. Reasons come in the order of rules.
func Judge(f Folder, want Expect) result.Verdict {
	v := result.Verdict{Status: result.Valid, Reasons: []result.Reason{}}
	for _, rule := range []func(Folder, Expect, *result.Verdict){
		ruleComplete, ruleMarked, ruleZero, ruleErrors, ruleVerify, ruleStonewall,
		ruleRanks, ruleScore, ruleHash, ruleCache, ruleVersion,
	} {
		rule(f, want, &v)
	}
	return v
}

func bad(v *result.Verdict, s result.Status, rule, message, evidence string) {
	v.Add(s, result.Reason{Rule: rule, Severity: result.Serious, Message: message, Evidence: evidence})
}

func warn(v *result.Verdict, rule, message, evidence string) {
	v.Add(result.Valid, result.Reason{Rule: rule, Severity: result.Warn, Message: message, Evidence: evidence})
}

// ruleComplete: without its score line a run did not end.
func ruleComplete(f Folder, _ Expect, v *result.Verdict) {
	switch {
	case f.Summary == nil && f.Result == nil:
		bad(v, result.Failed, "io500_no_results", "io500 left no result file", "")
	case f.Summary == nil:
		bad(v, result.Failed, "io500_no_summary", "there is no "+SummaryName, "")
	case f.Summary.Score == nil:
		last := "no phase"
		if f.Result != nil && len(f.Result.Phases) > 0 {
			last = f.Result.Phases[len(f.Result.Phases)-1].Name
		}
		bad(v, result.Failed, "io500_incomplete", "the run did not reach its score", "last phase in "+ResultName+": "+last)
	case f.Result != nil && !f.Result.Ended && f.Result.ScoreText == "":
		bad(v, result.Failed, "io500_incomplete", ResultName+" ends before the score", "")
	}
}

// ruleMarked: io500's own marks.
func ruleMarked(f Folder, _ Expect, v *result.Verdict) {
	if f.Summary != nil {
		var marked []string
		for _, p := range f.Summary.Phases {
			if p.Invalid {
				marked = append(marked, p.Name)
			}
		}
		if len(marked) > 0 || f.Summary.Score != nil && f.Summary.Score.Invalid {
			bad(v, result.Invalid, "io500_marked_invalid", "io500 marked the run [INVALID]", strings.Join(marked, ", "))
			return
		}
	}
	if f.Result != nil && f.Result.Invalid {
		bad(v, result.Invalid, "io500_marked_invalid", "io500 marked the score [INVALID]", ResultName)
	}
}

// ruleZero: io500 leaves zero phases out of the score and prints it all the same.
func ruleZero(f Folder, _ Expect, v *result.Verdict) {
	if f.Summary == nil || f.Summary.Score == nil {
		return
	}
	_, missing := Recompute(f.value)
	if len(missing) > 0 {
		bad(v, result.Invalid, "io500_phases_missing", "phases are absent or zero, so the score covers less than the twelve", strings.Join(missing, ", "))
	}
}

// ruleErrors: "; ERROR INVALID" lines, which do not always reach the score.
func ruleErrors(f Folder, _ Expect, v *result.Verdict) {
	if f.Result == nil || len(f.Result.Errors) == 0 {
		return
	}
	bad(v, result.Invalid, "io500_error_line", fmt.Sprintf("%s holds %d ERROR lines", ResultName, len(f.Result.Errors)), f.Result.Errors[0])
}

// ruleVerify: read verification, which mdtest reports in its own file only.
func ruleVerify(f Folder, _ Expect, v *result.Verdict) {
	for _, s := range f.Sides {
		where := fmt.Sprintf("%s:%d: %s", s.File, s.EvidenceLine, s.Evidence)
		if s.VerifyErrors > 0 {
			bad(v, result.Invalid, "io500_verify_errors", fmt.Sprintf("%d verification errors in %s", s.VerifyErrors, strings.TrimSuffix(s.File, ".txt")), where)
		} else if s.Warnings > 0 && strings.HasPrefix(s.File, "mdtest") {
			bad(v, result.Invalid, "io500_failed_operations", fmt.Sprintf("%d warnings of failed operations in %s", s.Warnings, strings.TrimSuffix(s.File, ".txt")), where)
		}
	}
}

// ruleStonewall: the write phases must last as long as the rules ask.
func ruleStonewall(f Folder, want Expect, v *result.Verdict) {
	need := want.Stonewall
	if need == 0 && f.Config != nil {
		need = 300
		if strings.EqualFold(f.Config["global.scc"], "TRUE") || f.Config["global.scc"] == "1" {
			need = 30
		}
	}
	if need == 0 {
		return
	}
	if set, ok := number(f.Config["debug.stonewall-time"]); ok && set < float64(need) {
		bad(v, result.Invalid, "io500_stonewall_short", fmt.Sprintf("stonewall-time is %v s, the rules ask for %d s", set, need), ConfigName)
	}
	if f.Summary == nil {
		return
	}
	for _, name := range []string{"ior-easy-write", "mdtest-easy-write", "ior-hard-write", "mdtest-hard-write"} {
		if p, ok := f.Summary.Phase(name); ok && p.Seconds < float64(need) {
			bad(v, result.Invalid, "io500_phase_short", fmt.Sprintf("%s lasted %.3f s, the rules ask for %d s", name, p.Seconds, need), fmt.Sprintf("%s:%d", SummaryName, p.Line))
		}
	}
}

// ruleRanks: a wrong MPI starts several runs of one rank that share a folder.
func ruleRanks(f Folder, want Expect, v *result.Verdict) {
	var said int64
	if f.Result != nil {
		if n, ok := number(f.Result.Run["procs"]); ok {
			said = int64(n)
		}
	}
	if want.Procs > 0 && said > 0 && said != want.Procs {
		bad(v, result.Invalid, "io500_wrong_ranks", fmt.Sprintf("io500 ran with %d ranks, %d were asked for; the launcher and io500's MPI do not fit", said, want.Procs), ResultName+": procs")
	}
	for _, s := range f.Sides {
		if said > 0 && s.Tasks > 0 && s.Tasks != said {
			bad(v, result.Invalid, "io500_ranks_differ", fmt.Sprintf("%s counts %d tasks, %s says %d", s.File, s.Tasks, ResultName, said), s.File)
			return
		}
	}
}

// ruleScore: the printed score against the phases, and the two files against
// each other.
func ruleScore(f Folder, _ Expect, v *result.Verdict) {
	if f.Summary == nil || f.Summary.Score == nil {
		return
	}
	tolerance := 1e-4
	if f.Summary.Generation == GenerationBash {
		tolerance = 2e-3 // three decimals are printed
	}
	t, _ := Recompute(func(name string) (float64, bool) {
		p, ok := f.Summary.Phase(name)
		return p.Value, ok
	})
	said := f.Summary.Score
	if !near(t.BW, said.BW, tolerance) || !near(t.MD, said.MD, tolerance) || !near(t.Total, said.Total, tolerance) {
		bad(v, result.Invalid, "io500_score_wrong", "the score does not follow from the phases",
			fmt.Sprintf("printed BW %g MD %g TOTAL %g, recomputed %g %g %g", said.BW, said.MD, said.Total, t.BW, t.MD, t.Total))
	}
	if f.Result == nil {
		return
	}
	for _, name := range Scored() {
		a, ok1 := f.Summary.Phase(name)
		b, ok2 := f.Result.Value(name)
		if ok1 && ok2 && !near(a.Value, b, tolerance) {
			bad(v, result.Invalid, "io500_files_differ", fmt.Sprintf("%s is %g in %s and %g in %s", name, a.Value, SummaryName, b, ResultName), fmt.Sprintf("%s:%d", SummaryName, a.Line))
		}
	}
}

// ruleHash: an edited file, or a version with another rule; not decisive alone.
func ruleHash(f Folder, _ Expect, v *result.Verdict) {
	if f.Result == nil || f.Result.Hash == "" {
		return
	}
	if got := ScoreHash(*f.Result); got != f.Result.Hash {
		warn(v, "io500_hash_differs", "the hash of the score cannot be recomputed", fmt.Sprintf("printed %s, recomputed %s", f.Result.Hash, got))
	}
}

// ruleCache: on one node only dropped caches keep reads from being served by
// memory.
func ruleCache(f Folder, _ Expect, v *result.Verdict) {
	if d := f.Config["global.drop-caches"]; strings.EqualFold(d, "TRUE") || d == "1" {
		return
	}
	if strings.Contains(f.Config["ior-easy.API"], "odirect") || strings.Contains(f.Config["global.api"], "odirect") {
		return
	}
	for _, s := range f.Sides {
		if s.Nodes == 1 {
			warn(v, "io500_page_cache", "one node without drop-caches: reads and stats can come from the page cache", s.File+": nodes : 1")
			return
		}
	}
}

// ruleVersion: lists take unmodified releases only.
func ruleVersion(f Folder, _ Expect, v *result.Verdict) {
	version := ""
	switch {
	case f.Result != nil && f.Result.Run["version"] != "":
		version = f.Result.Run["version"]
	case f.Summary != nil:
		version = f.Summary.Version
	}
	if f.Summary != nil && f.Summary.Generation == GenerationBash {
		return
	}
	if !official(version) {
		warn(v, "io500_version", "not the version string of a release", printable(version))
	}
}

// official tells a release tag: io500-sc23_v1, io500-isc25.
func official(version string) bool {
	rest, ok := strings.CutPrefix(version, "io500-")
	if !ok {
		return false
	}
	rest = strings.TrimPrefix(rest, "i")
	rest, ok = strings.CutPrefix(rest, "sc")
	year, rev, cut := strings.Cut(rest, "_v")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return ok && digits(year) && (!cut || digits(rev))
}

// value prefers result.txt, whose digits are the same as the summary's.
func (f Folder) value(name string) (float64, bool) {
	if f.Result != nil {
		if v, ok := f.Result.Value(name); ok {
			return v, true
		}
	}
	if f.Summary != nil {
		if p, ok := f.Summary.Phase(name); ok {
			return p.Value, true
		}
	}
	return 0, false
}

// Value returns the rate of a phase in GiB/s or kIOPS, from whichever file has it.
func (f Folder) Value(name string) (float64, bool) { return f.value(name) }
