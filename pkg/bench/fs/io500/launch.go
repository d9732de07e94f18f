package io500

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Launcher starts one long child process and waits for its end; a nil env is
// the launcher's own.
type Launcher interface {
	Launch(ctx context.Context, name string, args []string, dir string, env []string, stdout, stderr io.Writer) (code int, err error)
}

// Job is one run of the real benchmark.
type Job struct {
	Config    Config
	Procs     int
	Stonewall int
	// Data is the work directory, which holds the marker; Home takes the ini
	// file, the results and the output of io500.
	Data, Home string
	// Progress is told the phase io500 is in. Nil is allowed.
	Progress func(phase string)
}

// ResultDir is where the results of the job are.
func (j Job) ResultDir() string { return filepath.Join(j.Home, "io500-results") }

// Values are the ini settings of the job: the user's, then what the benchmark
// decides itself.
func (j Job) Values() (Values, error) {
	v := Values{}
	for name, value := range j.Config.INI {
		section, key, _ := strings.Cut(name, ".")
		known, ok := canonical(section, key)
		if !ok {
			return nil, fmt.Errorf("io500.ini key %q is not an option of io500", name)
		}
		if value != "" {
			v[known] = value
		}
	}
	v["global.datadir"] = j.Data
	// The work directory is the run's own already.
	v["global.timestamp-datadir"] = "FALSE"
	v["global.resultdir"] = j.ResultDir()
	v["global.timestamp-resultdir"] = "FALSE"
	v["global.scc"] = "FALSE"
	if j.Config.Mode == ModeSCC {
		v["global.scc"] = "TRUE"
	}
	v["debug.stonewall-time"] = strconv.Itoa(j.Stonewall)
	return v, nil
}

// Command is the argument vector of the job.
func (j Job) Command(ini string) []string {
	n := strconv.Itoa(j.Procs)
	var words []string
	switch j.Config.Launcher {
	case LauncherSrun:
		// IOR and mdtest shift reads by whole nodes and count on ranks that
		// follow each other on one node.
		words = []string{"srun", "--ntasks", n, "--distribution=block", "--kill-on-bad-exit=1"}
	case LauncherMpirun:
		words = []string{"mpirun", "-np", n}
	}
	words = append(words, j.Config.Args...)
	return append(words, j.Config.Binary, ini)
}

// Outcome is what came of a job.
type Outcome struct {
	Code   int
	Folder Folder
	// Launch is the error of a child that could not be started or was ended
	// by the context; nil otherwise.
	Launch error
	// Stderr is the end of what io500 and its launcher said.
	Stderr string
}

// Run writes the ini file, starts io500 and reads what it left, also after a
// launch that failed. The error is non-nil only when nothing could be started
// or read.
func (j Job) Run(ctx context.Context, l Launcher) (Outcome, error) {
	if strings.ContainsAny(j.Data, "@ \t") {
		return Outcome{}, fmt.Errorf("io500: mdtest cannot take a data directory with @ or blanks in its path: %q", j.Data)
	}
	values, err := j.Values()
	if err != nil {
		return Outcome{}, err
	}
	text, err := Render(values)
	if err != nil {
		return Outcome{}, err
	}
	if err := os.MkdirAll(j.ResultDir(), 0o700); err != nil {
		return Outcome{}, fmt.Errorf("make result directory: %w", err)
	}
	ini := filepath.Join(j.Home, "io500.ini")
	if err := os.WriteFile(ini, text, 0o600); err != nil {
		return Outcome{}, fmt.Errorf("write ini file: %w", err)
	}
	stdout, err := create(filepath.Join(j.Home, "io500.out"))
	if err != nil {
		return Outcome{}, err
	}
	stderr, err := create(filepath.Join(j.Home, "io500.err"))
	if err != nil {
		return Outcome{}, errors.Join(err, stdout.Close())
	}
	words := j.Command(ini)
	tail := &ending{}
	stop := j.follow()
	var out Outcome
	out.Code, out.Launch = l.Launch(ctx, words[0], words[1:], j.Home, nil, stdout, io.MultiWriter(stderr, tail))
	stop()
	if err := errors.Join(stdout.Close(), stderr.Close()); err != nil {
		return out, fmt.Errorf("write output of io500: %w", err)
	}
	out.Stderr = printable(strings.TrimSpace(tail.String()))
	out.Folder, err = Load(os.DirFS(j.ResultDir()))
	return out, err
}

func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take output of io500: %w", err)
	}
	return f, nil
}

// follow reports the last phase in result.txt, which io500 flushes after every
// key, until the returned function is called; that waits for the goroutine.
func (j Job) follow() (stop func()) {
	if j.Progress == nil {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last := ""
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			// A file that is not there yet has no phase.
			text, err := os.ReadFile(filepath.Join(j.ResultDir(), ResultName))
			if err != nil {
				continue
			}
			if r := ParseResult(ResultName, text); len(r.Phases) > 0 {
				if now := r.Phases[len(r.Phases)-1].Name; now != last {
					last = now
					j.Progress(now)
				}
			}
		}
	}()
	return func() { close(quit); <-ended }
}

// ending keeps the last bytes written.
type ending struct{ b []byte }

const maxEnding = 2000

func (e *ending) Write(p []byte) (int, error) {
	e.b = append(e.b, p...)
	if len(e.b) > 2*maxEnding {
		e.b = append(e.b[:0], e.b[len(e.b)-maxEnding:]...)
	}
	return len(p), nil
}

func (e *ending) String() string {
	if len(e.b) > maxText {
		return string(e.b[len(e.b)-maxText:])
	}
	return string(e.b)
}
