package io500

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fake plays the launcher: it sees the command line and leaves a recorded run.
type fake struct {
	words  []string
	ini    string
	play   string // folder of testdata whose files io500 leaves
	code   int
	err    error
	stderr string
}

func (f *fake) Launch(_ context.Context, name string, args []string, dir string, env []string, _, stderr io.Writer) (int, error) {
	f.words = append([]string{name}, args...)
	text, err := os.ReadFile(args[len(args)-1])
	if err != nil {
		return 0, err
	}
	f.ini = string(text)
	if f.play != "" {
		list, err := os.ReadDir(filepath.Join("testdata", f.play))
		if err != nil {
			return 0, err
		}
		for _, e := range list {
			b, err := os.ReadFile(filepath.Join("testdata", f.play, e.Name()))
			if err != nil {
				return 0, err
			}
			if err := os.WriteFile(filepath.Join(dir, "io500-results", e.Name()), b, 0o600); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.WriteString(stderr, f.stderr)
	return f.code, errors.Join(f.err, err)
}

func TestCommandAndIni(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, c := range []struct {
		launcher string
		want     []string
	}{
		{LauncherSrun, []string{"srun", "--ntasks", "8", "--distribution=block", "--kill-on-bad-exit=1", "--mpi=pmix", "/opt/io500", home + "/io500.ini"}},
		{LauncherMpirun, []string{"mpirun", "-np", "8", "--mpi=pmix", "/opt/io500", home + "/io500.ini"}},
		{LauncherNone, []string{"--mpi=pmix", "/opt/io500", home + "/io500.ini"}},
	} {
		f := &fake{}
		job := Job{Config: Config{Binary: "/opt/io500", Launcher: c.launcher, Args: []string{"--mpi=pmix"}, Mode: ModeSCC, INI: map[string]string{"IOR-easy.transfersize": "16m", "global.drop-caches": "TRUE", "ior-hard.API": ""}}, Procs: 8, Stonewall: 30, Data: "/scratch/w", Home: home}
		if _, err := job.Run(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.words, c.want) {
			t.Errorf("%s: %q", c.launcher, f.words)
		}
		want := "[global]\ndatadir = /scratch/w\ntimestamp-datadir = FALSE\nresultdir = " + home + "/io500-results\ntimestamp-resultdir = FALSE\ndrop-caches = TRUE\nscc = TRUE\n\n[debug]\nstonewall-time = 30\n\n[ior-easy]\ntransferSize = 16m\n\n"
		if f.ini != want {
			t.Errorf("ini:\n%s\nwant\n%s", f.ini, want)
		}
		// What was written reads back as the same values.
		v, w := ParseINI("i", []byte(f.ini))
		if len(w) != 0 || v["ior-easy.transferSize"] != "16m" || len(v) != 8 {
			t.Errorf("read back %v %v", v, w)
		}
	}
}

func TestLaunchFaults(t *testing.T) {
	t.Parallel()
	job := func(t *testing.T) Job {
		return Job{Config: Config{Binary: "io500", Launcher: LauncherMpirun}, Procs: 2, Stonewall: 30, Data: "/scratch/w", Home: t.TempDir()}
	}
	t.Run("left nothing", func(t *testing.T) {
		t.Parallel()
		out, err := job(t).Run(t.Context(), &fake{code: 1, stderr: "mpirun: \x1b[31mno slots\n"})
		if err != nil || out.Code != 1 || out.Folder.Summary != nil || strings.ContainsRune(out.Stderr, '\x1b') || !strings.Contains(out.Stderr, "no slots") {
			t.Errorf("%+v, %v", out, err)
		}
	})
	t.Run("not started", func(t *testing.T) {
		t.Parallel()
		out, err := job(t).Run(t.Context(), &fake{err: errors.New("no such file")})
		if err != nil || out.Launch == nil {
			t.Errorf("%+v, %v", out, err)
		}
	})
	t.Run("results kept of a killed run", func(t *testing.T) {
		t.Parallel()
		out, err := job(t).Run(t.Context(), &fake{play: "interrupted_term.before_cleanup", code: 143})
		if err != nil || out.Folder.Result == nil {
			t.Fatalf("%+v, %v", out, err)
		}
		if v, ok := out.Folder.Value("ior-easy-write"); !ok || v != 0.365434 {
			t.Errorf("finished phase %v %v", v, ok)
		}
		if _, ok := out.Folder.Value("mdtest-easy-write"); ok {
			t.Error("an unfinished phase has a value")
		}
	})
	for name, data := range map[string]string{"at sign": "/scratch/a@b", "blank": "/scratch/my data", "comment": "/scratch/a#b", "semicolon": "/scratch/a;b"} {
		j := job(t)
		j.Data = data
		f := &fake{}
		if _, err := j.Run(t.Context(), f); err == nil || f.words != nil {
			t.Errorf("%s: %v, started %v", name, err, f.words)
		}
	}
}

func TestSideFiles(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300_000)
	s, err := ReadSide("mdtest-hard-read.txt", strings.NewReader("mdtest-4.1.0 was launched with 16 total task(s) on 4 node(s)\n"+long+"\nERROR: verifying the data on read (724 errors)! Take the performance values with care!\nERROR: verifying the data on read (1 errors)!\n"))
	if err != nil || s.VerifyErrors != 725 || s.EvidenceLine != 3 || s.Tasks != 16 || s.Nodes != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ReadSide("ior-easy-read.txt", strings.NewReader("nodes               : 2\ntasks               : 32\nWARNING: Expected aggregate file size       = 20\nWARNING: Incorrect data on read (1 errors found)."))
	if err != nil || s.VerifyErrors != 1 || s.Nodes != 2 || s.Tasks != 32 || s.Warnings != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFifoInResultsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "ior-easy-read.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "not a plain file") {
		t.Errorf("error %v", err)
	}
}

