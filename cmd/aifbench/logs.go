package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

// Sources of log lines.
const (
	sourceAll        = "all"
	sourceEngine     = "engine"
	sourceSupervisor = "supervisor"
	sourceSlurm      = "slurm"
)

type logsOptions struct {
	lines  int
	follow bool
	source string
	run    string
}

func newLogsCmd(a *app) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs SERVICE|RUN",
		Short: "Last lines of engine, supervisor and Slurm output",
		Long: `Shows the latest run of a service, live or not, or the run named. Control
characters are escaped: what servers print is not trusted.

Exit status: 0; 3 no such run; 130 --follow ended by Ctrl-C.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.lines < 1 || o.lines > 1_000_000 {
				return usage(fmt.Sprintf("--lines %d", o.lines), "use 1 to 1000000")
			}
			return runLogs(cmd.Context(), a, o, args[0])
		},
	}
	cmd.Flags().IntVarP(&o.lines, "lines", "n", 20, "lines of each file")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on printing until interrupted or the run ends")
	cmd.Flags().StringVar(&o.run, "run", "", "this run of the service")
	enumFlag(cmd, &o.source, "source", "", sourceAll, "whose output", []string{sourceAll, sourceEngine, sourceSupervisor, sourceSlurm})
	return cmd
}

type logFile struct {
	Source string   `json:"source"`
	File   string   `json:"file"`
	Lines  []string `json:"lines"`
	path   string
	offset int64
}

type logsDoc struct {
	SchemaVersion int       `json:"schema_version"`
	Kind          string    `json:"kind"`
	Run           string    `json:"run"`
	Files         []logFile `json:"files"`
}

func runLogs(ctx context.Context, a *app, o *logsOptions, ref string) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	if o.run != "" {
		ref = o.run
	}
	dir, err := st.Resolve(ref)
	if err != nil {
		return err
	}
	files, err := logFiles(dir, o)
	if err != nil {
		return err
	}
	if !o.follow || a.output != formatTable {
		doc := logsDoc{1, "logs", dir.ID(), files}
		return a.emit(doc, func() *table.Table {
			t := table.New("source", "file", "line")
			for _, f := range files {
				for _, l := range f.Lines {
					t.Row(f.Source, f.File, l)
				}
			}
			return t
		})
	}
	for _, f := range files {
		for _, l := range f.Lines {
			a.printLine(f.File, l)
		}
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	return a.follow(ctx, st, s, dir, o, files)
}

func (a *app) printLine(file, line string) {
	fmt.Fprintf(a.out, "%s: %s\n", file, table.Clean(line))
}

// follow prints what is appended until the run has ended or the context does.
func (a *app) follow(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, o *logsOptions, files []logFile) error {
	seen := map[string]int64{}
	for _, f := range files {
		seen[f.path] = f.offset
	}
	w := a.watcher(st, s)
	for {
		// A killed job writes no end: the scheduler knows.
		v := w.look(ctx, []runs.Dir{dir})[0]
		ended := a.jobGone(v)
		now, err := logFiles(dir, o)
		if err != nil {
			return err
		}
		for _, f := range now {
			text, next, err := readFrom(f.path, seen[f.path])
			if err != nil {
				return err
			}
			seen[f.path] = next
			for _, l := range text {
				a.printLine(f.File, l)
			}
		}
		if ended {
			return nil
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// logFiles reads the last lines of each file of the wanted source.
func logFiles(dir runs.Dir, o *logsOptions) ([]logFile, error) {
	entries, err := os.ReadDir(dir.File(runs.LogsDir))
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w", dir.ID(), err)
	}
	out := []logFile{}
	for _, e := range entries {
		source := sourceOf(e.Name())
		if !e.Type().IsRegular() || (o.source != sourceAll && o.source != source) {
			continue
		}
		path := dir.File(runs.LogsDir, e.Name())
		lines, size, err := tail(path, o.lines)
		if err != nil {
			return nil, fmt.Errorf("logs of %s: %w", dir.ID(), err)
		}
		out = append(out, logFile{Source: source, File: filepath.Join(runs.LogsDir, e.Name()), Lines: lines, path: path, offset: size})
	}
	return out, nil
}

func sourceOf(name string) string {
	switch {
	case strings.HasPrefix(name, "slurm"):
		return sourceSlurm
	case strings.HasPrefix(name, "supervisor"), strings.HasPrefix(name, "agent"), strings.HasPrefix(name, "load"):
		return sourceSupervisor
	}
	return sourceEngine
}

// tailLimit caps how much of a file is read for its last lines.
const tailLimit = 8 << 20

// tail returns the last n lines of a file and the offset after them.
func tail(path string, n int) ([]string, int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return []string{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	size := info.Size()
	start := max(0, size-tailLimit)
	buf := make([]byte, size-start)
	if _, err := f.ReadAt(buf, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	lines := splitLines(buf)
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return slices.Clip(lines), size, nil
}

// readFrom returns the whole lines after offset and the offset after them.
func readFrom(path string, offset int64) ([]string, int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, offset, nil
	}
	if err != nil {
		return nil, offset, err
	}
	defer f.Close()
	buf, err := io.ReadAll(io.NewSectionReader(f, offset, tailLimit))
	if err != nil {
		return nil, offset, err
	}
	end := bytes.LastIndexByte(buf, '\n') + 1
	return splitLines(buf[:end]), offset + int64(end), nil
}

func splitLines(b []byte) []string {
	if len(b) == 0 {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}
