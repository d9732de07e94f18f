package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// fakeSlurm answers the Slurm commands from memory.
type fakeSlurm struct {
	mu      sync.Mutex
	next    int
	jobs    []*fakeJob
	calls   map[string]int
	fault   map[string]string // command: stderr of a failure with exit 1
	late    bool              // sbatch says it timed out, and makes the job all the same
	onBatch func()
	now     func() time.Time
}

type fakeJob struct {
	id                  int
	name, state, reason string
	submit              time.Time
	gone                bool
}

func (f *fakeSlurm) Run(_ context.Context, c proc.Cmd) (proc.Output, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tool := filepath.Base(c.Name)
	f.calls[tool]++
	if text, ok := f.fault[tool]; ok {
		return proc.Output{Stderr: []byte(text), Code: 1}, nil
	}
	switch tool {
	case "sbatch":
		name := ""
		for _, a := range c.Args {
			if a == "--test-only" {
				return proc.Output{}, nil
			}
			if n, ok := strings.CutPrefix(a, "--job-name="); ok {
				name = n
			}
		}
		if f.onBatch != nil {
			f.onBatch()
		}
		f.next++
		f.jobs = append(f.jobs, &fakeJob{id: f.next, name: name, state: "PENDING", reason: "Priority", submit: f.now()})
		if f.late {
			f.late = false
			return proc.Output{Stderr: []byte("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"), Code: 1}, nil
		}
		return proc.Output{Stdout: fmt.Appendf(nil, "%d\n", f.next)}, nil
	case "squeue":
		var b bytes.Buffer
		for _, j := range f.jobs {
			if !j.gone {
				fmt.Fprintf(&b, "%d|%d|%s|%s|%d|N/A|N/A||%s\n", j.id, j.id, j.state, j.reason, j.submit.Unix(), j.name)
			}
		}
		return proc.Output{Stdout: b.Bytes()}, nil
	case "sacct":
		if len(c.Args) > 0 && c.Args[0] == "--helpformat" {
			return proc.Output{Stdout: []byte("JobIDRaw JobID State ExitCode Submit Start End DerivedExitCode NodeList Reason JobName\n")}, nil
		}
	case "scancel":
		for _, j := range f.jobs {
			for _, a := range c.Args {
				if a == fmt.Sprint(j.id) {
					j.gone = true
				}
			}
		}
	case "scontrol":
		if len(c.Args) > 0 && c.Args[0] == "ping" {
			return proc.Output{Stdout: []byte("Slurmctld(primary) at c is UP\n")}, nil
		}
		if strings.Contains(strings.Join(c.Args, " "), "show partition") {
			return proc.Output{Stdout: []byte("PartitionName=all Default=YES MaxNodes=UNLIMITED MaxTime=UNLIMITED State=UP TotalNodes=4 TRES=cpu=8\n")}, nil
		}
	}
	return proc.Output{}, nil
}

func (f *fakeSlurm) count(tool string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[tool]
}

// shell is one command line after another on a site with a fake Slurm.
type shell struct {
	t     *testing.T
	home  string
	slurm *fakeSlurm
	mu    sync.Mutex
	skew  time.Duration
	host  string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, home: t.TempDir(), host: "login1"}
	if host, err := os.Hostname(); err == nil {
		s.host = host
	}
	s.slurm = &fakeSlurm{calls: map[string]int{}, fault: map[string]string{}, now: s.now}
	return s
}

func (s *shell) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.skew)
}

func (s *shell) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew += d
}

func (s *shell) store() runs.Store { return runs.Store{Home: s.home} }

