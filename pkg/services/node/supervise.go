package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// supervisor is the state of one node of a run: the batch process on the
// first, an agent on the others.
type supervisor struct {
	Config
	key       string
	pid       int
	rank      int
	nnodes    int
	started   time.Time
	scratch   string
	temp      string // TMPDIR of the engines
	doorAddr  string
	headAddr  string
	logSuffix string // tells the logs of the other nodes apart
	cpus      split
	engines   []*engine
	door      *door
	sampler   *sampler
	forward   *otlpForward
	otlpURL   string
	otlpHTTP  *http.Transport // to the Collector's HTTP receiver
	agents    *agents
	reload    bool // Prometheus has not read its newest configuration
	isReady   bool

	logLimit      int64
	discoverEvery time.Duration
	settle        time.Duration

	mu       sync.Mutex
	pgids    map[string]int
	warnings []string
}

// settleTime is how long an engine's end may precede our own signal: the
// scheduler ends every process of a cancelled job at once, and the engine may
// be the faster one to go.
const settleTime = 2 * time.Second

// Supervise is the batch process of a run. It starts the engines of the plan,
// publishes their address when they answer, takes requests, and ends
// everything when the context ends or an engine does. The exit code is 0 for a
// run that was stopped, ExitTruncated when the time limit ended it, else the
// engine's or ExitFailed, with the error that says why.
func Supervise(ctx context.Context, cfg Config) (exitCode int, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return ExitFailed, err
	}
	s, err := newSupervisor(cfg, 0)
	if err != nil {
		return ExitFailed, err
	}
	if err := s.sentinel(run.SentinelStarted, nil, false, ""); err != nil {
		return ExitFailed, err
	}
	err = s.run(ctx)
	return s.conclude(err)
}

func newSupervisor(cfg Config, rank int) (*supervisor, error) {
	s := &supervisor{
		Config: cfg, pid: os.Getpid(), rank: rank, nnodes: max(1, cfg.Plan.Nodes), started: cfg.Now().UTC(),
		logLimit: logLimit, discoverEvery: discoverEvery, settle: settleTime, pgids: map[string]int{},
	}
	if n, err := strconv.Atoi(cfg.env("SLURM_NNODES")); err == nil && n > 0 {
		s.nnodes = n
	}
	var err error
	if s.key, err = cfg.Dir.Key(); err != nil {
		return nil, err
	}
	for _, p := range cfg.Plan.Procs {
		s.engines = append(s.engines, &engine{Proc: p})
	}
	return s, nil
}

// run is the life of the batch process. Everything it started has ended when
// it returns. The error is ErrStop or ErrTimeLimit when the context ended it.
func (s *supervisor) run(ctx context.Context) error {
	defer s.tearDown()
	// A start of this job that was killed and requeued left its address.
	s.unpublish()
	err := s.serve(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Cause(ctx))) {
		return s.stopCause(context.Cause(ctx))
	}
	return err
}

func (s *supervisor) serve(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return err
	}
	if s.Plan.OneShot && s.Plan.Watched {
		if err := s.startAgents(ctx); err != nil {
			return err
		}
		if err := s.publishDoor(); err != nil {
			return err
		}
	}
	if s.Plan.OneShot {
		return s.oneShot(ctx)
	}
	if err := s.startAgents(ctx); err != nil {
		return err
	}
	for _, e := range s.engines {
		if err := s.startOne(ctx, e); err != nil {
			return err
		}
	}
	if err := s.publishDoor(); err != nil {
		return err
	}
	work, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop(ErrStop)
		wg.Wait()
	}()
	if s.Plan.Monitors != nil {
		d := &monitors.Discovery{Store: s.discovered(), Files: s.monitorFiles(), Interval: s.scrapeInterval()}
		s.scan(ctx, d)
		wg.Go(func() { s.discover(work, d) })
	}
	if err := s.publish(ctx); err != nil {
		return err
	}
	wg.Go(func() { s.takeRequests(work) })
	err := s.watch(ctx)
	s.unpublish()
	if serr := s.sentinel(run.SentinelDraining, nil, false, ""); serr != nil {
		s.warn("sentinel: " + serr.Error())
	}
	stop(cmpOr(err, context.Cause(ctx)))
	return err
}

func cmpOr(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return ErrStop
}

// setUp makes what the engines need to start.
func (s *supervisor) setUp(ctx context.Context) error {
	allowed, err := allowedCPUs()
	if err != nil {
		return err
	}
	if s.cpus, err = splitCPUs(s.Plan.LoadCPUs, allowed); err != nil {
		return err
	}
	if s.scratch, err = makeScratch(s.ScratchRoot, s.Dir.ID(), s.Hostname, s.Dir.Intent.Nonce); err != nil {
		return err
	}
	if s.temp, err = makeTemp(s.scratch, s.Dir.Intent.Nonce, s.rank); err != nil {
		return err
	}
	for _, e := range s.engines {
		e.socket = e.socketPath(s.scratch)
	}
	s.doorAddr = s.DoorAddr
	if s.doorAddr == "" {
		host, _ := os.Hostname()
		s.doorAddr = nodeAddr(ctx, []string{s.Hostname, host}, s.Dir.Intent.Scheduler == "local").String()
	}
	if s.headAddr == "" {
		s.headAddr = s.doorAddr
	}
	if s.sampler, err = s.startSampler(); err != nil {
		return err
	}
	if s.Plan.OneShot && !s.Plan.Watched {
		return nil
	}
	if s.Plan.Monitors != nil {
		if err := s.prepareMonitors(); err != nil {
			return err
		}
	}
	if s.door, err = s.openDoor(); err != nil {
		return err
	}
	if s.Plan.ForwardOTLP && s.rank == 0 {
		s.forward, err = s.openOTLP(ctx)
		switch {
		case errors.Is(err, monitors.ErrNoMonitors):
			s.Log.Info("the engine pushes no telemetry: no monitors run is ready")
		case err != nil:
			s.warn("the engine pushes no telemetry: " + err.Error())
		default:
			s.otlpURL = s.forward.url()
		}
	}
	return nil
}

