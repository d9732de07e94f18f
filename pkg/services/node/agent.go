package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// agentEnv is the variable that tells an agent where the head is.
const agentEnv = "AIFBENCH_AGENT"

// briefing is its value, as JSON.
type briefing struct {
	HeadAddr string `json:"head_addr"`
	// Ports are the head's, by process and name; "" is its AIFBENCH_PORT.
	Ports map[string]map[string]int `json:"ports"`
}

// agents is the scheduler's step that runs one agent on each other node. Its
// zero pointer is a run on one node.
type agents struct {
	s    *supervisor
	p    *proc.Process
	fail chan error
	done chan struct{}
}

// startAgents starts an agent on every other node of the job.
func (s *supervisor) startAgents(ctx context.Context) error {
	if s.nnodes < 2 {
		return nil
	}
	b := briefing{HeadAddr: s.headAddr, Ports: map[string]map[string]int{}}
	vital := false
	for _, e := range s.engines {
		if !e.AllNodes {
			continue
		}
		vital = true
		// Chosen before the agents start: they must know them.
		if err := e.choosePorts(s.headAddr); err != nil {
			return err
		}
		ports := map[string]int{"": e.port}
		for k, v := range e.extra {
			ports[k] = v
		}
		b.Ports[e.Name] = ports
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("start agents: %w", err)
	}
	stdout, err := openLog(s.Dir, "agents.out")
	if err != nil {
		return fmt.Errorf("start agents: %w", err)
	}
	defer stdout.Close()
	stderr, err := openLog(s.Dir, "agents.err")
	if err != nil {
		return fmt.Errorf("start agents: %w", err)
	}
	defer stderr.Close()
	// The batch process is on node 0 of the allocation; relative=1 is all the
	// rest without naming a node.
	others := strconv.Itoa(s.nnodes - 1)
	p, err := s.Start(proc.StartSpec{
		Cmd: proc.Cmd{
			Name: "srun",
			Args: []string{
				"--overlap", "--export=ALL", "--relative=1", "--nodes=" + others, "--ntasks=" + others, "--ntasks-per-node=1", "--cpu-bind=none", "--kill-on-bad-exit=1",
				s.Bin, "node", "agent", "--run", s.Dir.Path,
			},
			Dir: s.Dir.Path, Env: append(append([]string{}, s.Environ...), agentEnv+"="+string(raw)),
		},
		Stdout: stdout, Stderr: stderr,
	})
	if err != nil {
		return fmt.Errorf("start agents: %w", err)
	}
	s.agents = &agents{s: s, p: p, fail: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer close(s.agents.done)
		code, err := p.Wait()
		why := fmt.Errorf("the agents on the other nodes ended with exit code %d (%w); see logs/agents.err", code, cmpOr(err, errAgentsEnded))
		if vital {
			s.agents.fail <- why
			return
		}
		if ctx.Err() == nil {
			s.warn("host metrics of the other nodes are missing: " + why.Error())
		}
	}()
	return nil
}

var errAgentsEnded = errors.New("step ended")

// failed delivers the end of a step that the run cannot do without. It blocks
// for ever on a run without agents.
func (a *agents) failed() <-chan error {
	if a == nil {
		return nil
	}
	return a.fail
}

// stop ends the step: srun hands TERM to the agents, which stop their engines.
func (a *agents) stop() {
	if a == nil {
		return
	}
	a.s.signal("srun", a.p, syscall.SIGTERM)
	timer := time.NewTimer(a.s.stopGrace() + 10*time.Second)
	defer timer.Stop()
	select {
	case <-a.p.Done():
	case <-timer.C:
		a.s.warn("the agents did not end in time and were killed")
	}
	a.s.signal("srun", a.p, syscall.SIGKILL)
	<-a.done
}

// Agent is the supervisor's hand on another node of the job: exporter, door
// and telemetry, and the processes of the plan that run on all nodes. It ends
// with the context; an engine that ends before is an error.
func Agent(ctx context.Context, cfg Config) (exitCode int, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return ExitFailed, err
	}
	var b briefing
	if err := json.Unmarshal([]byte(cfg.env(agentEnv)), &b); err != nil {
		return ExitFailed, fmt.Errorf("agent: %s: %w; agents are started by the supervisor", agentEnv, err)
	}
	id, err := strconv.Atoi(cfg.env("SLURM_NODEID"))
	if err != nil || id < 0 {
		return ExitFailed, fmt.Errorf("agent: SLURM_NODEID %q is not a number", cfg.env("SLURM_NODEID"))
	}
	all := cfg.Plan.Nodes
	s, err := newSupervisor(cfg, id+1)
	if err != nil {
		return ExitFailed, err
	}
	// The step counts its own nodes; the job has the head besides.
	s.nnodes = max(all, s.nnodes+1)
	s.headAddr, s.logSuffix = b.HeadAddr, "."+word(cfg.Hostname)
	kept := s.engines[:0]
	for _, e := range s.engines {
		ports, ok := b.Ports[e.Name]
		if !e.AllNodes || !ok {
			continue
		}
		e.port, e.extra = ports[""], map[string]int{}
		for _, name := range e.ExtraPorts {
			e.extra[name] = ports[name]
		}
		kept = append(kept, e)
	}
	s.engines = kept
	s.Plan.Monitors, s.Plan.OneShot = nil, false
	if err := s.sentinel(run.SentinelStarted, nil, false, ""); err != nil {
		return ExitFailed, err
	}
	err = s.serveAgent(ctx)
	return s.conclude(err)
}

func (s *supervisor) serveAgent(ctx context.Context) error {
	defer s.tearDown()
	if err := s.setUp(ctx); err != nil {
		return err
	}
	for _, e := range s.engines {
		if err := s.launch(e); err != nil {
			return err
		}
	}
	if err := s.publishDoor(); err != nil {
		return err
	}
	s.isReady = true
	if err := s.watch(ctx); err != nil {
		return err
	}
	return s.stopCause(context.Cause(ctx))
}
