package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"aifbench/pkg/slurm"
)

// Observe says what is known of every job, by name, as slurm.Client.Observe
// does. Answers are final at once: there is no queue to lag behind.
func (s *Scheduler) Observe(ctx context.Context, jobs []slurm.Ref) (map[string]slurm.Observation, []slurm.Warning, error) {
	out := make(map[string]slurm.Observation, len(jobs))
	var warns []slurm.Warning
	for _, ref := range jobs {
		if err := ctx.Err(); err != nil {
			return nil, warns, fmt.Errorf("observe jobs: %w", err)
		}
		o, w := s.one(ref)
		out[ref.Name] = o
		warns = append(warns, w...)
	}
	return out, warns, nil
}

func (s *Scheduler) one(ref slurm.Ref) (slurm.Observation, []slurm.Warning) {
	o := slurm.Observation{Name: ref.Name, JobID: ref.JobID, Presence: slurm.Absent, Source: slurm.FromLocal, ReasonKind: slurm.ReasonNone}
	if ref.JobID == "" {
		return o, nil
	}
	dir, err := s.dirOf(ref.JobID)
	if err != nil {
		return o, []slurm.Warning{{Name: ref.Name, Rule: "id_mismatch", Message: err.Error()}}
	}
	j, err := readJSON[jobFile](dir, jobName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.Ended, o.Cause = true, slurm.CauseLost
		return o, nil
	case err != nil:
		o.Presence = slurm.Unknown
		return o, []slurm.Warning{{Name: ref.Name, Rule: "bad_row", Message: err.Error()}}
	case j.Name != ref.Name:
		o.Ended, o.Cause = true, slurm.CauseIDReused
		return o, []slurm.Warning{{Name: ref.Name, Rule: "id_mismatch", Message: fmt.Sprintf("id %s belongs to job %q", ref.JobID, j.Name)}}
	}
	return s.judge(dir, j)
}

func (s *Scheduler) dirOf(id string) (string, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 {
		return "", fmt.Errorf("job id %q: want a positive number", id)
	}
	return filepath.Join(s.cfg.Root, strconv.FormatInt(n, 10)), nil
}

// judge decides what a job directory says, with a look at the processes.
func (s *Scheduler) judge(dir string, j jobFile) (slurm.Observation, []slurm.Warning) {
	o := slurm.Observation{
		Name: j.Name, JobID: strconv.FormatInt(j.ID, 10), Presence: slurm.Present, Source: slurm.FromLocal,
		ReasonKind: slurm.ReasonNone, Submit: j.Submitted, Nodes: nodeName(j.Host),
	}
	warn := func(rule string, err error) []slurm.Warning {
		return []slurm.Warning{{Name: j.Name, Rule: rule, Message: err.Error()}}
	}
	// The order matters: a supervisor that is dead after its end file was
	// found missing may have written it in between.
	status, statusErr := readJSON[statusFile](dir, statusName)
	running := statusErr == nil && status.alive(s.boot)
	end, endErr := readJSON[endFile](dir, endName)
	if statusErr == nil {
		o.Start, o.LimitAt = status.Started, status.LimitAt
	}
	switch {
	case endErr == nil && end.Nonce == j.Nonce:
		o.State, o.Cause, o.Ended, o.End = end.State, end.Cause, true, end.Ended
		o.ExitCode, o.Signal, o.CancelledBy = &end.ExitCode, &end.Signal, end.CancelledBy
		o.Reason, o.LimitAt = end.Message, status.LimitAt
		return o, nil
	case endErr != nil && !errors.Is(endErr, fs.ErrNotExist):
		o.Presence = slurm.Unknown
		return o, warn("bad_row", endErr)
	case statusErr != nil && !errors.Is(statusErr, fs.ErrNotExist):
		o.Presence = slurm.Unknown
		return o, warn("bad_row", statusErr)
	case j.Host != s.host:
		// Another machine's processes cannot be seen from here.
		o.Presence = slurm.Unknown
		return o, warn("other_host", fmt.Errorf("job %d runs on %s: ask there", j.ID, j.Host))
	case running:
		o.State = slurm.Running
		if _, err := os.Lstat(filepath.Join(dir, cancelName)); err == nil {
			o.State = slurm.Completing
		}
		return o, nil
	case j.BootID != s.boot:
		o.State, o.Cause, o.Ended, o.Presence = slurm.NodeFail, slurm.CauseNodeFailure, true, slurm.Absent
		return o, warn("supervisor_gone", errors.New("the machine was restarted"))
	case statusErr != nil && s.cfg.Now().Sub(j.Submitted) < startGrace:
		o.State = slurm.Pending
		return o, nil
	}
	// No supervisor and no end: it was killed. What it started may live on.
	left, err := members(0, j.Nonce)
	if err != nil {
		o.Presence = slurm.Unknown
		return o, warn("bad_row", err)
	}
	if len(left) > 0 {
		o.State = slurm.Running
		return o, warn("supervisor_gone", fmt.Errorf("the supervisor of job %d was killed; %d processes of it live on: cancel it", j.ID, len(left)))
	}
	o.State, o.Cause, o.Ended, o.Presence = slurm.NodeFail, slurm.CauseLost, true, slurm.Absent
	return o, warn("supervisor_gone", fmt.Errorf("the supervisor of job %d ended without a record", j.ID))
}

// LookUp finds jobs by exact name, oldest first.
func (s *Scheduler) LookUp(ctx context.Context, names []string) (map[string][]slurm.Job, error) {
	found := map[string][]slurm.Job{}
	ids, err := s.ids()
	if err != nil {
		return nil, fmt.Errorf("look up jobs: %w", err)
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return found, fmt.Errorf("look up jobs: %w", err)
		}
		dir := filepath.Join(s.cfg.Root, strconv.FormatInt(id, 10))
		j, err := readJSON[jobFile](dir, jobName)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a submission that has not come further, or never will
		}
		if err != nil {
			return found, fmt.Errorf("look up jobs: %w", err)
		}
		if !slices.Contains(names, j.Name) {
			continue
		}
		o, _ := s.judge(dir, j)
		found[j.Name] = append(found[j.Name], slurm.Job{
			Name: j.Name, JobID: o.JobID, State: o.State, Nodes: o.Nodes, Submit: j.Submitted, Source: slurm.FromLocal,
		})
	}
	return found, nil
}
