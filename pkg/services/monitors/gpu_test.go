package monitors

import (
	"context"

	"golang.org/x/sys/unix"
)

func gpuRunner(context.Context, []string) (stdout, stderr []byte, code int, found bool, err error) {
	return []byte("0, GPU-a, A100, 50, 10, 20, 30, 40.5, Disabled\n"), nil, 0, true, nil
}

func processGroup() int { return unix.Getpgrp() }
