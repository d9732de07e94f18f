package fs_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// mountTmpfs gives a directory of its own size; only root can.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("SKIP-ROOT: a full device needs a small tmpfs, which only root can mount")
	}
	if err := unix.Mount("aifbench-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("SKIP-ROOT: root here may not mount")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestFullDevice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, options, phase, cause string }{
		// 15 MiB of ior-easy do not fit into 8.
		{"first data", "size=8m", phases.EasyWrite, "no space left on device"},
		// 15 MiB of ior-easy fit into 20, 9 more of ior-hard do not.
		{"second data", "size=20m", phases.HardWrite, "no space left on device"},
		// Some 20 inodes for 110 files.
		{"inodes", "nr_inodes=20", phases.MDEasyWrite, "no space left on device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, c.options)
			res, err := fs.Run(t.Context(), tiny(dir), environ(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Status != result.Failed {
				t.Fatalf("verdict %+v", res.Verdict)
			}
			said := ""
			for _, r := range res.Verdict.Reasons {
				if r.Rule == "phase_failed" {
					said = r.Message + ": " + r.Evidence
				}
			}
			if !strings.Contains(said, c.phase) || !strings.Contains(said, c.cause) {
				t.Errorf("reason %q names not %s and %s", said, c.phase, c.cause)
			}
			for _, p := range res.Curve[0].Phases {
				if p.Name == c.phase {
					break
				}
				if p.Status != phases.Done || p.Ops == 0 {
					t.Errorf("finished phase %s is %+v", p.Name, p)
				}
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A mount inside the work directory is another device: it must not be entered.
func TestOtherDeviceIsNotEntered(t *testing.T) {
	t.Parallel()
	other := mountTmpfs(t, "size=1m")
	victim := other + "/file.mdtest.0.0"
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, env := t.TempDir(), environ(t)
	work := dir + "/aifbench-" + env.Run
	inner := work + "/mdtest-hard/test-dir.0-0/mdtest_tree.5"
	env.Progress = func(p load.Progress) {
		if p.Phase != phases.RndRead {
			return
		}
		if err := os.Mkdir(inner, 0o700); err != nil {
			return // told before
		}
		if err := unix.Mount(other, inner, "", unix.MS_BIND, ""); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(inner, unix.MNT_DETACH) })
	res, err := fs.Run(t.Context(), tiny(dir), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the other device's file: %q, %v", text, err)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Message, "another device") {
		t.Errorf("warnings %+v", res.Warnings)
	}
}
