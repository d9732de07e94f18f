// Package local owns the scheduler for machines without Slurm: it runs the same
// rendered script as a detached group of processes and answers the same
// questions as slurm.Client. A job is a directory under one root; its identity
// is the supervisor's pid, that process's start time, the boot and a nonce, so
// that a reused pid is never taken for a job. It must not know what a job is
// for.
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// Config is what a Scheduler needs of the outside.
type Config struct {
	// Root is the absolute directory of the jobs, one sub-directory a job.
	Root string
	// Binary is the absolute path of the program that runs a job: it is called
	// with Args and the job's directory and must call RunJob.
	Binary string
	// Args come before the job's directory; nil means node job --dir.
	Args []string
	// Env is the caller's environment, which becomes the job's as it would
	// under Slurm with --export=ALL: without SLURM_*, without secrets.
	Env []string
	// KillWait is the time between TERM and KILL; 0 means 10 s.
	KillWait time.Duration
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Scheduler is the local scheduler. It keeps nothing in memory: any process
// with the same Root sees the same jobs.
type Scheduler struct {
	cfg  Config
	host string
	boot string
}

// startGrace is how long a job may be without a supervisor after its
// submission: the supervisor writes its status first of all.
const startGrace = 30 * time.Second

// New makes a Scheduler and its root directory.
func New(cfg Config) (*Scheduler, error) {
	if !filepath.IsAbs(cfg.Root) || !filepath.IsAbs(cfg.Binary) {
		return nil, fmt.Errorf("local scheduler: root %q and binary %q must be absolute", cfg.Root, cfg.Binary)
	}
	if cfg.Args == nil {
		cfg.Args = []string{"node", "job", "--dir"}
	}
	if cfg.KillWait <= 0 {
		cfg.KillWait = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("local scheduler: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("local scheduler: host name: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("local scheduler: %w", err)
	}
	return &Scheduler{cfg: cfg, host: host, boot: boot}, nil
}

// Ping tells whether jobs can be made here.
func (s *Scheduler) Ping(context.Context) error {
	f, err := os.CreateTemp(s.cfg.Root, ".ping-*")
	if err != nil {
		return fmt.Errorf("local scheduler: %w: %w", slurm.ErrAway, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Submit starts a job. Errors are those of slurm.Client.Submit; what the local
// scheduler cannot do (several nodes, arrays, dependencies) is *slurm.Refused.
func (s *Scheduler) Submit(ctx context.Context, sub slurm.Submission) (slurm.Receipt, error) {
	if err := sub.Check(); err != nil {
		return slurm.Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return slurm.Receipt{}, fmt.Errorf("submit %s: %w", sub.JobName, err)
	}
	refuse := func(reason string) (slurm.Receipt, error) {
		return slurm.Receipt{}, fmt.Errorf("submit %s: %w", sub.JobName, &slurm.Refused{Reason: reason, Code: 1})
	}
	script, err := os.ReadFile(sub.ScriptPath)
	if err != nil {
		return refuse(err.Error())
	}
	_, err = parseOptions(script, sub.Options)
	if err != nil {
		return refuse(err.Error())
	}
	if _, err := interpreter(script); err != nil {
		return refuse(err.Error())
	}
	dir := sub.Dir
	if dir == "" {
		dir = filepath.Dir(sub.ScriptPath)
	}
	at := s.cfg.Now()
	j := jobFile{
		SchemaVersion: schemaVersion, Name: sub.JobName, Nonce: rand.Text(), UID: os.Getuid(), Host: s.host,
		BootID: s.boot, Submitted: at.UTC(), SubmitDir: dir, Options: sub.Options, KillWaitS: s.cfg.KillWait.Seconds(),
	}
	jobDir, id, err := s.makeDir()
	if err != nil {
		return slurm.Receipt{}, fmt.Errorf("submit %s: %w", sub.JobName, err)
	}
	j.ID = id
	if err := s.launch(jobDir, j, script); err != nil {
		return slurm.Receipt{}, errors.Join(fmt.Errorf("submit %s: %w", sub.JobName, err), os.RemoveAll(jobDir))
	}
	return slurm.Receipt{JobID: strconv.FormatInt(id, 10), Submitted: at}, nil
}

// makeDir makes the directory of the next free id. mkdir is the lock.
func (s *Scheduler) makeDir() (string, int64, error) {
	ids, err := s.ids()
	if err != nil {
		return "", 0, err
	}
	next := int64(1)
	if len(ids) > 0 {
		next = ids[len(ids)-1] + 1
	}
	for ; ; next++ {
		dir := filepath.Join(s.cfg.Root, strconv.FormatInt(next, 10))
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return dir, next, err
	}
}

// ids lists the jobs there are, in order.
func (s *Scheduler) ids() ([]int64, error) {
	entries, err := os.ReadDir(s.cfg.Root)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, e := range entries {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil && n > 0 && e.IsDir() {
			ids = append(ids, n)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// launch writes the job's files and starts its supervisor in a session of its
// own, so that the shell that asked may go.
func (s *Scheduler) launch(dir string, j jobFile, script []byte) error {
	// A copy, as sbatch keeps one: editing the script changes no job.
	if err := writeFile(dir, scriptName, script); err != nil {
		return err
	}
	if err := writeJSON(dir, jobName, j); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	env := append(slurm.JobEnv(s.cfg.Env), nonceVar+"="+j.Nonce)
	_, err = proc.Start(proc.StartSpec{
		Cmd:    proc.Cmd{Name: s.cfg.Binary, Args: append(slices.Clone(s.cfg.Args), dir), Dir: dir, Env: env},
		Stdout: log, Stderr: log, Setsid: true,
	})
	return err
}
