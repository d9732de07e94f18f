package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// Causes of a cancelled context. A caller that only saw SIGTERM cancels with
// ErrStop; the supervisor itself tells a user's stop from the scheduler's
// warning before the time limit, because both arrive as the same signal.
var (
	// ErrStop: the job was asked to end.
	ErrStop = errors.New("stop requested")
	// ErrTimeLimit: the job's time limit is near.
	ErrTimeLimit = errors.New("time limit near")
)

// Exit codes of the batch process. They are codes of the job, not of the
// CLI's table.
const (
	// ExitTruncated says that the time limit ended the run.
	ExitTruncated = 75
	// ExitFailed stands for every failure that brings no code of its own.
	ExitFailed = 1
)

// Starter starts a long-lived child that leads a process group; proc.Start is one.
type Starter func(proc.StartSpec) (*proc.Process, error)

// Config is what a supervisor or an agent is given. Dir, Plan, Start, Log and
// Bin are required.
type Config struct {
	Dir  run.Dir
	Plan Plan
	// Start starts engines, generators and srun.
	Start Starter
	// Runner runs nvidia-smi; nil means that no GPU is looked for.
	Runner proc.Runner
	// Environ is the whole environment of the job; engines inherit it.
	Environ []string
	// Hostname is the fallback where SLURMD_NODENAME is not set.
	Hostname string
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Log takes talk.
	Log *slog.Logger
	// Bin is this program, for generators and agents.
	Bin string
	// ScratchRoot is a node-local directory; "" means /tmp.
	ScratchRoot string
	// DoorAddr is the address the door listens on; "" chooses the node's own.
	DoorAddr string
	// Poll is how often requests are looked for; 0 means 500 ms.
	Poll time.Duration
	// DrainLimit bounds how long a generator may take to save after it was
	// told to stop; 0 means 20 s, inside the scheduler's usual 30 s to KILL.
	DrainLimit time.Duration
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Start == nil:
		return c, errors.New("supervise: no starter")
	case c.Log == nil:
		return c, errors.New("supervise: no log")
	case c.Dir.Path == "":
		return c, errors.New("supervise: no run directory")
	}
	if err := c.Plan.check(); err != nil {
		return c, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ScratchRoot == "" {
		c.ScratchRoot = "/tmp"
	}
	if c.Poll <= 0 {
		c.Poll = 500 * time.Millisecond
	}
	if c.DrainLimit <= 0 {
		c.DrainLimit = 20 * time.Second
	}
	if n := c.env("SLURMD_NODENAME"); n != "" {
		c.Hostname = n
	}
	if c.Hostname == "" {
		c.Hostname = "localhost"
	}
	return c, nil
}

// env returns the last value of a variable of the job's environment.
func (c Config) env(name string) string {
	out := ""
	for _, e := range c.Environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			out = v
		}
	}
	return out
}

// ReadPlan reads node.json of a run.
func ReadPlan(d run.Dir) (Plan, error) {
	var p Plan
	if err := run.ReadJSON(d.File(run.PlanFile), &p); err != nil {
		return p, fmt.Errorf("plan of %s: %w", d.ID(), err)
	}
	if err := p.check(); err != nil {
		return p, fmt.Errorf("plan of %s: %w", d.ID(), err)
	}
	return p, nil
}

// sleep waits for d or the end of the context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
