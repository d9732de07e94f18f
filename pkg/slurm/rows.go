package slurm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Row is one job as one of Slurm's commands prints it.
type Row struct {
	ID     ID
	Raw    int64 // sacct's JobIDRaw, squeue's %A: the task's own number
	State  State
	By     *int // uid after "CANCELLED by"
	Reason string
	Submit time.Time
	Start  time.Time
	End    time.Time
	Nodes  string
	Exit   *ExitStatus
	// Derived is the worst of the job's steps.
	Derived *ExitStatus
	Name    string
}

// ExitStatus is Slurm's code:signal.
type ExitStatus struct{ Code, Signal int }

// RowError is a line that is no row. The other rows of the text are good.
type RowError struct {
	Line int // 1-based
	Text string
	Err  error
}

// Error implements error.
func (e *RowError) Error() string { return fmt.Sprintf("line %d: %q: %v", e.Line, clip(e.Text), e.Err) }

// Unwrap gives the cause.
func (e *RowError) Unwrap() error { return e.Err }

// queueFormat is what squeue is asked for. The name is free text and may hold
// the separator, so it is last.
const queueFormat = "%i|%A|%T|%r|%V|%S|%e|%N|%j"

// ParseQueue reads what squeue -h -o queueFormat prints. Lines that are no
// rows come back as errors beside the rows that are.
func ParseQueue(text []byte) (rows []Row, bad []*RowError) {
	return eachLine(text, func(line string) (Row, error) {
		f := strings.SplitN(line, "|", 9)
		if len(f) < 9 {
			return Row{}, fmt.Errorf("%d fields, want 9", len(f))
		}
		r := Row{Reason: f[3], Nodes: f[7], Name: f[8]}
		err := r.set(f[0], f[1], f[2], f[4], f[5], f[6])
		return r, err
	})
}

// ParseAccounting reads what sacct -nPX -o fields prints; fields are lower
// case, jobname last. It accepts fields it does not know.
func ParseAccounting(text []byte, fields []string) (rows []Row, bad []*RowError) {
	return eachLine(text, func(line string) (Row, error) {
		f := strings.SplitN(line, "|", len(fields))
		if len(f) < len(fields) {
			return Row{}, fmt.Errorf("%d fields, want %d", len(f), len(fields))
		}
		m := make(map[string]string, len(fields))
		for i, name := range fields {
			name, _, _ = strings.Cut(name, "%")
			m[name] = f[i]
		}
		r := Row{Reason: m["reason"], Nodes: hosts(m["nodelist"]), Name: m["jobname"]}
		if err := r.set(m["jobid"], m["jobidraw"], m["state"], m["submit"], m["start"], m["end"]); err != nil {
			return r, err
		}
		var err error
		if r.Exit, err = parseExit(m["exitcode"]); err != nil {
			return r, err
		}
		r.Derived, err = parseExit(m["derivedexitcode"])
		return r, err
	})
}

func eachLine(text []byte, parse func(string) (Row, error)) (rows []Row, bad []*RowError) {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		r, err := parse(line)
		if err != nil {
			bad = append(bad, &RowError{Line: n, Text: line, Err: err})
			continue
		}
		rows = append(rows, r)
	}
	return rows, bad
}

func (r *Row) set(id, raw, state, submit, start, end string) (err error) {
	if r.ID, err = ParseID(id); err != nil {
		return err
	}
	r.Raw = r.ID.Base
	if raw != "" {
		rawID, err := ParseID(raw) // a step's raw id has its step behind a dot
		if err != nil {
			return err
		}
		r.Raw = rawID.Base
	}
	if r.State, r.By = ParseState(state); r.State == "" {
		return fmt.Errorf("no state")
	}
	for _, t := range []struct {
		to   *time.Time
		text string
	}{{&r.Submit, submit}, {&r.Start, start}, {&r.End, end}} {
		if *t.to, err = parseTime(t.text); err != nil {
			return err
		}
	}
	return nil
}

// parseExit reads "code:signal"; an empty field is nil.
func parseExit(text string) (*ExitStatus, error) {
	if text == "" {
		return nil, nil
	}
	code, sig, ok := strings.Cut(text, ":")
	c, err1 := strconv.ParseUint(code, 10, 31)
	s, err2 := strconv.ParseUint(sig, 10, 31)
	if !ok || err1 != nil || err2 != nil {
		return nil, fmt.Errorf("exit code %q: want code:signal", clip(text))
	}
	return &ExitStatus{Code: int(c), Signal: int(s)}, nil
}

// hosts drops the words Slurm prints where there is no host list.
func hosts(text string) string {
	switch text {
	case "None assigned", "None", "(null)", "n/a", "N/A":
		return ""
	}
	return text
}

// recordKey finds where a key of scontrol's one-line form begins.
var recordKey = regexp.MustCompile(`(?:^| )([A-Z][A-Za-z0-9_:/&.\[\]-]*)=`)

// ParseRecords reads scontrol -o: one record a line, Key=Value pairs. Values
// may hold blanks. The first of two equal keys wins: free text (SubmitLine)
// comes last.
func ParseRecords(text []byte) []map[string]string {
	var out []map[string]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		marks := recordKey.FindAllStringSubmatchIndex(line, -1)
		if len(marks) == 0 {
			continue
		}
		rec := make(map[string]string, len(marks))
		for i, m := range marks {
			end := len(line)
			if i+1 < len(marks) {
				end = marks[i+1][0]
			}
			key := line[m[2]:m[3]]
			if _, dup := rec[key]; !dup {
				rec[key] = strings.TrimSpace(line[m[1]:max(end, m[1])])
			}
		}
		out = append(out, rec)
	}
	return out
}

// ParseJobRecords reads scontrol -o show job.
func ParseJobRecords(text []byte) (rows []Row, bad []*RowError) {
	for i, rec := range ParseRecords(text) {
		if rec["JobId"] == "" {
			continue
		}
		id := rec["JobId"]
		switch {
		case rec["ArrayTaskId"] != "" && rec["ArrayJobId"] != "":
			id = rec["ArrayJobId"] + "_" + rec["ArrayTaskId"]
			if strings.ContainsAny(rec["ArrayTaskId"], ",-%") {
				id = rec["ArrayJobId"] + "_[" + rec["ArrayTaskId"] + "]"
			}
		case rec["HetJobId"] != "" && rec["HetJobOffset"] != "":
			id = rec["HetJobId"] + "+" + rec["HetJobOffset"]
		}
		r := Row{Reason: rec["Reason"], Nodes: hosts(rec["NodeList"]), Name: rec["JobName"]}
		err := r.set(id, rec["JobId"], rec["JobState"], rec["SubmitTime"], rec["StartTime"], rec["EndTime"])
		if err == nil {
			r.Exit, err = parseExit(rec["ExitCode"])
		}
		if err == nil {
			r.Derived, err = parseExit(rec["DerivedExitCode"])
		}
		if err != nil {
			bad = append(bad, &RowError{Line: i + 1, Text: rec["JobId"], Err: err})
			continue
		}
		rows = append(rows, r)
	}
	return rows, bad
}
