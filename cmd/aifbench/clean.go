package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
)

type cleanOptions struct {
	older  string
	dryRun bool
	age    time.Duration
}

func newCleanCmd(a *app) *cobra.Command {
	o := &cleanOptions{}
	cmd := &cobra.Command{
		Use:   "clean --older-than AGE",
		Short: "Remove run directories that are over and older than AGE",
		Long: `Removes whole run directories, results included: only of runs whose end is in
their journal. A damaged directory is named and left. Try --dry-run first.

Exit status: 0; 2 wrong words; 8 a directory could not be removed.`,
		Example: "  aifbench clean --older-than 30d --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return runClean(cmd.Context(), a, o)
		},
	}
	cmd.Flags().StringVar(&o.older, "older-than", "", "age of the runs to remove, e.g. 30d or 12h")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would go and remove nothing")
	return cmd
}

func (o *cleanOptions) validate() error {
	if o.older == "" {
		return usage("clean needs an age", "aifbench clean --older-than 30d --dry-run")
	}
	d, err := site.ParseDuration(o.older)
	if err != nil {
		return usage("--older-than: "+err.Error(), "e.g. --older-than 30d")
	}
	o.age = d
	return nil
}

type cleanRow struct {
	Run     string  `json:"run"`
	AgeS    float64 `json:"age_s"`
	Bytes   int64   `json:"size_bytes"`
	Removed bool    `json:"removed"`
	Why     string  `json:"why"`
}

type cleanDoc struct {
	SchemaVersion int        `json:"schema_version"`
	Kind          string     `json:"kind"`
	DryRun        bool       `json:"dry_run"`
	Runs          []cleanRow `json:"runs"`
}

func runClean(ctx context.Context, a *app, o *cleanOptions) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	dirs, damaged, err := st.List()
	if err != nil {
		return err
	}
	for _, bad := range damaged {
		a.warn("%v: left alone", bad.Err)
	}
	doc := cleanDoc{SchemaVersion: 1, Kind: "clean", DryRun: o.dryRun, Runs: []cleanRow{}}
	var errs []error
	for _, d := range dirs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		since := d.Intent.Created
		if end := d.State().EndedAt; end.After(since) {
			since = end // a result of yesterday is not old because its service is
		}
		age := a.now().Sub(since)
		if age < o.age || !over(d) {
			continue
		}
		r := cleanRow{Run: d.ID(), AgeS: age.Round(time.Second).Seconds(), Bytes: sizeOf(d.Path)}
		if kept := ownedLeft(d); kept != "" {
			r.Why = "still owns " + kept + "; `aifbench stop " + d.Intent.Service + " --run " + d.ID() + "` removes it"
		} else if !o.dryRun {
			if err := os.RemoveAll(d.Path); err != nil {
				r.Why = err.Error()
				errs = append(errs, err)
			} else {
				r.Removed = true
			}
		}
		doc.Runs = append(doc.Runs, r)
	}
	if err := a.emit(doc, func() *table.Table {
		t := table.New("run", "age", "size", "removed", "why")
		for _, r := range doc.Runs {
			t.Row(r.Run, time.Duration(r.AgeS)*time.Second, table.ByteCount(float64(r.Bytes)), r.Removed, dash(r.Why))
		}
		if o.dryRun {
			t.Note("dry run: nothing was removed")
		}
		return t
	}); err != nil {
		return err
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	return nil
}

// over tells that a run holds nothing any more and says so itself.
func over(d runs.Dir) bool {
	s := d.State()
	if s.Ended || s.Refused != "" {
		return true
	}
	if d.Intent.Verb == "bench" {
		if _, err := os.Stat(d.File(runs.ResultFile)); err == nil {
			return true
		}
	}
	return s.JobEnded && len(d.Intent.OwnedPaths) == 0
}

func ownedLeft(d runs.Dir) string {
	for _, p := range d.Intent.OwnedPaths {
		if _, err := os.Lstat(p); err == nil && runs.CheckOwned(p, d.Intent.Nonce) == nil {
			return p
		}
	}
	return ""
}
