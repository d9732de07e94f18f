package slurm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// moment is one call of Observe: the clock moves by after, the tools answer,
// and the observation must be want.
type moment struct {
	after  time.Duration
	queue  answer
	acct   answer
	record answer // scontrol show job
	want   string // presence state cause ended
	warn   string // rules of the warnings
}

// TestFinishProtocol plays what squeue and sacct say of one job over time. The
// rows are written with %S for the submission's time, so that the fake clock
// fits; @N is N seconds after it.
func TestFinishProtocol(t *testing.T) {
	t.Parallel()
	const (
		pendingRow = "7|7|PENDING|Priority|@0|N/A|N/A||job-a\n"
		runningRow = "7|7|RUNNING|None|@0|@1|@600|mel1|job-a\n"
	)
	// jobidraw|jobid|state|exit|submit|start|end|derived|nodelist|reason|name
	row := func(state, exit, derived, end string) answer {
		return answer{out: "7|7|" + state + "|" + exit + "|@0|@1|" + end + "|" + derived + "|mel1|None|job-a\n"}
	}
	none := answer{}
	away := answer{err: awayText, code: 1}
	for name, steps := range map[string][]moment{
		"lives": {
			{queue: answer{out: pendingRow}, want: "present PENDING"},
			{after: 10 * time.Second, queue: answer{out: runningRow}, want: "present RUNNING"},
			{after: time.Second, queue: answer{out: strings.Replace(runningRow, "RUNNING", "COMPLETING", 1)}, want: "present COMPLETING"},
		},
		"completes": {{queue: none, acct: row("COMPLETED", "0:0", "0:0", "@5"), want: "absent COMPLETED ended"}},
		"a step fails": {
			{queue: none, acct: row("COMPLETED", "0:0", "1:0", "@5"), want: "absent COMPLETED step_failed ended"},
		},
		"a step runs out of memory": {
			{queue: none, acct: row("COMPLETED", "0:0", "0:125", "@5"), want: "absent COMPLETED out_of_memory ended"},
		},
		"exits non-zero":       {{queue: none, acct: row("FAILED", "7:0", "0:0", "@5"), want: "absent FAILED exit_code ended"}},
		"is killed":            {{queue: none, acct: row("FAILED", "0:9", "0:0", "@5"), want: "absent FAILED signal ended"}},
		"output path unusable": {{queue: none, acct: row("FAILED", "0:53", "0:0", "@5"), want: "absent FAILED output_path ended"}},
		"out of memory":        {{queue: none, acct: row("OUT_OF_MEMORY", "0:125", "0:0", "@5"), want: "absent OUT_OF_MEMORY out_of_memory ended"}},
		"time limit":           {{queue: none, acct: row("TIMEOUT", "0:0", "0:0", "@5"), want: "absent TIMEOUT time_limit ended"}},
		"deadline":             {{queue: none, acct: row("DEADLINE", "1:0", "0:0", "@5"), want: "absent DEADLINE deadline ended"}},
		"cancelled":            {{queue: none, acct: row("CANCELLED by 1001", "0:0", "0:0", "@5"), want: "absent CANCELLED cancelled by1001 ended"}},
		"accounting lags, then answers": {
			{queue: none, acct: none, want: "absent"},
			{after: 5 * time.Second, queue: none, acct: row("PENDING", "0:0", "0:0", "Unknown"), want: "absent PENDING"},
			{after: 60 * time.Second, queue: none, acct: row("RUNNING", "0:0", "0:0", "Unknown"), want: "absent RUNNING"},
			{after: 5 * time.Second, queue: none, acct: row("FAILED", "9:0", "0:0", "@9"), want: "absent FAILED exit_code ended"},
		},
		"accounting never learns": {
			{queue: none, acct: row("RUNNING", "0:0", "0:0", "Unknown"), want: "absent RUNNING"},
			{after: 119 * time.Second, queue: none, acct: row("RUNNING", "0:0", "0:0", "Unknown"), want: "absent RUNNING"},
			{after: time.Second, queue: none, acct: row("RUNNING", "0:0", "0:0", "Unknown"), want: "absent RUNNING lost ended"},
		},
		"seen again, the clock starts anew": {
			{queue: none, acct: none, want: "absent"},
			{after: 100 * time.Second, queue: answer{out: runningRow}, want: "present RUNNING"},
			{after: 100 * time.Second, queue: none, acct: none, want: "absent"},
			{after: 119 * time.Second, queue: none, acct: none, want: "absent"},
			{after: time.Second, queue: none, acct: none, want: "absent lost ended"},
		},
		"controller away changes nothing": {
			{queue: answer{out: runningRow}, want: "present RUNNING"},
			{after: 5 * time.Second, queue: away, want: "unknown", warn: "controller_away"},
			{after: 5 * time.Second, queue: answer{fail: context.DeadlineExceeded, code: 143}, want: "unknown", warn: "controller_away"},
			{after: 500 * time.Second, queue: answer{err: "slurm_load_jobs error: Socket timed out on send/recv operation", code: 1}, want: "unknown", warn: "controller_away"},
			{after: 5 * time.Second, queue: answer{out: runningRow}, want: "present RUNNING"},
		},
		"database away": {
			{queue: none, acct: answer{err: refusedText, code: 1}, want: "absent", warn: "accounting_away"},
			{after: 300 * time.Second, queue: none, acct: answer{err: refusedText, code: 1}, want: "absent", warn: "accounting_away"},
			{after: 5 * time.Second, queue: none, acct: row("COMPLETED", "0:0", "0:0", "@5"), want: "absent COMPLETED ended"},
		},
		"database away, controller remembers": {
			{
				queue: answer{out: "7|7|FAILED|NonZeroExitCode|@0|@1|@5|mel1|job-a\n"}, acct: answer{err: refusedText, code: 1},
				record: answer{out: "JobId=7 JobName=job-a JobState=FAILED Reason=NonZeroExitCode ExitCode=5:0 SubmitTime=@0 StartTime=@1 EndTime=@5 NodeList=mel1\n"},
				want:   "present FAILED exit_code ended", warn: "accounting_away",
			},
		},
		"accounting off, controller remembers": {
			{
				queue: answer{out: "7|7|COMPLETED|None|@0|@1|@5|mel1|job-a\n"}, acct: answer{err: disabledText, code: 1},
				record: answer{out: "JobId=7 JobName=job-a JobState=COMPLETED Reason=None ExitCode=0:0 SubmitTime=@0 StartTime=@1 EndTime=@5 NodeList=mel1\n"},
				want:   "present COMPLETED ended",
			},
		},
		"the controller knows of a failed step before the accounting": {
			{
				queue: answer{out: "7|7|COMPLETED|None|@0|@1|@5|mel1|job-a\n"}, acct: row("RUNNING", "0:0", "0:0", "Unknown"),
				record: answer{out: "JobId=7 JobName=job-a JobState=COMPLETED Reason=None ExitCode=0:0 DerivedExitCode=1:0 SubmitTime=@0 StartTime=@1 EndTime=@5 NodeList=mel1\n"},
				want:   "present COMPLETED step_failed ended",
			},
		},
		"the controller does not tell of steps": {
			{
				queue: answer{out: "7|7|COMPLETED|None|@0|@1|@5|mel1|job-a\n"}, acct: none,
				record: answer{out: "JobId=7 JobName=job-a JobState=COMPLETED Reason=None ExitCode=0:0 SubmitTime=@0 StartTime=@1 EndTime=@5 NodeList=mel1\n"},
				want:   "present COMPLETED", warn: "settling",
			},
			{
				after: time.Second, queue: answer{out: "7|7|COMPLETED|None|@0|@1|@5|mel1|job-a\n"}, acct: row("COMPLETED", "0:0", "1:0", "@5"),
				want: "present COMPLETED step_failed ended",
			},
		},
		"accounting off, controller remembers a state only": {
			{
				queue: answer{out: "7|7|COMPLETED|None|@0|@1|@5|mel1|job-a\n"}, acct: answer{err: disabledText, code: 1},
				record: away, want: "present COMPLETED unknown ended",
			},
		},
		"accounting off, controller forgot": {
			{queue: none, acct: answer{err: disabledText, code: 1}, want: "absent"},
			{after: 10 * time.Second, queue: none, acct: answer{err: disabledText, code: 1}, want: "absent unknown ended"},
		},
		"preempted for good": {
			{after: 5 * time.Second, queue: none, acct: row("PREEMPTED", "0:0", "0:0", "@5"), want: "absent PREEMPTED", warn: "settling"},
			{after: 9 * time.Second, queue: none, acct: row("PREEMPTED", "0:0", "0:0", "@5"), want: "absent PREEMPTED", warn: "settling"},
			{after: time.Second, queue: none, acct: row("PREEMPTED", "0:0", "0:0", "@5"), want: "absent PREEMPTED preempted ended"},
		},
		"preempted and queued again": {
			{queue: none, acct: row("PREEMPTED", "0:0", "0:0", "@5"), want: "absent PREEMPTED", warn: "settling"},
			{after: 5 * time.Second, queue: answer{out: "7|7|PENDING|BeginTime|@9|N/A|N/A||job-a\n"}, want: "present PENDING"},
			// and ended later: both incarnations are listed, the newest counts
			{after: 300 * time.Second, queue: none, acct: answer{
				out: "7|7|PREEMPTED|0:0|@0|@1|@5|0:0|mel1|None|job-a\n7|7|COMPLETED|0:0|@9|@99|@200|0:0|mel2|None|job-a\n",
			}, want: "absent COMPLETED ended"},
		},
		"node failure, seen long after": {
			{after: 100 * time.Second, queue: none, acct: row("NODE_FAIL", "0:0", "0:0", "@30"), want: "absent NODE_FAIL node_failure ended"},
		},
		"node failure, just now": {
			{after: 31 * time.Second, queue: none, acct: row("NODE_FAIL", "0:0", "0:0", "@30"), want: "absent NODE_FAIL", warn: "settling"},
			{after: 10 * time.Second, queue: none, acct: row("NODE_FAIL", "0:0", "0:0", "@30"), want: "absent NODE_FAIL node_failure ended"},
		},
		"requeued and never seen again": {
			{queue: none, acct: row("REQUEUED", "0:0", "0:0", "@5"), want: "absent REQUEUED", warn: "settling"},
			{after: 10 * time.Second, queue: none, acct: row("REQUEUED", "0:0", "0:0", "@5"), want: "absent REQUEUED lost ended"},
		},
		"requeue flag in the queue": {
			{queue: answer{out: strings.Replace(runningRow, "RUNNING", "REQUEUED", 1)}, want: "present REQUEUED"},
		},
		"terminal in the queue, accounting agrees": {
			{
				queue: answer{out: "7|7|CANCELLED|None|@0|@1|@5|mel1|job-a\n"}, acct: row("CANCELLED by 1001", "0:0", "0:0", "@5"),
				want: "present CANCELLED cancelled by1001 ended",
			},
		},
		"id reused in the queue": {
			{queue: answer{out: "7|7|RUNNING|None|@200|@201|N/A|mel1|other\n"}, acct: none, want: "absent id_reused ended", warn: "id_mismatch"},
		},
		"id reused, accounting has our lost row": {
			{queue: none, acct: answer{
				out: "7|7|PENDING|0:0|@0|Unknown|Unknown|0:0||None|allocation\n7|7|RUNNING|0:0|@240|@241|Unknown|0:0|mel1|None|c1\n",
			}, want: "absent id_reused ended", warn: "id_mismatch"},
		},
		"an unheard start is not a stranger": {
			{queue: none, acct: answer{out: "7|7|PENDING|0:0|@0|Unknown|Unknown|0:0||None|allocation\n"}, want: "absent"},
		},
		"an older job of the same id": {
			{queue: none, acct: answer{out: "7|7|COMPLETED|0:0|@-9000|@-8999|@-8000|0:0|mel1|None|wrap\n"}, want: "absent"},
		},
		"an older job of the same name and id": {
			{queue: none, acct: answer{out: "7|7|COMPLETED|0:0|@-9000|@-8999|@-8000|0:0|mel1|None|job-a\n"}, want: "absent"},
		},
		"clocks differ by half a minute": {
			{queue: none, acct: answer{out: "7|7|COMPLETED|0:0|@-30|@-29|@-20|0:0|mel1|None|job-a\n"}, want: "absent COMPLETED ended"},
		},
		"ours ended before the id was given away": {
			{queue: answer{out: "7|7|RUNNING|None|@200|@201|N/A|mel1|other\n"}, acct: row("FAILED", "1:0", "0:0", "@5"), want: "absent FAILED exit_code ended"},
		},
		"blocked at the second sight": {
			{queue: answer{out: "7|7|PENDING|PartitionTimeLimit|@0|N/A|N/A||job-a\n"}, want: "present PENDING fatal"},
			{after: 5 * time.Second, queue: answer{out: "7|7|PENDING|PartitionTimeLimit|@0|N/A|N/A||job-a\n"}, want: "present PENDING blocked fatal"},
			{after: 5 * time.Second, queue: answer{out: pendingRow}, want: "present PENDING"},
			{after: 5 * time.Second, queue: answer{out: "7|7|PENDING|BadConstraints|@0|N/A|N/A||job-a\n"}, want: "present PENDING fatal"},
		},
		"unknown state": {
			{queue: answer{out: strings.Replace(runningRow, "RUNNING", "TELEPORTING", 1)}, want: "present TELEPORTING", warn: "unknown_state"},
			{queue: none, acct: row("VAPORIZED", "0:0", "0:0", "@5"), want: "absent VAPORIZED", warn: "unknown_state"},
		},
		"a twin": {
			{queue: answer{out: runningRow + "9|9|PENDING|None|@1|N/A|N/A||job-a\n"}, want: "present RUNNING", warn: "twin"},
		},
		"a bad row beside ours": {
			{queue: answer{out: "what is this\n" + runningRow}, want: "present RUNNING", warn: "bad_row"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				stamp := func(s string) string {
					for i := -9000; i <= 600; i++ {
						s = strings.ReplaceAll(s, fmt.Sprintf("@%d|", i), at(start.Add(time.Duration(i)*time.Second))+"|")
						s = strings.ReplaceAll(s, fmt.Sprintf("@%d ", i), at(start.Add(time.Duration(i)*time.Second))+" ")
					}
					return s
				}
				ref := slurm.Ref{Name: "job-a", JobID: "7", SubmittedAfter: start}
				var now moment
				run := &script{reply: func(tool string, c proc.Cmd) answer {
					switch {
					case tool == "squeue":
						now.queue.out = stamp(now.queue.out)
						return now.queue
					case slices.Contains(c.Args, "--helpformat"):
						return answer{out: string(read(t, "22.05", "sacct_help.out"))}
					case tool == "sacct":
						now.acct.out = stamp(now.acct.out)
						return now.acct
					case tool == "scontrol":
						now.record.out = stamp(now.record.out)
						return now.record
					}
					return answer{err: "unexpected", code: 99}
				}}
				// No two readings are equal, as on a real clock.
				readings := time.Duration(0)
				client := slurm.New(slurm.Config{Runner: run, Env: []string{"PATH=/bin"}, Now: func() time.Time {
					readings++
					return time.Now().Add(readings)
				}})
				for i, m := range steps {
					time.Sleep(m.after)
					now = m
					got, warns, err := client.Observe(t.Context(), []slurm.Ref{ref})
					if err != nil {
						t.Fatalf("step %d: %v", i, err)
					}
					if s := describe(got["job-a"]); s != m.want {
						t.Errorf("step %d: %q, want %q", i, s, m.want)
					}
					var rules []string
					for _, w := range warns {
						rules = append(rules, w.Rule)
					}
					if s := strings.Join(rules, " "); s != m.warn {
						t.Errorf("step %d: warnings %q, want %q (%v)", i, s, m.warn, warns)
					}
				}
				if n := run.count("squeue"); n != len(steps) {
					t.Errorf("%d squeue calls in %d ticks", n, len(steps))
				}
			})
		})
	}
}

func describe(o slurm.Observation) string {
	words := []string{string(o.Presence)}
	if o.State != "" {
		words = append(words, string(o.State))
	}
	if o.Cause != "" {
		words = append(words, string(o.Cause))
	}
	if o.ReasonKind == slurm.ReasonFatal {
		words = append(words, "fatal")
	}
	if o.CancelledBy != nil {
		words = append(words, "by"+itoa(*o.CancelledBy))
	}
	if o.Ended {
		words = append(words, "ended")
	}
	return strings.Join(words, " ")
}
