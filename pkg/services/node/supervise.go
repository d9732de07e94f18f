package node

import (
	"context"
	"errors"
)

// Supervise is the batch process of a run.
func Supervise(ctx context.Context, cfg Config) (exitCode int, err error) {
	return ExitFailed, errors.New("supervise: not written yet")
}
