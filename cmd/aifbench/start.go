package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

type startOptions struct {
	service services.Service
	params  services.Params
	site    siteFlags
	wait    bool
	timeout time.Duration
	fresh   bool
	dryRun  bool
}

func newStartCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start SERVICE",
		Short: "Start a service as a job",
		Long: `Makes the run directory, renders the job script, submits it once and prints the
run id. A live run with the same parameters is reported, not doubled, also when
many shells ask at once; --new forces another.

Exit status: 0 submitted, already live or (--wait) ready; 2 wrong words; 4 the
scheduler or site refused; 8 submission in doubt, run the same command again;
9 (--wait) the job ended; 124 (--wait) not ready in time, the run goes on.`,
	}
	for _, svc := range services.Catalog() {
		cmd.AddCommand(newStartServiceCmd(a, svc))
	}
	return cmd
}

func newStartServiceCmd(a *app, svc services.Service) *cobra.Command {
	o := &startOptions{service: svc, params: svc.New()}
	cmd := &cobra.Command{
		Use:     svc.Name,
		Short:   svc.Summary,
		Example: "  aifbench start " + svc.Name + " --wait\n  aifbench start " + svc.Name + " --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return runStart(cmd.Context(), a, o, cmd)
		},
	}
	o.params.AddFlags(cmd.Flags())
	o.site.add(cmd)
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until the service is ready")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 15*time.Minute, "how long --wait waits; the run goes on after it")
	cmd.Flags().BoolVar(&o.fresh, "new", false, "start another run beside a live one with the same parameters")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the script and submit nothing")
	return cmd
}

func (o *startOptions) validate() error {
	if o.timeout <= 0 {
		return usage(fmt.Sprintf("--timeout %s", o.timeout), "use a time above 0, e.g. --timeout 15m")
	}
	return nil
}

// startDoc is the document of start.
type startDoc struct {
	SchemaVersion int      `json:"schema_version"`
	Kind          string   `json:"kind"`
	Run           string   `json:"run"`
	Service       string   `json:"service"`
	Engine        string   `json:"engine"`
	JobID         string   `json:"job_id"`
	Dir           string   `json:"dir"`
	Existing      bool     `json:"existing"`
	Ready         bool     `json:"ready"`
	State         string   `json:"state"`
	Address       string   `json:"address"`
	Tunnel        []string `json:"tunnel"`
	Warnings      []string `json:"warnings"`
}

// planDoc is the document of start --dry-run.
type planDoc struct {
	SchemaVersion int                   `json:"schema_version"`
	Kind          string                `json:"kind"`
	Service       string                `json:"service"`
	Engine        string                `json:"engine"`
	Site          string                `json:"site"`
	Params        map[string]runs.Param `json:"params"`
	Script        string                `json:"script"`
	Scripts       map[string]string     `json:"scripts"`
	Plan          any                   `json:"plan"`
	OwnedPaths    []string              `json:"owned_paths"`
	Warnings      []string              `json:"warnings"`
}

// draft is everything of a start before anything is written.
type draft struct {
	services.Draft
	intent  runs.Intent
	dir     string
	header  slurm.Header
	script  []byte
	scripts map[string][]byte
}

