package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	runs "aifbench/pkg/services/run"
)

// fakeSlurm answers as Slurm's commands do, for faults that a real one shows
// only by chance. Its state is a directory beside it: `mode` says how sbatch
// answers, `jobs` holds a file a job, `calls` what was asked, `env` the
// environment it was asked with.
const fakeSlurm = `#!/bin/bash
dir=$(cd "$(dirname "$0")/../state" && pwd)
tool=$(basename "$0")
mode=$(cat "$dir/mode" 2>/dev/null)
printf '%s' "$tool" >> "$dir/calls"; printf ' %q' "$@" >> "$dir/calls"; echo >> "$dir/calls"
env >> "$dir/env"
if [ "$mode" = down ]; then
  echo "$tool: error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
fi
make() {
  n=$(($(cat "$dir/last" 2>/dev/null || echo 100) + 1)); echo "$n" > "$dir/last"
  for a in "$@"; do case $a in --job-name=*) echo "${a#--job-name=}" > "$dir/jobs/$n";; esac; done
}
case $tool in
sbatch)
  case " $* " in *" --test-only "*) exit 0;; esac
  case $mode in
  bad-partition) echo 'sbatch: error: invalid partition specified: nope' >&2; echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1;;
  lost-answer) make "$@"; echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1;;
  killed) make "$@"; kill -9 $$;;
  chatty) make "$@"; echo 'welcome to the cluster'; echo "$n;main"; echo 'have a nice day'; exit 0;;
  gibberish) make "$@"; echo 'Submitted, somehow'; exit 0;;
  *) make "$@"; echo "$n"; exit 0;;
  esac;;
squeue)
  for f in "$dir"/jobs/*; do
    [ -e "$f" ] || continue
    n=$(basename "$f")
    echo "$n|$n|PENDING|Priority|$(date +%s)|N/A|N/A||$(cat "$f")"
  done;;
sacct)
  case " $* " in *helpformat*) echo 'JobID JobIDRaw State Submit Start End ExitCode JobName NodeList Reason DerivedExitCode'; exit 0;; esac
  for f in "$dir"/gone/*; do
    [ -e "$f" ] || continue
    n=$(basename "$f"); line=
    for k in $(echo "${!#}" | tr ',' ' '); do
      case ${k%%%*} in
      jobid|jobidraw) v=$n;; state) v="CANCELLED by $(id -u)";; submit|start|end) v=$(date +%s);; exitcode|derivedexitcode) v=0:15;; jobname) v=$(cat "$f");; reason) v=None;; *) v=;;
      esac
      line="$line|$v"
    done
    echo "${line#|}"
  done;;
scontrol)
  case "$*" in
  ping) echo 'Slurmctld(primary) at head is UP';;
  *partition*) echo 'PartitionName=cpu State=UP MaxTime=01:00:00 MaxNodes=2 TotalNodes=4 Default=YES';;
  esac;;
scancel) for a in "$@"; do [ -e "$dir/jobs/$a" ] && mv "$dir/jobs/$a" "$dir/gone/$a"; done;;
esac
exit 0
`

// cluster is a desk on a site whose Slurm is a fake.
type cluster struct {
	*desk
	state string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{desk: newDesk(t)}
	c.state = filepath.Join(c.dir, "slurm", "state")
	for _, sub := range []string{"jobs", "gone"} {
		if err := os.MkdirAll(filepath.Join(c.state, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"sbatch", "squeue", "sacct", "scontrol", "scancel"} {
		c.write(filepath.Join("slurm", "bin", tool), fakeSlurm, 0o700)
	}
	c.set("AIFBENCH_SITE", "slurm")
	c.set("AIFBENCH_SLURM_BIN", filepath.Join(c.dir, "slurm", "bin"))
	c.set("AIFBENCH_TIME_LIMIT", "30m")
	c.set("AIFBENCH_POLL_MIN", "200ms")
	t.Cleanup(func() { c.answers("") }) // before everything is stopped
	return c
}

// answers sets how sbatch answers from now on.
func (c *cluster) answers(mode string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.state, "mode"), []byte(mode), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) jobs() []string {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.state, "jobs"))
	if err != nil {
		c.t.Fatal(err)
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}

// submissions counts the times sbatch was asked for a job.
func (c *cluster) submissions() int {
	n := 0
	for l := range strings.Lines(c.told("calls")) {
		if strings.HasPrefix(l, "sbatch ") && !strings.Contains(l, "--test-only") {
			n++
		}
	}
	return n
}

func (c *cluster) told(name string) string {
	c.t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.state, name))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(raw)
}

var simStart = []string{"start", "vllm", "--engine", "sim"}

func simStartWith(more ...string) []string { return append(append([]string{}, simStart...), more...) }

