// Command aifbench deploys, loads, watches and judges AI-Factory services on
// a Slurm cluster, one shot at a time. This package owns the words typed,
// flags, streams and exit codes; it must not know Slurm's text or HTTP bodies.
package main

import (
	"os"
	"runtime/debug"
)

func main() {
	inJob := len(os.Args) > 1 && os.Args[1] == "node"
	if !inJob && (len(os.Args) < 2 || os.Args[1] != "bench") {
		// A login node is shared, and a command over a thousand runs reads many
		// small files: collect early. Load generators keep the default.
		debug.SetGCPercent(50)
	}
	ctx, stop := withSignals(inJob)
	code := run(ctx, os.Args[1:], osEnv(), streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