func runStart(ctx context.Context, a *app, o *startOptions, cmd *cobra.Command) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(o.site.set(cmd))
	if err != nil {
		return err
	}
	d, err := a.draftStart(st, s, o, cmd.Flags())
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.printPlan(d, s)
	}
	a.loginNode(s)
	for _, w := range d.Warnings {
		a.warn("%s", w)
	}
	dir, existing, err := a.launch(ctx, st, s, o, d)
	if err != nil {
		return err
	}
	v := a.look(ctx, st, s, []runs.Dir{dir})[0]
	r := v.row(a.now())
	code := exitOK
	if o.wait {
		a.say("run %s: job %s, waiting until ready (up to %s)", dir.ID(), orWord(v.state.JobID, "?"), o.timeout)
		r, code, err = a.await(ctx, st, s, dir, untilReady, o.timeout)
		if err != nil {
			return err
		}
	}
	if code != exitOK {
		return a.waitFailure(dir, r, code, o.timeout)
	}
	doc := startDoc{
		SchemaVersion: 1, Kind: "start", Run: dir.ID(), Service: dir.Intent.Service, Engine: dir.Intent.Engine, JobID: r.JobID, Dir: dir.Path,
		Existing: existing, Ready: r.Ready, State: r.State, Address: r.Address, Tunnel: a.tunnels(s, dir, r), Warnings: append(append([]string{}, d.Warnings...), r.Warnings...),
	}
	return a.emit(doc, func() *table.Table {
		t := table.New("run", "job", "state", "ready", "address")
		t.Row(doc.Run, doc.JobID, doc.State, doc.Ready, doc.Address)
		if existing {
			t.Note("already live with these parameters; --new starts another")
		}
		for _, l := range doc.Tunnel {
			t.Note("from outside: %s", l)
		}
		return t
	})
}

// draftStart resolves parameters and renders everything; nothing is written.
func (a *app) draftStart(st runs.Store, s siteOf, o *startOptions, fs *pflag.FlagSet) (*draft, error) {
	sc := a.serviceContext(st, s)
	if err := services.CheckArch(s.Site); err != nil {
		return nil, err
	}
	if err := o.params.Validate(sc); err != nil {
		return nil, err
	}
	id, nonce := runs.NewID(o.service.Name, a.now()), runs.NewNonce()
	bin, sum, err := a.binary(st)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(st.RunsDir(), id)
	sc.RunID, sc.RunDir, sc.Nonce, sc.Bin = id, dir, nonce, bin
	sd, err := o.service.Draft(o.params, sc)
	if err != nil {
		return nil, err
	}
	params, err := paramsOf(o.params, fs, s)
	if err != nil {
		return nil, err
	}
	d := &draft{Draft: sd, dir: dir, scripts: map[string][]byte{}}
	d.intent = runs.Intent{
		ID: id, Verb: "start", Service: o.service.Name, Engine: sd.Engine, Nonce: nonce, JobName: runs.JobName(id, nonce), Created: a.now().UTC(),
		User: a.userName(), Host: a.hostname, Site: s.Name, Scheduler: s.Profile.Scheduler, Params: params,
		ParamsHash: runs.HashParams(o.service.Name, sd.Engine, s.Name, params), Nodes: max(1, sd.Plan.Nodes), Exposure: sd.Plan.Exposure,
		Binary: runs.Binary{Path: bin, SHA256: sum, Arch: archOf(bin)}, OwnedPaths: sd.Owned,
	}
	if d.header, err = services.SiteHeader(sd.Job, s.Site); err != nil {
		return nil, err
	}
	d.Plan.TimeLimitS = d.header.Time.Seconds()
	d.header.JobName, d.header.Comment = d.intent.JobName, "aifbench:"+id
	d.header.Output, d.header.Chdir = filepath.Join(slurm.EscapePath(dir), runs.LogsDir, "slurm.out"), dir
	if d.script, err = services.JobScript(d.header, s.Site, bin, []string{"node", "run", "--run", dir}); err != nil {
		return nil, usage(err.Error(), "change the value that cannot stand in a job script")
	}
	for _, script := range sd.Scripts {
		if d.scripts[script.Name], err = services.Render(script); err != nil {
			return nil, usage(err.Error(), "change the value that cannot stand in a script")
		}
	}
	return d, nil
}

// paramsOf records every parameter with its origin: the service's own, and
// what of the site decides how the job runs.
func paramsOf(p services.Params, fs *pflag.FlagSet, s siteOf) (map[string]runs.Param, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("record parameters: %w", err)
	}
	var values map[string]any
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("record parameters: %w", err)
	}
	out := map[string]runs.Param{}
	changed := map[string]bool{}
	fs.Visit(func(f *pflag.Flag) { changed[f.Name] = true })
	for k, v := range values {
		origin := "default"
		if changed[flagOf(k)] {
			origin = "flag --" + flagOf(k)
		}
		out[k] = runs.Param{Value: v, Origin: origin}
	}
	for _, v := range s.Values() {
		out["site."+v.Key] = runs.Param{Value: v.Value, Origin: v.Origin}
	}
	return out, nil
}

