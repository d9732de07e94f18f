package proc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aifbench/pkg/slurm/proc"
)

var env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}

func sh(script string) proc.Cmd {
	return proc.Cmd{Name: "sh", Args: []string{"-c", script}, Env: env, Deadline: 20 * time.Second}
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		cmd  proc.Cmd
		out  string
		err  string
		code int
	}{
		{"streams apart", sh("echo out; echo err >&2"), "out\n", "err\n", 0},
		{"exit code", sh("exit 42"), "", "", 42},
		{"signal", sh("kill -9 $$"), "", "", 137},
		{"term", sh("kill -15 $$"), "", "", 143},
		{"environment is complete", proc.Cmd{Name: "env", Env: []string{"PATH=/usr/bin:/bin", "A=b c"}}, "PATH=/usr/bin:/bin\nA=b c\n", "", 0},
		{"empty environment inherits nothing", proc.Cmd{Name: "/usr/bin/env"}, "", "", 0},
		{"directory", proc.Cmd{Name: "pwd", Dir: dir, Env: env}, dir + "\n", "", 0},
		{"stdin", proc.Cmd{Name: "cat", Env: env, Stdin: strings.NewReader("hello")}, "hello", "", 0},
		{"arguments are not split", proc.Cmd{Name: "printf", Args: []string{"%s|", "a b", "$HOME"}, Env: env}, "a b|$HOME|", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := proc.Exec{}.Run(t.Context(), tt.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Stdout) != tt.out || string(got.Stderr) != tt.err || got.Code != tt.code {
				t.Errorf("got %q, %q, %d; want %q, %q, %d", got.Stdout, got.Stderr, got.Code, tt.out, tt.err, tt.code)
			}
		})
	}
}

// gone waits until a process has ended (a zombie has).
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d still lives", pid)
}

