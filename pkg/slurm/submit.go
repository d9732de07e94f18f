package slurm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// receiptForm is what sbatch --parsable prints: an id, and ;cluster with -M.
var receiptForm = regexp.MustCompile(`^([0-9]{1,18})(?:;([A-Za-z0-9._-]{1,64}))?$`)

// ParseReceipt reads what sbatch --parsable printed. Site wrappers chat on
// stdout, so the last line of that form counts.
func ParseReceipt(text []byte) (id, cluster string, err error) {
	for line := range strings.Lines(string(text)) {
		if m := receiptForm.FindStringSubmatch(strings.TrimSpace(line)); m != nil && strings.Trim(m[1], "0") != "" {
			id, cluster = m[1], m[2]
		}
	}
	if id == "" {
		return "", "", fmt.Errorf("parse sbatch output %q: no job id", clip(strings.TrimSpace(string(text))))
	}
	return id, cluster, nil
}

// Submit runs sbatch once and never twice. Errors: *Refused when there is
// certainly no job, ErrMissing when there is no sbatch, ErrDoubtful whenever a
// job may exist: then LookUp the name first (SubmitOnce does).
func (c *Client) Submit(ctx context.Context, s Submission) (Receipt, error) {
	if err := s.Check(); err != nil {
		return Receipt{}, err
	}
	dir := s.Dir
	if dir == "" {
		dir = filepath.Dir(s.ScriptPath)
	}
	args := append([]string{"--parsable", "--job-name=" + s.JobName}, s.Options...)
	at := c.now()
	out, err := c.exec(ctx, c.submit, dir, "sbatch", append(args, s.ScriptPath)...)
	if err == nil {
		id, cluster, err := ParseReceipt(out.Stdout)
		if err != nil {
			return Receipt{}, fmt.Errorf("submit %s: %w: %w", s.JobName, ErrDoubtful, err)
		}
		return Receipt{JobID: id, Cluster: cluster, Submitted: at}, nil
	}
	if ctx.Err() == nil && errors.Is(err, ErrMissing) {
		return Receipt{}, fmt.Errorf("submit %s: %w", s.JobName, err)
	}
	ce, exited := errors.AsType[*CommandError](err)
	switch {
	case exited && ce.kind == nil:
		return Receipt{}, fmt.Errorf("submit %s: %w", s.JobName,
			&Refused{Reason: ce.Stderr, Advice: adviceFor(ce.Stderr), Code: ce.Code})
	case !exited && out.Code == -1 && ctx.Err() == nil && !errors.Is(err, ErrAway):
		// The process was never started.
		return Receipt{}, fmt.Errorf("submit %s: %w", s.JobName, err)
	}
	return Receipt{}, fmt.Errorf("submit %s: %w: %w", s.JobName, ErrDoubtful, err)
}

// Check refuses what would make the job unfindable or its options not its own.
func (s Submission) Check() error {
	if !nameForm.MatchString(s.JobName) {
		return fmt.Errorf("submit job: name %q: want letters, digits and . _ + - only", clip(s.JobName))
	}
	if !filepath.IsAbs(s.ScriptPath) {
		return fmt.Errorf("submit %s: script path %q is not absolute", s.JobName, clip(s.ScriptPath))
	}
	if _, err := checkOptions(s.Options); err != nil {
		return fmt.Errorf("submit %s: %w", s.JobName, err)
	}
	return nil
}
