package vector

import (
	"context"
	"errors"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// Run measures the target as cfg says and returns the result. The error is
// non-nil only when there is no result to speak of; a server that fails is a
// result with a verdict.
func Run(ctx context.Context, cfg Config, env load.Env) (result.Result, error) {
	if err := cfg.Validate(); err != nil {
		return result.Result{}, err
	}
	return result.Result{}, errors.New("run vector engine: not built yet")
}