// TestSbatchRefuses: exit 4 with the scheduler's reason and what to do; nothing
// is left that the next start would trip over.
func TestSbatchRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.answers("bad-partition")
	w := c.fails(4, simStart...)
	if w.Error.Layer != "scheduler" || !strings.Contains(w.Error.Message, "Invalid partition name") || !strings.Contains(w.Error.Advice, "sinfo") {
		t.Errorf("%+v", w)
	}
	rows := asks[labRows](c.desk, 9, "check", "vllm")
	if len(rows.Runs) != 1 || rows.Runs[0].State != "REFUSED" || !strings.Contains(rows.Runs[0].Why, "Invalid partition") {
		t.Errorf("%+v", rows)
	}
	c.answers("")
	if s := asks[labStart](c.desk, 0, simStart...); s.Existing || s.JobID == "" {
		t.Errorf("after a refusal: %+v", s)
	}
	if n := len(c.jobs()); n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// TestPreflightRefuses: what sbatch accepts and the queue never runs is
// refused before it is submitted.
func TestPreflightRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"--time", "3h"}, "01:00:00"},
		{[]string{"--partition", "nope"}, "nope"},
	} {
		args := simStartWith(tt.args...)
		w := c.fails(4, args...)
		if !strings.Contains(w.Error.Message+w.Error.Advice, tt.says) || w.Error.Advice == "" {
			t.Errorf("%v: %+v", tt.args, w)
		}
	}
	w := c.fails(4, "start", "vllm", "--model", "m", "--nodes", "3", "--gpus", "1")
	if !strings.Contains(w.Error.Advice, "at most 2") {
		t.Errorf("three nodes: %+v", w)
	}
	if n := c.submissions(); n != 0 {
		t.Errorf("sbatch was asked %d times", n)
	}
}

// TestSbatchMissing: exit 2 and what to set; nothing runs here instead.
func TestSbatchMissing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, tool := range []string{"sbatch", "squeue", "sacct", "scontrol", "scancel"} {
		if err := os.Remove(filepath.Join(c.dir, "slurm", "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	w := c.fails(2, simStart...)
	if !strings.Contains(w.Error.Advice, "slurm_bin") || !strings.Contains(w.Error.Advice, "--site local") {
		t.Errorf("%+v", w)
	}
	if _, err := os.Stat(filepath.Join(c.home, "local")); !os.IsNotExist(err) {
		t.Errorf("something was started here: %v", err)
	}
}

// TestDoubtfulAnswers: sbatch times out, is killed or talks nonsense after the
// job was made: the job is found by its name, and there is just one.
func TestDoubtfulAnswers(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"lost-answer", "killed", "gibberish", "chatty"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.answers(mode)
			s := asks[labStart](c.desk, 0, simStart...)
			if s.JobID != "101" || s.Existing {
				t.Errorf("%+v", s)
			}
			again := asks[labStart](c.desk, 0, simStart...)
			if again.JobID != "101" || !again.Existing || again.Run != s.Run {
				t.Errorf("again: %+v", again)
			}
			if jobs := c.jobs(); len(jobs) != 1 || c.submissions() != 1 {
				t.Errorf("%d submissions, jobs %v", c.submissions(), jobs)
			}
			asks[stopped](c.desk, 0, "stop", "vllm", "--timeout", "1m")
			if jobs := c.jobs(); len(jobs) != 0 {
				t.Errorf("stop left %v", jobs)
			}
		})
	}
}

// TestControllerDown: exit 8 with its rows, never a job on this machine.
func TestControllerDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := asks[labStart](c.desk, 0, simStart...)
	c.answers("down")
	rows := asks[labRows](c.desk, 8, "check", "vllm")
	if len(rows.Runs) != 1 || rows.Runs[0].Run != s.Run || rows.Runs[0].Code != 8 || !strings.Contains(rows.Runs[0].Why, "the scheduler") {
		t.Errorf("%+v", rows)
	}
	asks[labRows](c.desk, 8, "check", "all")
	if w := c.fails(8, "bench", "vllm"); !w.Error.Retryable {
		t.Errorf("bench: %+v", w)
	}
	asks[labRows](c.desk, 0, "list")
	if w := c.fails(8, "stop", "vllm", "--timeout", "2s"); !w.Error.Retryable {
		t.Errorf("stop: %+v", w)
	}
	if _, err := os.Stat(filepath.Join(c.home, "local")); !os.IsNotExist(err) {
		t.Errorf("something was started here: %v", err)
	}
	// Found out, not named: the sign of Slurm decides.
	c.set("AIFBENCH_SITE", "")
	c.set("SLURM_CONF", "/nonexistent/slurm.conf")
	asks[labRows](c.desk, 8, "check", "vllm")
	c.answers("")
	rows = asks[labRows](c.desk, 5, "check", "vllm")
	if len(rows.Runs) != 1 || rows.Runs[0].State != "PENDING" || rows.Runs[0].JobID != s.JobID {
		t.Errorf("after it came back: %+v", rows)
	}
	if c.submissions() != 1 {
		t.Errorf("%d submissions", c.submissions())
	}
}

