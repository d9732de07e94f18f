package phases

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Statuses of a phase.
const (
	Done        = "done"
	Failed      = "failed"
	Interrupted = "interrupted"
	NotRun      = "not_run"
)

// ErrStuck is returned when ranks did not come back from the kernel within the
// drain limit after the context ended; their threads are left behind and the
// data cannot be removed.
var ErrStuck = errors.New("ranks are stuck in the kernel")

// errStopped ends a rank's loop when the run is stopped from outside or by
// another rank's failure.
var errStopped = errors.New("stopped")

// Outcome is one phase as it went. Rows of ranks that never came back are missing.
type Outcome struct {
	Phase   string
	Status  string
	Message string
	Rows    []Row
}

// Watch receives what happens, on the engine's own goroutine, between phases.
type Watch struct {
	// Begin is told the phase that starts, Finish the one that ended. Both
	// may be nil. An error of Finish ends the run.
	Begin  func(index int, phase string)
	Finish func(Outcome) error
	// Progress is told the operations done so far, a few times a second.
	Progress func(phase string, done int64)
}

// Engine runs the phases of one plan in one directory.
type Engine struct {
	plan    Plan
	limits  Limits
	root    int
	drain   time.Duration
	coarse  time.Duration
	epoch   time.Time
	ranks   []*rank
	walls   []int64 // stonewall of each rank, ns
	stop    atomic.Bool
	abandon chan struct{}
	meeting *meeting
	search  *search

	easyDir, hardDir int
	mdEasy           []int // one a rank
	mdHard           int
	stamp            unix.Timespec
	easyPairs        int64
	hardPairs        int64
	easyItems        int64
	hardItems        int64
	expectedMatches  int64
}

// New prepares an engine for the directory open as fd. drain bounds how long
// ranks are waited for after the context ends; coarse is how far apart two
// files must be made to differ in the file system's time stamps.
func New(fd int, p Plan, drain, coarse time.Duration) *Engine {
	p.Seed &= 1<<31 - 1
	e := &Engine{plan: p, limits: p.Limits(), root: fd, drain: drain, coarse: coarse, abandon: make(chan struct{}), easyDir: -1, hardDir: -1, mdHard: -1}
	for range p.Ranks {
		e.walls = append(e.walls, int64(p.StonewallS*1e9))
	}
	return e
}

// Run runs all phases in order and returns one outcome for each, in order. The
// error is nil for a run that failed or was interrupted, which the outcomes
// say; it is non-nil when the engine itself could not work.
func (e *Engine) Run(ctx context.Context, w Watch) ([]Outcome, error) {
	e.epoch = time.Now()
	order := Order()
	// A rank blocked in the kernel keeps its processor until the runtime takes
	// it away; with one more than ranks, no rank waits for another's.
	if old := runtime.GOMAXPROCS(0); old < e.plan.Ranks+1 {
		runtime.GOMAXPROCS(e.plan.Ranks + 1)
		defer runtime.GOMAXPROCS(old)
	}
	if err := e.layout(); err != nil {
		e.closeDirs()
		out := []Outcome{{Phase: order[0].Name, Status: Failed, Message: "make directories: " + err.Error()}}
		return notRun(out, order), nil
	}
	release := context.AfterFunc(ctx, func() { e.stop.Store(true) })
	defer release()
	if err := e.startRanks(); err != nil {
		e.closeDirs()
		return notRun(nil, order), err
	}
	out, err := e.phases(ctx, w, order)
	if errors.Is(err, ErrStuck) {
		// Their buffers and descriptors are still in use.
		return notRun(out, order), err
	}
	err = errors.Join(err, e.endRanks())
	e.closeDirs()
	return notRun(out, order), err
}

func (e *Engine) phases(ctx context.Context, w Watch, order []Spec) ([]Outcome, error) {
	var out []Outcome
	for i, s := range order {
		if s.Name == HardWrite {
			if err := e.timestamp(ctx); err != nil {
				return append(out, e.early(ctx, s.Name, err)), nil
			}
		}
		if ctx.Err() != nil {
			return append(out, e.early(ctx, s.Name, ctx.Err())), nil
		}
		if w.Begin != nil {
			w.Begin(i, s.Name)
		}
		o, err := e.phase(ctx, s, w.Progress)
		out = append(out, o)
		if err != nil {
			return out, err
		}
		if w.Finish != nil {
			if err := w.Finish(o); err != nil {
				return out, err
			}
		}
		if o.Status != Done {
			return out, nil
		}
	}
	return out, nil
}

