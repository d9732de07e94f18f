package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"aifbench/pkg/slurm/proc"
)

// launcher starts long children of an engine: srun, mpirun, io500, lfs. Their
// output is handed on while they run; the end of the context is TERM to the
// group, and KILL ten seconds later.
type launcher struct{ a *app }

const launchGrace = 10 * time.Second

func (l launcher) Launch(ctx context.Context, name string, args []string, dir string, env []string, stdout, stderr io.Writer) (int, error) {
	if env == nil {
		env = l.a.vars
	}
	path, err := proc.LookPath(name, l.a.getenv("PATH"), "/usr/local/bin", "/usr/bin")
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	var copies [2]error
	pipes := [2]*os.File{}
	for i, w := range []io.Writer{stdout, stderr} {
		r, child, err := os.Pipe()
		if err != nil {
			return 0, fmt.Errorf("launch %s: %w", name, err)
		}
		pipes[i] = child
		wg.Go(func() {
			defer r.Close()
			_, copies[i] = io.Copy(w, r)
		})
	}
	p, err := l.a.start(proc.StartSpec{Cmd: proc.Cmd{Name: path, Args: args, Dir: dir, Env: env}, Stdout: pipes[0], Stderr: pipes[1]})
	for _, f := range pipes {
		_ = f.Close() // the child has its own
	}
	if err != nil {
		wg.Wait()
		return 0, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		err = p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done():
		case <-time.After(launchGrace):
			err = errors.Join(err, p.Signal(syscall.SIGKILL))
		}
	}
	code, werr := p.Wait()
	wg.Wait()
	return code, errors.Join(err, werr, copies[0], copies[1])
}
