package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/archive"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

type saveOptions struct {
	run   string
	force bool
	only  bool
}

func newSaveCmd(a *app) *cobra.Command {
	o := &saveOptions{}
	cmd := &cobra.Command{
		Use:   "save SERVICE|RUN|all [FILE]",
		Short: "One archive of a run and the benches that loaded it",
		Long: `Writes zip or, by extension, tar.zst or tar.gz, with a manifest of SHA-256 sums.
Keys and tokens are never inside: a file that holds one stops the archive. The
default name carries service and time; nothing is overwritten without --force.

Exit status: 0; 2 an extension that is no archive; 3 no such run; 8 the file
cannot be written; 10 it exists, or a member holds a secret.`,
		Args:    cobra.RangeArgs(1, 2),
		Example: "  aifbench save vllm run.zip\n  aifbench save all everything.tar.zst",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSave(cmd.Context(), a, o, args)
		},
	}
	cmd.Flags().StringVar(&o.run, "run", "", "this run of the service")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace an archive of that name")
	cmd.Flags().BoolVar(&o.only, "no-benches", false, "leave out the benches that loaded the run")
	return cmd
}

type saveDoc struct {
	SchemaVersion int              `json:"schema_version"`
	Kind          string           `json:"kind"`
	File          string           `json:"file"`
	Bytes         int64            `json:"size_bytes"`
	Runs          []string         `json:"runs"`
	Manifest      archive.Manifest `json:"manifest"`
}

func runSave(ctx context.Context, a *app, o *saveOptions, args []string) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	if len(args) == 2 {
		if _, err := archive.FormatOf(args[1]); err != nil {
			return err // a wrong word, whether or not there is a run
		}
	}
	dirs, err := o.choose(st, args[0])
	if err != nil {
		return err
	}
	path := ""
	if len(args) == 2 {
		path = a.abs(args[1])
	} else {
		path = a.abs(fmt.Sprintf("aifbench-%s-%s.zip", args[0], a.now().UTC().Format("20060102-150405")))
		if strings.ContainsRune(args[0], filepath.Separator) {
			path = a.abs(fmt.Sprintf("aifbench-%s.zip", dirs[0].ID()))
		}
	}
	format, err := archive.FormatOf(path)
	if err != nil {
		return err
	}
	members, err := membersOf(dirs)
	if err != nil {
		return err
	}
	secrets, err := a.secretsOf(dirs)
	if err != nil {
		return err
	}
	meta := archive.Meta{ToolVersion: versionInfo().Version, Created: a.now().UTC().Format("2006-01-02T15:04:05Z")}
	if len(dirs) > 0 {
		meta.Run, meta.Service = dirs[0].ID(), dirs[0].Intent.Service
	}
	m, err := archive.Save(ctx, path, format, members, meta, secrets, o.force)
	if err != nil {
		return err
	}
	doc := saveDoc{SchemaVersion: 1, Kind: "save", File: path, Runs: []string{}, Manifest: *m}
	if info, err := os.Stat(path); err == nil {
		doc.Bytes = info.Size()
	}
	for _, d := range dirs {
		doc.Runs = append(doc.Runs, d.ID())
	}
	return a.emit(doc, func() *table.Table {
		t := table.New("file", "size", "members", "runs", "left out")
		t.Row(doc.File, table.ByteCount(float64(doc.Bytes)), len(m.Members), len(doc.Runs), m.Excluded)
		return t
	})
}

// choose finds the runs of an archive: the one named and the benches on it.
func (o *saveOptions) choose(st runs.Store, ref string) ([]runs.Dir, error) {
	all, _, err := st.List()
	if err != nil {
		return nil, err
	}
	if ref == "all" {
		if len(all) == 0 {
			return nil, fail(exitNotFound, "run", "there is no run to save", "`aifbench start SERVICE` starts one")
		}
		return all, nil
	}
	if o.run != "" {
		ref = o.run
	}
	dir, err := st.Resolve(ref)
	if err != nil {
		return nil, err
	}
	dirs := []runs.Dir{dir}
	for _, d := range all {
		if !o.only && d.Intent.Target == dir.ID() {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

// membersOf lists the regular files of the runs. Files that are being written
// under a temporary name are left out; links are never followed.
func membersOf(dirs []runs.Dir) ([]archive.Member, error) {
	var out []archive.Member
	for _, d := range dirs {
		err := filepath.WalkDir(d.Path, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // gone between listing and looking
			}
			if err != nil {
				return err
			}
			if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".tmp-") {
				return nil
			}
			rel, err := filepath.Rel(d.Path, path)
			if err != nil {
				return err
			}
			m, err := archive.File(filepath.ToSlash(filepath.Join(d.ID(), rel)), path)
			if err != nil {
				return err
			}
			out = append(out, m)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", d.ID(), err)
		}
	}
	return out, nil
}

// secretsOf names what may not enter: key files by name, and the keys and
// tokens themselves wherever they turn up.
func (a *app) secretsOf(dirs []runs.Dir) (archive.Secrets, error) {
	s := archive.Secrets{Deny: func(name string) bool {
		base := name[strings.LastIndexByte(name, '/')+1:]
		return base == runs.KeyFile || strings.HasSuffix(base, ".key") || base == "web.yml"
	}}
	for _, d := range dirs {
		k, err := d.Key()
		if err != nil {
			return s, err
		}
		s.Strings = append(s.Strings, []byte(k))
		if p, ok := d.Intent.Params["token_file"]; ok {
			path, _ := p.Value.(string)
			if path == "" {
				continue
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				a.warn("token file of %s cannot be read, so the archive is not searched for the token: %v", d.ID(), err)
				continue
			}
			if t := bytes.TrimSpace(raw); len(t) >= 8 {
				s.Strings = append(s.Strings, t)
			}
		}
	}
	return s, nil
}
