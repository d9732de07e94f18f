package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/services"
	"aifbench/pkg/services/node"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

// workload is the part of bench that differs between services.
type workload interface {
	addFlags(cmd *cobra.Command)
	// config makes the engine's configuration for a target, or a usage error.
	config(cmd *cobra.Command, t target) (any, error)
}

type benchOptions struct {
	service  string
	workload workload
	site     siteFlags
	run      string
	endpoint string
	dir      string
	keyFile  string
	where    string
	detach   bool
	strict   bool
	gates    []string
	loadCPUs string
	cpus     int
	timeout  time.Duration
}

func newBenchCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench SERVICE",
		Short: "Load a service and report figures that prove themselves",
		Long: `Finds the live service by its run directory (or --endpoint, --dir), makes the load
beside it, in a job of its own or in this shell, and prints the result. A list
gives one result with a curve. A killed shell loses nothing: aifbench wait RUN.

Exit status: 0 valid and gates passed; 2 wrong words or an unknown figure; 3 no
live service; 5 it is not ready; 6 a gate was missed; 7 a gated figure is null or
the client was the limit; 8 infrastructure; 9 failed, invalid or truncated;
130/143 interrupted, with a partial result.`,
	}
	for _, b := range []struct {
		service string
		w       workload
		example string
	}{
		{"vllm", &llmWorkload{}, "  aifbench bench vllm --concurrency 1,8,64 --requests 200 --gate 'ttft_p99_ms<=500'\n  aifbench bench vllm --rate 5 --duration 60s --api chat\n  aifbench bench vllm --structured json"},
		{"chroma", &vectorWorkload{}, "  aifbench bench chroma --vectors 1k,10k --dimension 384 --gate 'recall_mean_ratio>=0.95'"},
		{"lustre", &fsWorkload{}, "  aifbench bench lustre\n  aifbench bench lustre --io500 /opt/io500/io500 --procs 16 --nodes 2"},
	} {
		cmd.AddCommand(newBenchServiceCmd(a, &benchOptions{service: b.service, workload: b.w}, b.example))
	}
	return cmd
}

func newBenchServiceCmd(a *app, o *benchOptions, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     o.service,
		Short:   "Benchmark " + o.service,
		Example: example,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(cmd); err != nil {
				return err
			}
			return runBench(cmd.Context(), a, o, cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.run, "run", "", "the run of the service; needed when several are live")
	if o.service == "lustre" {
		f.StringVar(&o.dir, "dir", "", "directory to write into instead of a started run; a new one is made below it")
	} else {
		f.StringVar(&o.endpoint, "endpoint", "", "URL of a server instead of a started run, without user or password")
		f.StringVar(&o.keyFile, "key-file", "", "file of mode 0600 with the key for --endpoint")
	}
	enumFlag(cmd, &o.where, "where", "", "", "where load is made (default: beside the service, else job, here only without Slurm)", []string{"", whereBeside, whereJob, whereHere})
	f.BoolVar(&o.detach, "detach", false, "return the run id at once; aifbench wait judges it")
	f.BoolVar(&o.strict, "strict", false, "a client-limited result counts as failed (exit 9)")
	f.StringArrayVar(&o.gates, "gate", nil, "FIGURE<=NUMBER (or >=, <, >); repeatable; exit 6 when missed")
	f.StringVar(&o.loadCPUs, "cpu-list", "", "CPUs this generator may use, as a list; recorded")
	f.IntVar(&o.cpus, "job-cpus", 0, "CPUs of a job of its own (0: the scheduler's default)")
	f.DurationVar(&o.timeout, "timeout", 24*time.Hour, "how long to watch; the bench goes on after it (exit 124)")
	o.site.add(cmd)
	o.workload.addFlags(cmd)
	return cmd
}

func (o *benchOptions) validate(cmd *cobra.Command) error {
	if o.run != "" && (o.endpoint != "" || o.dir != "") {
		return usage("--run excludes --endpoint and --dir", "give one of them")
	}
	if o.endpoint != "" {
		u, err := url.Parse(o.endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return usage("--endpoint is not an http or https URL", "e.g. --endpoint http://127.0.0.1:8000")
		}
		if u.User != nil {
			return usage("--endpoint carries a user or password, which would stand in files and process lists", "leave them out and give the key with --key-file FILE (mode 0600)")
		}
		if u.RawQuery != "" || u.Fragment != "" {
			return usage("--endpoint has a query or fragment", "give the server's base address only")
		}
	}
	if o.keyFile != "" && o.endpoint == "" {
		return usage("--key-file goes with --endpoint", "a started run has its own key")
	}
	if o.timeout <= 0 {
		return usage("--timeout must be above 0", "e.g. --timeout 30m")
	}
	if _, err := gateSpecs(o.gates); err != nil {
		return err
	}
	// Wrong words are wrong whether or not there is a run to load.
	_, err := o.workload.config(cmd, target{url: "http://127.0.0.1", dir: "/any"})
	return err
}

