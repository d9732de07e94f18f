package main

import (
	"strings"
	"testing"
	"time"

	"aifbench/pkg/slurm"
)

// A controller that is away from the beginning: start asks for a bounded time,
// says 8, starts nothing on this machine, and the next start takes the same run
// up without a second job.
func TestStartWhileControllerIsAway(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	away := "Unable to contact slurm controller (connect failure)"
	s.slurm.mu.Lock()
	for _, tool := range []string{"sbatch", "squeue", "sacct", "scontrol", "scancel"} {
		s.slurm.fault[tool] = away
	}
	s.slurm.mu.Unlock()
	type answer struct {
		code      int
		out, talk string
	}
	ended := make(chan answer, 1)
	go func() {
		code, out, talk := s.do(t.Context(), simStart...)
		ended <- answer{code, out, talk}
	}()
	for deadline := time.Now().Add(time.Minute); s.slurm.count("squeue") == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the name was never looked up")
		}
	}
	s.later(submitPatience)
	a := <-ended
	doc, _ := oneDocument(t, a.out)["error"].(map[string]any)
	said, _ := doc["message"].(string)
	if a.code != exitInfra || doc["retryable"] != true || doc["layer"] != "scheduler" || !strings.Contains(said, away) {
		t.Fatalf("exit %d: %s\n%s", a.code, a.out, a.talk)
	}
	if n := strings.Count(said, slurm.ErrDoubtful.Error()); n != 1 {
		t.Errorf("the message says %d times that it is doubtful: %s", n, said)
	}
	first := s.only()
	if st := first.State(); !st.Doubtful || st.JobID != "" || first.Intent.Scheduler != "slurm" {
		t.Errorf("state %+v of a run for %s", st, first.Intent.Scheduler)
	}
	if code, out, _ := s.do(t.Context(), "check", "vllm"); code != exitInfra {
		t.Errorf("check: exit %d: %s", code, out)
	}
	// The controller had the job all the same, and is back.
	s.slurm.mu.Lock()
	clear(s.slurm.fault)
	s.slurm.jobs = append(s.slurm.jobs, &fakeJob{id: 7, name: first.Intent.JobName, state: "PENDING", reason: "Priority", submit: s.now()})
	s.slurm.mu.Unlock()
	s.killHolder() // that shell is gone
	code, out, talk := s.do(t.Context(), simStart...)
	if code != exitOK || oneDocument(t, out)["job_id"] != "7" || len(s.slurm.jobs) != 1 {
		t.Errorf("start once it is back: exit %d, %d jobs: %s\n%s", code, len(s.slurm.jobs), out, talk)
	}
	if again := s.only(); again.ID() != first.ID() {
		t.Errorf("run %s, before %s", again.ID(), first.ID())
	}
}