// flagOf is the flag that sets a recorded parameter.
func flagOf(param string) string {
	if f, ok := map[string]string{
		"args": "vllm-arg", "binds": "bind", "command": "vllm-command", "token_file": "hf-token-file",
	}[param]; ok {
		return f
	}
	out := []byte(param)
	for i, c := range out {
		if c == '_' {
			out[i] = '-'
		}
	}
	return string(out)
}

func (a *app) printPlan(d *draft, s siteOf) error {
	if a.output == formatTable {
		if _, err := a.out.Write(d.script); err != nil {
			return fmt.Errorf("print script: %w", err)
		}
		for _, sc := range d.Scripts {
			a.say("\n# %s, run by the job:\n%s", sc.Name, d.scripts[sc.Name])
		}
		return nil
	}
	doc := planDoc{
		SchemaVersion: 1, Kind: "plan", Service: d.intent.Service, Engine: d.intent.Engine, Site: s.Name, Params: d.intent.Params,
		Script: string(d.script), Scripts: map[string]string{}, Plan: d.Plan, OwnedPaths: append([]string{}, d.Owned...), Warnings: append([]string{}, d.Warnings...),
	}
	for name, text := range d.scripts {
		doc.Scripts[name] = string(text)
	}
	return a.emit(doc, func() *table.Table {
		t := table.New("parameter", "value", "origin")
		for _, k := range sortedKeys(doc.Params) {
			t.Row(k, fmt.Sprint(doc.Params[k].Value), doc.Params[k].Origin)
		}
		return t
	})
}

// launch makes exactly one run of the parameters: it takes the claim, or
// reports the run that holds it, finishing what a killed shell began.
func (a *app) launch(ctx context.Context, st runs.Store, s siteOf, o *startOptions, d *draft) (runs.Dir, bool, error) {
	claim := s.Name + "-" + o.service.Name + "-" + d.intent.ParamsHash
	if o.fresh {
		claim += "-" + d.intent.Nonce
	}
	for {
		_, err := st.TakeClaim(claim, d.intent.ID, a.now())
		if err == nil {
			if twin, ok := a.liveTwin(ctx, st, s, d, o.fresh); ok {
				return twin, true, st.BreakClaim(claim, d.intent.ID)
			}
			dir, err := a.prepare(st, s, d)
			if err == nil {
				err = a.keepClaim(st, dir, claim)
			}
			if err == nil {
				err = a.submit(ctx, st, s, dir, d.header, false)
			}
			// A claim is given back only when there is certainly no job.
			if err != nil && !errors.Is(err, slurm.ErrDoubtful) && (dir.Path == "" || dir.State().JobID == "" && !errors.Is(err, errJobMade)) {
				err = errors.Join(err, st.BreakClaim(claim, d.intent.ID))
			}
			return dir, false, err
		}
		held, ok := errors.AsType[*runs.ClaimedError](err)
		if !ok {
			return runs.Dir{}, false, err
		}
		dir, live, err := a.holder(ctx, st, s, held.Holder)
		if err != nil {
			return dir, false, err
		}
		if live {
			return dir, true, nil
		}
		if held.Holder.Run != "" {
			if err := st.BreakClaim(claim, held.Holder.Run); err != nil {
				return runs.Dir{}, false, err
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return runs.Dir{}, false, err
		}
	}
}

// errJobMade: there is a job, and something after its submission went wrong.
var errJobMade = errors.New("the job was made")

// liveTwin finds a live run of the same parameters that holds no claim of this
// name: one that --new started, or whose claim was lost.
func (a *app) liveTwin(ctx context.Context, st runs.Store, s siteOf, d *draft, fresh bool) (runs.Dir, bool) {
	if fresh {
		return runs.Dir{}, false
	}
	all, _, err := st.List()
	if err != nil {
		return runs.Dir{}, false // prepare meets the same trouble and says so
	}
	var same []runs.Dir
	for _, r := range all {
		if r.Intent.Verb == "start" && r.Intent.ParamsHash == d.intent.ParamsHash && r.Intent.Site == s.Name && r.State().Live() {
			same = append(same, r)
		}
	}
	for _, v := range a.look(ctx, st, s, same) {
		if v.state.JobID != "" && a.holds(v) {
			return v.dir, true
		}
	}
	return runs.Dir{}, false
}

// holds tells whether a run with a job is still live: it may run, wait, be
// blocked in the queue, or be ready without a job.
func (a *app) holds(v view) bool {
	r := v.row(a.now())
	return !v.state.Ended && (!v.state.JobEnded || r.Ready)
}

// keepClaim makes sure, right before anything is submitted, that no other
// shell took this one for dead meanwhile.
func (a *app) keepClaim(st runs.Store, dir runs.Dir, claim string) error {
	holds, err := st.HoldsClaim(claim, dir.ID())
	if err == nil && holds {
		return nil
	}
	const why = "another shell took this start for dead and took it over"
	if err == nil {
		err = fail(exitInfra, "run", why, "run the same command again: it reports the live run")
	}
	return errors.Join(err, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: why}))
}

