package node

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// tearDown ends everything in the reverse order of its start. It goes on after
// a failure, so that nothing is left running.
func (s *supervisor) tearDown() {
	check := func(what string, err error) {
		if err != nil {
			s.warn(what + ": " + err.Error())
		}
	}
	if !s.Plan.OneShot || s.Plan.Watched || !s.isReady {
		s.unpublish()
	}
	s.agents.stop()
	from := ""
	prometheus := s.engine(monitors.Prometheus)
	if s.Plan.Monitors != nil && prometheus != nil && prometheus.p != nil {
		from = s.snapshot()
	}
	for _, e := range slices.Backward(s.engines) {
		s.stopEngine(e)
	}
	if from != "" {
		s.keepSnapshot(from)
	}
	if s.forward != nil {
		check("close OTLP port", s.forward.close())
	}
	if s.door != nil {
		check("close door", s.door.close())
	}
	if s.otlpHTTP != nil {
		s.otlpHTTP.CloseIdleConnections()
	}
	if s.sampler != nil {
		check("telemetry", s.sampler.close())
	}
	if s.temp != "" {
		check("temporary files", run.RemoveOwned(s.temp, s.Dir.Intent.Nonce))
	}
	if s.scratch != "" {
		check("scratch", run.RemoveOwned(s.scratch, s.Dir.Intent.Nonce))
	}
}

// conclude turns how the run ended into the last sentinel and the exit code.
func (s *supervisor) conclude(err error) (int, error) {
	phase, code, complete, message := run.SentinelEnded, 0, true, ""
	engine, isEngine := errors.AsType[*EngineError](err)
	switch {
	case errors.Is(err, ErrTimeLimit):
		phase, code, complete, message = run.SentinelTruncated, ExitTruncated, false, "the time limit is near"
		err = nil
	case errors.Is(err, ErrStop):
		complete, err = s.isReady, nil
		message = "stopped"
		if !s.isReady {
			message = "stopped before it was ready"
		}
	case err != nil:
		code, complete, message = ExitFailed, false, err.Error()
		if isEngine && engine.Code > 0 {
			code = engine.Code
		}
	}
	if w := s.warned(); len(w) > 0 {
		message = strings.TrimPrefix(message+"; warnings: "+strings.Join(w, "; "), "; ")
	}
	if serr := s.sentinel(phase, &code, complete, message); serr != nil {
		if code == 0 {
			code = ExitFailed
		}
		err = errors.Join(err, serr)
	}
	return code, err
}

// sentinel writes what this process says of itself.
func (s *supervisor) sentinel(phase string, code *int, complete bool, message string) error {
	restarts, err := strconv.Atoi(s.env("SLURM_RESTART_COUNT"))
	if err != nil {
		restarts = 0 // not set: the first start
	}
	now := s.Now().UTC()
	v := run.Sentinel{
		Host: s.Hostname, JobID: s.jobID(), PID: s.pid, Phase: phase, Started: s.started, Updated: now,
		ExitCode: code, RestartCount: restarts, Complete: complete, Message: message,
	}
	if code != nil {
		v.Ended = &now
	}
	if err := s.Dir.WriteSentinel(v); err != nil {
		return fmt.Errorf("write sentinel: %w", err)
	}
	return nil
}

// limitNear is how long before the end of the job a signal counts as the
// scheduler's warning: it is asked for two minutes ahead and comes up to one
// minute early.
const limitNear = 3*time.Minute + 30*time.Second

// stopCause tells a user's stop from the scheduler's warning, which are the
// same signal: a stop leaves its request in the journal first, and a warning
// comes when the end is near.
func (s *supervisor) stopCause(cause error) error {
	if errors.Is(cause, ErrTimeLimit) {
		return ErrTimeLimit
	}
	if !s.Dir.State().StopRequested.IsZero() {
		return ErrStop
	}
	if end, ok := s.jobEnd(); ok && end.Sub(s.Now()) <= limitNear {
		return ErrTimeLimit
	}
	return ErrStop
}

// jobEnd is when the scheduler will end the job, where it can be known.
func (s *supervisor) jobEnd() (time.Time, bool) {
	if n, err := strconv.ParseInt(s.env("SLURM_JOB_END_TIME"), 10, 64); err == nil && n > 0 {
		return time.Unix(n, 0), true
	}
	// Older schedulers do not tell; we began within seconds of the job. A limit
	// shorter than the warning's own lead says nothing.
	limit := time.Duration(s.Plan.TimeLimitS * float64(time.Second))
	if limit <= 0 {
		return time.Time{}, false
	}
	return s.started.Add(limit), true
}

// drainLimit is how long a generator may take to save. A user's stop is
// followed by the scheduler's KILL within half a minute; before a time limit
// there is more.
func (s *supervisor) drainLimit(cause error) time.Duration {
	if !errors.Is(s.stopCause(cause), ErrTimeLimit) {
		return s.DrainLimit
	}
	end, ok := s.jobEnd()
	if !ok {
		return s.DrainLimit
	}
	left := end.Sub(s.Now()) - s.stopGrace() - 15*time.Second
	return max(s.DrainLimit, min(left, 90*time.Second))
}