// do runs a command line and returns its exit code, document and talk.
func (s *shell) do(ctx context.Context, args ...string) (int, string, string) {
	self := filepath.Join(s.home, "program")
	if err := os.WriteFile(self, []byte("program"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	var out, talk bytes.Buffer
	env := environment{
		vars: []string{"PATH=/usr/bin:/bin", "HOME=" + s.home, "AIFBENCH_HOME=" + s.home, "AIFBENCH_POLL_MIN=50ms"},
		now:  s.now, runner: s.slurm, start: proc.Start, self: self, cwd: s.home, hostname: s.host, uid: 1000, transport: http.DefaultTransport,
	}
	code := run(ctx, append(args, "--site", "slurm", "-o", "json"), env, streams{in: strings.NewReader(""), out: &out, err: &talk})
	return code, out.String(), talk.String()
}

var simStart = []string{"start", "vllm", "--engine", "sim"}

func (s *shell) only() runs.Dir {
	s.t.Helper()
	dirs, bad, err := s.store().List()
	if err != nil || len(bad) > 0 || len(dirs) != 1 {
		s.t.Fatalf("want one run, have %d, %d damaged, %v", len(dirs), len(bad), err)
	}
	return dirs[0]
}

// killHolder makes the claim that of a process whose pid another one has now.
func (s *shell) killHolder() {
	s.t.Helper()
	claims, err := os.ReadDir(s.store().ClaimsDir())
	if err != nil || len(claims) != 1 {
		s.t.Fatal(claims, err)
	}
	path := filepath.Join(s.store().ClaimsDir(), claims[0].Name(), "holder.json")
	var h runs.Holder
	if err := runs.ReadJSON(path, &h); err != nil {
		s.t.Fatal(err)
	}
	h.Started--
	if err := runs.WriteJSON(path, h); err != nil {
		s.t.Fatal(err)
	}
}

func oneDocument(t *testing.T, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("no document: %v in %q", err, text)
	}
	if dec.More() {
		t.Fatalf("more than one document: %s", text)
	}
	return doc
}

// The first sight of a fatal reason is not yet a verdict, the second one is,
// though each is a command of its own.
func TestReviewBlockedNeedsTwoCommands(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	if code, _, talk := s.do(t.Context(), simStart...); code != exitOK {
		t.Fatalf("start: %d %s", code, talk)
	}
	s.slurm.jobs[0].reason = "PartitionTimeLimit"
	for i, want := range []int{exitNotReady, exitBad, exitBad} {
		code, out, _ := s.do(t.Context(), "check", "vllm")
		if code != want {
			t.Errorf("look %d: exit %d, want %d: %s", i, code, want, out)
		}
		s.later(10 * time.Second)
	}
	// It still holds its place: another start reports it.
	code, out, talk := s.do(t.Context(), simStart...)
	if doc := oneDocument(t, out); code != exitOK || doc["existing"] != true || s.slurm.count("sbatch") != 2 { // one of them --test-only
		t.Errorf("start over a blocked run: %d %s %s; %d sbatch", code, out, talk, s.slurm.count("sbatch"))
	}
	s.slurm.jobs[0].reason = "Priority"
	if code, _, _ := s.do(t.Context(), "check", "vllm"); code != exitNotReady {
		t.Errorf("released: exit %d", code)
	}
}

// A job that the queue forgot is lost two minutes after it was first missed,
// by commands that each see it once; one that came back starts anew.
func TestReviewAbsentConverges(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	j := s.slurm.jobs[0]
	j.state, j.reason = "RUNNING", "None"
	check := func(want int) {
		t.Helper()
		if code, out, _ := s.do(t.Context(), "check", "vllm"); code != want {
			t.Errorf("exit %d, want %d: %s", code, want, out)
		}
	}
	check(exitNotReady)
	j.gone = true
	check(exitInfra)
	j.gone = false
	s.later(3 * time.Minute)
	check(exitNotReady)
	j.gone = true
	check(exitInfra)
	s.later(3 * time.Minute)
	check(exitBad)
}

// What a killed first incarnation left behind does not make a requeued job ready.
func TestReviewStaleEndpointOfRequeuedJob(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	d := s.only()
	ep := runs.Endpoint{SchemaVersion: 1, Nonce: d.Intent.Nonce, LocalURL: "http://127.0.0.1:1", DoorURL: "http://n:2", Node: "n", Started: s.now()}
	if err := runs.WriteJSON(d.File(runs.EndpointFile), ep); err != nil {
		t.Fatal(err)
	}
	s.slurm.jobs[0].state = "RUNNING"
	if code, _, _ := s.do(t.Context(), "check", "vllm"); code != exitOK {
		t.Errorf("running: exit %d", code)
	}
	s.slurm.jobs[0].state, s.slurm.jobs[0].reason = "PENDING", "BeginTime"
	if code, out, _ := s.do(t.Context(), "check", "vllm"); code != exitNotReady {
		t.Errorf("requeued: exit %d %s", code, out)
	}
}

// A submission that was answered doubtfully and found by name is one job, and
// a second start reports it.
func TestReviewDoubtfulIsFoundOnce(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.slurm.late = true
	code, out, talk := s.do(t.Context(), simStart...)
	if code != exitOK || len(s.slurm.jobs) != 1 {
		t.Fatalf("%d jobs, exit %d: %s %s", len(s.slurm.jobs), code, out, talk)
	}
	if d := s.only(); d.State().JobID != "1" {
		t.Errorf("state %+v", d.State())
	}
	if code, out, _ := s.do(t.Context(), simStart...); code != exitOK || oneDocument(t, out)["existing"] != true || len(s.slurm.jobs) != 1 {
		t.Errorf("second start: %d jobs, exit %d", len(s.slurm.jobs), code)
	}
}

// The job is made and the journal is full: the run keeps claim and job.
func TestReviewJobMadeAndNotNoted(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	journal := func() string {
		dirs, _, _ := s.store().List()
		return dirs[0].File(runs.JournalDir)
	}
	s.slurm.onBatch = func() {
		if err := os.Rename(journal(), journal()+".away"); err != nil {
			t.Error(err)
		}
	}
	code, out, _ := s.do(t.Context(), simStart...)
	if doc := oneDocument(t, out); code != exitInfra || !strings.Contains(fmt.Sprint(doc["error"]), "job 1 was made") {
		t.Errorf("exit %d: %s", code, out)
	}
	s.slurm.onBatch = nil
	if err := os.Rename(journal()+".away", journal()); err != nil {
		t.Fatal(err)
	}
	s.killHolder()
	code, out, talk := s.do(t.Context(), simStart...)
	if code != exitOK || len(s.slurm.jobs) != 1 || oneDocument(t, out)["existing"] != true {
		t.Errorf("next start: exit %d, %d jobs: %s %s", code, len(s.slurm.jobs), out, talk)
	}
}

// stop while sbatch runs: the job that comes after it is cancelled, not lost.
func TestReviewStopWhileSubmitting(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.slurm.onBatch = func() {
		d := s.only()
		if err := d.Append(s.now(), runs.Event{Kind: runs.EventStopRequested}); err != nil {
			t.Error(err)
		}
	}
	code, out, _ := s.do(t.Context(), simStart...)
	oneDocument(t, out)
	if code != exitRefused || len(s.slurm.jobs) != 1 || !s.slurm.jobs[0].gone {
		t.Errorf("exit %d, job gone %v: %s", code, s.slurm.jobs[0].gone, out)
	}
}

// A submission on its way is not "nothing to stop".
func TestReviewStopKeepsASubmissionOnItsWay(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	d, err := s.store().Create(runs.Intent{ID: "vllm-20260101-000000-abcd", Verb: "start", Service: "vllm", Nonce: "0123abcd", JobName: "aifb-x-0123abcd", Site: "slurm", Scheduler: "slurm", Created: s.now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Append(s.now(), runs.Event{Kind: runs.EventIntent}); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := s.do(t.Context(), "stop", "vllm", "--timeout", "200ms"); code != exitTimeout || d.State().Ended {
		t.Errorf("exit %d, ended %v: %s", code, d.State().Ended, out)
	}
	s.later(5 * time.Minute)
	if code, out, _ := s.do(t.Context(), "stop", "vllm", "--timeout", "200ms"); code != exitOK || !d.State().Ended {
		t.Errorf("later: exit %d: %s", code, out)
	}
}

// The controller is away: stop ends in its own time with 8.
func TestReviewStopIsBounded(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	s.slurm.fault["scancel"] = "scancel: error: Unable to contact slurm controller (connect failure)"
	s.slurm.fault["squeue"] = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
	code, out, _ := s.do(t.Context(), "stop", "all", "--timeout", "300ms")
	oneDocument(t, out)
	if code != exitInfra || s.only().State().Ended {
		t.Errorf("exit %d: %s", code, out)
	}
}

// A run that died and is then stopped keeps its true cause.
func TestReviewStopKeepsTheCause(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	d := s.only()
	if err := d.Append(s.now(), runs.Event{Kind: runs.EventJobEnded, State: "OUT_OF_MEMORY", Cause: string(slurm.CauseOutOfMemory)}); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := s.do(t.Context(), "stop", "vllm"); code != exitOK {
		t.Errorf("exit %d %s", code, talk)
	}
	if st := d.State(); !st.Ended || st.Cause != string(slurm.CauseOutOfMemory) {
		t.Errorf("cause %q", st.Cause)
	}
}

// --new beside a live run, the first one stopped: start reports the second.
func TestReviewNewIsAliveToo(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	first := s.only()
	s.later(time.Second)
	if code, _, talk := s.do(t.Context(), append(simStart, "--new")...); code != exitOK || len(s.slurm.jobs) != 2 {
		t.Fatalf("--new: %d %s", code, talk)
	}
	if err := errors.Join(first.Append(s.now(), runs.Event{Kind: runs.EventJobEnded, State: "FAILED", Cause: "exit_code"}), first.Append(s.now(), runs.Event{Kind: runs.EventEnded})); err != nil {
		t.Fatal(err)
	}
	code, out, _ := s.do(t.Context(), simStart...)
	if code != exitOK || oneDocument(t, out)["existing"] != true || len(s.slurm.jobs) != 2 {
		t.Errorf("exit %d, %d jobs: %s", code, len(s.slurm.jobs), out)
	}
}

// A claim whose shell died before it made a run is broken; a reused pid does
// not keep it.
func TestReviewClaimOfADeadShell(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	d := s.only()
	if err := os.RemoveAll(d.Path); err != nil {
		t.Fatal(err)
	}
	s.killHolder()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, out, talk := s.do(ctx, simStart...); code != exitOK || oneDocument(t, out)["existing"] != false {
		t.Errorf("exit %d: %s %s", code, out, talk)
	}
}

// Twenty shells, one job.
func TestReviewTwentyShellsOneJob(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if code, _, talk := s.do(t.Context(), simStart...); code != exitOK {
				t.Errorf("exit %d: %s", code, talk)
			}
		})
	}
	wg.Wait()
	if len(s.slurm.jobs) != 1 {
		t.Errorf("%d jobs", len(s.slurm.jobs))
	}
	s.only()
}

