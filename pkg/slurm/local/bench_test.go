package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/local"
)

// TestMain lets the test binary stand for aifbench: it supervises a job, or
// submits one and ends as a shell command does.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "runjob" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		code, err := local.RunJob(ctx, os.Args[2], os.Environ())
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	if len(os.Args) == 4 && os.Args[1] == "submit" {
		s, err := scheduler(os.Args[2], os.Args[0])
		if err == nil {
			_, err = s.Submit(context.Background(), slurm.Submission{ScriptPath: os.Args[3], JobName: "job-a"})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func scheduler(root, binary string) (*local.Scheduler, error) {
	return local.New(local.Config{
		Root: root, Binary: binary, Args: []string{"runjob"}, KillWait: 500 * time.Millisecond,
		Env: []string{"PATH=/usr/bin:/bin", "HOME=" + root, "SLURM_JOB_ID=999", "SBATCH_HOLD=1", "HF_TOKEN=canary", "KEEP=me"},
	})
}

// bench is one scheduler with a folder for scripts.
type bench struct {
	*testing.T
	*local.Scheduler
	root, dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, root: filepath.Join(t.TempDir(), "it's a $ROOT"), dir: t.TempDir()}
	if b.Scheduler, err = scheduler(b.root, exe); err != nil {
		t.Fatal(err)
	}
	return b
}

// script writes a job with these directives and this body.
func (b *bench) script(directives, body string) string {
	b.Helper()
	text := "#!/bin/bash\n#SBATCH --output=" + b.dir + "/out\n"
	for _, d := range strings.Fields(directives) {
		text += "#SBATCH " + d + "\n"
	}
	path := filepath.Join(b.dir, "job.sbatch")
	if err := os.WriteFile(path, []byte(text+body+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func (b *bench) submit(directives, body string) slurm.Ref {
	b.Helper()
	r, err := b.Submit(b.Context(), slurm.Submission{ScriptPath: b.script(directives, body), JobName: "job-a"})
	if err != nil {
		b.Fatal(err)
	}
	return slurm.Ref{Name: "job-a", JobID: r.JobID, SubmittedAfter: r.Submitted}
}

func (b *bench) look(ref slurm.Ref) (slurm.Observation, []slurm.Warning) {
	b.Helper()
	got, warns, err := b.Observe(b.Context(), []slurm.Ref{ref})
	if err != nil {
		b.Fatal(err)
	}
	return got[ref.Name], warns
}

// until polls until ok; the deadline is for a job that hangs, not for speed.
func (b *bench) until(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s: not within a minute; output %q", what, b.output())
		}
	}
}

func (b *bench) ended(ref slurm.Ref) slurm.Observation {
	b.Helper()
	var o slurm.Observation
	b.until("end of job", func() bool { o, _ = b.look(ref); return o.Ended })
	return o
}

func (b *bench) output() string {
	out, err := os.ReadFile(filepath.Join(b.dir, "out"))
	if err != nil {
		return ""
	}
	return string(out)
}

// says waits until the job has printed a line and returns the rest of it.
func (b *bench) says(word string) string {
	b.Helper()
	rest := ""
	b.until(word, func() bool {
		for line := range strings.Lines(b.output()) {
			if after, ok := strings.CutPrefix(line, word+" "); ok && strings.HasSuffix(after, "\n") {
				rest = strings.TrimSpace(after)
				return true
			}
		}
		return false
	})
	return rest
}

func (b *bench) pid(word string) int {
	b.Helper()
	n, err := strconv.Atoi(b.says(word))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func (b *bench) dead(pid int) {
	b.Helper()
	b.until(fmt.Sprintf("end of process %d", pid), func() bool { return !lives(pid) })
}

// field reads one field of a file of the job directory.
func (b *bench) field(ref slurm.Ref, file, name string) any {
	b.Helper()
	m := map[string]any{}
	b.until(file, func() bool {
		data, err := os.ReadFile(filepath.Join(b.root, ref.JobID, file))
		return err == nil && json.Unmarshal(data, &m) == nil
	})
	return m[name]
}

func (b *bench) setField(ref slurm.Ref, file, name string, value any) {
	b.Helper()
	path := filepath.Join(b.root, ref.JobID, file)
	data, err := os.ReadFile(path)
	m := map[string]any{}
	if err := errors.Join(err, json.Unmarshal(data, &m)); err != nil {
		b.Fatal(err)
	}
	m[name] = value
	if data, err = json.Marshal(m); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) supervisor(ref slurm.Ref) int {
	b.Helper()
	return int(b.field(ref, "status.json", "pid").(float64))
}

// verdict is an observation in short.
func verdict(o slurm.Observation) string {
	exit := "-"
	if o.ExitCode != nil {
		exit = fmt.Sprintf("%d:%d", *o.ExitCode, *o.Signal)
	}
	return fmt.Sprintf("%s %s %s", o.State, o.Cause, exit)
}