// startOne brings one engine up; the failure of an optional one is a warning.
func (s *supervisor) startOne(ctx context.Context, e *engine) error {
	if e.Name == monitors.Grafana && s.Plan.Monitors != nil {
		t := s.engine(monitors.Prometheus).target.Load()
		if err := s.monitorFiles().PrepareGrafana(t.base.String(), s.Dir.File(run.KeyFile), s.scrapeInterval()); err != nil {
			return err
		}
	}
	err := s.bring(ctx, e)
	if err == nil || !e.Optional || ctx.Err() != nil {
		return err
	}
	s.warn("optional " + err.Error())
	e.p = nil
	return nil
}

// watch returns when the run must end: nil when it was told to, an error when
// an engine or an agent ended by itself.
func (s *supervisor) watch(ctx context.Context) error {
	type ended struct {
		e    *engine
		code int
		err  error
	}
	ends := make(chan ended)
	gone := make(chan struct{})
	var wg sync.WaitGroup
	defer func() {
		close(gone)
		wg.Wait()
	}()
	for _, e := range s.engines {
		if e.p == nil || e.readyAtExit() {
			continue
		}
		wg.Go(func() {
			select {
			case <-gone:
			case <-e.p.Done():
				code, err := e.p.Wait()
				select {
				case <-gone:
				case ends <- ended{e, code, err}:
				}
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case why := <-s.agents.failed():
			if sleep(ctx, s.settle) != nil {
				return nil
			}
			return why
		case x := <-ends:
			x.e.unset()
			if sleep(ctx, s.settle) != nil {
				return nil
			}
			if x.e.Optional {
				s.warn(fmt.Sprintf("optional engine %s ended with exit code %d; its last line: %s", x.e.Name, x.code, s.lastLine(x.e)))
				continue
			}
			if x.err != nil {
				return x.err
			}
			return &EngineError{Name: x.e.Name, Code: x.code, Cause: fmt.Sprintf("ended with exit code %d while it served; its last line: %s", x.code, s.lastLine(x.e))}
		}
	}
}

// oneShot runs the only process to its end. The run is ready afterwards,
// without an allocation.
func (s *supervisor) oneShot(ctx context.Context) error {
	if err := s.bring(ctx, s.engines[0]); err != nil {
		return err
	}
	if s.Plan.Watched {
		s.isReady = true
		return nil
	}
	extra, dataDir, version := s.notes()
	return s.writeEndpoint(run.Endpoint{DataDir: dataDir, EngineVersion: version, Extra: extra})
}

func (s *supervisor) engine(name string) *engine {
	for _, e := range s.engines {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// primary is the engine that is meant where none is named: the first that
// answers on a port. It is nil on an agent that only exports.
func (s *supervisor) primary() *engine {
	for _, e := range s.engines {
		if !e.Socket && !e.readyAtExit() {
			return e
		}
	}
	if len(s.engines) > 0 {
		return s.engines[0]
	}
	return nil
}

// warn records something that does not end the run, once.
func (s *supervisor) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.warnings, text) {
		return
	}
	s.Log.Warn(text)
	if len(s.warnings) < 100 {
		s.warnings = append(s.warnings, text)
	}
}

func (s *supervisor) warned() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.warnings)
}

func (s *supervisor) setGroup(name string, pgid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pgid == 0 {
		delete(s.pgids, name)
		return
	}
	s.pgids[name] = pgid
}

func (s *supervisor) groups() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pgids)
}

func (s *supervisor) jobID() string { return s.env("SLURM_JOB_ID") }

func (s *supervisor) readyTimeout() time.Duration {
	return secondsOr(s.Plan.ReadyTimeoutS, 15*time.Minute)
}

func (s *supervisor) stopGrace() time.Duration { return secondsOr(s.Plan.StopGraceS, 20*time.Second) }

// telemetryPeriod is two seconds at most: energy is integrated from it.
func (s *supervisor) telemetryPeriod() time.Duration {
	return min(secondsOr(s.Plan.TelemetryPeriodS, 2*time.Second), 2*time.Second)
}

func secondsOr(s float64, or time.Duration) time.Duration {
	if s <= 0 {
		return or
	}
	return time.Duration(s * float64(time.Second))
}

// storeOf is the home a run directory lies in.
func storeOf(d run.Dir) run.Store { return run.Store{Home: filepath.Dir(filepath.Dir(d.Path))} }