// claimPatience is how long a claim without a run directory is believed when
// its holder cannot be seen.
const claimPatience = 3 * time.Minute

// holder decides whether the run behind a claim is live. A submission under
// way in another shell is waited for; one whose shell died is taken up.
func (a *app) holder(ctx context.Context, st runs.Store, s siteOf, h runs.Holder) (runs.Dir, bool, error) {
	if h.Run == "" {
		return runs.Dir{}, false, nil
	}
	first := a.now()
	for {
		dir, err := runs.Open(filepath.Join(st.RunsDir(), h.Run))
		working := a.alive(h, a.now().Sub(first))
		switch {
		case err != nil && working:
		case errors.Is(err, runs.ErrNotFound), errors.Is(err, runs.ErrDamaged):
			return dir, false, nil
		case err != nil:
			return dir, false, err
		default:
			state := dir.State()
			switch {
			case !state.Live():
				return dir, false, nil
			case state.JobID != "":
				return dir, a.holds(a.look(ctx, st, s, []runs.Dir{dir})[0]), nil
			case working:
			case !state.Prepared:
				return dir, false, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: "the shell that started it ended before it submitted"})
			default:
				a.say("run %s: its shell ended while submitting; looking the job up", dir.ID())
				err := a.submit(ctx, st, s, dir, slurm.Header{}, true)
				return dir, err == nil, err
			}
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return dir, false, err
		}
	}
}

// alive tells whether the shell that took a claim may still be at work. One on
// another host cannot be seen, and its clock may be off, so it is watched for
// as long as it may need; a claim of an hour ago is old by any clock.
func (a *app) alive(h runs.Holder, watched time.Duration) bool {
	if h.Host != a.hostname {
		return watched < claimPatience && a.now().Sub(h.Time) < time.Hour
	}
	started := runs.ProcessStart(h.PID)
	return started != 0 && (h.Started == 0 || started == h.Started)
}

// prepare writes the run directory: everything the job needs, before sbatch.
func (a *app) prepare(st runs.Store, s siteOf, d *draft) (dir runs.Dir, err error) {
	if err := a.installBinary(d.intent.Binary.Path); err != nil {
		return runs.Dir{}, err
	}
	dir, err = st.Create(d.intent)
	if err != nil {
		return runs.Dir{}, err
	}
	// Half a run would be reported for ever, and nothing of it was submitted.
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir.Path))
			dir = runs.Dir{}
		}
	}()
	for name, text := range d.scripts {
		if err := runs.WriteExecutable(dir.File(name), text); err != nil {
			return dir, err
		}
	}
	if err := runs.WriteJSON(dir.File(runs.PlanFile), d.Plan); err != nil {
		return dir, err
	}
	return dir, runs.WriteFile(dir.File(runs.ScriptFile), d.script)
}

