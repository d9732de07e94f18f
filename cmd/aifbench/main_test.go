package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts call the program: the test binary is aifbench when it
// is called so.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"aifbench": main})
}

// TestScripts types what users type. Each script has a home of its own; what
// it starts it must stop.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("AIFBENCH_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("AIFBENCH_SITE", "local")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TMPDIR", os.TempDir())
			e.Defer(func() { stopAll(t, e.WorkDir) })
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Getuid() == 0, nil },
		Cmds:      map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// stopAll ends what a script left: one that fails half way has stopped nothing.
func stopAll(t *testing.T, dir string) {
	homes, err := filepath.Glob(filepath.Join(dir, "*", "runs"))
	if err != nil {
		t.Error(err)
	}
	for _, runs := range homes {
		cmd := exec.Command("aifbench", "stop", "all", "--keep-data", "--timeout", "20s")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "AIFBENCH_SITE=local", "AIFBENCH_HOME=" + filepath.Dir(runs)}
		_ = cmd.Run() // damaged runs and those of a Slurm that is gone are left behind
	}
}

// exits CODE COMMAND...: the command must end with just that code. 0|7 allows
// either: a busy machine makes the generator late, which a result must say.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		coded, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
		}
		got = coded.ExitCode()
	}
	if !slices.Contains(strings.Split(args[0], "|"), strconv.Itoa(got)) {
		ts.Fatalf("%s: exit %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
