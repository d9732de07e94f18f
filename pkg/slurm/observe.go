package slurm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// clockSkew is how much older than its submission a row may look, the clocks
// of the login node and the controller being two.
const clockSkew = time.Minute

// Observe says what is known of every job, by name, in one squeue call, and one
// sacct call when some are over. The error is non-nil only when the commands
// are missing or the context ended; a controller that is away makes every
// answer Unknown and adds a warning.
func (c *Client) Observe(ctx context.Context, jobs []Ref) (map[string]Observation, []Warning, error) {
	out := make(map[string]Observation, len(jobs))
	if len(jobs) == 0 {
		return out, nil, nil
	}
	for _, ref := range jobs {
		if !nameForm.MatchString(ref.Name) {
			return nil, nil, fmt.Errorf("observe job: name %q: want letters, digits and . _ + - only", clip(ref.Name))
		}
		if _, err := ref.id(); err != nil {
			return nil, nil, fmt.Errorf("observe %s: %w", ref.Name, err)
		}
	}
	rows, warns, err := c.queue(ctx)
	if ctx.Err() != nil || errors.Is(err, ErrMissing) {
		return nil, warns, fmt.Errorf("observe jobs: %w", err)
	}
	if err != nil {
		for _, ref := range jobs {
			out[ref.Name] = Observation{Name: ref.Name, JobID: ref.JobID, Presence: Unknown}
		}
		return out, append(warns, Warning{Rule: "controller_away", Message: err.Error()}), nil
	}
	// One clock reading a call: a second one would be later, and make a first
	// sight look like a second.
	now := c.now()
	var gone []departed
	for _, ref := range jobs {
		o, d, w := c.fromQueue(ref, rows, now)
		warns = append(warns, w...)
		out[ref.Name] = o
		if d != nil {
			gone = append(gone, *d)
		}
	}
	if len(gone) > 0 {
		w, err := c.finish(ctx, gone, out, now)
		warns = append(warns, w...)
		if err != nil {
			return nil, warns, fmt.Errorf("observe jobs: %w", err)
		}
	}
	return out, warns, nil
}

// id parses the reference's job id; the zero ID stands for none.
func (r Ref) id() (ID, error) {
	if r.JobID == "" {
		return ID{}, nil
	}
	return ParseID(r.JobID)
}

// owns tells whether a row is this job: its name, its id, and not older.
func (r Ref) owns(row Row) bool {
	return row.Name == r.Name && r.sameID(row) && r.newEnough(row)
}

func (r Ref) sameID(row Row) bool {
	id, err := r.id()
	return err == nil && (id.Base == 0 && row.ID.Step == "" || row.ID.leads(id))
}

func (r Ref) newEnough(row Row) bool {
	return r.SubmittedAfter.IsZero() || row.Submit.IsZero() || !row.Submit.Before(r.SubmittedAfter.Add(-clockSkew))
}

// sight is what the client remembers of a job between two calls.
type sight struct {
	goneSince    time.Time // first call in a row that found it absent or terminal
	blockedSince time.Time // first call in a row with a fatal reason
}

func (r Ref) key() string { return r.Name + "/" + r.JobID }

// see returns the memory of a job after this call's news.
func (c *Client) see(ref Ref, gone, blocked bool, now time.Time) sight {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sights[ref.key()]
	s.goneSince = since(s.goneSince, ref.AbsentSince, gone, now)
	s.blockedSince = since(s.blockedSince, ref.BlockedSince, blocked, now)
	c.sights[ref.key()] = s
	return s
}

// since is the earliest moment a condition that holds now is known to hold.
func since(seen, journal time.Time, holds bool, now time.Time) time.Time {
	if !holds {
		return time.Time{}
	}
	if seen.IsZero() {
		seen = now
	}
	if !journal.IsZero() && journal.Before(seen) {
		seen = journal
	}
	return seen
}

func (c *Client) forget(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sights, ref.key())
}

// departed is a job that the queue does not list as live.
type departed struct {
	ref    Ref
	queued *Row // its terminal row, while the controller still has it
	reused *Row // another job of the user that carries its id
	sight  sight
}

