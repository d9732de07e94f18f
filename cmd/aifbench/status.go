package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"aifbench/pkg/metrics/result"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm"
)

// row is one line of `check` and `list`.
type row struct {
	Run      string   `json:"run"`
	Verb     string   `json:"verb"`
	Service  string   `json:"service"`
	Engine   string   `json:"engine"`
	JobID    string   `json:"job_id"`
	State    string   `json:"state"`
	Reason   string   `json:"reason"`
	Node     string   `json:"node"`
	Address  string   `json:"address"`
	Ready    bool     `json:"ready"`
	Why      string   `json:"why"`
	AgeS     float64  `json:"age_s"`
	Exposure string   `json:"exposure"`
	Code     int      `json:"code"`
	Warnings []string `json:"warnings"`
}

// States of a run beside the scheduler's own words.
const (
	stateDamaged  = "DAMAGED"
	stateRefused  = "REFUSED"
	statePrepared = "PREPARED"
	stateDoubtful = "DOUBTFUL"
	stateStopped  = "STOPPED"
	stateUnknown  = "UNKNOWN"
	stateDone     = "DONE"
	stateRunning  = "RUNNING"
)

// row judges a view: what state, ready or why not, and the exit code it means.
func (v view) row(now time.Time) row {
	in := v.dir.Intent
	r := row{
		Run: in.ID, Verb: in.Verb, Service: in.Service, Engine: in.Engine, JobID: v.state.JobID, State: v.state.SchedState, Reason: v.state.Reason,
		Node: v.state.Node, AgeS: now.Sub(in.Created).Round(time.Second).Seconds(), Exposure: in.Exposure, Warnings: v.warnings, Code: exitNotReady,
	}
	for _, p := range v.state.Problems {
		r.Warnings = append(r.Warnings, p.Error())
	}
	if r.Warnings == nil {
		r.Warnings = []string{}
	}
	if in.Verb == "bench" {
		v.bench(&r)
		return r
	}
	v.start(&r)
	return r
}

func (v view) start(r *row) {
	s := v.state
	ep, epErr := v.dir.ReadEndpoint()
	if epErr == nil {
		r.Address, r.Node, r.Exposure = ep.DoorURL, ep.Node, ep.Exposure
	} else if !errors.Is(epErr, os.ErrNotExist) {
		r.Warnings = append(r.Warnings, epErr.Error())
	}
	var sent *runs.Sentinel
	complete := false
	if !s.Ended { // of the many that are over nobody asks more
		sent, complete = v.sentinel()
	}
	switch {
	case s.Refused != "":
		r.State, r.Why, r.Code = stateRefused, s.Refused, exitBad
	case s.Ended:
		r.State, r.Why, r.Code = stateStopped, "stopped "+s.EndedAt.UTC().Format(time.RFC3339), exitOK
		if s.Cause != "" && s.StopRequested.IsZero() {
			r.State, r.Why, r.Code = s.SchedState, "ended: "+s.Cause, exitBad
		}
	case s.JobEnded && complete && epErr == nil && keepsReady(r.Service):
		r.State, r.Ready, r.Code, r.Why = "COMPLETED", true, exitOK, ""
		r.Address = ep.DataDir
	case s.JobEnded && !s.StopRequested.IsZero():
		r.State, r.Why, r.Code = stateStopped, "stopped on request", exitOK
	case s.JobEnded:
		r.Why, r.Code = endedWhy(s, sent), exitBad
	case v.obsErr != nil:
		r.State, r.Code, r.Why = orWord(r.State, stateUnknown), exitInfra, "the scheduler does not answer: "+v.obsErr.Error()
	case s.JobID == "" && s.Doubtful:
		r.State, r.Code, r.Why = stateDoubtful, exitInfra, "submission unconfirmed; the next start or check looks again"
	case s.JobID == "":
		r.State, r.Why = statePrepared, "not submitted yet"
		if s.Prepared {
			r.Code, r.Why = exitInfra, "the shell that submitted it is gone and no job is known; the next start looks again"
		}
	case v.obs != nil && v.obs.Presence == slurm.Unknown:
		r.Code, r.Why = exitInfra, "the scheduler cannot tell"
	case v.obs != nil && v.obs.Presence == slurm.Absent:
		r.State, r.Code, r.Why = stateUnknown, exitInfra, "gone from the queue, its end is not on record yet"
	case v.blocked():
		r.Code, r.Why = exitBad, fmt.Sprintf("blocked for ever: %s; stop it and change what it asks for", v.obs.Reason)
	case v.obs != nil && v.obs.ReasonKind == slurm.ReasonFatal:
		r.Why = fmt.Sprintf("may be blocked for ever: %s; look again", v.obs.Reason)
	case !s.StopRequested.IsZero():
		r.Why = "asked to end"
	case v.obs != nil && v.obs.State != slurm.Running && epErr == nil:
		// What a killed supervisor left behind, or one that is going down: a
		// job that is not running serves nobody.
		r.Address, r.Why = "", "its job is "+string(v.obs.State)
	case epErr == nil && keepsReady(r.Service) && !complete:
		// What it prepared is there, and its job has yet to say how it ended.
		r.Address, r.Why = "", "its job is about to end"
	case epErr == nil:
		// The run's own word is newer than the scheduler's last one.
		r.Ready, r.Code, r.State, r.Reason = true, exitOK, string(slurm.Running), ""
		if keepsReady(r.Service) {
			r.State, r.Address = string(slurm.Completed), ep.DataDir
		}
	case s.SchedState == string(slurm.Running):
		r.Why = "the job runs, the engine does not answer yet"
	default:
		r.Why = "waiting for the scheduler"
	}
}

