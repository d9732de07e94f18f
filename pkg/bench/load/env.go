// Package load owns what every kind of load shares: the environment a
// generator runs in, schedules, pacing, workers, and the account of how well
// the generator itself kept up. It must not know Slurm, cobra, or what one
// operation does.
package load

import (
	"errors"
	"log/slog"
	"time"

	"aifbench/pkg/metrics/result"
)

// Causes a generator finds in context.Cause(ctx) when it is told to stop
// early. Both drain and leave a partial result; they differ in the verdict.
var (
	// ErrInterrupted: a person or a signal ended the run; verdict interrupted.
	ErrInterrupted = errors.New("interrupted")
	// ErrTimeLimit: the job's time limit is near; verdict truncated.
	ErrTimeLimit = errors.New("time limit near")
)

// Env is what a generator is given besides its configuration.
type Env struct {
	// Dir is the bench's own run directory: records.* and progress.json go here.
	Dir string
	// Run is the id of the bench's run, Target of the service's run ("" for a bare URL or path).
	Run    string
	Target string
	// Engine is the engine of the service as its run recorded it ("" unknown).
	Engine string
	// Log takes talk; never results.
	Log *slog.Logger
	// Progress is told a few times a second at most how far the run is. Nil is allowed.
	Progress func(Progress)
	// DrainLimit bounds how long work in flight is waited for after the context ends.
	DrainLimit time.Duration
}

// Progress is a snapshot for people who watch.
type Progress struct {
	Point  string  `json:"point"`
	Phase  string  `json:"phase"`
	Done   int64   `json:"done"`
	Failed int64   `json:"failed"`
	Total  int64   `json:"total"` // 0 when bounded by time
	Share  float64 `json:"share"` // 0..1 of the whole bench
}

// StopStatus turns the cause of an early end into the status of its verdict.
func StopStatus(cause error) result.Status {
	if errors.Is(cause, ErrTimeLimit) {
		return result.Truncated
	}
	return result.Interrupted
}
