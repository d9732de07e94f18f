package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// StartSpec is a child that outlives the call that starts it.
type StartSpec struct {
	// Cmd is what runs; its Deadline must be 0, the owner ends the child.
	Cmd Cmd
	// Stdout and Stderr are handed to the child; nil means /dev/null.
	Stdout, Stderr *os.File
	// Setsid gives the child a session of its own, so that it survives the
	// terminal and the shell of its starter. It always leads a process group.
	Setsid bool
	// CPUs binds the child and all it starts to these logical CPUs; empty
	// leaves the affinity as it is.
	CPUs []int
}

// Process is a started child and its process group.
type Process struct {
	pid  int
	cmd  *exec.Cmd
	done chan struct{}
	code int
	err  error
}

// Start starts a long-lived child. One goroutine waits for it until it ends.
func Start(s StartSpec) (*Process, error) {
	if s.Cmd.Deadline != 0 {
		return nil, fmt.Errorf("start %s: a long-lived child has no deadline", s.Cmd.Name)
	}
	cmd, err := command(s.Cmd)
	if err != nil {
		return nil, err
	}
	// A typed nil in an io.Writer is not nil: assign only what is there.
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: s.Setsid, Setpgid: !s.Setsid}
	if err := startOn(cmd, s.CPUs); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Cmd.Name, err)
	}
	p := &Process{pid: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := cmd.Wait()
		p.code = code(cmd)
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			p.err = fmt.Errorf("wait for %s: %w", s.Cmd.Name, err)
		}
	}()
	return p, nil
}

// startOn starts cmd from a thread bound to cpus: a child inherits the affinity
// of the thread that forks it, so it is bound from its first instruction.
func startOn(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	var want, had unix.CPUSet
	for _, cpu := range cpus {
		if cpu < 0 || cpu >= len(want)*int(bitsPerWord) {
			return fmt.Errorf("bind to CPU %d: no such CPU", cpu)
		}
		want.Set(cpu)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.SchedGetaffinity(0, &had); err != nil {
			runtime.UnlockOSThread()
			errs <- fmt.Errorf("read CPU affinity: %w", err)
			return
		}
		if err := unix.SchedSetaffinity(0, &want); err != nil {
			runtime.UnlockOSThread()
			errs <- fmt.Errorf("bind to CPUs %v: %w", cpus, err)
			return
		}
		err := cmd.Start()
		// A thread that cannot be unbound stays locked and dies with this
		// goroutine, so no other goroutine ever runs on it.
		if unix.SchedSetaffinity(0, &had) == nil {
			runtime.UnlockOSThread()
		}
		errs <- err
	}()
	return <-errs
}

const bitsPerWord = 64

// PID is the process id of the child, which is also its process group.
func (p *Process) PID() int { return p.pid }

// Signal sends sig to the whole process group, the leader's leftovers
// included. It returns os.ErrProcessDone when the group is empty.
func (p *Process) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal process group %d: unsupported signal %v", p.pid, sig)
	}
	err := syscall.Kill(-p.pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("signal process group %d: %w", p.pid, err)
	}
	return nil
}

// Done is closed when the child has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until the child ended. The code is its exit status, or 128 plus
// the signal that ended it; the error is nil whatever the code.
func (p *Process) Wait() (int, error) {
	<-p.done
	return p.code, p.err
}
