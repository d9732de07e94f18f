package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/local"
	"aifbench/pkg/slurm/proc"
)

// The scheduler is the one SubmitOnce wants.
var _ slurm.Scheduler = (*local.Scheduler)(nil)

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ directives, body, want string }{
		"completes":         {"", "true", "COMPLETED  0:0"},
		"exit code":         {"", "exit 7", "FAILED exit_code 7:0"},
		"killed":            {"", "kill -9 $$", "FAILED signal 0:9"},
		"bad working dir":   {"--chdir=/nonexistent", "true", "FAILED output_path 0:53"},
		"bad output":        {"--output=/nonexistent/x", "true", "FAILED output_path 0:53"},
		"time limit":        {"--time=0:01 --signal=none", "sleep 300 & wait", "TIMEOUT time_limit 0:15"},
		"ignores the limit": {"--time=0:01", "trap '' TERM; while :; do sleep 0.1; done", "TIMEOUT time_limit 0:9"},
		"obeys the warning": {"--time=1:00 --signal=B:TERM@59", "trap 'exit 75' TERM; sleep 300 & wait", "FAILED exit_code 75:0"},
		"warns by another signal": {
			"--time=1:00 --signal=B:USR1@59", "trap 'exit 76' USR1; sleep 300 & wait", "FAILED exit_code 76:0",
		},
		"warns the steps only": {
			"--time=1:00 --signal=USR1@59", "bash -c 'trap \"exit 9\" USR1; sleep 300 & wait'; exit $?", "FAILED exit_code 9:0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if name == "time limit" {
				tt.directives = "--time=0:01"
			}
			o := b.ended(b.submit(tt.directives, tt.body))
			if got := verdict(o); got != tt.want {
				t.Errorf("%s (%s), want %s", got, o.Reason, tt.want)
			}
			if o.Submit.IsZero() || o.Start.IsZero() || o.End.Before(o.Start) || o.Succeeded() != (name == "completes") {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestWhatTheScriptSees(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ref := b.submit("--time=5:00 --cpus-per-task=3 --ntasks-per-node=2 --error="+b.dir+"/%x-%j-%%.err",
		`echo "env $SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_NNODES $SLURM_NTASKS $SLURM_CPUS_PER_TASK $((SLURM_JOB_END_TIME - SLURM_JOB_START_TIME)) $SLURM_PROCID"
echo "nodes $([ "$SLURM_JOB_NODELIST" = "$(hostname -s)" ] && echo same) $([ "$SLURM_CPUS_ON_NODE" -ge 1 ] && echo cpus)"
echo "dir $([ "$SLURM_SUBMIT_DIR" = "$PWD" ] && echo same)"
echo "leaks ${HF_TOKEN-none} ${SBATCH_HOLD-none} $KEEP"
echo trouble >&2`)
	if o := b.ended(ref); !o.Succeeded() {
		t.Fatalf("%+v", o)
	}
	want := "env 1 job-a 1 2 3 300 0\nnodes same cpus\ndir same\nleaks none none me\n"
	if got := b.output(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err, _ := os.ReadFile(filepath.Join(b.dir, "job-a-1-%.err")); string(err) != "trouble\n" {
		t.Errorf("stderr %q", err)
	}
	for _, name := range []string{"job.json", "status.json", "end.json", "job.sbatch"} {
		info, err := os.Stat(filepath.Join(b.root, "1", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// stubborn starts three kinds of processes that outlive a naive kill: one that
// ignores TERM, one in a session of its own, one that forked twice.
const stubborn = `(trap '' TERM; echo "deaf $BASHPID"; while :; do sleep 0.1; done) &
setsid bash -c 'trap "" TERM; echo "apart $$"; while :; do sleep 0.1; done' &
( (setsid sleep 300 & echo "twice $!") & )
`

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct{ body, want string }{
		"cancelled":     {"trap 'echo \"got term\"; exit 0' TERM\nwhile :; do sleep 0.1; done", "CANCELLED cancelled 0:0"},
		"script ends":   {"sleep 0.5; exit 3", "FAILED exit_code 3:0"},
		"TERM to it":    {"while :; do sleep 0.1; done", "CANCELLED cancelled 0:15"},
		"hangs and all": {"trap '' TERM; while :; do sleep 0.1; done", "CANCELLED cancelled 0:9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			ref := b.submit("", stubborn+end.body)
			pids := []int{b.pid("deaf"), b.pid("apart"), b.pid("twice")}
			o, _ := b.look(ref)
			if !o.Ended && (o.State != slurm.Running || o.Presence != slurm.Present) {
				t.Errorf("meanwhile %+v", o)
			}
			switch name {
			case "TERM to it":
				if err := syscall.Kill(b.supervisor(ref), syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			case "cancelled", "hangs and all":
				if err := b.Cancel(t.Context(), []string{ref.JobID}); err != nil {
					t.Fatal(err)
				}
			}
			o = b.ended(ref)
			if got := verdict(o); got != end.want {
				t.Errorf("%s, want %s", got, end.want)
			}
			for _, pid := range pids {
				if lives(pid) {
					t.Errorf("process %d outlives the end of its job", pid)
				}
			}
			asked := name == "cancelled" || name == "hangs and all"
			if asked != (o.CancelledBy != nil && *o.CancelledBy == os.Getuid()) {
				t.Errorf("cancelled by %v", o.CancelledBy)
			}
			if name == "cancelled" {
				b.says("got")
			}
			if err := b.Cancel(t.Context(), []string{ref.JobID, "99"}); err != nil {
				t.Errorf("cancel of what is over: %v", err)
			}
		})
	}
}

// TestSurvivesItsShell: the submitting process and its whole group are killed.
func TestSurvivesItsShell(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := b.script("", "echo \"session $(ps -o sid= -p $$)\"\nuntil [ -e "+b.dir+"/go ]; do sleep 0.05; done\necho \"done at last\"")
	p, err := proc.Start(proc.StartSpec{Cmd: proc.Cmd{
		Name: "sh", Args: []string{"-c", `"$@"; sleep 300`, "sh", exe, "submit", b.root, path}, Env: []string{"PATH=/usr/bin:/bin"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.says("session")
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	ref := slurm.Ref{Name: "job-a", JobID: "1"}
	if o, _ := b.look(ref); o.State != slurm.Running {
		t.Errorf("after the shell died: %+v", o)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(ref); !o.Succeeded() {
		t.Errorf("%+v", o)
	}
	b.says("done")
}

func TestSubmitTogether(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := b.script("--output=/dev/null", "true")
	const n = 12
	ids := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			r, err := b.Submit(t.Context(), slurm.Submission{ScriptPath: path, JobName: "job-" + strconv.Itoa(i)})
			if err != nil {
				t.Error(err)
			}
			ids[i] = r.JobID
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for i, id := range ids {
		if seen[id] {
			t.Errorf("id %s given twice", id)
		}
		seen[id] = true
		if o := b.ended(slurm.Ref{Name: "job-" + strconv.Itoa(i), JobID: id}); !o.Succeeded() {
			t.Errorf("job %d: %+v", i, o)
		}
	}
	found, err := b.LookUp(t.Context(), []string{"job-3", "job-99"})
	if err != nil || len(found) != 1 || len(found["job-3"]) != 1 || found["job-3"][0].JobID != ids[3] || found["job-3"][0].State != slurm.Completed {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, script := range map[string]string{
		"two nodes":      "#!/bin/bash\n#SBATCH --nodes=2\ntrue\n",
		"two nodes, -N":  "#!/bin/bash\n#SBATCH -N2\ntrue\n",
		"array":          "#!/bin/bash\n#SBATCH --array=0-3\ntrue\n",
		"dependency":     "#!/bin/bash\n#SBATCH --dependency=afterok:1\ntrue\n",
		"no shebang":     "true\n",
		"DOS line ends":  "#!/bin/bash\r\ntrue\r\n",
		"bad time":       "#!/bin/bash\n#SBATCH --time=garbage\ntrue\n",
		"bad signal":     "#!/bin/bash\n#SBATCH --signal=B:NOPE@1\ntrue\n",
		"no option":      "#!/bin/bash\n#SBATCH what\ntrue\n",
		"value missing":  "#!/bin/bash\n#SBATCH --time\ntrue\n",
		"quote not ends": "#!/bin/bash\n#SBATCH --comment=\"x\ntrue\n",
	} {
		path := filepath.Join(b.dir, "x")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := b.Submit(t.Context(), slurm.Submission{ScriptPath: path, JobName: "job-a"})
		if _, ok := errors.AsType[*slurm.Refused](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := b.Submit(t.Context(), slurm.Submission{ScriptPath: filepath.Join(b.dir, "none"), JobName: "job-a"})
	if _, ok := errors.AsType[*slurm.Refused](err); !ok {
		t.Errorf("no script: %v", err)
	}
	if found, err := b.LookUp(t.Context(), []string{"job-a"}); err != nil || len(found) > 0 {
		t.Errorf("a refused job left %v, %v", found, err)
	}
	if _, err := local.New(local.Config{Root: "here", Binary: "/x"}); err == nil {
		t.Error("a relative root was accepted")
	}
}

// TestCancelBeforeStart: the supervisor is slow to start.
func TestCancelBeforeStart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(b.dir, "slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nsleep 1\nexec '"+exe+"' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if b.Scheduler, err = scheduler(b.root, slow); err != nil {
		t.Fatal(err)
	}
	ref := b.submit("", "echo \"ran it\"")
	if o, _ := b.look(ref); o.State != slurm.Pending {
		t.Errorf("before the start: %+v", o)
	}
	if err := b.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(ref); o.Cause != slurm.CauseCancelled || strings.Contains(b.output(), "ran") {
		t.Errorf("%+v, output %q", o, b.output())
	}
}

// TestStoppedSupervisor: SIGSTOP must not make a job uncancellable.
func TestStoppedSupervisor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ref := b.submit("", "echo \"main $$\"; sleep 300")
	main := b.pid("main")
	if err := syscall.Kill(b.supervisor(ref), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := b.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	if o := b.ended(ref); o.Cause != slurm.CauseCancelled || lives(main) {
		t.Errorf("%+v, script lives %t", o, lives(main))
	}
}

func TestSubmitOnceHere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	path := b.script("", "true")
	sub := slurm.Submission{ScriptPath: path, JobName: "job-a"}
	r, err := slurm.SubmitOnce(t.Context(), b.Scheduler, sub, slurm.Journal{}, slurm.OnceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := slurm.SubmitOnce(t.Context(), b.Scheduler, sub, slurm.Journal{}, slurm.OnceOptions{Resume: true})
	if err != nil || again.JobID != r.JobID {
		t.Errorf("resume gave job %q, %v; want %q", again.JobID, err, r.JobID)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	b.ended(slurm.Ref{Name: "job-a", JobID: r.JobID})
}
