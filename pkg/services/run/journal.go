package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"time"
)

// Kinds of journal events. Only changes are written.
const (
	EventIntent        = "intent"         // the script is on disk, sbatch is next
	EventSubmitted     = "submitted"      // job_id, cluster
	EventDoubtful      = "doubtful"       // sbatch's answer could not be trusted: message
	EventRefused       = "refused"        // the scheduler or site said no: message
	EventObserved      = "observed"       // state, reason, node as the scheduler said
	EventAbsent        = "absent"         // no longer live in the queue; its end is not certain yet: state
	EventReady         = "ready"          // the endpoint is published
	EventStopRequested = "stop_requested" // a user asked the job to end
	EventJobEnded      = "job_ended"      // the job is over for certain: state, cause, exit_code
	EventCleaned       = "cleaned"        // owned paths were removed
	EventEnded         = "ended"          // state, cause, exit_code: nothing follows
)

// Event is one file of the journal.
type Event struct {
	SchemaVersion int       `json:"schema_version"`
	Kind          string    `json:"kind"`
	Time          time.Time `json:"time"`
	Host          string    `json:"host"`
	PID           int       `json:"pid"`
	JobID         string    `json:"job_id,omitempty"`
	Cluster       string    `json:"cluster,omitempty"`
	State         string    `json:"state,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Node          string    `json:"node,omitempty"`
	Cause         string    `json:"cause,omitempty"`
	ExitCode      *int      `json:"exit_code,omitempty"`
	Message       string    `json:"message,omitempty"`
}

var eventSeq atomic.Uint64

// Append writes one event. Names carry time, host, pid and a counter, so two
// writers never meet; a reader sorts by time.
func (d Dir) Append(now time.Time, e Event) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	e.SchemaVersion, e.Time, e.Host, e.PID = SchemaVersion, now.UTC(), host, os.Getpid()
	name := fmt.Sprintf("%020d-%s-%d-%d-%s.json", now.UnixNano(), host, e.PID, eventSeq.Add(1), e.Kind)
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("append %s: %w", e.Kind, err)
	}
	if err := WriteFile(d.File(JournalDir, name), append(raw, '\n')); err != nil {
		return fmt.Errorf("append %s to %s: %w", e.Kind, d.ID(), err)
	}
	return nil
}

// Events reads the journal in order of time. Files that cannot be read are
// returned as problems beside the events: a half-written journal still tells
// what it holds.
func (d Dir) Events() ([]Event, []error) {
	entries, err := os.ReadDir(d.File(JournalDir))
	if err != nil {
		return nil, []error{fmt.Errorf("read journal of %s: %w", d.ID(), err)}
	}
	var events []Event
	var problems []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		var ev Event
		err := ReadJSON(d.File(JournalDir, e.Name()), &ev)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			problems = append(problems, fmt.Errorf("journal of %s: %w", d.ID(), err))
		default:
			events = append(events, ev)
		}
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].Time.Before(events[j].Time) })
	return events, problems
}

// State is what the journal of a run adds up to, whatever order its files
// were written in.
type State struct {
	Prepared      bool // script on disk
	PreparedAt    time.Time
	Doubtful      bool // submission answered doubtfully and nothing was found yet
	Refused       string
	JobID         string
	Cluster       string
	SubmittedAt   time.Time
	SchedState    string
	Reason        string
	Node          string
	ObservedAt    time.Time
	AbsentSince   time.Time // first absent since last seen
	BlockedSince  time.Time // first fatal reason since the last other one
	ReadyAt       time.Time
	StopRequested time.Time
	Cleaned       bool
	JobEnded      bool
	JobMessage    string
	Ended         bool
	EndedAt       time.Time
	Cause         string
	ExitCode      *int
	Problems      []error
}

// Live tells whether the run may still hold a job or be ready.
func (s State) Live() bool { return !s.Ended && s.Refused == "" }

// State folds the journal.
func (d Dir) State() State {
	events, problems := d.Events()
	s := State{Problems: problems}
	for _, e := range events {
		switch e.Kind {
		case EventIntent:
			s.Prepared, s.PreparedAt = true, e.Time
		case EventDoubtful:
			s.Doubtful, s.PreparedAt = s.JobID == "", e.Time
		case EventRefused:
			s.Refused = e.Message
		case EventSubmitted:
			s.JobID, s.Cluster, s.SubmittedAt, s.Doubtful = e.JobID, e.Cluster, e.Time, false
		case EventObserved:
			s.SchedState, s.Reason, s.ObservedAt, s.AbsentSince = e.State, e.Reason, e.Time, time.Time{}
			if e.Node != "" {
				s.Node = e.Node
			}
			switch {
			case e.Cause == "":
				s.BlockedSince = time.Time{}
			case s.BlockedSince.IsZero():
				s.BlockedSince = e.Time
			}
		case EventAbsent:
			if s.AbsentSince.IsZero() {
				s.AbsentSince = e.Time
			}
			if e.State != "" {
				s.SchedState, s.Reason = e.State, e.Reason
			}
		case EventReady:
			s.ReadyAt = e.Time
			if e.Node != "" {
				s.Node = e.Node
			}
		case EventStopRequested:
			s.StopRequested = e.Time
		case EventCleaned:
			s.Cleaned = true
		case EventJobEnded:
			s.JobEnded, s.Cause, s.ExitCode, s.JobMessage = true, e.Cause, e.ExitCode, e.Message
			s.SchedState, s.Reason = e.State, ""
		case EventEnded:
			s.Ended, s.EndedAt = true, e.Time
			if e.Cause != "" {
				s.Cause = e.Cause
			}
			if e.ExitCode != nil {
				s.ExitCode = e.ExitCode
			}
			if e.State != "" {
				s.SchedState = e.State
			}
			s.Reason = e.Message
		}
	}
	if s.JobID != "" {
		s.Refused = "" // there is a job, whatever went wrong after it was made
	}
	return s
}
