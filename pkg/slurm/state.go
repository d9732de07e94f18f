package slurm

import (
	"strconv"
	"strings"
)

// State is the base state of a job, or the flag squeue prints in its place.
type State string

// The base states are stable since 22.05. The flags are what squeue shows
// while the base state alone would mislead.
const (
	Pending     State = "PENDING"
	Running     State = "RUNNING"
	Suspended   State = "SUSPENDED"
	Completed   State = "COMPLETED"
	Cancelled   State = "CANCELLED"
	Failed      State = "FAILED"
	Timeout     State = "TIMEOUT"
	NodeFail    State = "NODE_FAIL"
	Preempted   State = "PREEMPTED"
	BootFail    State = "BOOT_FAIL"
	Deadline    State = "DEADLINE"
	OutOfMemory State = "OUT_OF_MEMORY"
	Requeued    State = "REQUEUED"
	Configuring State = "CONFIGURING"
	Completing  State = "COMPLETING"
	SpecialExit State = "SPECIAL_EXIT"
)

// stateKind says what may follow from a state.
type stateKind int

const (
	kindUnknown  stateKind = iota // a word of a newer Slurm: not finished
	kindLive                      // queued or running
	kindTerminal                  // over
	kindRequeue                   // over, unless it is queued again in a moment
)

var states = map[State]stateKind{
	Pending: kindLive, Running: kindLive, Suspended: kindLive, Configuring: kindLive, Completing: kindLive,
	SpecialExit: kindLive, "REQUEUE_HOLD": kindLive, "REQUEUE_FED": kindLive, "RESIZING": kindLive,
	"RESV_DEL_HOLD": kindLive, "SIGNALING": kindLive, "STAGE_OUT": kindLive, "STOPPED": kindLive,
	"POWER_UP_NODE": kindLive, "RECONFIG_FAIL": kindLive, "EXPEDITING": kindLive, "UPDATE_DB": kindLive,
	Completed: kindTerminal, Cancelled: kindTerminal, Failed: kindTerminal, Timeout: kindTerminal,
	Deadline: kindTerminal, OutOfMemory: kindTerminal, "REVOKED": kindTerminal,
	NodeFail: kindRequeue, Preempted: kindRequeue, BootFail: kindRequeue, Requeued: kindRequeue, "LAUNCH_FAILED": kindRequeue,
}

// ParseState reads a state as squeue or sacct print it. Only the first word
// counts ("CANCELLED by 1001"); by is that uid, or nil. Of joined flags
// ("RUNNING+COMPLETING") the one that says most is returned: a live one before
// a terminal one, since a job that is still busy is not over.
func ParseState(text string) (state State, by *int) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return "", nil
	}
	if len(fields) == 3 && fields[1] == "by" {
		if uid, err := strconv.Atoi(fields[2]); err == nil {
			by = &uid
		}
	}
	words := strings.FieldsFunc(fields[0], func(r rune) bool { return r == '+' || r == ',' })
	if len(words) == 0 {
		return State(fields[0]), by
	}
	state = State(words[0])
	for _, w := range words[1:] {
		if w := State(w); states[w] == kindLive && w != Pending {
			return w, by
		}
	}
	return state, by
}

// Known tells whether the word is a state of any Slurm from 22.05 to 26.05.
func (s State) Known() bool { return states[s] != kindUnknown }

// Terminal tells whether a job in that state is over, requeues aside. An
// unknown word is not terminal.
func (s State) Terminal() bool { return states[s] == kindTerminal || states[s] == kindRequeue }

// mayRequeue tells whether the state is seen for seconds before the job is
// queued again.
func (s State) mayRequeue() bool { return states[s] == kindRequeue }

// over tells whether squeue's word means that the job left the queue. A flag
// that announces a requeue does not: the job is about to be pending again.
func (s State) over() bool { return s.Terminal() && s != Requeued && s != "LAUNCH_FAILED" }

// started tells whether a job in that state has or had nodes.
func (s State) started() bool {
	switch s {
	case "", Pending, Requeued, SpecialExit, "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "REVOKED":
		return false
	}
	return s.Known()
}

// ReasonKind is what a pending job's reason means for whoever waits.
type ReasonKind string

// The kinds: none (no reason given), soft (wait, and say so), fatal (it will
// never start as it is).
const (
	ReasonNone  ReasonKind = "none"
	ReasonSoft  ReasonKind = "soft"
	ReasonFatal ReasonKind = "fatal"
)

// fatalReasons are the exact words after which a job pends for ever unless a
// person acts, since EnforcePartLimits is off by default.
var fatalReasons = map[string]bool{
	"PartitionTimeLimit": true, "PartitionNodeLimit": true, "PartitionConfig": true,
	"BadConstraints": true, "DependencyNeverSatisfied": true, "InvalidAccount": true,
	"InvalidQOS": true, "JobHeldAdmin": true, "SPECIAL_EXIT": true, "SpecialExit": true,
	"launch failed requeued held": true, "launch_failed_requeued_held": true, "JobLaunchFailure": true,
}

// ParseReason strips the tail of a reason ("ReqNodeNotAvail, UnavailableNodes:
// mel1") and classifies it. Words not known to be fatal are soft: waiting is
// the answer that loses nothing.
func ParseReason(text string) (string, ReasonKind) {
	word, _, _ := strings.Cut(text, ",")
	word = strings.Trim(strings.TrimSpace(word), "()")
	word = strings.TrimSpace(word)
	switch {
	case word == "" || word == "None" || word == "N/A" || word == "null":
		return "", ReasonNone
	case fatalReasons[word],
		strings.HasPrefix(word, "QOSMaxWall"),
		strings.HasPrefix(word, "AssocMaxWall"),
		strings.HasPrefix(word, "QOSMax") && strings.HasSuffix(word, "PerJobLimit"),
		strings.HasPrefix(word, "QOSMax") && strings.HasSuffix(word, "PerJob"),
		strings.HasPrefix(word, "AssocGrp") && strings.HasSuffix(word, "MinutesLimit"),
		strings.HasPrefix(word, "AssocGrp") && strings.HasSuffix(word, "Minutes"):
		return word, ReasonFatal
	}
	return word, ReasonSoft
}