// keepsReady tells whether a run of the service is ready without its job.
func keepsReady(service string) bool {
	svc, err := services.Lookup(service)
	return err == nil && svc.KeepsReady
}

// blocked tells that the job will never start as it is: seen twice.
func (v view) blocked() bool {
	return v.obs != nil && v.obs.Cause == slurm.CauseBlocked && !v.obs.Ended
}

// endedWhy names the cause of an end nobody asked for.
func endedWhy(s runs.State, sent *runs.Sentinel) string {
	why := "ended"
	if s.Cause != "" {
		why += ": " + s.Cause
	}
	if s.ExitCode != nil && *s.ExitCode != 0 {
		why += fmt.Sprintf(", exit code %d", *s.ExitCode)
	}
	switch {
	case sent == nil:
		why += "; it never started its supervisor"
	case sent.Message != "":
		why += "; " + sent.Message
	case sent.Phase == runs.SentinelStarted:
		why += "; killed before it could say why"
	}
	if s.JobMessage != "" {
		why += " (" + s.JobMessage + ")"
	}
	return why
}

// sentinel returns the supervisor's own word, of several hosts the worst.
func (v view) sentinel() (*runs.Sentinel, bool) {
	list, _ := v.dir.Sentinels()
	if len(list) == 0 {
		return nil, false
	}
	worst := list[0]
	complete := true
	for _, s := range list {
		ok := s.Phase == runs.SentinelEnded && s.Complete && s.ExitCode != nil && *s.ExitCode == 0
		if !ok {
			complete, worst = false, s
		}
	}
	return &worst, complete
}

// bench judges a bench run by what it left: the result, else signs of life.
func (v view) bench(r *row) {
	res, err := result.Read(v.dir.File(runs.ResultFile))
	switch {
	case err == nil:
		r.State, r.Ready, r.Why = stateDone, true, string(res.Verdict.Status)
		r.Code = verdictCode(res, false)
		return
	case !errors.Is(err, os.ErrNotExist):
		r.State, r.Code, r.Why = stateDamaged, exitInfra, err.Error()
		return
	}
	sent, _ := v.sentinel()
	switch {
	case v.state.Refused != "":
		r.State, r.Why, r.Code = stateRefused, v.state.Refused, exitBad
	case sent != nil && sent.Phase == runs.SentinelEnded:
		r.State, r.Code, r.Why = "FAILED", exitBad, orWord(sent.Message, "the generator ended without a result")
	case v.state.Ended:
		r.State, r.Code, r.Why = orWord(v.state.SchedState, "FAILED"), exitBad, "ended without a result: "+v.state.Cause
	case v.state.JobEnded:
		r.Code, r.Why = exitBad, endedWhy(v.state, sent)+"; no result"
	case v.obsErr != nil:
		r.State, r.Code, r.Why = orWord(r.State, stateUnknown), exitInfra, "the scheduler does not answer: "+v.obsErr.Error()
	case v.blocked():
		r.Code, r.Why = exitBad, fmt.Sprintf("blocked for ever: %s; stop it and change what it asks for", v.obs.Reason)
	case v.lost != "":
		r.State, r.Code, r.Why = "FAILED", exitBad, v.lost
	case sent != nil:
		r.State, r.Why = stateRunning, "measuring"
	default:
		r.State, r.Why = orWord(r.State, statePrepared), "not started yet"
	}
}

func orWord(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// verdictCode turns a stored result into the exit code of the command that shows it.
func verdictCode(r *result.Result, strict bool) int {
	code := exitOK
	switch r.Verdict.Status {
	case result.Valid:
	case result.ClientLimited:
		code = exitInconclusive
		if strict {
			code = exitBad
		}
	case result.Interrupted:
		code = exitInt
		for _, why := range r.Verdict.Reasons {
			if why.Rule == ruleTerminated {
				code = exitTerm
			}
		}
	default:
		code = exitBad
	}
	missed, open := result.Tally(r.Gates)
	if missed > 0 {
		code = weigh(code, exitGate)
	}
	if open > 0 {
		code = weigh(code, exitInconclusive)
	}
	return code
}

// ruleTerminated marks a result whose run was ended by SIGTERM, not SIGINT.
const ruleTerminated = "ended_by_sigterm"
