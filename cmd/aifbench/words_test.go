package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// typed runs the program in this process, for what needs none of its own.
func typed(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	env := osEnv()
	env.vars = []string{"PATH=/usr/bin:/bin", "AIFBENCH_HOME=/nonexistent/home", "AIFBENCH_SITE=local"}
	code = run(context.Background(), args, env, streams{strings.NewReader(""), &o, &e})
	return o.String(), e.String(), code
}

// oneError demands exactly one error document of a code.
func oneError(t *testing.T, what, out string, code int) {
	t.Helper()
	var doc errorDoc
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Errorf("%s: %v: %q", what, err, out)
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("%s: more than one document: %q", what, out)
	}
	if doc.Error.Code != code || doc.SchemaVersion != 1 || doc.Error.Message == "" || doc.Error.Advice == "" {
		t.Errorf("%s: %+v", what, doc)
	}
}

// TestEveryGroupRefuses: a missing word and a typo are exit 2 at every level
// of the tree, and the hint says what to type.
func TestEveryGroupRefuses(t *testing.T) {
	t.Parallel()
	groups := 0
	eachCommand(newRoot(docApp()), func(c *cobra.Command) {
		if !c.HasSubCommands() {
			return
		}
		groups++
		path := strings.Fields(c.CommandPath())[1:]
		next := ""
		for _, s := range c.Commands() {
			if s.IsAvailableCommand() && s.Name() != "help" {
				next = s.Name()
			}
		}
		for what, word := range map[string][]string{"missing word": nil, "typo": {next + "x"}, "no word at all": {"-"}, "empty word": {""}} {
			args := append(append([]string{}, path...), word...)
			out, errs, code := typed(args...)
			if code != exitUsage || out != "" {
				t.Errorf("%q (%s): exit %d, stdout %q", args, what, code, out)
			}
			if !strings.Contains(errs, "hint: ") || !strings.Contains(errs, next) {
				t.Errorf("%q (%s): no hint that names %s: %q", args, what, next, errs)
			}
			if what == "typo" && !strings.Contains(errs, "did you mean `"+c.CommandPath()+" "+next+"`") {
				t.Errorf("%q: %q", args, errs)
			}
			out, _, code = typed(append(append([]string{}, args...), "-o", "json")...)
			if code != exitUsage {
				t.Errorf("%q -o json: exit %d", args, code)
			}
			oneError(t, strings.Join(args, " "), out, exitUsage)
		}
	})
	if groups < 8 {
		t.Errorf("%d groups were looked at", groups)
	}
}

// TestEveryLeafExplainsItself: help, on stdout, with the exit status; no
// unknown flag, no surplus word, no unknown format.
func TestEveryLeafExplainsItself(t *testing.T) {
	t.Parallel()
	leaves := 0
	eachCommand(newRoot(docApp()), func(c *cobra.Command) {
		if c.HasSubCommands() || c.Hidden || !c.Runnable() || strings.HasPrefix(c.CommandPath(), "aifbench node") {
			return
		}
		leaves++
		path := strings.Fields(c.CommandPath())[1:]
		for _, args := range [][]string{append(append([]string{}, path...), "--help"), append([]string{"help"}, path...)} {
			out, _, code := typed(args...)
			if code != exitOK || !strings.Contains(out, "Usage:") {
				t.Errorf("%q: exit %d: %q", args, code, out)
			}
			if !strings.Contains(out, "Exit status: 0") && path[0] != "completion" && path[0] != "help" {
				t.Errorf("%q does not tell the exit status", args)
			}
		}
		if path[0] == "help" {
			return
		}
		for _, bad := range [][]string{{"--no-such-flag"}, {"-o", "xml"}, {"-o"}, {"a", "b", "c", "d"}} {
			args := append(append([]string{}, path...), bad...)
			if out, errs, code := typed(args...); code != exitUsage || out != "" || !strings.Contains(errs, "hint: ") {
				t.Errorf("%q: exit %d, stdout %q, stderr %q", args, code, out, errs)
			}
		}
		out, _, code := typed(append(append([]string{"-o", "json"}, path...), "--no-such-flag")...)
		if code != exitUsage {
			t.Errorf("%q: exit %d", path, code)
		}
		oneError(t, strings.Join(path, " "), out, exitUsage)
	})
	if leaves < 25 {
		t.Errorf("%d leaves were looked at", leaves)
	}
}

// TestHelpWords: what help says of topics and of nonsense.
func TestHelpWords(t *testing.T) {
	t.Parallel()
	out, _, code := typed("help", "exit-codes")
	for _, e := range exitTable {
		if !strings.Contains(out, e.means) {
			t.Errorf("help exit-codes lacks %d: %s", e.code, e.means)
		}
	}
	if code != 0 {
		t.Errorf("help exit-codes: %d", code)
	}
	for _, args := range [][]string{{"help", "nope"}, {"help", "start", "nope"}, {"help", "exit-codes", "more"}} {
		if out, errs, code := typed(args...); code != exitUsage || out != "" || !strings.Contains(errs, "hint: ") {
			t.Errorf("%q: exit %d, %q, %q", args, code, out, errs)
		}
		out, _, code := typed(append(args, "-o", "json")...)
		if code != exitUsage {
			t.Errorf("%q: %d", args, code)
		}
		oneError(t, strings.Join(args, " "), out, exitUsage)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, code := typed("completion", shell); code != 0 || !strings.Contains(out, "aifbench") {
			t.Errorf("completion %s: %d", shell, code)
		}
	}
	if out, _, code := typed("__complete", "start", "vllm", "--eng"); code != 0 || !strings.Contains(out, "--engine") {
		t.Errorf("completing a flag: %d %q", code, out)
	}
}
