package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// simple is a layout of files named data-* in directories named tree*.
func simple(rel string, dir bool) bool {
	base := rel[strings.LastIndexByte(rel, '/')+1:]
	if dir {
		return strings.HasPrefix(base, "tree")
	}
	return strings.HasPrefix(base, "data-")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveTakesOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "data-victim"), "precious")
	d, err := Open(filepath.Join(base, "new"), "", "run-1", simple)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Path()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("work directory %v, %v", info, err)
	}
	p := d.Path()
	for _, dir := range []string{"tree1", "tree1/tree2", "tree3", "private"} {
		if err := os.Mkdir(filepath.Join(p, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"data-1", "tree1/data-2", "tree1/tree2/data-3", "tree3/data-4", "tree3/letter.txt", "private/data-5"} {
		write(t, filepath.Join(p, file), "x")
	}
	for i := range 10_000 {
		write(t, filepath.Join(p, "tree1", "data-many"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/182)), "")
	}
	if err := errors.Join(
		os.Symlink(filepath.Join(outside, "data-victim"), filepath.Join(p, "data-link")),
		os.Symlink(outside, filepath.Join(p, "tree-link")),
		unix.Mkfifo(filepath.Join(p, "data-fifo"), 0o600),
		os.Link(filepath.Join(outside, "data-victim"), filepath.Join(p, "data-hardlink")),
	); err != nil {
		t.Fatal(err)
	}
	rep, err := d.Remove(simple)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(rep.Left)
	want := []string{
		"data-fifo (not a plain file)", "data-link (not a plain file)", "private (not made by the benchmark)",
		"tree-link (not a plain file)", "tree3/letter.txt (not made by the benchmark)",
	}
	if !slices.Equal(rep.Left, want) || rep.LeftCount != 5 {
		t.Errorf("left %q (%d)", rep.Left, rep.LeftCount)
	}
	if text, err := os.ReadFile(filepath.Join(outside, "data-victim")); err != nil || string(text) != "precious" {
		t.Errorf("victim %q, %v", text, err)
	}
	for name, there := range map[string]bool{
		"tree1": false, "data-1": false, "data-hardlink": false, "tree3/data-4": false,
		"tree3/letter.txt": true, "private/data-5": true, MarkerName: true, "../" + MarkerName: true,
	} {
		if _, err := os.Lstat(filepath.Join(p, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLeftoverOfTheSameRunIsTakenUp(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	if err := Prepare(base, "n0nce", "service-run"); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(base, "n0nce", "service-run"); err != nil {
		t.Errorf("not repeatable: %v", err)
	}
	d, err := Open(base, "n0nce", "run-1", simple)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.Path(), "data-1"), "x")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// The job was requeued: the same run comes again.
	d, err = Open(base, "n0nce", "run-1", simple)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(d.Path(), "data-1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old data: %v", err)
	}
	write(t, filepath.Join(d.Path(), "letter"), "x")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(base, "n0nce", "run-1", simple); !errors.Is(err, ErrForeign) {
		t.Errorf("with a foreign file in the leftover: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(d.Path(), "letter")); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"other run's marker": func(t *testing.T, dir string) {
			if err := Prepare(dir, "other", "other-run"); err != nil {
				t.Fatal(err)
			}
		},
		"not empty":      func(t *testing.T, dir string) { write(t, filepath.Join(dir, "x"), "") },
		"marker is junk": func(t *testing.T, dir string) { write(t, filepath.Join(dir, MarkerName), "{}") },
		"marker is a link": func(t *testing.T, dir string) {
			good := filepath.Join(t.TempDir(), "m")
			write(t, good, `{"schema_version":1,"nonce":"n","run":"r"}`)
			if err := os.Symlink(good, filepath.Join(dir, MarkerName)); err != nil {
				t.Fatal(err)
			}
		},
		"marker is a fifo": func(t *testing.T, dir string) {
			if err := unix.Mkfifo(filepath.Join(dir, MarkerName), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"work directory is a link": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, MarkerName), `{"schema_version":1,"nonce":"n","run":"r"}`)
			if err := os.Symlink(t.TempDir(), filepath.Join(dir, "aifbench-run-1")); err != nil {
				t.Fatal(err)
			}
		},
		"work directory of somebody": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, MarkerName), `{"schema_version":1,"nonce":"n","run":"r"}`)
			if err := os.Mkdir(filepath.Join(dir, "aifbench-run-1"), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir := t.TempDir()
		prepare(t, dir)
		before, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Open(dir, "n", "run-1", simple); err == nil {
			t.Errorf("%s: opened %s", name, d.Path())
		}
		after, err := os.ReadDir(dir)
		if err != nil || len(after) != len(before) {
			t.Errorf("%s: the directory changed to %v, %v", name, after, err)
		}
	}
	for _, run := range []string{"", "../x", "a/b", ".hidden", "a\x00b"} {
		if _, err := Open(t.TempDir(), "", run, simple); err == nil {
			t.Errorf("run id %q was taken", run)
		}
	}
	if _, err := Open("/proc/aifbench-test", "", "run-1", simple); err == nil {
		t.Error("a directory that cannot be made was opened")
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	if _, err := Open(file, "", "run-1", simple); err == nil {
		t.Error("a file was opened as a directory")
	}
}

func FuzzDecodeMarker(f *testing.F) {
	f.Add([]byte(`{"schema_version":1,"nonce":"n","run":"r"}`))
	f.Add([]byte(`{"schema_version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeMarker(b); err == nil && m.Nonce == "" {
			t.Error("a marker without a nonce passes")
		}
	})
}
