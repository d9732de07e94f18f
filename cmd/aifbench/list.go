package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

func newListCmd(a *app) *cobra.Command {
	var ended bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Runs of mine, oldest first, from their directories alone",
		Long: `Lists live runs and benches; --ended adds what is over. The scheduler is not
asked: states are those last seen (check asks).

Exit status: 0, also when there is none.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runList(a, ended) },
	}
	cmd.Flags().BoolVar(&ended, "ended", false, "show ended runs too")
	return cmd
}

func runList(a *app, ended bool) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	dirs, damaged, err := st.ListBrief()
	if err != nil {
		return err
	}
	rows := []row{}
	for _, bad := range damaged {
		rows = append(rows, row{Run: bad.ID, Service: runs.ServiceOf(bad.ID), State: stateDamaged, Why: bad.Err.Error(), Code: exitInfra, Warnings: []string{}})
	}
	if !ended { // what is over and not shown is not read either
		closed := runs.Closed(dirs)
		open := dirs[:0]
		for i, d := range dirs {
			if d.Intent.Verb == "bench" || !closed[i] {
				open = append(open, d)
			}
		}
		dirs = open
	}
	for i, state := range runs.States(dirs) {
		d := dirs[i]
		v := view{dir: d, state: state}
		r := v.row(a.now())
		if ended || d.Intent.Verb == "bench" || (v.state.Live() && r.Code != exitBad && r.State != stateStopped) {
			rows = append(rows, r)
		}
	}
	return a.emit(checkDoc{1, "list", rows}, func() *table.Table { return rowsTable(rows) })
}

// showDoc is the document of show: one run whole.
type showDoc struct {
	SchemaVersion int             `json:"schema_version"`
	Kind          string          `json:"kind"`
	Dir           string          `json:"dir"`
	Status        row             `json:"status"`
	Intent        runs.Intent     `json:"intent"`
	Journal       []runs.Event    `json:"journal"`
	Endpoint      *runs.Endpoint  `json:"endpoint"`
	Sentinels     []runs.Sentinel `json:"sentinels"`
	Progress      json.RawMessage `json:"progress"`
	Result        *result.Result  `json:"result"`
	Files         []string        `json:"files"`
	Tunnel        []string        `json:"tunnel"`
	Problems      []string        `json:"problems"`
}

func newShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "One run whole: intent, journal, endpoint, sentinels, result",
		Long: `RUN is an id, a unique prefix, a directory or a service (its latest run).

Exit status: 0; 3 no such run; 8 the directory cannot be read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runShow(cmd.Context(), a, args[0]) },
	}
}

func runShow(ctx context.Context, a *app, ref string) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	dir, err := st.Resolve(ref)
	if err != nil {
		return err
	}
	v := a.look(ctx, st, s, []runs.Dir{dir})[0]
	events, problems := dir.Events()
	doc := showDoc{SchemaVersion: 1, Kind: "show", Dir: dir.Path, Status: v.row(a.now()), Intent: dir.Intent, Journal: events, Progress: json.RawMessage("null"), Problems: []string{}}
	if doc.Journal == nil {
		doc.Journal = []runs.Event{}
	}
	var more []error
	doc.Sentinels, more = dir.Sentinels()
	if doc.Sentinels == nil {
		doc.Sentinels = []runs.Sentinel{}
	}
	problems = append(problems, more...)
	if ep, err := dir.ReadEndpoint(); err == nil {
		doc.Endpoint = &ep
	} else if !errors.Is(err, os.ErrNotExist) {
		problems = append(problems, err)
	}
	if raw, err := os.ReadFile(dir.File(runs.ProgressFile)); err == nil && json.Valid(raw) {
		doc.Progress = raw
	}
	if res, err := result.Read(dir.File(runs.ResultFile)); err == nil {
		doc.Result = res
	} else if !errors.Is(err, os.ErrNotExist) {
		problems = append(problems, err)
	}
	doc.Tunnel = a.tunnels(s, dir, doc.Status)
	doc.Files = filesOf(dir.Path)
	for _, p := range problems {
		doc.Problems = append(doc.Problems, p.Error())
	}
	return a.emit(doc, func() *table.Table { return showTable(&doc) })
}

func showTable(d *showDoc) *table.Table {
	t := table.New("what", "value", "origin")
	st := d.Status
	for _, kv := range [][2]string{
		{"run", st.Run},
		{"directory", d.Dir},
		{"service", st.Service},
		{"engine", st.Engine},
		{"job", st.JobID},
		{"state", st.State},
		{"why not ready", st.Why},
		{"node", st.Node},
		{"address", st.Address},
		{"exposure", st.Exposure},
		{"created", d.Intent.Created.UTC().Format(time.RFC3339)},
		{"site", d.Intent.Site},
		{"target", d.Intent.Target},
	} {
		if kv[1] != "" {
			t.Row(kv[0], kv[1])
		}
	}
	for _, k := range sortedKeys(d.Intent.Params) {
		p := d.Intent.Params[k]
		if p.Origin != "default" {
			t.Row("parameter "+k, fmt.Sprint(p.Value), p.Origin)
		}
	}
	for _, e := range d.Journal {
		text := e.Kind
		for _, w := range []string{e.JobID, e.State, e.Reason, e.Cause, e.Message} {
			if w != "" {
				text += " " + w
			}
		}
		t.Row("journal "+e.Time.UTC().Format("15:04:05.000"), text, e.Host)
	}
	if d.Result != nil {
		t.Row("verdict", string(d.Result.Verdict.Status))
		for _, n := range d.Result.Figures.Names() {
			t.Row("figure "+n, d.Result.Figures[n].Value, d.Result.Figures[n].Unit)
		}
	}
	for _, p := range d.Problems {
		t.Note("problem: %s", p)
	}
	for _, l := range d.Tunnel {
		t.Note("from outside: %s", l)
	}
	return t
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// filesOf lists the regular files below a directory, links not followed.
func filesOf(dir string) []string {
	out := []string{}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if rel, err := filepath.Rel(dir, path); err == nil {
				out = append(out, rel)
			}
		}
		return nil // what cannot be read is left out of a listing
	})
	return out
}

func sizeOf(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil // a size is an estimate
	})
	return n
}
