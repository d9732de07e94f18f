// Command aifbench deploys, loads, watches and judges AI-Factory services on
// a Slurm cluster, one shot at a time. This package owns the words typed,
// flags, streams and exit codes; it must not know Slurm's text or HTTP bodies.
package main

import "os"

func main() {
	ctx, stop := withSignals(len(os.Args) > 1 && os.Args[1] == "node")
	code := run(ctx, os.Args[1:], osEnv(), streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
