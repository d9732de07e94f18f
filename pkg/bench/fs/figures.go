package fs

import (
	"fmt"
	"strings"

	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// Why the built-in engine has no score.
const notIO500 = "the built-in engine is not IO500; short phases are never an IO500 score"

// stem is the part of a figure's name that comes from its phase.
func stem(phase string) string {
	return strings.ReplaceAll(strings.ToLower(phase), "-", "_")
}

// rateName is the figure that holds the rate of a phase.
func rateName(phase string, data bool) string {
	if data {
		return stem(phase) + "_gib_per_s"
	}
	return stem(phase) + "_kiops"
}

// sums are the rows of one phase added up.
type sums struct {
	ops, failed, bytes, verified, corrupt, matched int64
	start, end                                     int64
	capped                                         bool
	fault                                          string
	latency                                        phases.Latency
}

func add(rows []phases.Row) *sums {
	s := &sums{}
	for i, r := range rows {
		s.ops += r.Ops
		s.failed += r.Failed
		s.bytes += r.Bytes
		s.verified += r.Verified
		s.corrupt += r.Corrupt
		s.matched += r.Matched
		if i == 0 || r.StartNS < s.start {
			s.start = r.StartNS
		}
		s.end = max(s.end, r.EndNS)
		s.capped = s.capped || r.Capped
		if s.fault == "" && r.Error != "" {
			s.fault = r.Error
		}
		if r.Latency != nil {
			s.latency.Merge(r.Latency)
		}
	}
	return s
}

func (s *sums) seconds() float64 { return float64(s.end-s.start) / 1e9 }

// measure puts the figures of one phase. A phase that did not end well has
// none: null and why.
func measure(set figure.Set, spec phases.Spec, o phases.Outcome, s *sums, how string) {
	name := rateName(spec.Name, spec.Data)
	quantiles := spec.Name != phases.Find
	if o.Status != phases.Done {
		reason := "phase " + spec.Name + " " + strings.ReplaceAll(o.Status, "_", " ")
		if o.Message != "" {
			reason += ": " + o.Message
		}
		set.PutNull(name, reason, s.ops)
		if quantiles {
			set.PutNull(stem(spec.Name)+"_p50_ms", reason, s.latency.N())
			set.PutNull(stem(spec.Name)+"_p99_ms", reason, s.latency.N())
		}
		return
	}
	if s.ops == 0 || s.end <= s.start {
		set.PutNull(name, "no operation succeeded", 0)
	} else if spec.Data {
		set.Put(name, float64(s.bytes)/s.seconds()/(1<<30), s.ops, "bytes moved over the time from the first open to the last close"+how)
	} else {
		set.Put(name, float64(s.ops)/s.seconds()/1000, s.ops, "items over the time from the first rank's start to the last one's end"+how)
	}
	if !quantiles {
		return
	}
	for _, q := range []struct {
		suffix string
		q      float64
	}{{"_p50_ms", 0.5}, {"_p99_ms", 0.99}} {
		if ns, ok := s.latency.Quantile(q.q); ok {
			set.Put(stem(spec.Name)+q.suffix, float64(ns)/1e6, s.latency.N(), "nearest rank over a histogram of 64 buckets a power of two")
		} else {
			set.PutNull(stem(spec.Name)+q.suffix, fmt.Sprintf("%d samples leave fewer than ten beyond the quantile", s.latency.N()), s.latency.N())
		}
	}
}

// describe turns one phase into the entry of the result.
func describe(o phases.Outcome, s *sums) result.Phase {
	p := result.Phase{
		Name: o.Phase, StartS: float64(s.start) / 1e9, EndS: float64(s.end) / 1e9,
		Ops: s.ops, Failed: s.failed, Bytes: s.bytes, Verified: s.verified,
		Status: o.Status, Message: o.Message,
	}
	if p.Message == "" {
		p.Message = s.fault
	}
	return p
}
