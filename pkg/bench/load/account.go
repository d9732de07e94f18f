package load

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// Account is the generator's own books over the window: whether the load was
// what it said it was. It is stored beside the raw samples.
type Account struct {
	Schedule       string  `json:"schedule"`
	Open           bool    `json:"open"`
	N              int64   `json:"n"`
	Dropped        int64   `json:"dropped"`
	IntendedRatePS float64 `json:"intended_rate_per_s"` // 0 for a closed loop
	AchievedRatePS float64 `json:"achieved_rate_per_s"`
	LatenessP50MS  float64 `json:"lateness_p50_ms"`
	LatenessP99MS  float64 `json:"lateness_p99_ms"`
	LatenessMaxMS  float64 `json:"lateness_max_ms"`
	CPUS           float64 `json:"cpu_s"`
	CPUWindowS     float64 `json:"cpu_window_s"`
	CPUsAllowed    int     `json:"cpus_allowed"`
	GCPauseTotalMS float64 `json:"gc_pause_total_ms"`
	GCPauseMaxMS   float64 `json:"gc_pause_max_ms"`
	GCCount        int64   `json:"gc_count"`
	PeakWorkers    int     `json:"peak_workers"`
	WindowS        float64 `json:"window_s"`
	AchievedHow    string  `json:"achieved_how"`
}

// Rules of Judge.
const (
	// lateFloor and lateShare: lateness is bad above 5 ms and above a tenth of
	// the mean interval, whichever is larger.
	lateFloorMS = 5.0
	lateShare   = 0.1
	// cpuLimit: above it the generator measures itself.
	cpuLimit = 0.9
	// minCPUWindow: a shorter window says nothing about the CPU share.
	minCPUWindow = 1.0
)

// CPURatio is the share of the CPU the generator could use; ok is false when
// the window was too short to tell.
func (a Account) CPURatio() (ratio float64, ok bool) {
	if a.CPUWindowS < minCPUWindow || a.CPUsAllowed < 1 {
		return 0, false
	}
	return a.CPUS / (a.CPUWindowS * float64(a.CPUsAllowed)), true
}

// LateLimitMS is the p99 lateness above which an open loop is client-limited.
func (a Account) LateLimitMS() float64 {
	if a.IntendedRatePS <= 0 {
		return lateFloorMS
	}
	return math.Max(lateFloorMS, lateShare*1000/a.IntendedRatePS)
}

// Judge adds the rules that speak to v. Each names the client as the limit of
// the figures.
func (a Account) Judge(v *result.Verdict) {
	limited := func(rule, msg, evidence string) {
		v.Add(result.ClientLimited, result.Reason{Rule: rule, Severity: result.Warn, Message: msg, Evidence: evidence})
	}
	if a.Open && a.N > 0 && a.LatenessP99MS > a.LateLimitMS() {
		limited("send_lateness", "the generator started operations later than planned",
			fmt.Sprintf("lateness p99 %.3f ms over %d starts, limit %.3f ms", a.LatenessP99MS, a.N, a.LateLimitMS()))
	}
	if ratio, ok := a.CPURatio(); ok && ratio >= cpuLimit {
		limited("client_cpu", "the generator used nearly all the CPU it may use",
			fmt.Sprintf("%.2f CPU s in %.2f s on %d CPUs: %.0f %%, limit %.0f %%", a.CPUS, a.CPUWindowS, a.CPUsAllowed, 100*ratio, 100*cpuLimit))
	}
	if a.Dropped > 0 {
		limited("dropped_starts", "operations due in the window never started: all workers were busy",
			fmt.Sprintf("%d dropped, %d sent, %d workers", a.Dropped, a.N, a.PeakWorkers))
	}
}

