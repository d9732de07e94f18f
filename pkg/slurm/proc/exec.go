package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	defaultLimit = 64 << 20
	defaultGrace = 2 * time.Second
)

// Exec is the Runner of real processes. Every command gets a process group of
// its own, so that a deadline ends the helpers it started as well: the group is
// sent SIGTERM, then SIGKILL after Grace. The zero value is ready to use.
type Exec struct {
	// Limit is the most bytes kept of each stream; 0 means 64 MiB. A command
	// that writes more is killed and Run returns an *OverflowError.
	Limit int
	// Grace is the time between SIGTERM and SIGKILL; 0 means 2 s.
	Grace time.Duration
}

// OverflowError says that a command wrote more than Limit bytes to one stream.
type OverflowError struct {
	Name  string
	Limit int
}

// Error implements error.
func (e *OverflowError) Error() string {
	return fmt.Sprintf("run %s: output exceeds %d bytes", e.Name, e.Limit)
}

// Run implements Runner. What was captured is returned with every error.
func (x Exec) Run(ctx context.Context, c Cmd) (Output, error) {
	if c.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Deadline)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return Output{Code: -1}, fmt.Errorf("run %s: %w", c.Name, err)
	}
	limit, grace := x.Limit, x.Grace
	if limit <= 0 {
		limit = defaultLimit
	}
	if grace <= 0 {
		grace = defaultGrace
	}
	cmd, err := command(c)
	if err != nil {
		return Output{Code: -1}, err
	}
	overflow := make(chan struct{})
	once := sync.OnceFunc(func() { close(overflow) })
	stdout := &capped{limit: limit, full: once}
	stderr := &capped{limit: limit, full: once}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Wait gives up on the pipes this long after the child ended, should a
	// grandchild hold them open.
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return Output{Code: -1}, fmt.Errorf("start %s: %w", c.Name, err)
	}
	group := cmd.Process.Pid
	ended := make(chan struct{})
	var watch sync.WaitGroup
	var cause error
	watch.Go(func() {
		select {
		case <-ended:
			return
		case <-overflow:
			cause = &OverflowError{Name: c.Name, Limit: limit}
		case <-ctx.Done():
			cause = fmt.Errorf("run %s: %w", c.Name, ctx.Err())
		}
		_ = syscall.Kill(-group, syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		}
		// Unconditional: the leader may have ended and left members behind.
		_ = syscall.Kill(-group, syscall.SIGKILL)
	})
	waitErr := cmd.Wait()
	close(ended)
	watch.Wait()
	out := Output{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes(), Code: code(cmd)}
	if cause != nil {
		return out, cause
	}
	select {
	case <-overflow: // the child ended before the watcher saw the overflow
		return out, &OverflowError{Name: c.Name, Limit: limit}
	default:
	}
	if errors.Is(waitErr, exec.ErrWaitDelay) {
		// The command itself ended; what it left behind does not outlive it.
		_ = syscall.Kill(-group, syscall.SIGKILL)
		return out, nil
	}
	if _, exited := errors.AsType[*exec.ExitError](waitErr); waitErr != nil && !exited {
		return out, fmt.Errorf("run %s: %w", c.Name, waitErr)
	}
	return out, nil
}

// command resolves the name in the command's own PATH, never in ours.
func command(c Cmd) (*exec.Cmd, error) {
	file, err := LookPath(c.Name, value(c.Env, "PATH"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(file, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Dir = c.Dir
	cmd.Env = append([]string{}, c.Env...) // not nil: nil would inherit ours
	cmd.Stdin = c.Stdin
	return cmd, nil
}

// code is the exit status of a child that ended, or 128 plus its signal.
func code(cmd *exec.Cmd) int {
	if cmd.ProcessState == nil {
		return -1
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// capped keeps at most limit bytes and reports the first that does not fit.
type capped struct {
	buf   bytes.Buffer
	limit int
	full  func()
}

var errFull = errors.New("output limit reached")

func (w *capped) Write(p []byte) (int, error) {
	room := w.limit - w.buf.Len()
	if len(p) <= room {
		return w.buf.Write(p)
	}
	w.buf.Write(p[:max(room, 0)])
	w.full()
	return max(room, 0), errFull
}
