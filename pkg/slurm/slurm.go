// Package slurm owns the scheduler: it renders, quotes and checks job scripts,
// submits them exactly once, observes many jobs in one call, cancels them, and
// knows what Slurm's states, reasons, ids and host lists mean. It must not know
// what a service is, where runs are kept or how anything is printed.
//
// Three rules carry it. A job is its name (which holds the run's nonce), not
// its id, since ids are reused after a controller crash. An answer is present,
// absent or unknown, and unknown changes nothing. A failed submission is
// doubtful until the name was looked up, since Slurm creates jobs for clients
// it told "Socket timed out".
package slurm

import (
	"time"
)

// Submission is one job to submit.
type Submission struct {
	// ScriptPath is the absolute path of the rendered script.
	ScriptPath string
	// JobName is the job's whole identity: unique, with the run's nonce in it,
	// of letters, digits and "._+-" only.
	JobName string
	// Dir is where sbatch runs; empty means the script's directory.
	Dir string
	// Options are further sbatch options for sites that read them from the
	// command line only, each of the form --name or --name=value.
	Options []string
}

// Receipt is what an accepted submission returned.
type Receipt struct {
	JobID string `json:"job_id"`
	// Cluster is set only where sbatch named one.
	Cluster string `json:"cluster,omitempty"`
	// Submitted is this machine's clock just before sbatch ran. It is the
	// lower bound that Ref.SubmittedAfter wants.
	Submitted time.Time `json:"submitted"`
}

// Job is one row of the queue or of the accounting that carries a name asked
// for. Times are zero where they are not known.
type Job struct {
	Name   string    `json:"name"`
	JobID  string    `json:"job_id"`
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Nodes  string    `json:"nodes,omitempty"`
	Submit time.Time `json:"submit"`
	Source Source    `json:"source"`
}

// Ref names a job to observe and carries what the caller's journal knows about
// it, so that a one-shot command need not have watched it.
type Ref struct {
	Name  string
	JobID string
	// SubmittedAfter is Receipt.Submitted; rows older than this (less a minute
	// of clock skew) belong to an older job.
	SubmittedAfter time.Time
	// AbsentSince is when the journal first noted the job absent from the
	// queue; zero when it did not.
	AbsentSince time.Time
	// BlockedSince is when the journal first noted a fatal reason; zero when
	// it did not.
	BlockedSince time.Time
}

// Presence is the three-valued answer about a job in the queue.
type Presence string

// The three answers. Unknown says nothing about the job: nothing may follow
// from it.
const (
	Present Presence = "present"
	Absent  Presence = "absent"
	Unknown Presence = "unknown"
)

// Cause says why a job ended, or cannot go on. It is empty for a job that runs
// or that completed.
type Cause string

// The causes.
const (
	CauseExit        Cause = "exit_code"   // the script ended non-zero
	CauseSignal      Cause = "signal"      // the script was killed, nobody says why
	CauseStep        Cause = "step_failed" // the script ended 0, a step of it did not
	CauseTimeLimit   Cause = "time_limit"
	CauseDeadline    Cause = "deadline"
	CauseOutOfMemory Cause = "out_of_memory"
	CauseNodeFailure Cause = "node_failure"
	CausePreempted   Cause = "preempted"
	CauseCancelled   Cause = "cancelled"
	CauseOutputPath  Cause = "output_path" // output or working directory unusable on the node
	CauseBlocked     Cause = "blocked"     // pending for ever
	CauseLost        Cause = "lost"        // the scheduler forgot the job
	CauseIDReused    Cause = "id_reused"   // the scheduler forgot it and gave its id away
	CauseUnknown     Cause = "unknown"     // it ended and no record says how
)

// Source says which record an observation comes from.
type Source string

// The sources.
const (
	FromQueue      Source = "squeue"
	FromAccounting Source = "sacct"
	FromController Source = "scontrol"
	FromLocal      Source = "local"
)

// Observation is what is known about one job at one moment. A pointer is nil
// and a time is zero where the scheduler did not say.
type Observation struct {
	Name     string   `json:"name"`
	JobID    string   `json:"job_id"`
	Presence Presence `json:"presence"`
	State    State    `json:"state,omitempty"`
	// Reason is the scheduler's own word without its tail; ReasonKind is what
	// it means for a pending job.
	Reason     string     `json:"reason,omitempty"`
	ReasonKind ReasonKind `json:"reason_kind,omitempty"`
	// Nodes is the host list as Slurm writes it, for ExpandHosts.
	Nodes           string    `json:"nodes,omitempty"`
	ExitCode        *int      `json:"exit_code,omitempty"`
	Signal          *int      `json:"signal,omitempty"`
	DerivedExitCode *int      `json:"derived_exit_code,omitempty"`
	DerivedSignal   *int      `json:"derived_signal,omitempty"`
	Submit          time.Time `json:"submit,omitzero"`
	Start           time.Time `json:"start,omitzero"`
	End             time.Time `json:"end,omitzero"`
	// ExpectedStart is Slurm's estimate for a pending job; LimitAt is when a
	// running job reaches its time limit.
	ExpectedStart time.Time `json:"expected_start,omitzero"`
	LimitAt       time.Time `json:"limit_at,omitzero"`
	// Ended is true only when the job is over for certain: a requeue is ruled
	// out and the record is of this job. Absent without Ended means "ask again".
	Ended bool  `json:"ended"`
	Cause Cause `json:"cause,omitempty"`
	// CancelledBy is the uid that cancelled the job.
	CancelledBy *int   `json:"cancelled_by,omitempty"`
	Source      Source `json:"source,omitempty"`
}

// Succeeded tells whether the scheduler saw the job end with success: completed,
// exit code 0, every step 0. The sentinel in the run still has the last word.
func (o Observation) Succeeded() bool {
	return o.Ended && o.State == Completed && o.Cause == ""
}

// Warning is something odd that an answer was given in spite of.
type Warning struct {
	// Name is the job's name, or empty when it concerns the whole call.
	Name string `json:"name,omitempty"`
	// Rule is a stable word: controller_away, accounting_away, bad_row,
	// unknown_state, twin, id_mismatch, settling, other_host, supervisor_gone.
	Rule    string `json:"rule"`
	Message string `json:"message"`
}
