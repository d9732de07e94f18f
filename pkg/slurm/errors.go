package slurm

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// Sentinels to branch on with errors.Is.
var (
	// ErrDoubtful: the submission may or may not have made a job. Look its
	// name up before anything is submitted again.
	ErrDoubtful = errors.New("submission doubtful")
	// ErrMissing: a Slurm command is not installed or not on PATH.
	ErrMissing = errors.New("slurm command not found")
	// ErrAway: the controller or the accounting daemon does not answer; asking
	// again later makes sense.
	ErrAway = errors.New("scheduler does not answer")
)

// Refused is a definite no: the job does not exist.
type Refused struct {
	Reason string // what Slurm said
	Advice string // what to type or change next; may be empty
	Code   int    // exit code of the command
}

// Error implements error.
func (e *Refused) Error() string {
	text := "scheduler refused the job: " + e.Reason
	if e.Advice != "" {
		text += " (" + e.Advice + ")"
	}
	return text
}

// CommandError is a Slurm command that ended non-zero.
type CommandError struct {
	Tool   string
	Code   int
	Stderr string
	kind   error
}

// Error implements error.
func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: exit %d: %s", e.Tool, e.Code, e.Stderr)
}

// Unwrap gives ErrAway or ErrMissing where the text says so.
func (e *CommandError) Unwrap() error { return e.kind }

// awayText matches what the commands print when a daemon did not answer. A job
// may exist after any of them.
var awayText = regexp.MustCompile(`(?i)socket timed out|unable to contact|zero bytes|send failure|` +
	`connect(ion)? (failure|refused|reset|timed out)|communication (failure|connection)|rate limit exceeded|` +
	`unexpected message received|resource temporarily unavailable|standby mode|authentication (error|failure|credential)|` +
	`problem talking to the database|no response to persist_init|unable to (connect|resolve|establish)|try again`)

// advice maps Slurm's words to the next step. Order matters: first match wins.
var advice = []struct{ text, say string }{
	{"invalid partition", "name an existing partition: sinfo -s lists them"},
	{"invalid account", "name an account of yours: sacctmgr -nP show assoc user=$USER format=account,partition,qos"},
	{"invalid qos", "name a QOS of yours: sacctmgr -nP show assoc user=$USER format=account,qos"},
	{"reservation", "list reservations: scontrol show reservation"},
	{"invalid feature", "list node features: sinfo -o %f"},
	{"invalid node name", "list nodes: sinfo -N"},
	{"node count", "ask for fewer nodes"},
	{"memory specification", "ask for less memory per node"},
	{"node configuration is not available", "no node of the partition has that much: scontrol show node"},
	{"invalid --time", "write the time limit as hh:mm:ss"},
	{"invalid generic resource", "the GPU request style differs at this site: try the other GPU style"},
	{"time limit", "ask for less time"},
	{"unrecognized option", "this Slurm lacks an option of the script"},
	{"violates accounting", "a limit of the account or QOS is reached: cancel a job or wait"},
	{"job violates", "a limit of the account or QOS is reached: cancel a job or wait"},
	{"batch script", "the script does not look like one to sbatch"},
	{"dos line breaks", "the script has CR line ends"},
}

func adviceFor(text string) string {
	low := strings.ToLower(text)
	for _, a := range advice {
		if strings.Contains(low, a.text) {
			return a.say
		}
	}
	return ""
}

// tidy reduces a command's stderr to one safe line: prefixes like "sbatch:
// error:" go, control characters too, and it is cut at 500 bytes.
func tidy(text []byte) string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		for _, p := range []string{"sbatch:", "squeue:", "sacct:", "scancel:", "scontrol:", "sinfo:", "error:", "fatal:"} {
			line = strings.TrimSpace(strings.TrimPrefix(line, p))
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	out := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, strings.Join(lines, "; "))
	if len(out) > 500 {
		out = strings.ToValidUTF8(out[:500], "") + "..."
	}
	if out == "" {
		return "no message"
	}
	return out
}
