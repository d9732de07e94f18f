package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LookUp finds jobs by exact name in the queue and in the accounting. A name
// that is missing from the map is certainly unknown to Slurm only when the
// error is nil. Jobs of one name come oldest first, each id once, the queue's
// word before the accounting's. Where accounting is off the queue alone
// answers, and forgets a job MinJobAge after it ended.
func (c *Client) LookUp(ctx context.Context, names []string) (map[string][]Job, error) {
	found := map[string][]Job{}
	if len(names) == 0 {
		return found, nil
	}
	for _, n := range names {
		if !nameForm.MatchString(n) {
			return nil, fmt.Errorf("look up job: name %q: want letters, digits and . _ + - only", clip(n))
		}
	}
	queued, _, queueErr := c.queue(ctx)
	collect(found, names, queued, FromQueue)
	fields, err := c.accountingFields(ctx)
	if err != nil {
		return found, fmt.Errorf("look up jobs: %w", errors.Join(queueErr, err))
	}
	out, err := c.run(ctx, "sacct", "-nPX", "-D", "--name="+strings.Join(names, ","), "-S", "now-1day", "-o", strings.Join(fields, ","))
	if err == nil {
		rows, _ := ParseAccounting(out.Stdout, fields)
		collect(found, names, rows, FromAccounting)
	} else if accountingOff(err) {
		err = nil
	}
	if err := errors.Join(queueErr, err); err != nil {
		return found, fmt.Errorf("look up jobs: %w", err)
	}
	return found, nil
}

// collect adds the rows that carry a wanted name and are not there yet.
func collect(found map[string][]Job, names []string, rows []Row, from Source) {
	for _, r := range rows {
		if !slices.Contains(names, r.Name) || r.ID.Step != "" || r.ID.Het > 0 {
			continue
		}
		id := r.ID
		id.Het = -1
		job := Job{Name: r.Name, JobID: id.String(), State: r.State, Nodes: r.Nodes, Submit: r.Submit, Source: from}
		job.Reason, _ = ParseReason(r.Reason)
		if at := slices.IndexFunc(found[r.Name], func(j Job) bool { return j.JobID == job.JobID }); at >= 0 {
			// sacct -D lists a requeued job once an incarnation; the newest counts.
			if old := found[r.Name][at]; old.Source == from && r.Submit.After(old.Submit) {
				found[r.Name][at] = job
			}
			continue
		}
		found[r.Name] = append(found[r.Name], job)
	}
	for _, jobs := range found {
		slices.SortStableFunc(jobs, func(a, b Job) int {
			return cmp.Or(a.Submit.Compare(b.Submit), cmp.Compare(len(a.JobID), len(b.JobID)), strings.Compare(a.JobID, b.JobID))
		})
	}
}

// queue is the one squeue call of a tick: every job of the user, two RPCs
// however many.
func (c *Client) queue(ctx context.Context) ([]Row, []Warning, error) {
	out, err := c.run(ctx, "squeue", "--local", "--me", "-h", "-t", "all", "-r", "-o", queueFormat)
	if err != nil {
		return nil, nil, err
	}
	rows, bad := ParseQueue(out.Stdout)
	return rows, rowWarnings("squeue", bad), nil
}

func rowWarnings(tool string, bad []*RowError) []Warning {
	var warns []Warning
	for _, b := range bad {
		warns = append(warns, Warning{Rule: "bad_row", Message: tool + ": " + b.Error()})
	}
	return warns
}

// accountingOff tells whether sacct said that the site keeps no accounting.
func accountingOff(err error) bool {
	ce, ok := errors.AsType[*CommandError](err)
	return ok && strings.Contains(strings.ToLower(ce.Stderr), "accounting storage is disabled")
}

// wantedFields are asked of sacct where it has them; the name is free text and
// last. The first ones exist in every Slurm this client knows.
var wantedFields = []string{
	"jobidraw", "jobid", "state", "exitcode", "submit", "start", "end",
	"derivedexitcode", "nodelist", "reason", "jobname",
}

// accountingFields asks sacct once which fields it has. A sacct that cannot
// say gets all of them.
func (c *Client) accountingFields(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	fields := c.fields
	c.mu.Unlock()
	if fields != nil {
		return fields, nil
	}
	out, err := c.run(ctx, "sacct", "--helpformat")
	switch {
	case err == nil:
	case accountingOff(err):
		return wantedFields, nil
	default:
		return nil, fmt.Errorf("ask sacct for its fields: %w", err)
	}
	has := map[string]bool{}
	for _, f := range strings.Fields(string(out.Stdout)) {
		has[strings.ToLower(f)] = true
	}
	for i, f := range wantedFields {
		if i < 7 || f == "jobname" || has[f] {
			if f == "state" {
				f = "state%30"
			}
			fields = append(fields, f)
		}
	}
	c.mu.Lock()
	c.fields = fields
	c.mu.Unlock()
	return fields, nil
}
