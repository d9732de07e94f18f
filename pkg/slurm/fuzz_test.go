package slurm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aifbench/pkg/slurm"
)

// seed adds every recorded output to a fuzz target.
func seed(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join(recorded, "*", "*.out"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// lines are the lines a parser must account for.
func lines(text []byte) int {
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}

func FuzzParseQueue(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		rows, bad := slurm.ParseQueue(text)
		if len(rows)+len(bad) != lines(text) {
			t.Errorf("%d rows and %d errors of %d lines", len(rows), len(bad), lines(text))
		}
		for _, r := range rows {
			if id, err := slurm.ParseID(r.ID.String()); err != nil || id != r.ID {
				t.Errorf("id %+v does not survive: %v", r.ID, err)
			}
			slurm.ParseReason(r.Reason)
		}
	})
}

func FuzzParseAccounting(f *testing.F) {
	seed(f)
	fields := strings.Split("jobidraw,jobid,state%30,exitcode,submit,start,end,derivedexitcode,nodelist,reason,jobname", ",")
	f.Fuzz(func(t *testing.T, text []byte) {
		rows, bad := slurm.ParseAccounting(text, fields)
		if len(rows)+len(bad) != lines(text) {
			t.Errorf("%d rows and %d errors of %d lines", len(rows), len(bad), lines(text))
		}
	})
}

func FuzzParseRecords(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, rec := range slurm.ParseRecords(text) {
			if len(rec) == 0 {
				t.Error("an empty record")
			}
		}
		slurm.ParseJobRecords(text)
		_, _ = slurm.ParsePartitions(text)
		slurm.ParseConfig(text)
	})
}

func FuzzParseReceipt(f *testing.F) {
	for _, s := range []string{"20\n", "20;lab\n", "hello\n7\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id, _, err := slurm.ParseReceipt(text)
		if err == nil {
			if _, err := slurm.ParseID(id); err != nil {
				t.Error(err)
			}
		}
		_, _ = slurm.ParseVersion(text)
	})
}

func FuzzExpandHosts(f *testing.F) {
	for list := range hostLists {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		hosts, err := slurm.ExpandHosts(list)
		if err != nil {
			return
		}
		if len(hosts) == 0 {
			t.Fatal("no hosts and no error")
		}
		short, err := slurm.CompressHosts(hosts)
		if err != nil {
			t.Fatal(err)
		}
		again, err := slurm.ExpandHosts(short)
		if err != nil || strings.Join(again, " ") != strings.Join(hosts, " ") {
			t.Fatalf("%q became %q: %v", list, short, err)
		}
	})
}

func FuzzDirectives(f *testing.F) {
	f.Add([]byte("#!/bin/bash\n#SBATCH --output=\"a b\" --x # c\ntrue\n"))
	f.Fuzz(func(t *testing.T, script []byte) {
		words, err := slurm.Directives(script)
		if err == nil && len(words) > bytes.Count(script, []byte{' '})+bytes.Count(script, []byte{'\t'})+1 {
			t.Errorf("%d words", len(words))
		}
		_ = slurm.Lint(script)
	})
}

func FuzzParseLimit(f *testing.F) {
	f.Add("1-02:03:04")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := slurm.ParseLimit(text)
		if err != nil || d == slurm.Unlimited {
			return
		}
		if back, err := slurm.ParseLimit(slurm.FormatLimit(d)); err != nil || back != d {
			t.Errorf("%q is %s, and back %s, %v", text, d, back, err)
		}
	})
}