func (e *Engine) early(ctx context.Context, phase string, err error) Outcome {
	o := Outcome{Phase: phase, Status: Failed, Message: err.Error()}
	if ctx.Err() != nil {
		o.Status, o.Message = Interrupted, "interrupted before it began"
	}
	return o
}

// phase runs one phase on all ranks.
func (e *Engine) phase(ctx context.Context, s Spec, progress func(string, int64)) (Outcome, error) {
	o := Outcome{Phase: s.Name, Status: Done}
	e.meeting = newMeeting(len(e.ranks))
	if s.Name == Find {
		e.search = newSearch(e.root)
	}
	var ready sync.WaitGroup
	ready.Add(len(e.ranks))
	gate := make(chan struct{})
	ended := make(chan struct{})
	var running atomic.Int64
	running.Store(int64(len(e.ranks)))
	read0, written0, ok := deviceBytes()
	for _, r := range e.ranks {
		r.begin(s.Name)
		r.tasks <- task{work: s.work, ready: &ready, gate: gate, done: func() {
			if running.Add(-1) == 0 {
				close(ended)
			}
		}}
	}
	ready.Wait()
	close(gate)
	if err := e.await(ctx, ended, s.Name, progress); err != nil {
		o.Status, o.Message = Interrupted, err.Error()
		return o, err
	}
	for _, r := range e.ranks {
		o.Rows = append(o.Rows, r.row)
	}
	first := &o.Rows[0]
	if read1, written1, ok1 := deviceBytes(); ok && ok1 {
		r, w := read1-read0, written1-written0
		first.Read, first.Written = &r, &w
	}
	if s.Name == Find {
		n := e.expectedMatches
		first.Expected = &n
	}
	o.Status, o.Message = Fold(o.Rows)
	e.settle(s.Name)
	return o, nil
}

// Fold derives the status of a phase and its message from the rows of its ranks.
func Fold(rows []Row) (status, message string) {
	status = Done
	for _, r := range rows {
		switch {
		case r.Status == Failed && status != Failed:
			status, message = Failed, fmt.Sprintf("rank %d: %s", r.Rank, r.Error)
		case r.Status == Interrupted && status == Done:
			status, message = Interrupted, "stopped before it was complete"
		}
	}
	return status, message
}

// await waits for the ranks; after the context's end no longer than the drain limit.
func (e *Engine) await(ctx context.Context, ended <-chan struct{}, name string, progress func(string, int64)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	over := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case <-ended:
			return nil
		case <-tick.C:
			if progress == nil {
				continue
			}
			var sum int64
			for _, r := range e.ranks {
				sum += r.shown.Load()
			}
			progress(name, sum)
		case <-over:
			over = nil
			if e.drain > 0 {
				t := time.NewTimer(e.drain)
				defer t.Stop()
				late = t.C
			}
		case <-late:
			close(e.abandon)
			return fmt.Errorf("%w: %s did not end within %v after the stop", ErrStuck, name, e.drain)
		}
	}
}

// settle keeps what later phases need to know of a finished one.
func (e *Engine) settle(name string) {
	most := e.meeting.most()
	switch name {
	case EasyWrite:
		e.easyPairs = most
	case HardWrite:
		e.hardPairs = most
	case MDEasyWrite:
		e.easyItems = most
	case MDHardWrite:
		e.hardItems = most
		e.expectedMatches = 0
		for _, r := range e.ranks {
			e.expectedMatches += matching(r.id, most)
		}
	}
}

func notRun(out []Outcome, order []Spec) []Outcome {
	for _, s := range order[len(out):] {
		out = append(out, Outcome{Phase: s.Name, Status: NotRun, Message: "an earlier phase ended the run"})
	}
	return out
}

// meeting is where ranks wait at the stonewall to learn how far the fastest came.
type meeting struct {
	missing atomic.Int64
	max     atomic.Int64
	open    chan struct{}
}

func newMeeting(n int) *meeting {
	m := &meeting{open: make(chan struct{})}
	m.missing.Store(int64(n))
	return m
}

func (m *meeting) most() int64 { return m.max.Load() }

// wait reports one rank's count and returns the largest of all.
func (m *meeting) wait(count int64, abandon <-chan struct{}) int64 {
	for {
		old := m.max.Load()
		if count <= old || m.max.CompareAndSwap(old, count) {
			break
		}
	}
	if m.missing.Add(-1) == 0 {
		close(m.open)
	}
	select {
	case <-m.open:
	case <-abandon:
	}
	return m.max.Load()
}
