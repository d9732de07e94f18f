package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"aifbench/pkg/slurm"
)

func nodeName(host string) string {
	short, _, _ := strings.Cut(host, ".")
	return short
}

// Cancel asks jobs to end. Like Slurm it answers at once for a job whose
// supervisor lives, which then sends TERM and after KillWait KILL: Observe
// until Ended. Where the supervisor was killed Cancel does that itself and
// returns when nothing is left. Unknown and ended jobs are no errors.
func (s *Scheduler) Cancel(ctx context.Context, ids []string) error {
	var errs []error
	for _, id := range ids {
		if err := s.cancel(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("cancel job %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Scheduler) cancel(ctx context.Context, id string) error {
	dir, err := s.dirOf(id)
	if err != nil {
		return err
	}
	j, err := readJSON[jobFile](dir, jobName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir + "/" + endName); err == nil {
		return nil
	}
	if j.Host != s.host {
		return &slurm.Refused{Reason: fmt.Sprintf("the job runs on %s", j.Host), Advice: "cancel it there", Code: 1}
	}
	// The request first, then the look at the supervisor: one that is about to
	// write its status reads the request right after.
	data, err := encode(cancelFile{SchemaVersion: schemaVersion, UID: os.Getuid(), At: s.cfg.Now().UTC()})
	if err != nil {
		return err
	}
	if err := createFile(dir, cancelName, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	status, err := readJSON[statusFile](dir, statusName)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.cfg.Now().Sub(j.Submitted) < startGrace:
		return nil // it will read the request when it starts
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && status.alive(s.boot):
		// CONT too: a stopped supervisor would never see the request.
		return errors.Join(
			ignoreDone(syscall.Kill(status.PID, syscall.SIGCONT)),
			ignoreDone(syscall.Kill(status.PID, syscall.SIGTERM)))
	}
	if _, err := os.Lstat(dir + "/" + endName); err == nil {
		return nil // it ended as we looked
	}
	return s.endOrphans(ctx, dir, j)
}

// endOrphans ends the processes of a job that lost its supervisor and records
// the end in its place.
func (s *Scheduler) endOrphans(ctx context.Context, dir string, j jobFile) error {
	deadline := time.Now().Add(s.cfg.KillWait)
	for first := true; ; first = false {
		list, err := members(0, j.Nonce)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		switch late := time.Since(deadline); {
		case late > 10*time.Second:
			return fmt.Errorf("%d processes outlive SIGKILL", len(list))
		case late >= 0:
			err = signalAll(list, syscall.SIGKILL)
		case first:
			err = errors.Join(signalAll(list, syscall.SIGCONT), signalAll(list, syscall.SIGTERM))
		}
		if err != nil {
			return err
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
	uid := os.Getuid()
	data, err := encode(endFile{
		SchemaVersion: schemaVersion, Nonce: j.Nonce, State: slurm.Cancelled, Cause: slurm.CauseCancelled,
		Signal: int(syscall.SIGKILL), CancelledBy: &uid, Ended: s.cfg.Now().UTC(), Message: "its supervisor was killed before",
	})
	if err != nil {
		return err
	}
	if err := createFile(dir, endName, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
