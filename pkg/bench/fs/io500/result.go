package io500

import (
	"regexp"
	"strings"
)

// ResultPhase is one section of result.txt.
type ResultPhase struct {
	Name      string
	Line      int
	ScoreText string // as printed; empty when the phase did not end
	Pairs     map[string]string
	Errors    []string // "; ERROR INVALID ..." lines inside the section
}

// ResultFile is a result.txt as far as it goes.
type ResultFile struct {
	Run       map[string]string // procs, version, config-hash, ...
	Phases    []ResultPhase
	MD, BW    string // as printed
	ScoreText string
	Invalid   bool // SCORE carries [INVALID]
	Hash      string
	Errors    []string // every "; ERROR INVALID" line, those before the phases first
	Ended     bool     // "; END" was reached
	Warnings  []Warning
}

// Phase returns the section of a phase.
func (r ResultFile) Phase(name string) (ResultPhase, bool) {
	for _, p := range r.Phases {
		if p.Name == name {
			return p, true
		}
	}
	return ResultPhase{}, false
}

// Value returns the score of a phase as a number.
func (r ResultFile) Value(name string) (float64, bool) {
	p, ok := r.Phase(name)
	if !ok || p.ScoreText == "" {
		return 0, false
	}
	return number(p.ScoreText)
}

// glued finds a pair that a warning without a line end ran into.
var glued = regexp.MustCompile(`(exe|t_start|t_end|t_delta|score|found|total-files)\s*= .*$`)

// ParseResult reads a result.txt of any version, whole or cut. It never fails;
// what it cannot place is a warning.
func ParseResult(file string, text []byte) ResultFile {
	r := ResultFile{Run: map[string]string{}}
	section := ""
	var phase *ResultPhase
	for n, raw := range lines(text) {
		line := strings.TrimSpace(raw)
		switch {
		case line == "":
		case strings.HasPrefix(line, ";"):
			r.comment(phase, line)
			if at := glued.FindStringIndex(line); at != nil && strings.Contains(line, "WARNING") {
				r.Warnings = tell(r.Warnings, file, n, "result_line_glued", line)
				r.pair(file, n, section, phase, line[at[0]:])
			}
		case strings.HasPrefix(line, "["):
			section = strings.TrimSuffix(strings.TrimPrefix(line, "["), "]")
			if section == "" || !strings.HasSuffix(line, "]") {
				r.Warnings = tell(r.Warnings, file, n, "result_section", raw)
			}
			phase = nil
			if section != "run" && section != "SCORE" && section != "SCOREX" {
				if _, twice := r.Phase(section); twice {
					r.Warnings = tell(r.Warnings, file, n, "result_phase_twice", section)
				}
				r.Phases = append(r.Phases, ResultPhase{Name: printable(section), Line: n, Pairs: map[string]string{}})
				phase = &r.Phases[len(r.Phases)-1]
			}
		case strings.Contains(line, "="):
			at := glued.FindStringIndex(line)
			if at != nil && at[0] > 0 && strings.Contains(line[:at[0]], "WARNING") {
				r.Warnings = tell(r.Warnings, file, n, "result_line_glued", line)
				line = line[at[0]:]
			}
			r.pair(file, n, section, phase, line)
		default:
			r.Warnings = tell(r.Warnings, file, n, "result_line_unknown", raw)
		}
	}
	if !r.Ended {
		r.Warnings = tell(r.Warnings, file, 0, "result_cut", "no END comment")
	}
	return r
}

func (r *ResultFile) comment(phase *ResultPhase, line string) {
	rest := strings.TrimSpace(strings.TrimPrefix(line, ";"))
	switch {
	case strings.HasPrefix(rest, "ERROR"):
		r.Errors = append(r.Errors, printable(rest))
		if phase != nil {
			phase.Errors = append(phase.Errors, printable(rest))
		}
	case strings.HasPrefix(rest, "END"):
		r.Ended = true
	}
}

func (r *ResultFile) pair(file string, n int, section string, phase *ResultPhase, line string) {
	key, value, _ := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	switch {
	case section == "":
		// Until October 2021 the first keys had no section.
		if len(r.Run) == 0 {
			r.Warnings = tell(r.Warnings, file, n, "result_key_before_section", key)
		}
		r.Run[key] = value
	case section == "run":
		r.Run[key] = value
	case section == "SCORE":
		switch key {
		case "MD":
			r.MD = value
		case "BW":
			r.BW = value
		case "SCORE":
			text, mark, _ := strings.Cut(value, " ")
			r.ScoreText = text
			r.Invalid = strings.Contains(mark, "INVALID")
		case "hash":
			r.Hash = value
		default:
			r.Warnings = tell(r.Warnings, file, n, "result_key_unknown", key)
		}
	case phase != nil:
		if _, twice := phase.Pairs[key]; twice {
			r.Warnings = tell(r.Warnings, file, n, "result_key_twice", phase.Name+"."+key)
		}
		phase.Pairs[key] = value
		if key == "score" {
			phase.ScoreText = value
			if phase.Name == "timestamp" {
				r.Warnings = tell(r.Warnings, file, n, "result_timestamp_score", value)
			}
			if _, ok := number(value); !ok {
				r.Warnings = tell(r.Warnings, file, n, "result_number", value)
			}
		}
	}
}