func TestOfficialVersions(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"io500-sc25": true, "io500-isc24_v3": true, "io500-isc20_v4": true, "": false,
		"io500-isc26_v2-26-g02091cf254d8": false, "aramco-custom": false, "io500-sc21-24": false, "io500-scx": false, "io500-native": false,
	} {
		if got := official(v); got != want {
			t.Errorf("official(%q) = %v", v, got)
		}
	}
}

func FuzzSummary(f *testing.F) {
	seed(f, SummaryName)
	f.Add([]byte("[RESULT] BW   phase 1            ior_easy_write              836.649 GB/s : time 367.18 seconds\n[SCORE] Bandwidth 1e999 GB/s : IOPS NaN kiops : TOTAL -0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := ParseSummary("s", b)
		v := Judge(Folder{Summary: &s}, Expect{})
		if s.Score == nil && v.Status == "valid" {
			t.Error("a summary without a score is valid")
		}
	})
}

func FuzzResult(f *testing.F) {
	seed(f, ResultName)
	f.Fuzz(func(_ *testing.T, b []byte) {
		r := ParseResult("r", b)
		_ = ScoreHash(r)
		_ = Judge(Folder{Result: &r}, Expect{Procs: 2, Stonewall: 30})
	})
}

func FuzzINI(f *testing.F) {
	seed(f, ConfigName)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, _ := ParseINI("i", b)
		known := Values{}
		for name, value := range v {
			section, key, _ := strings.Cut(name, ".")
			if c, ok := canonical(section, key); ok && c == name {
				known[name] = value
			}
		}
		text, err := Render(known)
		if err != nil {
			return // values that io500 itself could not read
		}
		again, _ := ParseINI("i", text)
		if len(again) != len(known) {
			t.Errorf("%v became %v", known, again)
		}
		_ = FileHash(b)
	})
}

func FuzzSide(f *testing.F) {
	seed(f, "mdtest-hard-read.txt")
	seed(f, "ior-easy-read.txt")
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ReadSide("x", strings.NewReader(string(b))); err != nil {
			t.Error(err)
		}
	})
}

func seed(f *testing.F, name string) {
	f.Helper()
	list, err := filepath.Glob(filepath.Join("testdata", "*", name))
	if err != nil || len(list) == 0 {
		f.Fatalf("no seeds %s: %v", name, err)
	}
	for _, path := range list {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}
