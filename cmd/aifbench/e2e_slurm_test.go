package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// sim are the arguments of a stand-in that is ready at once.
func sim(more ...string) []string { return append([]string{"--engine", "sim"}, more...) }

// TestLabOneJob: twenty shells that start the same thing make one job, twice
// in a row; --new makes another; a detached bench is judged by wait.
func TestLabOneJob(t *testing.T) {
	l := newLab(t)
	for round := range 2 {
		answers := make([]labStart, 20)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = doc[labStart](l, 0, append([]string{"start", "vllm"}, sim()...)...) })
		}
		wg.Wait()
		fresh := 0
		for _, a := range answers {
			if a.Run != answers[0].Run || a.JobID == "" {
				t.Errorf("round %d: run %s job %q, another shell got %s", round, a.Run, a.JobID, answers[0].Run)
			}
			if !a.Existing {
				fresh++
			}
		}
		if fresh != 1 || len(l.queued()) != 1 {
			t.Errorf("round %d: %d shells submitted, queue %v", round, fresh, l.queued())
		}
		if round == 0 {
			l.must(0, "wait", answers[0].Run, "--timeout", "1m")
			l.note()
			l.must(0, "stop", "vllm")
			l.must(0, "stop", "vllm") // nothing to stop is success
			l.nothingLeft()
			l.must(3, "check", "vllm")
		}
	}
	l.must(0, "wait", "vllm", "--timeout", "1m")
	other := l.start("vllm", sim("--new")...)
	a := l.must(2, "bench", "vllm", "--requests", "2")
	if !strings.Contains(a.err, "--run") || !strings.Contains(a.err, other.Run) {
		t.Errorf("two live runs: %s", a.err)
	}
	detached := doc[struct{ Run string }](l, 0, "bench", "vllm", "--run", other.Run, "--requests", "40", "--concurrency", "4", "--output-len", "4", "--gate", "ttft_p50_ms<=1", "--detach")
	if a := l.must(6, "wait", detached.Run); !strings.Contains(a.err, "ttft_p50_ms") {
		t.Errorf("a missed gate is not named: %s", a.err)
	}
}

// TestLabTimeLimit: a job that meets its limit is truncated, never whole.
func TestLabTimeLimit(t *testing.T) {
	l := newLab(t)
	s := l.start("vllm", sim("-p", "short", "--time", "1m")...)
	sh, dir := l.newBench("vllm", "--concurrency", "2", "--duration", "5m", "--output-len", "8", "-o", "json")
	a := sh.wait()
	if r, err := result.Read(dir.File(runs.ResultFile)); err == nil {
		if r.Verdict.Status == result.Valid || r.Verdict.Status == result.ClientLimited {
			t.Errorf("a bench cut by the time limit is %s", r.Verdict.Status)
		}
	}
	if a.code == 0 {
		t.Errorf("bench: exit 0\n%s", a.err)
	}
	l.until(2*time.Minute, "check names the time limit", func() bool {
		c := l.ab("check", "vllm", "-o", "json")
		return c.code == 9 && strings.Contains(c.out, "time limit")
	})
	sent, problems := l.opened(s.Run).Sentinels()
	if len(sent) != 1 || len(problems) > 0 || sent[0].Complete || sent[0].Phase != runs.SentinelTruncated {
		t.Errorf("sentinels: %+v %v", sent, problems)
	}
}

// TestLabTwoNodes: a run over two nodes has a supervisor on one and an agent on
// the other, each behind a door of its own that wants the key.
func TestLabTwoNodes(t *testing.T) {
	l := newLab(t)
	fake := l.home + "-vllm"
	l.write(fake, `#!/bin/bash
# Rank 0 serves, the others wait, as vLLM's own multi-node mode has it.
case " $* " in *" --headless "*) exec sleep 3600 ;; esac
exec "$AIFBENCH_BIN" node sim vllm --port "$AIFBENCH_PORT" --key-file "$AIFBENCH_KEY_FILE" --model tiny
`)
	if err := os.Chmod(fake, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(fake) })
	s := l.start("vllm", "--vllm-command", fake, "--model", "tiny", "--gpus", "0", "--nodes", "2", "-p", "cpu")
	dir := l.opened(s.Run)
	if dir.Intent.Exposure != "network" {
		t.Errorf("exposure %q of a run whose ranks talk over the network", dir.Intent.Exposure)
	}
	var doors map[string]runs.Door
	l.until(30*time.Second, "a door on each node", func() bool {
		doors = l.doors(dir)
		return len(doors) == 2
	})
	l.note()
	key := dir.File(runs.KeyFile)
	for host, d := range doors {
		bare := l.as(l.user, "login1", "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", d.URL+"/metrics").out
		with := l.as(l.user, "login1", "sh", "-c", `curl -s -m 5 -H "Authorization: Bearer $(cat "$1")" "$2"`, "_", key, d.URL+"/metrics").out
		for _, from := range []string{"login1", host} {
			if code := l.as("mallory", from, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer wrong", d.URL+"/engine/v1/models").out; code != "401" {
				t.Errorf("mallory on %s at the door of %s: %s", from, host, code)
			}
		}
		if bare != "401" || !strings.Contains(with, "aifbench_node_cpu_seconds_total{") {
			t.Errorf("door of %s: %s without a key, with it:\n%.300s", host, bare, with)
		}
	}
	r := doc[result.Result](l, 0, "bench", "vllm", "--requests", "20", "--concurrency", "2", "--output-len", "4")
	valid(t, r, 1, "output_tokens_per_s")
	for host := range doors {
		if files, err := filepath.Glob(dir.File(runs.TelemetryDir, host+"*.jsonl")); err != nil || len(files) != 1 {
			t.Errorf("telemetry of %s: %v %v", host, files, err)
		}
	}
}

