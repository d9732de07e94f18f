package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aifbench/pkg/bench/fs/datadir"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/result"
)

// coarse is how long two files must be apart for their times to differ. Local
// file systems stamp by the kernel's tick, network ones may keep whole seconds.
func coarse(fsType string) time.Duration {
	if local(fsType) || memory(fsType) {
		return 20 * time.Millisecond
	}
	return 1100 * time.Millisecond
}

// local tells file systems whose reads from a device the kernel counts for
// this process.
func local(fsType string) bool {
	switch fsType {
	case "ext4", "xfs", "btrfs", "f2fs":
		return true
	}
	return false
}

func memory(fsType string) bool { return fsType == "tmpfs" || fsType == "ramfs" }

// runNative runs the built-in engine and fills the point. stuck tells that
// ranks were left behind in the kernel.
func runNative(ctx context.Context, cfg Config, env load.Env, dir *datadir.Dir, layout Layout, point *result.Point) (stuck bool, err error) {
	w, err := record.Create(record.Path(env.Dir, phases.RecordKind), record.Header{
		Kind: phases.RecordKind, Columns: phases.Columns(),
		Meta: map[string]string{
			"engine": EngineNative, "run": env.Run, "fs_type": layout.FSType,
			"started": point.Window.Start.Format(time.RFC3339Nano),
			"direct":  fmt.Sprint(cfg.Direct), "procs": fmt.Sprint(cfg.Procs),
		},
	})
	if err != nil {
		return false, err
	}
	total := float64(len(phases.Order()))
	index := 0
	tell := func(phase string, done int64) {
		if env.Progress != nil {
			env.Progress(load.Progress{Point: EngineNative, Phase: phase, Done: done, Share: float64(index) / total})
		}
	}
	outcomes, err := phases.New(dir.Fd(), cfg.plan(), env.DrainLimit, coarse(layout.FSType)).Run(ctx, phases.Watch{
		Begin: func(i int, phase string) {
			index = i
			env.Log.Info("phase", "name", phase, "number", i+1)
			tell(phase, 0)
		},
		Progress: tell,
		Finish: func(o phases.Outcome) error {
			// A row a rank and phase, on disk before the next phase begins: a
			// killed run keeps what had finished.
			for _, r := range o.Rows {
				if err := w.Append(r.Encode()); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	})
	stuck = errors.Is(err, phases.ErrStuck)
	if stuck {
		err = nil // the outcomes say it
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return stuck, err
	}
	stopped := result.Interrupted
	if ctx.Err() != nil {
		stopped = load.StopStatus(context.Cause(ctx))
	}
	judgeNative(outcomes, layout.FSType, cfg.Direct, stopped, point)
	return stuck, nil
}