// Put writes the figures of the account.
func (a Account) Put(s figure.Set) {
	if a.AchievedHow == "" {
		s.PutNull("achieved_rate_per_s", "the window has no length", a.N)
	} else {
		s.Put("achieved_rate_per_s", a.AchievedRatePS, a.N, a.AchievedHow)
	}
	const how = "nearest rank over a histogram with 1.6 % buckets"
	switch {
	case a.N == 0:
		s.PutNull("send_lateness_p50_ms", "no operation was sent in the window", 0)
		s.PutNull("send_lateness_p99_ms", "no operation was sent in the window", 0)
	default:
		if figure.Supports(a.N, 0.5) {
			s.Put("send_lateness_p50_ms", a.LatenessP50MS, a.N, how)
		} else {
			s.PutNull("send_lateness_p50_ms", fmt.Sprintf("%d samples, a p50 needs 20", a.N), a.N)
		}
		if figure.Supports(a.N, 0.99) {
			s.Put("send_lateness_p99_ms", a.LatenessP99MS, a.N, how)
		} else {
			s.PutNull("send_lateness_p99_ms", fmt.Sprintf("%d samples, a p99 needs 1000", a.N), a.N)
		}
	}
	if ratio, ok := a.CPURatio(); ok {
		s.Put("client_cpu_ratio", ratio, 1, "user and system time of the process over window length times allowed CPUs")
	} else {
		s.PutNull("client_cpu_ratio", "the window is too short to tell", 1)
	}
}

// usage is a snapshot of what the process has used.
type usage struct {
	at      time.Time
	cpu     time.Duration
	gcTotal time.Duration
	gcCount int64
	gcLast  []time.Duration
}

func readUsage() usage {
	u := usage{at: time.Now()}
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		u.cpu = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	u.gcTotal, u.gcCount, u.gcLast = gc.PauseTotal, gc.NumGC, gc.Pause
	return u
}

// AllowedCPUs is how many CPUs this process can use at once: its affinity and
// the limit that the runtime took from the cgroup.
func AllowedCPUs() int {
	n := runtime.GOMAXPROCS(0)
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil && set.Count() > 0 {
		n = min(n, set.Count())
	}
	return n
}

func (d *driver) account(out Outcome, late *lateness, sendSpan time.Duration) Account {
	a := Account{
		Schedule: d.plan.Schedule.String(), N: out.Sent, Dropped: out.Dropped,
		CPUsAllowed: AllowedCPUs(), PeakWorkers: len(d.workers), WindowS: (out.End - out.Start).Seconds(),
		LatenessP50MS: late.quantile(0.5), LatenessP99MS: late.quantile(0.99), LatenessMaxMS: late.maximum(),
	}
	switch s := d.plan.Schedule.(type) {
	case Constant:
		a.Open, a.IntendedRatePS = true, s.Rate
	case Poisson:
		a.Open, a.IntendedRatePS = true, s.Rate
	default:
		a.Open = d.plan.Schedule.Arrivals() != nil
	}
	a.CPUS = (d.ended.cpu - d.usage.cpu).Seconds()
	a.CPUWindowS = d.ended.at.Sub(d.usage.at).Seconds()
	a.GCPauseTotalMS = ms(d.ended.gcTotal - d.usage.gcTotal)
	a.GCCount = d.ended.gcCount - d.usage.gcCount
	for i := range min(int(a.GCCount), len(d.ended.gcLast)) {
		a.GCPauseMaxMS = max(a.GCPauseMaxMS, ms(d.ended.gcLast[i]))
	}
	// A window bounded by count ends with its last answer, long after its last
	// start, so the rate of an open loop is taken between starts.
	switch byTime := d.plan.Window.Duration > 0 && out.End-out.Start == d.plan.Window.Duration; {
	case a.Open && !byTime && out.Sent > 1 && sendSpan > 0:
		a.AchievedRatePS = float64(out.Sent-1) / sendSpan.Seconds()
		a.AchievedHow = "operations sent after the first over the time from first to last start"
	case a.WindowS > 0:
		a.AchievedRatePS = float64(out.Sent) / a.WindowS
		a.AchievedHow = "operations sent in the window over its length"
	}
	return a
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