func runBench(ctx context.Context, a *app, o *benchOptions, cmd *cobra.Command) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(o.site.set(cmd))
	if err != nil {
		return err
	}
	t, err := a.findTarget(ctx, st, s, o)
	if err != nil {
		return err
	}
	where, err := o.place(s, t)
	if err != nil {
		return err
	}
	dir, err := a.prepareBench(st, s, o, cmd, &t, where)
	if err != nil {
		return err
	}
	switch where {
	case whereBeside:
		err = t.run.Ask(runs.Request{ID: dir.ID(), Kind: runs.RequestBench, Created: a.now().UTC(), BenchDir: dir.Path})
	case whereJob:
		err = a.submitBench(ctx, st, s, dir, o)
	case whereHere:
		if s.Profile.Scheduler == site.SchedulerSlurm && a.getenv("SLURM_JOB_ID") == "" {
			a.warn("this shell seems to be on a login node; --where job measures on a compute node")
		}
		res, err := a.generate(ctx, dir, a.log)
		if err != nil {
			return fmt.Errorf("bench %s: %w", dir.ID(), err)
		}
		return a.conclude(dir, res, o.strict)
	}
	if errors.Is(err, slurm.ErrDoubtful) {
		return &failure{
			code: exitInfra, layer: "scheduler", retryable: true, cause: err, evidence: dir.Path,
			advice: "`aifbench wait " + dir.ID() + "` looks the job up by its name; `aifbench stop " + o.service + " --run " + dir.ID() + "` gives it up",
		}
	}
	if err != nil {
		return err
	}
	if o.detach {
		return a.emitDetached(dir, where)
	}
	return a.watchBench(ctx, st, s, dir, t, o)
}

// prepareBench writes the run directory of a bench.
func (a *app) prepareBench(st runs.Store, s siteOf, o *benchOptions, cmd *cobra.Command, t *target, where string) (runs.Dir, error) {
	var warnings []string
	id, nonce := runs.NewID(o.service+"-bench", a.now()), runs.NewNonce()
	if t.run != nil && where != whereBeside && t.end.LocalURL != "" {
		// Loopback of the service's node is out of reach: the door is the way.
		host := a.hostname
		if where == whereJob || t.end.Node != host {
			t.url = t.end.DoorURL + "/engine"
			warnings = append(warnings, "load goes through the service's door, which adds latency; --where beside measures without it")
		}
	}
	if o.service == "lustre" {
		t.dir = filepath.Join(t.dir, id)
	}
	cfg, err := o.workload.config(cmd, *t)
	if err != nil {
		return runs.Dir{}, err
	}
	if c, ok := cfg.(interface{ Unsupported() []string }); ok {
		for _, w := range c.Unsupported() {
			a.warn("%s", w)
		}
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return runs.Dir{}, fmt.Errorf("prepare bench: %w", err)
	}
	bin, sum, err := a.binary(st)
	if err != nil {
		return runs.Dir{}, err
	}
	if err := a.installBinary(bin); err != nil {
		return runs.Dir{}, err
	}
	in := runs.Intent{
		ID: id, Verb: "bench", Service: o.service, Engine: t.engine, Nonce: nonce, Created: a.now().UTC(), User: a.userName(), Host: a.hostname,
		Site: s.Name, Scheduler: s.Profile.Scheduler, Where: where, Nodes: 1, Exposure: "none", Binary: runs.Binary{Path: bin, SHA256: sum, Arch: archOf(bin)},
		Params: map[string]runs.Param{"workload": {Value: json.RawMessage(raw), Origin: "flags"}, "gates": {Value: append([]string{}, o.gates...), Origin: "flags"}},
	}
	sp := spec{SchemaVersion: specVersion, Service: o.service, Where: where, Engine: t.engine, Workload: raw, Gates: append([]string{}, o.gates...), LoadCPUs: o.loadCPUs, Warnings: warnings}
	if t.run != nil {
		in.Target, sp.Target, sp.TargetDir = t.run.ID(), t.run.ID(), t.run.Path
		if plan, err := node.ReadPlan(*t.run); err == nil && where == whereBeside {
			sp.LoadCPUs = plan.LoadCPUs
			if plan.LoadCPUs == "" {
				sp.Warnings = append(sp.Warnings, "server and generator share their CPUs; start the service with --load-cpus to set some apart")
			}
		}
	}
	if where == whereJob {
		in.JobName = runs.JobName(id, nonce)
	}
	dir, err := st.Create(in)
	if err != nil {
		return dir, err
	}
	if sp.Warnings == nil {
		sp.Warnings = []string{}
	}
	return dir, runs.WriteJSON(dir.File(runs.SpecFile), sp)
}

