package main

import (
	"context"
	"encoding/json"
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
