package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

const (
	// tick is how often a supervisor looks for a cancel request; the signal
	// that comes with one usually wakes it before.
	tick = 250 * time.Millisecond
	// reapEvery is how often orphans that ended are collected.
	reapEvery = 5 * time.Second
	// outputPathSignal is what Slurm records when a job's output cannot be written.
	outputPathSignal = 53
)

// RunJob is the supervisor of one job: it runs the script of the job directory
// to its end, keeps the time limit, obeys cancel requests, ends every process
// the script left behind and records how it went. env is this process's
// environment, which becomes the script's with Slurm's variables added. When
// ctx ends the job is ended like a cancelled one. The exit code is the
// script's, or 128 plus the signal that ended it; the error is non-nil only
// when the job could not be run or recorded.
//
// It makes the calling process a subreaper, so call it from a process that does
// nothing else.
func RunJob(ctx context.Context, dir string, env []string) (int, error) {
	j, err := readJSON[jobFile](dir, jobName)
	if err != nil {
		return 1, fmt.Errorf("run job: %w", err)
	}
	script, err := os.ReadFile(filepath.Join(dir, scriptName))
	if err != nil {
		return 1, fmt.Errorf("run job %d: %w", j.ID, err)
	}
	opts, err := parseOptions(script, j.Options)
	if err != nil {
		return 1, fmt.Errorf("run job %d: %w", j.ID, err)
	}
	// Orphans of the script become our children instead of init's, so that
	// none escapes by forking twice.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1, fmt.Errorf("run job %d: become subreaper: %w", j.ID, err)
	}
	s := &supervisor{dir: dir, job: j, opts: opts, wait: time.Duration(j.KillWaitS * float64(time.Second))}
	if err := s.claim(); err != nil {
		return 1, fmt.Errorf("run job %d: %w", j.ID, err)
	}
	end := s.run(ctx, script, env)
	end.SchemaVersion, end.Nonce, end.Ended = schemaVersion, j.Nonce, time.Now().UTC()
	code := end.ExitCode
	if end.Signal > 0 {
		code = 128 + end.Signal
	}
	if err := writeJSON(dir, endName, end); err != nil {
		return code, fmt.Errorf("run job %d: %w", j.ID, err)
	}
	return code, nil
}

// supervisor is one RunJob.
type supervisor struct {
	dir     string
	job     jobFile
	opts    options
	wait    time.Duration // from TERM to KILL
	started time.Time
	node    string
}

// claim notes this process as the job's, once: a second supervisor of the same
// directory fails here.
func (s *supervisor) claim() error {
	me, err := readProcess(os.Getpid())
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s.node, _, _ = strings.Cut(host, ".")
	s.started = time.Now()
	st := statusFile{
		SchemaVersion: schemaVersion, Nonce: s.job.Nonce, PID: me.pid, StartTicks: me.start,
		BootID: boot, Started: s.started.UTC(),
	}
	if s.opts.limit > 0 {
		st.LimitAt = st.Started.Add(s.opts.limit)
	}
	data, err := encode(st)
	if err != nil {
		return err
	}
	return createFile(s.dir, statusName, data)
}