// submitBench gives the generator a job of its own.
func (a *app) submitBench(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, o *benchOptions) error {
	h := slurm.Header{Nodes: 1, NTasksPerNode: 1, CPUsPerTask: o.cpus}
	if f, ok := o.workload.(*fsWorkload); ok {
		h.Nodes, h.NTasksPerNode = f.nodes, f.tasksPerNode()
	}
	h, err := services.SiteHeader(h, s.Site)
	if err != nil {
		return err
	}
	h.JobName, h.Comment = dir.Intent.JobName, "aifbench:"+dir.ID()
	h.Output, h.Chdir = filepath.Join(slurm.EscapePath(dir.Path), runs.LogsDir, "slurm.out"), dir.Path
	// The supervisor is the batch process here too: the node is watched and the
	// time limit told from a stop as in every other job.
	script, err := services.JobScript(h, s.Site, dir.Intent.Binary.Path, []string{"node", "run", "--run", dir.Path})
	if err != nil {
		return usage(err.Error(), "change the value that cannot stand in a job script")
	}
	plan, load := services.LoadPlan(dir.Intent.Service, dir.Path, h)
	text, err := services.Render(load)
	if err != nil {
		return usage(err.Error(), "change the value that cannot stand in a script")
	}
	if err := runs.WriteExecutable(dir.File(load.Name), text); err != nil {
		return err
	}
	if err := runs.WriteJSON(dir.File(runs.PlanFile), plan); err != nil {
		return err
	}
	if err := runs.WriteFile(dir.File(runs.ScriptFile), script); err != nil {
		return err
	}
	return a.submit(ctx, st, s, dir, h, false)
}

// watchBench looks on until the result is there. The first signal asks the
// generator to drain and save; the partial result is printed then.
func (a *app) watchBench(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, t target, o *benchOptions) error {
	watchCtx := ctx
	dirs := []runs.Dir{dir}
	if t.run != nil {
		a.say("bench %s: load %s %s", dir.ID(), dir.Intent.Where, t.run.ID())
		if dir.Intent.Where == whereBeside {
			dirs = append(dirs, *t.run)
		}
	} else {
		a.say("bench %s: load from %s", dir.ID(), dir.Intent.Where)
	}
	asked := false
	deadline := a.now().Add(o.timeout)
	w := a.watcher(st, s)
	last := ""
	for {
		views := w.look(context.WithoutCancel(ctx), dirs)
		v := views[0]
		r := v.row(a.now())
		if r.State == stateDone {
			res, err := readResult(dir)
			if err != nil {
				return err
			}
			return a.conclude(dir, res, o.strict)
		}
		if r.Code == exitBad {
			return a.waitFailure(dir, r, exitBad, 0)
		}
		if len(views) > 1 {
			if err := a.besideFailed(dir, views[1]); err != nil {
				return err
			}
		}
		if p := progressOf(dir); p != last && p != "" {
			last = p
			a.say("%s", p)
		}
		if ctx.Err() != nil && !asked {
			asked = true
			over, err := a.askToStop(ctx, st, s, v)
			if err != nil || over {
				return errors.Join(err, context.Cause(ctx))
			}
			watchCtx = context.WithoutCancel(ctx)
			deadline = a.now().Add(2 * time.Minute)
		}
		if !a.now().Before(deadline) {
			if asked {
				a.warn("bench %s has not saved 2 minutes after it was asked to stop; `aifbench wait %s` waits on", dir.ID(), dir.ID())
				return context.Cause(ctx)
			}
			return a.waitFailure(dir, r, exitTimeout, o.timeout)
		}
		if err := w.pause(watchCtx, dir, time.Second); err != nil && watchCtx.Err() == nil {
			return err
		}
	}
}