// TestLabLustreElsewhere: what one node prepared another one measures.
func TestLabLustreElsewhere(t *testing.T) {
	l := newLab(t)
	prepared := l.start("lustre")
	rows := doc[labRows](l, 0, "check", "lustre").Runs
	r := doc[result.Result](l, 0, "bench", "lustre", "-p", "gpu", "--phase-time", "300ms", "--max-files", "400", "--max-bytes", "8388608")
	valid(t, r, 1, "ior_easy_write_gib_per_s", "mdtest_hard_read_kiops", "find_kiops")
	host, _ := r.Environment["host"].(string)
	if len(rows) != 1 || rows[0].Node == "" || host == "" || host == rows[0].Node {
		t.Errorf("prepared on %+v, measured on %q", rows, host)
	}
	if r.Environment["where"] != "job" || r.Target != prepared.Run {
		t.Errorf("where %v, target %s", r.Environment["where"], r.Target)
	}
}

// TestLabCancelledFromOutside: a job that somebody else ended is told as such,
// and the same start works again.
func TestLabCancelledFromOutside(t *testing.T) {
	l := newLab(t)
	s := l.start("vllm", sim()...)
	if a := l.as(l.user, "login1", "scancel", s.JobID); a.code != 0 {
		t.Fatal(a.err)
	}
	l.until(time.Minute, "check names the cancellation", func() bool {
		c := l.ab("check", "vllm", "-o", "json")
		return c.code == 9 && strings.Contains(c.out, "cancelled")
	})
	rows := doc[labRows](l, 9, "check", "vllm").Runs
	if len(rows) != 1 || rows[0].Run != s.Run || rows[0].Ready || !strings.Contains(rows[0].Why, "cancelled") {
		t.Errorf("check: %+v", rows)
	}
	if a := l.ab("bench", "vllm", "--requests", "2"); a.code != 3 && a.code != 9 {
		t.Errorf("bench of a cancelled service: exit %d\n%s", a.code, a.err)
	}
	again := l.start("vllm", sim()...)
	if again.Existing || again.Run == s.Run {
		t.Errorf("start after scancel: %+v", again)
	}
	l.must(0, "check", "vllm")
}

// TestLabControllerAway: a controller that hangs or is gone loses and doubles
// nothing, and is no reason to run things on the login node.
func TestLabControllerAway(t *testing.T) {
	l := newLab(t)
	fault := func(name, word string) {
		t.Helper()
		if a := l.labsh("fault", name, word); a.code != 0 {
			t.Fatalf("fault %s %s: %s", name, word, a.err)
		}
	}
	l.start("chroma", sim("--share-node")...)
	fault("ctld-stop", "on")
	t.Cleanup(func() { l.labsh("fault", "ctld-stop", "off"); l.labsh("fault", "ctld-hang", "off") })
	rows := doc[labRows](l, 8, "check", "all").Runs
	if len(rows) != 1 || rows[0].Code != 8 {
		t.Errorf("check while the controller is away: %+v", rows)
	}
	fault("ctld-stop", "off")
	l.until(time.Minute, "the controller is back", func() bool { return l.ab("check", "all").code == 0 })

	fault("ctld-hang", "on")
	sh := l.spawn(append([]string{"start", "vllm", "-o", "json"}, sim()...)...)
	l.until(2*time.Minute, "sbatch meets the hanging controller", func() bool {
		return slices.ContainsFunc(l.dirs(), func(d runs.Dir) bool { return d.Intent.Service == "vllm" && d.State().Doubtful })
	})
	// The queue cannot be asked now, and nothing may be taken for it.
	for _, r := range doc[labRows](l, 8, "check", "all").Runs {
		if r.Code != 8 && r.Service == "chroma" {
			t.Errorf("check while the controller hangs: %+v", r)
		}
	}
	fault("ctld-hang", "off")
	a := sh.wait()
	if a.code != 0 {
		t.Fatalf("start: exit %d\n%s%s", a.code, a.out, a.err)
	}
	s := decode[labStart](l, a.out)
	if in := l.opened(s.Run).Intent; in.Scheduler != "slurm" {
		t.Errorf("run %s went to the scheduler %q", s.Run, in.Scheduler)
	}
	n := 0
	for _, name := range l.queued() {
		if strings.Contains(name, s.Run) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d jobs of %s: %v", n, s.Run, l.queued())
	}
	l.must(0, "wait", s.Run, "--timeout", "1m")
	l.note()
}

// TestLabKeepsAndFollows: data that is to stay stays, and followed logs end
// with their run.
func TestLabKeepsAndFollows(t *testing.T) {
	l := newLab(t)
	data := l.start("lustre")
	owned := l.opened(data.Run).Intent.OwnedPaths
	l.must(0, "stop", "lustre", "--keep-data")
	for _, p := range owned {
		if _, err := os.Stat(filepath.Join(p, runs.OwnerMarker)); err != nil {
			t.Errorf("--keep-data: %v", err)
		}
		if err := os.RemoveAll(p); err != nil {
			t.Error(err)
		}
	}
	if len(owned) == 0 {
		t.Error("lustre owns nothing")
	}
	l.start("vllm", sim()...)
	sh := l.spawn("logs", "vllm", "--follow", "--source", "supervisor")
	l.until(20*time.Second, "a followed line", func() bool { return strings.Contains(read(sh.out), "msg=ready") })
	l.must(0, "stop", "vllm")
	if a := sh.wait(); a.code != 0 {
		t.Errorf("logs --follow: exit %d after its run ended\n%s", a.code, a.err)
	}
}