func TestDeadlineEndsTheGroup(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"obeys TERM":                "sleep 300 & echo $!; wait",
		"helper ignores TERM":       `(trap "" TERM; sleep 300 & wait; sleep 300) & echo $!; wait`,
		"everything ignores TERM":   `trap "" TERM; sleep 300 & echo $!; while :; do sleep 1; done`,
		"leader exits, helper does": `sh -c 'trap "" TERM; echo $$; while :; do sleep 1; done' & trap "exit 0" TERM; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sh(script)
			c.Deadline = 500 * time.Millisecond
			got, err := proc.Exec{Grace: 300 * time.Millisecond}.Run(t.Context(), c)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v, want deadline exceeded", err)
			}
			pid, convErr := strconv.Atoi(strings.TrimSpace(string(got.Stdout)))
			if convErr != nil {
				t.Fatalf("output kept of a killed command is %q", got.Stdout)
			}
			gone(t, pid)
		})
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	got, err := proc.Exec{}.Run(ctx, sh("sleep 300"))
	if !errors.Is(err, context.Canceled) || got.Code != 128+int(syscall.SIGTERM) {
		t.Errorf("got code %d, error %v", got.Code, err)
	}
	if _, err := (proc.Exec{}).Run(ctx, sh("true")); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context started a command: %v", err)
	}
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"yes", "yes >&2", "head -c 101 /dev/zero"} {
		got, err := proc.Exec{Limit: 100, Grace: time.Second}.Run(t.Context(), sh(script))
		over, ok := errors.AsType[*proc.OverflowError](err)
		if !ok || over.Limit != 100 || len(got.Stdout)+len(got.Stderr) != 100 {
			t.Errorf("%s: %d and %d bytes, error %v", script, len(got.Stdout), len(got.Stderr), err)
		}
	}
	got, err := proc.Exec{Limit: 100}.Run(t.Context(), sh("head -c 100 /dev/zero"))
	if err != nil || len(got.Stdout) != 100 {
		t.Errorf("exactly the limit: %d bytes, %v", len(got.Stdout), err)
	}
}

func TestLeftoverDoesNotHoldRun(t *testing.T) {
	t.Parallel()
	got, err := proc.Exec{Grace: 200 * time.Millisecond}.Run(t.Context(), sh("sleep 300 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(got.Stdout)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tool := filepath.Join(dir, "tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho found\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		extra      []string
		want       string
	}{
		{"tool", "/nowhere:" + dir, nil, tool},
		{"tool", "/nowhere", []string{dir}, tool},
		{"tool", "", []string{dir}, tool},
		{tool, "", nil, tool},
		{"tool", "/nowhere", nil, ""},
		{"tool", ".::" + filepath.Base(dir), nil, ""}, // never the working directory
		{"data", dir, nil, ""},
		{"folder", dir, nil, ""},
		{"", dir, nil, ""},
		{filepath.Join(dir, "data"), "", nil, ""},
	} {
		got, err := proc.LookPath(tt.name, tt.path, tt.extra...)
		if got != tt.want || (tt.want == "") != errors.Is(err, proc.ErrNotFound) {
			t.Errorf("LookPath(%q, %q, %q) = %q, %v; want %q", tt.name, tt.path, tt.extra, got, err, tt.want)
		}
	}
	// The command's own PATH decides, not the test's.
	got, err := proc.Exec{}.Run(t.Context(), proc.Cmd{Name: "tool", Env: []string{"PATH=" + dir}})
	if err != nil || string(got.Stdout) != "found\n" {
		t.Errorf("got %q, %v", got.Stdout, err)
	}
	_, err = proc.Exec{}.Run(t.Context(), proc.Cmd{Name: "sh", Env: []string{"PATH=" + dir}})
	if !errors.Is(err, proc.ErrNotFound) {
		t.Errorf("sh found outside the command's PATH: %v", err)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := sh(`echo "$(ps -o sid= -p $$) $$"; exit 3`)
	cmd.Deadline = 0
	p, err := proc.Start(proc.StartSpec{Cmd: cmd, Stdout: file, Setsid: true})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if code, err := p.Wait(); code != 3 || err != nil {
		t.Errorf("ended with %d, %v", code, err)
	}
	out, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(string(out)); len(f) != 2 || f[0] != f[1] || f[1] != strconv.Itoa(p.PID()) {
		t.Errorf("session and process %q, want both %d", out, p.PID())
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to an empty group: %v", err)
	}
	cmd.Deadline = time.Second
	if _, err := proc.Start(proc.StartSpec{Cmd: cmd}); err == nil {
		t.Error("a deadline was swallowed")
	}
}

func TestStartSignalsTheGroup(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := sh("sleep 300 & echo $!; exec sleep 300")
	cmd.Deadline = 0
	p, err := proc.Start(proc.StartSpec{Cmd: cmd, Stdout: file})
	if err != nil {
		t.Fatal(err)
	}
	var helper int
	for helper == 0 {
		out, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		helper, _ = strconv.Atoi(strings.TrimSpace(string(out)))
		time.Sleep(5 * time.Millisecond)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(); code != 137 || err != nil {
		t.Errorf("ended with %d, %v", code, err)
	}
	gone(t, helper)
}

func TestStartBindsCPUs(t *testing.T) {
	t.Parallel()
	run := func(cpus []int) string {
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd := sh("grep Cpus_allowed_list /proc/self/status")
		cmd.Deadline = 0
		p, err := proc.Start(proc.StartSpec{Cmd: cmd, Stdout: file, CPUs: cpus})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := p.Wait(); code != 0 || err != nil {
			t.Fatalf("ended with %d, %v", code, err)
		}
		out, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, list, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		return list
	}
	all := run(nil)
	first, _, _ := strings.Cut(strings.NewReplacer("-", ",").Replace(all), ",")
	cpu, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("allowed CPUs %q", all)
	}
	if got := run([]int{cpu}); got != first {
		t.Errorf("bound to %s, want %s", got, first)
	}
	if got := run(nil); got != all {
		t.Errorf("binding leaked: %s, want %s", got, all)
	}
	cmd := sh("true")
	cmd.Deadline = 0
	for _, bad := range [][]int{{-1}, {1 << 20}} {
		if _, err := proc.Start(proc.StartSpec{Cmd: cmd, CPUs: bad}); err == nil {
			t.Errorf("bound to CPUs %v", bad)
		}
	}
}
