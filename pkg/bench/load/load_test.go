package load

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"aifbench/pkg/metrics/result"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// take returns the first n times of a schedule.
func take(s Schedule, n int) []time.Duration {
	next := s.Arrivals()
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = next()
	}
	return out
}

func TestConstantTimesComeFromTheIndex(t *testing.T) {
	t.Parallel()
	// A third of a second three times is one second: no rounding adds up.
	got := take(Constant{Rate: 3}, 3_000_001)
	if got[0] != 0 || got[1] != 333333333 || got[3] != time.Second || got[3_000_000] != 1_000_000*time.Second {
		t.Fatalf("got %v %v %v %v", got[0], got[1], got[3], got[3_000_000])
	}
}

func TestPoissonIsPureAndHasItsRate(t *testing.T) {
	t.Parallel()
	a, b := take(Poisson{Rate: 100, Seed: 7}, 20000), take(Poisson{Rate: 100, Seed: 7}, 20000)
	if !slices.Equal(a, b) {
		t.Fatal("same seed, other times")
	}
	if slices.Equal(a, take(Poisson{Rate: 100, Seed: 8}, 20000)) {
		t.Fatal("other seed, same times")
	}
	if !slices.IsSorted(a) {
		t.Fatal("times fall")
	}
	// The sum of 20,000 gaps of 10 ms has a standard deviation of 1.41 s.
	if got := a[len(a)-1].Seconds(); got < 200-6 || got > 200+6 {
		t.Fatalf("20000 arrivals at 100/s took %.2f s", got)
	}
}

func TestPlanValidate(t *testing.T) {
	t.Parallel()
	ok := Plan{Schedule: ClosedLoop{Concurrency: 1}, Window: Bound{Count: 1}}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Plan{
		"no schedule":      {Window: Bound{Count: 1}},
		"no bound":         {Schedule: Constant{Rate: 1}},
		"no workers":       {Schedule: ClosedLoop{}, Window: Bound{Count: 1}},
		"rate zero":        {Schedule: Constant{}, Window: Bound{Count: 1}},
		"rate NaN":         {Schedule: Poisson{Rate: math.NaN()}, Window: Bound{Count: 1}},
		"negative window":  {Schedule: Constant{Rate: 1}, Window: Bound{Count: -1}},
		"negative warm-up": {Schedule: Constant{Rate: 1}, Window: Bound{Count: 1}, Warmup: Bound{Duration: -1}},
		"negative think":   {Schedule: ClosedLoop{Concurrency: 1, Think: -1}, Window: Bound{Count: 1}},
		"too many":         {Schedule: ClosedLoop{Concurrency: MaxConcurrency + 1}, Window: Bound{Count: 1}},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// trace collects what every worker saw; one slice a worker, no locks.
type trace struct{ ops []*[]Op }

func (tr *trace) worker(do func(ctx context.Context, op Op) bool) NewWorker {
	return func(id int) Do {
		if id != len(tr.ops) {
			panic("workers are not numbered in order")
		}
		// The outer slice moves when it grows; the box does not.
		box := new([]Op)
		tr.ops = append(tr.ops, box)
		return func(ctx context.Context, _ Clock, op Op) bool {
			*box = append(*box, op)
			return do(ctx, op)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func fake(p Plan) Plan { p.pace = timerPacer{}; return p }

func run(t *testing.T, ctx context.Context, p Plan, do func(ctx context.Context, op Op) bool) Outcome {
	t.Helper()
	var tr trace
	out, err := Run(ctx, fake(p), Env{}, tr.worker(do))
	if err != nil {
		t.Fatal(err)
	}
	var all []int64
	for _, ops := range tr.ops {
		for i, op := range *ops {
			all = append(all, op.Index)
			if i > 0 && op.Intended < (*ops)[i-1].Intended {
				t.Errorf("a worker's intended starts fall: %v", *ops)
			}
		}
	}
	slices.Sort(all)
	for i, index := range all {
		if int64(i) != index {
			t.Fatalf("indices %v: want each once from 0", all)
		}
	}
	return out
}

func TestClosedLoopByTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// 4 workers, 100 ms each, 1 s warm-up and 10 s window: 40 and 400 operations.
		out := run(t, t.Context(), Plan{
			Schedule: ClosedLoop{Concurrency: 4}, Warmup: Bound{Duration: time.Second}, Window: Bound{Duration: 10 * time.Second},
		}, func(ctx context.Context, _ Op) bool { return sleep(ctx, 100*time.Millisecond) })
		if out.WarmSent != 40 || out.Sent != 400 || out.OK != 400 || out.Start != time.Second || out.End != 11*time.Second || out.Stopped != nil {
			t.Fatalf("%+v", out)
		}
		if out.Account.AchievedRatePS != 40 {
			t.Fatalf("rate %v", out.Account.AchievedRatePS)
		}
	})
}

func TestClosedLoopByCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen atomic.Int64
		out := run(t, t.Context(), Plan{
			Schedule: ClosedLoop{Concurrency: 3, Think: 50 * time.Millisecond}, Warmup: Bound{Count: 6}, Window: Bound{Count: 30},
		}, func(ctx context.Context, _ Op) bool { seen.Add(1); return sleep(ctx, 100*time.Millisecond) })
		// 2 rounds of warm-up end at 250 ms + 50 ms of thought; 10 rounds follow,
		// the last without the thought after it.
		if seen.Load() != 36 || out.WarmSent != 6 || out.Sent != 30 || out.Start != 300*time.Millisecond || out.End != 1750*time.Millisecond {
			t.Fatalf("seen %d, %+v", seen.Load(), out)
		}
	})
}

