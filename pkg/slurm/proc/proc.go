// Package proc owns child processes. It is the only package that imports
// os/exec; everything else states what to run and receives one of these
// runners. It must not know what a tool's output means.
package proc

import (
	"context"
	"io"
	"time"
)

// Cmd is one child process. Env is complete: nothing is inherited.
type Cmd struct {
	Name     string
	Args     []string
	Dir      string
	Env      []string
	Stdin    io.Reader
	Deadline time.Duration // 0 means no deadline but the context's
}

// Output is what a finished child left. Code is its exit status, or 128 plus
// the signal that ended it.
type Output struct {
	Stdout []byte
	Stderr []byte
	Code   int
}

// Runner runs one command to its end. The error is nil whatever the exit
// code; it is non-nil only when the command could not be started, outlived its
// deadline (errors.Is context.DeadlineExceeded) or the context ended.
type Runner interface {
	Run(ctx context.Context, c Cmd) (Output, error)
}
