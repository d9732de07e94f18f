package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
)

type checkOptions struct {
	service  string
	run      string
	all      bool
	watch    bool
	until    string
	interval time.Duration
}

func newCheckCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check SERVICE|all",
		Short: "One line a run: state, reason, address, ready or why not",
		Long: `Shows live runs, and of a service without one the last run if it ended badly.

Exit status: 0 ready, 5 not yet, 9 ended badly, 8 cannot tell; of several runs
the worst of 8, 9, 5, 0; 3 there is no run.`,
	}
	for _, name := range append(services.Names(), "all") {
		o := &checkOptions{service: name}
		sub := &cobra.Command{
			Use:   name,
			Short: "Check " + name,
			RunE:  func(cmd *cobra.Command, _ []string) error { return runCheck(cmd.Context(), a, o) },
		}
		f := sub.Flags()
		f.StringVar(&o.run, "run", "", "this run only")
		f.BoolVar(&o.all, "ended", false, "show ended runs too")
		f.BoolVar(&o.watch, "watch", false, "repeat until interrupted or --until")
		f.DurationVar(&o.interval, "interval", 0, "pause of --watch (default: the site's, growing)")
		enumFlag(sub, &o.until, "until", "", "", "end --watch when all runs are ready", []string{"", untilReady})
		cmd.AddCommand(sub)
	}
	return cmd
}

// checkDoc is the document of check, wait and list.
type checkDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Kind          string `json:"kind"`
	Runs          []row  `json:"runs"`
}

func runCheck(ctx context.Context, a *app, o *checkOptions) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	pace := newPace(a, s)
	if o.interval > 0 && o.interval < pace.floor {
		a.warn("--interval %s is shorter than the site's %s, which holds", o.interval, pace.floor)
		o.interval = pace.floor
	}
	for {
		rows, err := a.checkRows(ctx, st, s, o)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		codes := make([]int, len(rows))
		for i, r := range rows {
			codes[i] = r.Code
		}
		code := worstCheck(codes)
		last := !o.watch || (o.until == untilReady && code == exitOK) || (o.until == untilReady && code == exitBad)
		if last || (o.until == "" && a.output != formatJSON) {
			if err := a.emit(checkDoc{1, "check", rows}, func() *table.Table { return rowsTable(rows) }); err != nil {
				return err
			}
		}
		if last {
			if code != exitOK {
				return &silent{code}
			}
			return nil
		}
		d := o.interval
		if d <= 0 {
			d = pace.next(rows[0])
		}
		if err := sleep(ctx, d); err != nil {
			if a.output == formatJSON && o.until == "" {
				// One document, of the last look.
				err = errors.Join(a.emit(checkDoc{1, "check", rows}, nil), err)
			}
			return err
		}
	}
}

// worstCheck is the worst of 8, 9, 5, 0 in that order.
func worstCheck(codes []int) int {
	for _, c := range []int{exitInfra, exitBad, exitNotReady} {
		if slices.Contains(codes, c) {
			return c
		}
	}
	return exitOK
}

// checkRows chooses the runs and judges them with one queue call.
func (a *app) checkRows(ctx context.Context, st runs.Store, s siteOf, o *checkOptions) ([]row, error) {
	dirs, damaged, err := st.ListBrief()
	if err != nil {
		return nil, err
	}
	var chosen []runs.Dir
	if o.run != "" {
		d, err := st.Resolve(o.run)
		if err != nil {
			return nil, err
		}
		chosen, damaged = []runs.Dir{d}, nil
	} else {
		for _, d := range dirs {
			if d.Intent.Verb == "start" && (o.service == "all" || d.Intent.Service == o.service) {
				chosen = append(chosen, d)
			}
		}
	}
	var rows []row
	for _, bad := range damaged {
		if o.service == "all" || runs.ServiceOf(bad.ID) == o.service {
			rows = append(rows, row{Run: bad.ID, Service: runs.ServiceOf(bad.ID), State: stateDamaged, Why: bad.Err.Error(), Code: exitInfra, Warnings: []string{}})
		}
	}
	live := map[string]bool{}
	var ended []row
	gone := func(service string) {
		delete(live, service)
		ended = slices.DeleteFunc(ended, func(e row) bool { return e.Service == service })
	}
	// Of a thousand runs most were stopped: they are not read.
	closed := make([]bool, len(chosen))
	if o.run == "" && !o.all {
		closed = runs.Closed(chosen)
	}
	var open []runs.Dir
	for i, d := range chosen {
		if !closed[i] {
			open = append(open, d)
		}
	}
	views := a.look(ctx, st, s, open)
	for i, d := range chosen {
		if closed[i] {
			gone(d.Intent.Service)
			continue
		}
		v := views[0]
		views = views[1:]
		r := v.row(a.now())
		switch {
		case o.run != "" || o.all:
			rows = append(rows, r)
		case r.State == stateStopped || v.state.Ended:
			if r.Code == exitBad {
				ended = append(ended, r)
			} else {
				gone(r.Service)
			}
		case r.Code == exitBad && r.State != "":
			if v.obs != nil && !v.obs.Ended && v.state.Refused == "" {
				live[r.Service] = true
				rows = append(rows, r) // blocked, but it still holds its place in the queue
			} else {
				ended = append(ended, r)
			}
		default:
			live[r.Service] = true
			rows = append(rows, r)
		}
	}
	// Of a service with nothing live the last bad end is news; older ones are not.
	for i := len(ended) - 1; i >= 0; i-- {
		if !live[ended[i].Service] {
			live[ended[i].Service] = true
			rows = append(rows, ended[i])
		}
	}
	if len(rows) == 0 {
		what := "run of " + o.service
		if o.service == "all" {
			what = "run"
		}
		return nil, fail(exitNotFound, "run", "there is no live "+what, "`aifbench start "+exampleService(o.service)+"` starts one; `aifbench list --ended` shows old ones")
	}
	return rows, nil
}

func exampleService(s string) string {
	if s == "all" {
		return "SERVICE"
	}
	return s
}

// rowsTable lays rows out for eyes.
func rowsTable(rows []row) *table.Table {
	t := table.New("run", "job", "state", "reason", "node", "address", "ready", "why not", "age", "exposure")
	for _, r := range rows {
		age := time.Duration(r.AgeS) * time.Second
		t.Row(r.Run, dash(r.JobID), dash(r.State), dash(r.Reason), dash(r.Node), dash(r.Address), r.Ready, dash(r.Why), age, dash(r.Exposure))
		for _, w := range r.Warnings {
			t.Note("%s: %s", r.Run, w)
		}
	}
	return t
}

func dash(s string) any {
	if s == "" || s == "None" {
		return nil
	}
	return s
}

// stamp changes when something was written into the places of a run that
// other processes write to.
func stamp(d runs.Dir) int64 {
	var sum int64
	for _, p := range []string{d.Path, d.File(runs.JournalDir), d.File(runs.SentinelDir), d.File(runs.RequestsDir)} {
		info, err := os.Stat(p)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			sum = sum*31 + info.ModTime().UnixNano()
		}
	}
	return sum
}
