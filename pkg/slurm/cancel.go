package slurm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Cancel asks Slurm to end jobs, and repeats the request while the controller
// is away until the context ends. It is a request: Slurm answers success for
// unknown ids and takes KillWait to end a job, so Observe until Ended. Jobs of
// another user give *Refused.
func (c *Client) Cancel(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		if _, err := ParseID(id); err != nil {
			return fmt.Errorf("cancel job: %w", err)
		}
	}
	pause := 2 * time.Second
	for {
		_, err := c.run(ctx, "scancel", ids...)
		if err == nil {
			return nil
		}
		what := fmt.Sprintf("cancel job %s", strings.Join(ids, ","))
		ce, exited := errors.AsType[*CommandError](err)
		switch {
		case exited && ce.kind == nil && ce.Code != 8:
			if strings.Contains(strings.ToLower(ce.Stderr), "already completed") {
				return nil
			}
			return fmt.Errorf("%s: %w", what, &Refused{Reason: ce.Stderr, Code: ce.Code})
		case !exited && !errors.Is(err, ErrAway), errors.Is(err, ErrMissing):
			return fmt.Errorf("%s: %w", what, err)
		}
		if end := sleep(ctx, pause); end != nil {
			return fmt.Errorf("%s: %w: %w: %w", what, ErrAway, end, err)
		}
		pause = min(2*pause, 30*time.Second)
	}
}