// TestPoisonedEnvironment: what the user's shell tells Slurm's commands, and
// the user's secrets, reach neither them nor the job.
func TestPoisonedEnvironment(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, kv := range []string{
		"SBATCH_PARTITION=evil", "SBATCH_TIMELIMIT=1", "SBATCH_HOLD=1", "SQUEUE_FORMAT=%j", "SQUEUE_STATES=PENDING", "SQUEUE_ALL=1", "SACCT_FORMAT=x", "SLURM_TIME_FORMAT=%Y",
		"SLURM_JOB_ID=7", "SLURM_CLUSTERS=other", "SCANCEL_CTLD=1", "HF_TOKEN=hf_canary0123456789", "OPENAI_API_KEY=sk-canary0123456789", "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8",
	} {
		name, value, _ := strings.Cut(kv, "=")
		c.set(name, value)
	}
	s := asks[labStart](c.desk, 0, simStart...)
	rows := asks[labRows](c.desk, 5, "check", "vllm")
	if len(rows.Runs) != 1 || rows.Runs[0].State != "PENDING" || rows.Runs[0].Run != s.Run {
		t.Errorf("%+v", rows)
	}
	env := c.told("env")
	for _, bad := range []string{"SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_CLUSTERS", "SLURM_JOB_ID", "SLURM_TIME_FORMAT=%Y"} {
		if strings.Contains(env, bad) {
			t.Errorf("%s reached Slurm's commands", bad)
		}
	}
	for _, e := range []string{"hf_canary", "sk-canary"} {
		if strings.Contains(c.told("calls"), e) {
			t.Errorf("%s is an argument", e)
		}
	}
	if !strings.Contains(env, "SLURM_TIME_FORMAT=%s") {
		t.Error("squeue was not told the format that is parsed")
	}
}

// TestShortPath: cron's PATH and no HOME; Slurm's commands are found by the
// site's slurm_bin, and the run's directory by the password file or the variable.
func TestShortPath(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	self, err := exec.LookPath("aifbench")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, simStartWith("-q")...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "AIFBENCH_HOME=" + c.home, "AIFBENCH_SITE=slurm", "AIFBENCH_TIME_LIMIT=30m", "AIFBENCH_SLURM_BIN=" + filepath.Join(c.dir, "slurm", "bin")}
	out, err := cmd.CombinedOutput()
	if err != nil || len(c.jobs()) != 1 {
		t.Errorf("%v: %s; jobs %v", err, out, c.jobs())
	}
}

// TestBinaryReplacedWhileItsJobWaits: the job's script runs the program as it
// was when the job was made, whatever became of it since.
func TestBinaryReplacedWhileItsJobWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	installed, err := exec.LookPath("aifbench")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(installed)
	if err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(c.dir, "mine", "aifbench")
	if err := os.MkdirAll(filepath.Dir(mine), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, raw, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(mine, simStartWith("-o", "json")...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	s := only[labStart](t, said{out: string(out)})
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, []byte("#!/bin/sh\necho replaced >&2\nexit 99\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	run := c.opened(s.Run)
	job := exec.Command("bash", run.File(runs.ScriptFile))
	job.Dir = run.Path
	job.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + c.dir, "SLURM_JOB_ID=" + s.JobID, "SLURM_JOB_NODELIST=localhost", "SLURM_NNODES=1", "SLURM_JOB_NUM_NODES=1", "TMPDIR=" + t.TempDir()}
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = job.Process.Signal(os.Interrupt)
		_ = job.Wait() // ended by the test
	}()
	c.until("the job's service is ready", func() bool { _, err := run.ReadEndpoint(); return err == nil })
	ep, err := run.ReadEndpoint()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(ep.PID), "exe"))
	if err != nil || exe != run.Intent.Binary.Path || !strings.Contains(exe, run.Intent.Binary.SHA256) {
		t.Errorf("the job runs %s, it was made for %+v: %v", exe, run.Intent.Binary, err)
	}
}

// TestNodesOfAnotherArchitecture: refused before anything is made.
func TestNodesOfAnotherArchitecture(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.write("config.yaml", "sites:\n  other:\n    arch: s390x\n", 0o600)
	for _, service := range [][]string{{"vllm", "--engine", "sim"}, {"chroma", "--engine", "sim"}, {"lustre"}} {
		w := c.fails(2, append([]string{"start", "--config", "config.yaml", "--site", "other"}, service...)...)
		if !strings.Contains(w.Error.Message+w.Error.Advice, "s390x") {
			t.Errorf("%v: %+v", service, w)
		}
	}
	if made := append(c.made("vllm"), c.made("chroma")...); len(made) != 0 || c.submissions() != 0 {
		t.Errorf("made %v", made)
	}
}