func TestClosedLoopCountAfterTimedWarmup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := run(t, t.Context(), Plan{
			Schedule: ClosedLoop{Concurrency: 2}, Warmup: Bound{Duration: time.Second}, Window: Bound{Count: 10},
		}, func(ctx context.Context, _ Op) bool { return sleep(ctx, 100*time.Millisecond) })
		if out.WarmSent != 20 || out.Sent != 10 {
			t.Fatalf("%+v", out)
		}
	})
}

// A frozen server must not slow the schedule: starts keep their times and the
// response time shows the freeze.
func TestOpenLoopKeepsItsScheduleThroughAFreeze(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := run(t, t.Context(), Plan{Schedule: Constant{Rate: 100}, Window: Bound{Duration: 5 * time.Second}},
			func(ctx context.Context, op Op) bool { return sleep(ctx, 2*time.Second) })
		if out.Sent != 500 || out.OK != 500 || out.End != 5*time.Second || out.Dropped != 0 {
			t.Fatalf("%+v", out)
		}
		// At each start of the third second one worker becomes free in the same instant.
		if a := out.Account; a.PeakWorkers < 200 || a.PeakWorkers > 201 || a.LatenessMaxMS != 0 || a.AchievedRatePS != 100 || !a.Open {
			t.Fatalf("%+v", a)
		}
	})
}

func TestOpenLoopByCountReportsTheRateBetweenStarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := run(t, t.Context(), Plan{Schedule: Constant{Rate: 10}, Warmup: Bound{Count: 5}, Window: Bound{Count: 21}},
			func(ctx context.Context, _ Op) bool { return sleep(ctx, 3*time.Second) })
		if out.WarmSent != 5 || out.Sent != 21 || out.Start != 500*time.Millisecond || out.End != 5500*time.Millisecond {
			t.Fatalf("%+v", out)
		}
		if got := out.Account.AchievedRatePS; got != 10 {
			t.Fatalf("rate %v, want 10", got)
		}
	})
}

func TestFullPoolIsLateAndCountsWhatNeverStarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// 10/s offered, a pool of 2 that serves 2/s.
		out := run(t, t.Context(), Plan{Schedule: Constant{Rate: 10}, Window: Bound{Duration: 4500 * time.Millisecond}, MaxInFlight: 2},
			func(ctx context.Context, _ Op) bool { return sleep(ctx, time.Second) })
		// Starts at 0, 0.1, then one pair a second: 10 of 45 are sent.
		if out.Sent != 10 || out.Dropped != 35 {
			t.Fatalf("sent %d dropped %d", out.Sent, out.Dropped)
		}
		var v result.Verdict
		out.Account.Judge(&v)
		if v.Status != result.ClientLimited || len(v.Reasons) != 2 || v.Reasons[0].Rule != "send_lateness" || v.Reasons[1].Rule != "dropped_starts" {
			t.Fatalf("%+v", v)
		}
	})
}

func TestInterruptDrainsThenCuts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(2500 * time.Millisecond); cancel(ErrInterrupted) }()
		var causes atomic.Int64
		out := run(t, ctx, Plan{Schedule: ClosedLoop{Concurrency: 2}, Window: Bound{Count: 1000}, DrainLimit: time.Second},
			func(ctx context.Context, op Op) bool {
				d := time.Second
				if op.Index == 5 {
					d = time.Hour
				}
				ok := sleep(ctx, d)
				if errors.Is(context.Cause(ctx), ErrDrainLimit) {
					causes.Add(1)
				}
				return ok
			})
		if !errors.Is(out.Stopped, ErrInterrupted) || out.Sent != 6 || out.OK != 5 || out.Cut != 1 || causes.Load() != 1 {
			t.Fatalf("%+v, causes %d", out, causes.Load())
		}
		if out.End != 2500*time.Millisecond {
			t.Fatalf("window ends at %v", out.End)
		}
	})
}

func TestDeadServerEndsTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := run(t, t.Context(), Plan{Schedule: ClosedLoop{Concurrency: 2}, Window: Bound{Duration: time.Hour}, StopAfterFailures: 20},
			func(ctx context.Context, op Op) bool { time.Sleep(time.Millisecond); return op.Index < 10 })
		if !errors.Is(out.Stopped, ErrFailing) || out.OK != 10 || out.Failed < 20 || out.Failed > 22 {
			t.Fatalf("%+v", out)
		}
	})
}

func TestProgressAndRealPacer(t *testing.T) {
	t.Parallel()
	var last atomic.Pointer[Progress]
	out, err := Run(t.Context(), Plan{Schedule: Constant{Rate: 500}, Window: Bound{Count: 100}},
		Env{Progress: func(p Progress) { last.Store(&p) }},
		func(int) Do { return func(context.Context, Clock, Op) bool { return true } })
	if err != nil || out.Sent != 100 {
		t.Fatalf("%v %+v", err, out)
	}
	if p := last.Load(); p == nil || p.Done != 100 || p.Share != 1 {
		t.Fatalf("%+v", p)
	}
	if out.Account.LatenessP50MS < 0 {
		t.Fatal("started before the intended time")
	}
}

func TestCancelDuringALongWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(ErrTimeLimit) })
	out, err := Run(ctx, Plan{Schedule: Constant{Rate: 0.001}, Window: Bound{Count: 2}}, Env{},
		func(int) Do { return func(context.Context, Clock, Op) bool { return true } })
	if err != nil || !errors.Is(out.Stopped, ErrTimeLimit) || out.Sent != 1 {
		t.Fatalf("%v %+v", err, out)
	}
	if StopStatus(out.Stopped) != result.Truncated || StopStatus(ErrInterrupted) != result.Interrupted {
		t.Fatal("status of an early end")
	}
}

func TestLatenessBuckets(t *testing.T) {
	t.Parallel()
	var l lateness
	l.add(-time.Second)
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 63, 64, 1000, 1e6, 1e9, 1 << 62} {
		var one lateness
		one.add(d)
		want, got := float64(d)/1e6, one.quantile(0.5)
		if diff := got - want; diff < -0.016*want-1e-6 || diff > 0.016*want+1e-6 {
			t.Errorf("%d: %v, want %v", d, got, want)
		}
		l.merge(&one)
	}
	if l.n != 12 {
		t.Fatal(l.n)
	}
	for i := 1; i <= 1000; i++ {
		l.add(time.Duration(i) * time.Millisecond)
	}
	if got := l.quantile(0.99); got < 960 || got > 1020 {
		t.Fatalf("p99 %v", got)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a    Account
		rule string
	}{
		"clean":             {Account{Open: true, N: 100, IntendedRatePS: 1000, LatenessP99MS: 4.9}, ""},
		"late":              {Account{Open: true, N: 100, IntendedRatePS: 1000, LatenessP99MS: 5.1}, "send_lateness"},
		"slow rate is kind": {Account{Open: true, N: 100, IntendedRatePS: 1, LatenessP99MS: 99}, ""},
		"closed is not":     {Account{N: 100, LatenessP99MS: 99}, ""},
		"cpu":               {Account{N: 100, CPUS: 1.9, CPUWindowS: 1, CPUsAllowed: 2}, "client_cpu"},
		"short window":      {Account{N: 100, CPUS: 0.1, CPUWindowS: 0.05, CPUsAllowed: 2}, ""},
	} {
		var v result.Verdict
		c.a.Judge(&v)
		got := ""
		if len(v.Reasons) > 0 {
			got = v.Reasons[0].Rule
		}
		if got != c.rule {
			t.Errorf("%s: rule %q, want %q", name, got, c.rule)
		}
	}
}

// What is in flight when a timed window ends has its own limit.
func TestTailLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for tail, cut := range map[time.Duration]int64{0: 2, time.Minute: 0} {
			out := run(t, t.Context(), Plan{Schedule: ClosedLoop{Concurrency: 2}, Window: Bound{Duration: time.Second}, DrainLimit: time.Second, TailLimit: tail},
				func(ctx context.Context, _ Op) bool { return sleep(ctx, 10*time.Second) })
			if out.Sent != 2 || out.Cut != cut || out.End != time.Second || out.Stopped != nil {
				t.Errorf("tail %v: %+v", tail, out)
			}
		}
	})
}