// fromQueue judges one job by the queue. The second value is non-nil when the
// queue does not settle the matter.
func (c *Client) fromQueue(ref Ref, rows []Row, now time.Time) (Observation, *departed, []Warning) {
	var own, reused *Row
	var warns []Warning
	for i := range rows {
		row := &rows[i]
		switch {
		case ref.owns(*row):
			if own == nil || row.Submit.After(own.Submit) {
				own = row
			}
		case row.Name == ref.Name && row.ID.Het <= 0 && !ref.sameID(*row):
			warns = append(warns, Warning{
				Name: ref.Name, Rule: "twin",
				Message: fmt.Sprintf("job %s carries the same name as job %s", row.ID, ref.JobID),
			})
		case ref.JobID != "" && row.Name != ref.Name && ref.sameID(*row):
			reused = row
		}
	}
	if own != nil && !own.State.Known() {
		warns = append(warns, Warning{
			Name: ref.Name, Rule: "unknown_state",
			Message: fmt.Sprintf("squeue prints state %q, taken as not finished", clip(string(own.State))),
		})
	}
	if own == nil || own.State.over() {
		d := &departed{ref: ref, queued: own, reused: reused, sight: c.see(ref, true, false, now)}
		o := Observation{Name: ref.Name, JobID: ref.JobID, Presence: Absent, Source: FromQueue}
		if own != nil {
			o = observe(ref, *own, FromQueue)
			o.Presence = Present
		}
		return o, d, warns
	}
	o := observe(ref, *own, FromQueue)
	o.Presence = Present
	reason, kind := ParseReason(own.Reason)
	if own.State == Pending || own.State == SpecialExit || !own.State.started() {
		o.Reason, o.ReasonKind = reason, kind
	}
	if own.State == SpecialExit {
		o.ReasonKind = ReasonFatal
	}
	s := c.see(ref, false, o.ReasonKind == ReasonFatal, now)
	// One sight may be a scheduler that has not looked yet; two are a fact.
	if o.ReasonKind == ReasonFatal && s.blockedSince.Before(now) {
		o.Cause = CauseBlocked
	}
	return o, nil, warns
}

// observe copies what a row says.
func observe(ref Ref, r Row, from Source) Observation {
	o := Observation{
		Name: ref.Name, JobID: ref.JobID, State: r.State, Nodes: r.Nodes,
		Submit: r.Submit, CancelledBy: r.By, Source: from,
	}
	if o.JobID == "" {
		id := r.ID
		id.Het = -1
		o.JobID = id.String()
	}
	o.Reason, o.ReasonKind = "", ReasonNone
	switch {
	case r.State.over(), r.State.Terminal() && from != FromQueue:
		o.Start, o.End = r.Start, r.End
		o.Reason, _ = ParseReason(r.Reason)
		if r.Exit != nil {
			o.ExitCode, o.Signal = &r.Exit.Code, &r.Exit.Signal
		}
		if r.Derived != nil {
			o.DerivedExitCode, o.DerivedSignal = &r.Derived.Code, &r.Derived.Signal
		}
		o.Cause = causeOf(r)
	case r.State.started():
		o.Start, o.LimitAt = r.Start, r.End
	default:
		o.ExpectedStart = r.Start
	}
	return o
}

// causeOf says why a job of that terminal row ended; empty means success.
func causeOf(r Row) Cause {
	code, sig := 0, 0
	if r.Exit != nil {
		code, sig = r.Exit.Code, r.Exit.Signal
	}
	switch r.State {
	case Timeout:
		return CauseTimeLimit
	case Deadline:
		return CauseDeadline
	case OutOfMemory:
		return CauseOutOfMemory
	case NodeFail, BootFail, "LAUNCH_FAILED":
		return CauseNodeFailure
	case Preempted:
		return CausePreempted
	case Requeued: // and it never came back
		return CauseLost
	case Cancelled, "REVOKED":
		return CauseCancelled
	case Completed:
		switch {
		case r.Derived != nil && r.Derived.Signal == 125:
			return CauseOutOfMemory
		case r.Derived != nil && (r.Derived.Code != 0 || r.Derived.Signal != 0):
			return CauseStep
		case r.Exit != nil && code == 0 && sig == 0:
			return ""
		case r.Exit == nil:
			return CauseUnknown
		}
	}
	switch {
	case sig == 125:
		return CauseOutOfMemory
	case code == 0 && sig == 53:
		return CauseOutputPath
	case strings.HasPrefix(r.Reason, "BadConstraints"):
		return CauseBlocked
	case sig != 0:
		return CauseSignal
	case code != 0:
		return CauseExit
	}
	return CauseUnknown
}
