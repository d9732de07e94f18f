package slurm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// settle is how long a state that may be followed by a requeue must stand
	// with the job out of the queue; requeue windows last 3 to 4 s.
	settle = 10 * time.Second
	// settledAge makes a record old enough to be final at first sight.
	settledAge = time.Minute
	// lostAfter is how long the accounting may lag behind the queue; it said
	// RUNNING for 10 s after a restart of the database daemon.
	lostAfter = 2 * time.Minute
)

// accounting is how sacct answered this time.
type accounting int

const (
	accountingAnswered accounting = iota
	accountingDisabled
	accountingAway
)

// finish settles the jobs that the queue does not list as live, with one sacct
// call for all of them.
func (c *Client) finish(ctx context.Context, gone []departed, out map[string]Observation, now time.Time) ([]Warning, error) {
	var warns []Warning
	var ids []string
	for _, d := range gone {
		if id, err := d.ref.id(); err == nil && id.Base != 0 {
			ids = append(ids, strconv.FormatInt(id.Base, 10))
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var rows []Row
	how := accountingAnswered
	if len(ids) > 0 {
		var err error
		rows, warns, err = c.account(ctx, ids)
		switch {
		case ctx.Err() != nil:
			return warns, err
		case accountingOff(err):
			how = accountingDisabled
		case err != nil:
			how = accountingAway
			warns = append(warns, Warning{Rule: "accounting_away", Message: err.Error()})
		}
	}
	for _, d := range gone {
		own := newest(rows, d.ref)
		if own != nil && !own.State.Known() {
			warns = append(warns, Warning{
				Name: d.ref.Name, Rule: "unknown_state",
				Message: fmt.Sprintf("sacct prints state %q, taken as not finished", clip(string(own.State))),
			})
		}
		if d.queued != nil && (own == nil || !own.State.Terminal()) {
			// squeue has no exit code: the controller's own record has.
			row, err := c.record(ctx, *d.queued)
			if ctx.Err() != nil {
				return warns, err
			}
			if err == nil && d.ref.owns(row) && row.State.Terminal() {
				d.queued = &row
			}
		}
		o, w := judge(d, own, takenBy(rows, d), how, now)
		warns = append(warns, w...)
		out[d.ref.Name] = o
		if o.Ended {
			c.forget(d.ref)
		}
	}
	return warns, nil
}

// account asks sacct for every incarnation of the ids.
func (c *Client) account(ctx context.Context, ids []string) ([]Row, []Warning, error) {
	fields, err := c.accountingFields(ctx)
	if err != nil {
		return nil, nil, err
	}
	out, err := c.run(ctx, "sacct", "-nPX", "-D", "-j", strings.Join(ids, ","), "-o", strings.Join(fields, ","))
	if err != nil {
		return nil, nil, err
	}
	rows, bad := ParseAccounting(out.Stdout, fields)
	return rows, rowWarnings("sacct", bad), nil
}

// record asks the controller for the whole record of one job.
func (c *Client) record(ctx context.Context, queued Row) (Row, error) {
	id := strconv.FormatInt(queued.Raw, 10)
	// -d adds the exit code of the steps: without it a job whose step failed
	// looks like a success.
	out, err := c.run(ctx, "scontrol", "-d", "--local", "-o", "show", "job", id)
	if err != nil {
		return Row{}, err
	}
	rows, _ := ParseJobRecords(out.Stdout)
	for _, r := range rows {
		if r.ID == queued.ID {
			return r, nil
		}
	}
	return Row{}, errors.New("scontrol: no such record")
}

// newest is the job's latest incarnation among sacct's rows. Of equal submit
// times the later row counts: sacct prints incarnations in order.
func newest(rows []Row, ref Ref) *Row {
	var best *Row
	for i := range rows {
		if ref.owns(rows[i]) && (best == nil || !rows[i].Submit.Before(best.Submit)) {
			best = &rows[i]
		}
	}
	return best
}

// takenBy finds a later job of another name under the same id.
func takenBy(rows []Row, d departed) *Row {
	if d.reused != nil {
		return d.reused
	}
	for i := range rows {
		// "allocation" is what the accounting calls a job whose start it never
		// heard of: that is ours, not a stranger.
		r := &rows[i]
		if r.Name != d.ref.Name && r.Name != "allocation" && d.ref.JobID != "" && d.ref.sameID(*r) &&
			!d.ref.SubmittedAfter.IsZero() && r.Submit.After(d.ref.SubmittedAfter) {
			return r
		}
	}
	return nil
}

// judge decides about one job that is not live in the queue. It is a function
// of its arguments: own is sacct's newest row of the job or nil, taken a job
// that carries its id now or nil.
func judge(d departed, own, taken *Row, how accounting, now time.Time) (Observation, []Warning) {
	absent := Observation{Name: d.ref.Name, JobID: d.ref.JobID, Presence: Absent, ReasonKind: ReasonNone, Source: FromQueue}
	goneFor := now.Sub(d.sight.goneSince)
	final, from := own, FromAccounting
	if (own == nil || !own.State.Terminal()) && d.queued != nil {
		final, from = d.queued, FromQueue
		if d.queued.Exit != nil {
			from = FromController
		}
	}
	// The controller's COMPLETED is half an answer without the steps' exit
	// code: an accounting that is only late gets its time.
	half := final != nil && final != own && final.State == Completed && final.Derived == nil &&
		how != accountingDisabled && goneFor < settle
	switch {
	case half:
		o := observe(d.ref, *final, from)
		o.Presence, o.Cause = Present, ""
		return o, []Warning{{Name: d.ref.Name, Rule: "settling", Message: "the exit codes of the steps are not known yet"}}
	case final != nil && final.State.Terminal():
		o := observe(d.ref, *final, from)
		o.Presence = Absent
		if d.queued != nil {
			o.Presence = Present
			if o.Reason == "" {
				o.Reason, _ = ParseReason(d.queued.Reason)
			}
		}
		old := !final.End.IsZero() && now.Sub(final.End) >= settledAge
		if final.State.mayRequeue() && goneFor < settle && !old {
			o.Cause = ""
			return o, []Warning{{
				Name: d.ref.Name, Rule: "settling",
				Message: fmt.Sprintf("%s may be followed by a requeue: final after %s", final.State, settle),
			}}
		}
		o.Ended = true
		return o, nil
	case d.ref.JobID == "":
		// Without an id the accounting was not asked: LookUp does that.
		return absent, nil
	case taken != nil:
		absent.Ended, absent.Cause = true, CauseIDReused
		return absent, []Warning{{
			Name: d.ref.Name, Rule: "id_mismatch",
			Message: fmt.Sprintf("id %s belongs to job %q now", d.ref.JobID, clip(taken.Name)),
		}}
	case how == accountingAway:
		return absent, nil
	case how == accountingDisabled:
		if goneFor >= settle {
			absent.Ended, absent.Cause = true, CauseUnknown
		}
		return absent, nil
	}
	if own != nil {
		absent.State, absent.Submit, absent.Source = own.State, own.Submit, FromAccounting
	}
	if goneFor >= lostAfter {
		absent.Ended, absent.Cause = true, CauseLost
	}
	return absent, nil
}
