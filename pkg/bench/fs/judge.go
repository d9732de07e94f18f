package fs

import (
	"fmt"
	"strings"

	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// judgeNative fills a point from the outcomes of the built-in engine; stopped
// is the status of a phase that was stopped from outside. It is pure, so that
// Recompute reaches the same figures and verdict from the record file.
func judgeNative(outcomes []phases.Outcome, fsType string, direct bool, stopped result.Status, p *result.Point) {
	p.Figures = figure.Set{}
	p.Errors = map[string]int64{}
	p.Notes = map[string]string{}
	p.Verdict = result.Verdict{Status: result.Valid, Reasons: []result.Reason{{
		Rule: "native_engine", Severity: result.Info, Message: notIO500,
		Evidence: "engine native, one process on one node",
	}}}
	var cached, capped []string
	var written, verified, corrupt, created int64
	for i, spec := range phases.Order() {
		o := outcomes[i]
		s := add(o.Rows)
		p.Phases = append(p.Phases, describe(o, s))
		measure(p.Figures, spec, o, s, how(spec, direct))
		verified += s.verified
		corrupt += s.corrupt
		switch spec.Name {
		case phases.EasyWrite, phases.HardWrite:
			written += s.bytes
		case phases.MDEasyWrite, phases.MDHardWrite:
			written += s.bytes
			created += s.ops
		}
		judgePhase(o, s, stopped, p)
		if o.Status == phases.Done && s.capped {
			capped = append(capped, spec.Name)
		}
		if c := cache(spec, o, s, fsType, p); c != "" {
			cached = append(cached, c)
		}
	}
	p.Figures.PutNull("io500_score", notIO500, 0)
	p.Figures.PutNull("io500_bw_gib_per_s", notIO500, 0)
	p.Figures.PutNull("io500_md_kiops", notIO500, 0)
	p.Figures.Put("fs_bytes_written_bytes", float64(written), 1, "sum over the write phases")
	p.Figures.Put("fs_bytes_verified_bytes", float64(verified), 1, "sum over the read phases")
	p.Figures.Put("fs_corrupt_blocks_count", float64(corrupt), 1, "transfers that differed from their pattern")
	p.Figures.Put("fs_files_created_count", float64(created), 1, "sum over the two mdtest write phases")
	if len(capped) > 0 {
		p.Verdict.Add(result.Valid, result.Reason{
			Rule: "limit_before_stonewall", Severity: result.Info,
			Message:  "max_bytes or max_files ended phases before their stonewall; they are shorter than asked for",
			Evidence: strings.Join(capped, ", "),
		})
	}
	judgeCache(cached, fsType, direct, p)
}

func how(spec phases.Spec, direct bool) string {
	switch {
	case !spec.Data:
		return ""
	case direct && strings.Contains(spec.Name, "easy"):
		return ", O_DIRECT"
	default:
		return ", buffered"
	}
}

// judgePhase turns what went wrong in a phase into reasons.
func judgePhase(o phases.Outcome, s *sums, stopped result.Status, p *result.Point) {
	bad := func(status result.Status, rule, format string, a ...any) {
		p.Verdict.Add(status, result.Reason{Rule: rule, Severity: result.Serious, Message: fmt.Sprintf(format, a...), Evidence: s.fault})
	}
	if o.Status == phases.Failed {
		p.Errors["failed_phase"]++
		p.Verdict.Add(result.Failed, result.Reason{
			Rule: "phase_failed", Severity: result.Serious,
			Message: "phase " + o.Phase + " failed; the phases before it are kept", Evidence: o.Message,
		})
		return
	}
	if o.Status == phases.Interrupted {
		p.Verdict.Add(stopped, result.Reason{
			Rule: "phase_interrupted", Severity: result.Serious,
			Message: "phase " + o.Phase + " was interrupted", Evidence: o.Message,
		})
	}
	if s.corrupt > 0 {
		p.Errors["corrupt_data"] += s.corrupt
		bad(result.Invalid, "corrupt_data", "%s: %d of %d transfers differ from what was written", o.Phase, s.corrupt, s.ops)
	}
	if s.failed > 0 {
		p.Errors["failed_operation"] += s.failed
		bad(result.Invalid, "failed_operations", "%s: %d operations failed, %d succeeded", o.Phase, s.failed, s.ops)
	}
	if o.Phase != phases.Find || o.Status == phases.NotRun || len(o.Rows) == 0 {
		return
	}
	p.Figures.Put("find_matched_count", float64(s.matched), s.ops, "files newer than the time stamp, 3901 bytes, name *01*")
	if want := o.Rows[0].Expected; o.Status == phases.Done && want != nil && *want != s.matched {
		bad(result.Invalid, "find_mismatch", "find matched %d files, %d were made to match", s.matched, *want)
	}
}

// cache notes how much of a phase's reading reached a device, and names the
// phase when less than half did.
func cache(spec phases.Spec, o phases.Outcome, s *sums, fsType string, p *result.Point) string {
	if len(o.Rows) == 0 || o.Status != phases.Done {
		return ""
	}
	if r, w := o.Rows[0].Read, o.Rows[0].Written; r != nil && w != nil {
		p.Notes["device_"+stem(spec.Name)] = fmt.Sprintf("%d bytes moved by the phase, %d read from and %d sent to block devices", s.bytes, *r, *w)
		if spec.Read && s.bytes > 0 && local(fsType) && *r < s.bytes/2 {
			return fmt.Sprintf("%s: %d bytes asked, %d from the device", spec.Name, s.bytes, *r)
		}
	}
	return ""
}

// judgeCache warns of reads that say more about memory than about the file
// system. It never changes the status: the numbers are what they are.
func judgeCache(cached []string, fsType string, direct bool, p *result.Point) {
	r := result.Reason{Rule: "page_cache_reads", Severity: result.Warn}
	switch {
	case memory(fsType):
		r.Message = "the directory is in memory; no number is about a storage device"
		r.Evidence = "file system " + fsType
	case len(cached) > 0:
		r.Message = "reads were served from the page cache: one node reads what it has just written and caches are not dropped"
		r.Evidence = strings.Join(cached, "; ")
	case local(fsType):
		return
	default:
		r.Message = "reads and stats can come from this node's cache: one node reads what it has just written and caches are not dropped"
		r.Evidence = fmt.Sprintf("file system %s does not tell; O_DIRECT %v", fsType, direct)
	}
	p.Verdict.Add(result.Valid, r)
}
