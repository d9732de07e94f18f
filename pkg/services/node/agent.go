package node

import (
	"context"
	"errors"
)

// Agent is the supervisor's hand on another node of the job.
func Agent(ctx context.Context, cfg Config) (exitCode int, err error) {
	return ExitFailed, errors.New("agent: not written yet")
}
