package node

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/services/run"
)

// twoNodes gives the bed a job of two nodes, whose srun starts the program as
// the second node's task on this machine.
func twoNodes(t *testing.T, b *bed) {
	t.Helper()
	bin := t.TempDir()
	second := filepath.Join(b.cfg.ScratchRoot, "2")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	srun := "#!/bin/sh\necho \"$*\" > '" + b.cfg.Dir.File("srun.args") + "'\n" +
		"while [ \"$1\" != '" + b.cfg.Bin + "' ]; do shift; done\n" +
		"TMPDIR='" + second + "' SLURM_NODEID=0 SLURM_NNODES=1 SLURMD_NODENAME=secondnode exec \"$@\"\n"
	if err := run.WriteExecutable(filepath.Join(bin, "srun"), []byte(srun)); err != nil {
		t.Fatal(err)
	}
	b.cfg.Plan.Nodes = 2
	b.cfg.Environ = append(b.cfg.Environ, "SLURM_NNODES=2", "PATH="+bin+":"+os.Getenv("PATH"))
	if err := run.WriteJSON(b.cfg.Dir.File(run.PlanFile), b.cfg.Plan); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) secondDoor() run.Door {
	b.t.Helper()
	var d run.Door
	b.until("second door", func() bool { return run.ReadJSON(b.cfg.Dir.File(run.DoorsDir, "secondnode.json"), &d) == nil })
	return d
}

func TestAgentExportsItsNode(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	twoNodes(t, b)
	b.start()
	b.ready()
	d := b.secondDoor()
	code, body, _ := b.get(d.URL+"/metrics", "Bearer "+b.key())
	if code != 200 || !strings.Contains(body, `node="secondnode"`) || strings.Join(d.MetricsPaths, " ") != "/metrics" {
		t.Errorf("%d %v %.300s", code, d, body)
	}
	if code, _, _ := b.get(d.URL+"/metrics", ""); code != 401 {
		t.Errorf("without a key: %d", code)
	}
	if code, _, _ := b.get(d.URL+"/engine/health", "Bearer "+b.key()); code != 404 {
		t.Errorf("an engine on a node that has none: %d", code)
	}
	args, err := os.ReadFile(b.cfg.Dir.File("srun.args"))
	if want := "--overlap --export=ALL --relative=1 --nodes=1 --ntasks=1 --ntasks-per-node=1"; err != nil || !strings.HasPrefix(string(args), want) || strings.Contains(string(args), b.key()) {
		t.Errorf("srun %s, %v", args, err)
	}
	if code, err := b.stop(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	sentinels, problems := b.cfg.Dir.Sentinels()
	if len(sentinels) != 2 || len(problems) != 0 {
		t.Fatalf("%v %v", sentinels, problems)
	}
	for _, s := range sentinels {
		if s.Phase != run.SentinelEnded || !s.Complete || *s.ExitCode != 0 {
			t.Errorf("sentinel %+v", s)
		}
	}
	series, _ := probe.ReadTelemetry(b.cfg.Dir.File(run.TelemetryDir))
	nodes := map[string]bool{}
	for _, s := range series {
		nodes[s.Node] = nodes[s.Node] || len(s.Points) > 0
	}
	if !nodes["testnode"] || !nodes["secondnode"] {
		t.Errorf("telemetry of %v", nodes)
	}
	if err := os.Remove(filepath.Join(b.cfg.ScratchRoot, "2")); err != nil {
		t.Errorf("scratch of the second node: %v", err)
	}
	b.nothingLeft()
}

func TestRanksOfAnEngineOnAllNodes(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	b.cfg.Plan.Procs[0].AllNodes = true
	twoNodes(t, b)
	b.start()
	ep := b.ready()
	b.secondDoor()
	b.until("rank 1", func() bool {
		raw, err := os.ReadFile(b.cfg.Dir.File("rank.env"))
		return err == nil && strings.Contains(string(raw), "\nPID=")
	})
	head, err := os.ReadFile(b.cfg.Dir.File("rank.env"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, l := range strings.Split(string(head), "\n") {
		k, v, _ := strings.Cut(l, "=")
		env[k] = v
	}
	if env["AIFBENCH_NODE_RANK"] != "1" || env["AIFBENCH_NNODES"] != "2" || env["AIFBENCH_HEAD_ADDR"] != "127.0.0.1" ||
		"http://127.0.0.1:"+env["AIFBENCH_PORT"] != ep.LocalURL || env["AIFBENCH_PORT_MASTER"] == "" || env["AIFBENCH_AGENT"] != "" {
		t.Errorf("rank 1 was told %v", env)
	}
	pid, err := strconv.Atoi(env["PID"])
	if err != nil {
		t.Fatal(err)
	}
	// The end of a rank ends the run.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	code, err := b.wait()
	if code == 0 || err == nil || !strings.Contains(err.Error(), "agents on the other nodes ended") {
		t.Errorf("code %d, %v", code, err)
	}
	if err := os.Remove(filepath.Join(b.cfg.ScratchRoot, "2")); err != nil {
		t.Errorf("scratch of the second node: %v", err)
	}
	b.nothingLeft()
}

func TestAgentWantsItsBriefing(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	code, err := Agent(t.Context(), b.cfg)
	if code == 0 || err == nil || !strings.Contains(err.Error(), "started by the supervisor") {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestPlanIsChecked(t *testing.T) {
	t.Parallel()
	b := newBed(t, "ok")
	good := b.cfg.Plan
	for name, change := range map[string]func(*Plan){
		"version":  func(p *Plan) { p.SchemaVersion = 9 },
		"no procs": func(p *Plan) { p.Procs = nil },
		"name":     func(p *Plan) { p.Procs[0].Name = "../x" },
		"script":   func(p *Plan) { p.Procs[0].Script = "/bin/sh" },
		"twice":    func(p *Plan) { p.Procs = append(p.Procs, p.Procs[0]) },
		"one shot": func(p *Plan) { p.OneShot = true; q := p.Procs[0]; q.Name = "b"; p.Procs = append(p.Procs, q) },
	} {
		p := good
		p.Procs = append([]Proc{}, good.Procs...)
		change(&p)
		if err := run.WriteJSON(b.cfg.Dir.File(run.PlanFile), p); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlan(b.cfg.Dir); err == nil {
			t.Errorf("%s: a bad plan is accepted", name)
		}
	}
	if err := os.Remove(b.cfg.Dir.File(run.PlanFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlan(b.cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no plan: %v", err)
	}
}