// cancelled reads the cancel request; nil when there is none.
func (s *supervisor) cancelled() *cancelFile {
	c, err := readJSON[cancelFile](s.dir, cancelName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil { // unreadable: it was meant all the same
		return &cancelFile{UID: s.job.UID}
	}
	return &c
}

// run starts the script and waits until nothing of it is left.
func (s *supervisor) run(ctx context.Context, script []byte, env []string) endFile {
	// After the status is written: a cancel either sees our status or is seen here.
	if c := s.cancelled(); c != nil {
		return endFile{State: slurm.Cancelled, Cause: slurm.CauseCancelled, CancelledBy: &c.UID}
	}
	cwd := s.job.SubmitDir
	if s.opts.chdir != "" {
		cwd = s.opts.chdir
	}
	stdout, stderr, err := s.outputs(cwd)
	if err != nil {
		return endFile{State: slurm.Failed, Cause: slurm.CauseOutputPath, Signal: outputPathSignal, Message: err.Error()}
	}
	defer stdout.Close()
	defer stderr.Close()
	argv, err := interpreter(script)
	if err != nil {
		return endFile{State: slurm.Failed, Cause: slurm.CauseExit, ExitCode: 1, Message: err.Error()}
	}
	argv = append(argv, filepath.Join(s.dir, scriptName))
	p, err := proc.Start(proc.StartSpec{
		Cmd:    proc.Cmd{Name: argv[0], Args: argv[1:], Dir: cwd, Env: s.environment(env, cwd)},
		Stdout: stdout, Stderr: stderr,
	})
	if err != nil {
		return endFile{State: slurm.NodeFail, Cause: slurm.CauseNodeFailure, ExitCode: 1, Message: err.Error()}
	}
	return s.watch(ctx, p)
}

// watch follows the script through limit, cancel and end.
func (s *supervisor) watch(ctx context.Context, p *proc.Process) endFile {
	var end endFile // State is empty as long as nobody ends the job
	var warn, limit, kill <-chan time.Time
	if s.opts.limit > 0 {
		limit = time.After(time.Until(s.started.Add(s.opts.limit)))
		if s.opts.signal != 0 {
			warn = time.After(time.Until(s.started.Add(s.opts.limit - s.opts.lead)))
		}
	}
	ticker, reaper := time.NewTicker(tick), time.NewTicker(reapEvery)
	defer ticker.Stop()
	defer reaper.Stop()
	stop := func(state slurm.State, cause slurm.Cause, by *int) {
		if end.State != "" {
			return
		}
		end.State, end.Cause, end.CancelledBy = state, cause, by
		s.note(s.signal(p, syscall.SIGCONT), s.signal(p, syscall.SIGTERM))
		kill = time.After(s.wait)
	}
	done := ctx.Done()
	for {
		select {
		case <-p.Done():
			code, err := p.Wait()
			s.note(err)
			if code > 128 {
				end.Signal = code - 128
			} else {
				end.ExitCode = code
			}
			s.note(s.sweep(p))
			// A cancel may have arrived as the script was ending by itself.
			switch {
			case end.State != "":
			case code == 0:
				end.State = slurm.Completed
			case code > 128:
				end.State, end.Cause = slurm.Failed, slurm.CauseSignal
			default:
				end.State, end.Cause = slurm.Failed, slurm.CauseExit
			}
			return end
		case <-warn:
			s.note(s.warn(p))
		case <-limit:
			stop(slurm.Timeout, slurm.CauseTimeLimit, nil)
		case <-kill:
			s.note(s.signal(p, syscall.SIGKILL))
			kill = time.After(time.Second)
		case <-done:
			done = nil
			if c := s.cancelled(); c != nil {
				stop(slurm.Cancelled, slurm.CauseCancelled, &c.UID)
			} else {
				stop(slurm.Cancelled, slurm.CauseCancelled, nil)
			}
		case <-ticker.C:
			if c := s.cancelled(); c != nil {
				stop(slurm.Cancelled, slurm.CauseCancelled, &c.UID)
			}
		case <-reaper.C:
			s.note(reap(p.PID()))
		}
	}
}

// warn sends the signal of --signal: to the script alone, or to all but it.
func (s *supervisor) warn(p *proc.Process) error {
	if s.opts.batchOnly {
		return ignoreDone(syscall.Kill(p.PID(), s.opts.signal))
	}
	list, err := members(os.Getpid(), s.job.Nonce)
	list = slices.DeleteFunc(list, func(q process) bool { return q.pid == p.PID() })
	return errors.Join(err, signalAll(list, s.opts.signal))
}

// signal reaches the whole group at once, then what left the group.
func (s *supervisor) signal(p *proc.Process, sig syscall.Signal) error {
	err := p.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	list, listErr := members(os.Getpid(), s.job.Nonce)
	list = slices.DeleteFunc(list, func(q process) bool {
		pgid, err := syscall.Getpgid(q.pid)
		return err == nil && pgid == p.PID() // has it already
	})
	return errors.Join(err, listErr, signalAll(list, sig))
}

// sweep ends what the script left behind: TERM, then KILL after the wait, as
// Slurm does when the batch step ends.
func (s *supervisor) sweep(p *proc.Process) error {
	deadline := time.Now().Add(s.wait)
	killed := false
	for first := true; ; first = false {
		if err := reap(0); err != nil {
			return err
		}
		list, err := members(os.Getpid(), s.job.Nonce)
		if err != nil || len(list) == 0 {
			return err
		}
		late := time.Since(deadline)
		switch {
		case late > 10*time.Second:
			return fmt.Errorf("%d processes outlive SIGKILL", len(list))
		case late >= 0:
			killed = true
			err = signalAll(list, syscall.SIGKILL)
		case first && !killed:
			err = errors.Join(signalAll(list, syscall.SIGCONT), signalAll(list, syscall.SIGTERM))
		}
		if err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// reap collects orphans that ended. The script itself is left to its owner:
// collecting it here would lose its exit code.
func reap(except int) error {
	all, err := processes()
	if err != nil {
		return err
	}
	self := os.Getpid()
	for _, p := range all {
		if p.parent == self && p.state == 'Z' && p.pid != except {
			// ECHILD: collected meanwhile.
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// note keeps what went wrong while a job was being ended: the job goes on, and
// the record of it is the supervisor's log, which is stderr's file.
func (s *supervisor) note(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		f, openErr := os.OpenFile(filepath.Join(s.dir, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if openErr != nil {
			return // the job directory is gone; there is nowhere to tell
		}
		defer f.Close()
		fmt.Fprintf(f, "%s %v\n", time.Now().UTC().Format(time.RFC3339), err)
	}
}

// outputs opens the job's output files as Slurm does: truncated, in the working
// directory when the path is relative.
func (s *supervisor) outputs(cwd string) (stdout, stderr *os.File, err error) {
	if info, err := os.Stat(cwd); err != nil || !info.IsDir() {
		return nil, nil, fmt.Errorf("working directory %s is unusable: %w", cwd, errors.Join(err, syscall.ENOTDIR))
	}
	open := func(pattern string) (*os.File, error) {
		path := expandPath(pattern, s.job, s.node)
		if !filepath.IsAbs(path) {
			path = filepath.Join(cwd, path)
		}
		return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	}
	if stdout, err = open(s.opts.output); err != nil {
		return nil, nil, err
	}
	if s.opts.errput == "" || s.opts.errput == s.opts.output {
		fd, err := syscall.Dup(int(stdout.Fd()))
		if err != nil {
			return nil, nil, errors.Join(err, stdout.Close())
		}
		syscall.CloseOnExec(fd)
		return stdout, os.NewFile(uintptr(fd), stdout.Name()), nil
	}
	if stderr, err = open(s.opts.errput); err != nil {
		return nil, nil, errors.Join(err, stdout.Close())
	}
	return stdout, stderr, nil
}

// environment adds the variables a batch script reads under Slurm.
func (s *supervisor) environment(env []string, cwd string) []string {
	cpus := runtime.NumCPU()
	tasks := max(1, s.opts.tasks, s.opts.tasksPerNode)
	id := strconv.FormatInt(s.job.ID, 10)
	vars := [][2]string{
		{"SLURM_JOB_ID", id},
		{"SLURM_JOBID", id},
		{"SLURM_JOB_NAME", s.job.Name},
		{"SLURM_JOB_NODELIST", s.node},
		{"SLURM_NODELIST", s.node},
		{"SLURMD_NODENAME", s.node},
		{"SLURM_NNODES", "1"},
		{"SLURM_JOB_NUM_NODES", "1"},
		{"SLURM_NODEID", "0"},
		{"SLURM_NTASKS", strconv.Itoa(tasks)},
		{"SLURM_NPROCS", strconv.Itoa(tasks)},
		{"SLURM_TASKS_PER_NODE", strconv.Itoa(tasks)},
		{"SLURM_PROCID", "0"},
		{"SLURM_LOCALID", "0"},
		{"SLURM_CPUS_ON_NODE", strconv.Itoa(cpus)},
		{"SLURM_JOB_CPUS_PER_NODE", strconv.Itoa(cpus)},
		{"SLURM_SUBMIT_DIR", s.job.SubmitDir},
		{"SLURM_SUBMIT_HOST", s.node},
		{"SLURM_CLUSTER_NAME", "local"},
		{"SLURM_JOB_PARTITION", "local"},
		{"SLURM_JOB_UID", strconv.Itoa(s.job.UID)},
		{"SLURM_JOB_USER", userName(s.job.UID)},
		{"SLURM_RESTART_COUNT", "0"},
		{"SLURM_JOB_START_TIME", strconv.FormatInt(s.started.Unix(), 10)},
		{nonceVar, s.job.Nonce},
		{"PWD", cwd},
	}
	if s.opts.cpusPerTask > 0 {
		vars = append(vars, [2]string{"SLURM_CPUS_PER_TASK", strconv.Itoa(s.opts.cpusPerTask)})
	}
	if s.opts.limit > 0 {
		vars = append(vars, [2]string{"SLURM_JOB_END_TIME", strconv.FormatInt(s.started.Add(s.opts.limit).Unix(), 10)})
	}
	ours := map[string]bool{}
	for _, v := range vars {
		ours[v[0]] = true
	}
	out := slices.DeleteFunc(slices.Clone(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return ours[name] || strings.HasPrefix(name, "SLURM_") && name != "SLURM_CONF"
	})
	for _, v := range vars {
		out = append(out, v[0]+"="+v[1])
	}
	return out
}