// submit hands the script to the scheduler exactly once and journals every step.
func (a *app) submit(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, h slurm.Header, resume bool) error {
	sched, err := a.scheduler(dir.Intent.Scheduler, s.Profile, st)
	if err != nil {
		return err
	}
	if c, ok := sched.(*slurm.Client); ok && !resume {
		if err := a.preflight(ctx, c, dir, h); err != nil {
			return err
		}
	}
	note := func(e runs.Event) error { return dir.Append(a.now(), e) }
	receipt, err := slurm.SubmitOnce(ctx, stoppable{sched, dir}, slurm.Submission{ScriptPath: dir.File(runs.ScriptFile), JobName: dir.Intent.JobName, Dir: dir.Path}, slurm.Journal{
		Intent: func(context.Context) error { return note(runs.Event{Kind: runs.EventIntent}) },
		Submitted: func(_ context.Context, r slurm.Receipt) error {
			return note(runs.Event{Kind: runs.EventSubmitted, JobID: r.JobID, Cluster: r.Cluster})
		},
		Doubtful: func(_ context.Context, why error) error {
			a.warn("submission unconfirmed, looking the job up by name: %v", why)
			return note(runs.Event{Kind: runs.EventDoubtful, Message: why.Error()})
		},
		Twin: func(_ context.Context, j slurm.Job) error {
			a.warn("a second job %s of the same run is cancelled", j.JobID)
			return nil
		},
	}, slurm.OnceOptions{Resume: resume, Now: a.now})
	switch {
	case receipt.JobID != "" && err != nil:
		// There is a job: what failed is a note about it, or a look at twins.
		if dir.State().JobID == "" {
			if nerr := note(runs.Event{Kind: runs.EventSubmitted, JobID: receipt.JobID, Cluster: receipt.Cluster}); nerr != nil {
				return &failure{
					code: exitInfra, layer: "storage", message: fmt.Sprintf("job %s was made and could not be noted", receipt.JobID), cause: errors.Join(errJobMade, err, nerr),
					evidence: dir.Path, advice: "make room, then run the same command again: it finds the job by its name",
				}
			}
		}
		a.warn("job %s: %v", receipt.JobID, err)
		err = nil
	case err != nil && !errors.Is(err, slurm.ErrDoubtful):
		return errors.Join(err, note(runs.Event{Kind: runs.EventRefused, Message: err.Error()}))
	case err != nil:
		return err
	}
	if s := dir.State(); !s.StopRequested.IsZero() {
		// A stop that came while sbatch ran could not know the job.
		err = fail(exitRefused, "run", "run "+dir.ID()+" was stopped while it was submitted", "start it again if it is wanted")
		return errors.Join(err, sched.Cancel(ctx, []string{receipt.JobID}))
	}
	return err
}

// stoppable submits nothing for a run that a user stopped meanwhile.
type stoppable struct {
	scheduler
	dir runs.Dir
}

func (s stoppable) Submit(ctx context.Context, sub slurm.Submission) (slurm.Receipt, error) {
	if !s.dir.State().StopRequested.IsZero() {
		return slurm.Receipt{}, &slurm.Refused{Reason: "the run was stopped before it was submitted", Advice: "start it again if it is wanted"}
	}
	return s.scheduler.Submit(ctx, sub)
}

// preflight catches what would be accepted and never run.
func (a *app) preflight(ctx context.Context, c *slurm.Client, dir runs.Dir, h slurm.Header) error {
	problems, err := c.Preflight(ctx, h)
	if err != nil {
		a.warn("preflight skipped: %v", err)
		return nil
	}
	for _, p := range problems {
		if p.Fatal {
			f := &failure{code: exitRefused, layer: "scheduler", message: "the scheduler would never run it: " + p.Message, advice: p.Advice}
			return errors.Join(f, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: p.Message}))
		}
		a.warn("%s", p.Message)
	}
	return nil
}

// loginNode says where things run when nobody named a site.
func (a *app) loginNode(s siteOf) {
	if s.Profile.Scheduler == site.SchedulerLocal {
		a.say("site %s (%s): jobs run as process groups on this machine", s.Name, s.why)
	}
}

// sleep waits unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// copyTo copies a file's bytes.
func copyTo(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
