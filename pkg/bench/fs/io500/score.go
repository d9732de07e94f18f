package io500

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The twelve scored phases: four of bandwidth, eight of metadata.
var (
	bwPhases = []string{"ior-easy-write", "ior-hard-write", "ior-easy-read", "ior-hard-read"}
	mdPhases = []string{
		"mdtest-easy-write", "mdtest-hard-write", "find", "mdtest-easy-stat",
		"mdtest-hard-stat", "mdtest-easy-delete", "mdtest-hard-read", "mdtest-hard-delete",
	}
	// extras are the unscored phases and those of the extended mode.
	extras = []string{
		"timestamp", "ior-rnd4K-easy-read", "find-easy", "find-hard",
		"mdworkbench-create", "mdworkbench-bench", "mdworkbench-delete",
		"ior-rnd4K-write", "ior-rnd4K-read", "ior-rnd1MB-write", "ior-rnd1MB-read",
	}
)

// Scored lists the twelve phases of the score, bandwidth first.
func Scored() []string { return slices.Concat(bwPhases, mdPhases) }

func slot(name string) bool {
	return slices.Contains(bwPhases, name) || slices.Contains(mdPhases, name) || slices.Contains(extras, name)
}

// Recompute derives the score from the values of the phases by IO500's rule:
// geometric means, values of zero or less left out. missing names the phases
// that were left out or are absent; a score over fewer than all twelve is a
// number io500 prints, but says nothing.
func Recompute(value func(phase string) (float64, bool)) (t Totals, missing []string) {
	mean := func(names []string) float64 {
		sum, n := 0.0, 0
		for _, name := range names {
			v, ok := value(name)
			if !ok || !(v > 0) || math.IsInf(v, 0) {
				missing = append(missing, name)
				continue
			}
			sum += math.Log(v)
			n++
		}
		if n == 0 {
			return 0
		}
		return math.Exp(sum / float64(n))
	}
	t.BW, t.MD = mean(bwPhases), mean(mdPhases)
	t.Total = math.Sqrt(t.BW * t.MD)
	return t, missing
}

// near tells whether two printed numbers agree within a relative tolerance.
func near(a, b, tolerance float64) bool {
	return math.Abs(a-b) <= tolerance*math.Max(math.Abs(a), math.Abs(b))+1e-6
}

// hashPair is IO500's 32-bit hash of one key and value: rotate left by two and
// add, over the bytes of both. Pairs are combined by exclusive or.
func hashPair(key, value string) uint32 {
	var h uint32
	for _, s := range [2]string{key, value} {
		for i := range len(s) {
			// C's char is signed where IO500 is built.
			h = (h<<2 | h>>30) + uint32(int32(int8(s[i])))
		}
	}
	return h
}

// ConfigHash is the hash io500 prints as config-hash for a run with these
// values and its own defaults. Section names do not enter it.
func ConfigHash(v Values) string {
	var h uint32
	for _, s := range schema {
		for _, o := range s.options {
			value := o.value
			if set, ok := v[s.section+"."+o.key]; ok {
				value = set
			}
			h ^= configPair(o.key, value)
		}
	}
	return fmt.Sprintf("%X", h)
}

// FileHash is the same hash over the pairs of a config.ini as io500 wrote it,
// which lists every option of its version.
func FileHash(text []byte) string {
	var h uint32
	for _, line := range lines(text) {
		if key, value, ok := strings.Cut(line, " = "); ok && !strings.ContainsAny(key, "#; \t") {
			h ^= configPair(key, value)
		}
	}
	return fmt.Sprintf("%X", h)
}

// configPair leaves out an option without a value, save the two whose default
// is an empty text.
func configPair(key, value string) uint32 {
	if value == "" && key != "external-mpi-args" && key != "external-extra-args" {
		return 0
	}
	return hashPair(key, value)
}

// ScoreHash is the hash io500 prints below the score, over the texts of
// result.txt: version, the scored phases, MD, BW, SCORE and the mark of an
// invalid run.
func ScoreHash(r ResultFile) string {
	h := hashPair("version", r.Run["version"])
	for _, name := range Scored() {
		// A phase that was left out, as by --cleanup, does not enter.
		if p, ok := r.Phase(name); ok {
			h ^= hashPair(name, p.ScoreText)
		}
	}
	h ^= hashPair("MD", r.MD) ^ hashPair("BW", r.BW) ^ hashPair("SCORE", r.ScoreText)
	if r.Invalid {
		h ^= hashPair("valid", "NO")
	}
	return fmt.Sprintf("%X", h)
}

func number(text string) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}
