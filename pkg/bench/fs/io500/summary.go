package io500

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Generations of result_summary.txt.
const (
	GenerationBash  = "bash"  // until 2020: "[RESULT] BW   phase 1 ior_easy_write"
	GenerationFirst = "first" // the first C versions: "[RESULT-invalid]", "[SCORE]"
	GenerationNow   = "now"   // "[RESULT]", "[SCORE ]", "[INVALID]" at the end
)

// SummaryPhase is one line of a summary. Value is in the unit the file names,
// which is kept as it stands.
type SummaryPhase struct {
	Name    string
	Value   float64
	Unit    string
	Seconds float64
	Invalid bool
	Scored  bool
	Line    int
}

// Totals are a SCORE line.
type Totals struct {
	BW, MD, Total float64
	BWUnit        string
	Invalid       bool
	Line          int
}

// Summary is a result_summary.txt as far as it goes. Score is nil when the
// file ends before it.
type Summary struct {
	Version    string
	Mode       string
	Generation string
	Phases     []SummaryPhase
	Score      *Totals
	ScoreX     *Totals
	Warnings   []Warning
}

// Phase returns the phase of a name in the spelling of the C versions.
func (s Summary) Phase(name string) (SummaryPhase, bool) {
	for _, p := range s.Phases {
		if p.Name == name {
			return p, true
		}
	}
	return SummaryPhase{}, false
}

var (
	phaseLine = regexp.MustCompile(`^\[(RESULT|RESULT-invalid|RESULT INVALID| +)\]\s+(?:(BW|IOPS)\s+phase\s+\d+\s+)?([A-Za-z][A-Za-z0-9_-]*)\s+([-+0-9.eEnaifNAIF]+)\s+([A-Za-z/]+)\s*:\s*time\s+([-+0-9.eEnaif]+)\s+seconds\s*(.*)$`)
	scoreLine = regexp.MustCompile(`^\[(SCORE|SCOREX)\s*(-?invalid|INVALID)?\s*\]\s+Bandwidth\s+(\S+)\s+([A-Za-z/]+)\s*:\s*IOPS\s+(\S+)\s+([A-Za-z/]+)\s*:\s*TOTAL\s+(\S+)\s*(.*)$`)
	versionIs = regexp.MustCompile(`^IO500 version\s*(.*?)\s*(?:\((standard|extended)\))?$`)
)

// ParseSummary reads a summary of any generation. It never fails: a file that
// was cut gives what is there, and every line it cannot place is a warning.
func ParseSummary(file string, text []byte) Summary {
	var s Summary
	for n, line := range lines(text) {
		s.line(file, n, line)
	}
	if s.Generation == "" {
		s.Generation = GenerationNow
	}
	if len(s.Phases) == 0 && s.Score == nil {
		s.Warnings = tell(s.Warnings, file, 0, "summary_empty", "no phase and no score")
	} else if s.Score == nil {
		s.Warnings = tell(s.Warnings, file, 0, "summary_cut", "no score line")
	}
	return s
}

func (s *Summary) line(file string, n int, line string) {
	plain := strings.TrimSpace(line)
	if plain == "" {
		return
	}
	if m := versionIs.FindStringSubmatch(plain); m != nil {
		s.Version, s.Mode = printable(m[1]), m[2]
		return
	}
	if m := scoreLine.FindStringSubmatch(plain); m != nil {
		s.score(file, n, plain, m)
		return
	}
	if m := phaseLine.FindStringSubmatch(plain); m != nil {
		s.phase(file, n, plain, m)
		return
	}
	s.Warnings = tell(s.Warnings, file, n, "summary_line_unknown", line)
}

func (s *Summary) phase(file string, n int, line string, m []string) {
	value, err := strconv.ParseFloat(m[4], 64)
	seconds, serr := strconv.ParseFloat(m[6], 64)
	if err != nil || serr != nil {
		s.Warnings = tell(s.Warnings, file, n, "summary_number", line)
		return
	}
	p := SummaryPhase{
		Name: strings.ReplaceAll(m[3], "_", "-"), Value: value, Unit: m[5], Seconds: seconds, Line: n,
		Scored:  strings.HasPrefix(m[1], "RESULT"),
		Invalid: strings.Contains(strings.ToLower(m[1]), "invalid"),
	}
	switch {
	case m[2] != "":
		s.Generation = GenerationBash
	case p.Invalid:
		s.Generation = GenerationFirst
	}
	switch rest := strings.TrimSpace(m[7]); rest {
	case "":
	case "[INVALID]":
		p.Invalid = true
	default:
		s.Warnings = tell(s.Warnings, file, n, "summary_text_after", line)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
		s.Warnings = tell(s.Warnings, file, n, "summary_value", line)
	}
	want := "kiops"
	if strings.HasPrefix(p.Name, "ior") {
		want = "gib/s"
	}
	if strings.ToLower(p.Unit) != want {
		s.Warnings = tell(s.Warnings, file, n, "summary_unit", p.Name+" is labelled "+p.Unit)
	}
	if !slot(p.Name) {
		s.Warnings = tell(s.Warnings, file, n, "summary_phase_unknown", p.Name)
	}
	for i, old := range s.Phases {
		if old.Name == p.Name {
			s.Warnings = tell(s.Warnings, file, n, "summary_phase_twice", p.Name)
			s.Phases[i] = p
			return
		}
	}
	s.Phases = append(s.Phases, p)
}

func (s *Summary) score(file string, n int, line string, m []string) {
	var t Totals
	var errs [3]error
	t.BW, errs[0] = strconv.ParseFloat(m[3], 64)
	t.MD, errs[1] = strconv.ParseFloat(m[5], 64)
	t.Total, errs[2] = strconv.ParseFloat(m[7], 64)
	for _, err := range errs {
		if err != nil {
			s.Warnings = tell(s.Warnings, file, n, "summary_number", line)
			return
		}
	}
	t.BWUnit, t.Line = m[4], n
	t.Invalid = m[2] != "" || strings.Contains(m[8], "INVALID")
	if rest := strings.TrimSpace(m[8]); rest != "" && rest != "[INVALID]" {
		s.Warnings = tell(s.Warnings, file, n, "summary_text_after", line)
	}
	into := &s.Score
	if m[1] == "SCOREX" {
		into = &s.ScoreX
	}
	if *into != nil {
		s.Warnings = tell(s.Warnings, file, n, "summary_score_twice", line)
	}
	*into = &t
	if s.Generation == "" && m[1] == "SCORE" && !strings.Contains(line, "[SCORE ]") {
		s.Generation = GenerationFirst
	}
}