// A progress file that is written all the time does not make the watcher ask
// Slurm all the time.
func TestReviewWatcherAsksAtTheSitesPace(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.do(t.Context(), simStart...)
	d := s.only()
	a := &app{streams: streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}, environment: environment{now: s.now, runner: s.slurm, hostname: s.host, vars: []string{"AIFBENCH_POLL_MIN=1h", "AIFBENCH_SITE=slurm", "HOME=" + s.home}}}
	site, err := a.site(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := s.slurm.count("squeue")
	w := a.watcher(s.store(), site)
	for i := range 20 {
		if err := os.WriteFile(d.File("progress.json"), fmt.Appendf(nil, "%d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		w.look(t.Context(), []runs.Dir{d})
	}
	if n := s.slurm.count("squeue") - before; n != 1 {
		t.Errorf("%d squeue calls for 20 looks", n)
	}
	// But what the run itself says is seen at once.
	s.slurm.jobs[0].state = "RUNNING"
	ep := runs.Endpoint{SchemaVersion: 1, Nonce: d.Intent.Nonce, DoorURL: "http://n:2", Node: "n", PID: 1, Started: s.now()}
	if err := runs.WriteJSON(d.File(runs.EndpointFile), ep); err != nil {
		t.Fatal(err)
	}
	if r := w.look(t.Context(), []runs.Dir{d})[0].row(s.now()); !r.Ready {
		t.Errorf("not ready: %+v", r)
	}
}

// The supervisor never takes the request, or is dead with its endpoint left
// behind: the bench ends with an error in its time.
func TestReviewBenchOfASilentSupervisor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		turn func(s *shell, d runs.Dir)
		code int
		text string
	}{
		{"unread", func(s *shell, _ runs.Dir) { s.later(2 * time.Minute) }, exitInfra, "has not taken the request"},
		{"dead", func(s *shell, d runs.Dir) {
			s.slurm.mu.Lock()
			s.slurm.jobs[0].gone = true
			s.slurm.mu.Unlock()
			if err := d.Append(s.now(), runs.Event{Kind: runs.EventJobEnded, State: "NODE_FAIL", Cause: string(slurm.CauseNodeFailure)}); err != nil {
				s.t.Error(err)
			}
		}, exitBad, "node_failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newShell(t)
			s.do(t.Context(), simStart...)
			d := s.only()
			s.slurm.jobs[0].state = "RUNNING"
			ep := runs.Endpoint{SchemaVersion: 1, Nonce: d.Intent.Nonce, LocalURL: "http://127.0.0.1:1", DoorURL: "http://n:2", Node: "n", PID: 1, Started: s.now(), Model: "sim"}
			if err := errors.Join(runs.WriteJSON(d.File(runs.EndpointFile), ep), runs.WriteJSON(d.File(runs.PlanFile), map[string]any{})); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			go func() {
				for sleep(ctx, 20*time.Millisecond) == nil {
					if reqs, _ := d.Requests(); len(reqs) > 0 {
						c.turn(s, d)
						return
					}
				}
			}()
			code, out, talk := s.do(ctx, "bench", "vllm", "-n", "10")
			doc := oneDocument(t, out)
			if code != c.code || !strings.Contains(fmt.Sprint(doc["error"]), c.text) {
				t.Errorf("exit %d: %s %s", code, out, talk)
			}
		})
	}
}

func TestReviewWeighKeepsCodesOutsideTheTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want int }{{exitTimeout, exitOK, exitTimeout}, {exitNotReady, exitOK, exitNotReady}, {exitOK, exitGate, exitGate}, {exitTimeout, exitGuard, exitGuard}, {exitGate, exitBad, exitBad}, {exitOK, exitOK, exitOK}} {
		if got := weigh(c.a, c.b); got != c.want {
			t.Errorf("weigh(%d, %d) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
