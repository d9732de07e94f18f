package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	for _, orphans := range []bool{true, false} {
		t.Run(fmt.Sprintf("orphans %t", orphans), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			ref := b.submit("", stubborn+"echo \"main $$\"\nwhile :; do sleep 0.1; done")
			pids := []int{b.pid("deaf"), b.pid("apart"), b.pid("twice"), b.pid("main")}
			super := b.supervisor(ref)
			if err := syscall.Kill(super, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.dead(super)
			if !orphans {
				for _, pid := range pids {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					b.dead(pid)
				}
				o := b.ended(ref) // helpers like sleep 0.1 end by themselves
				if got := verdict(o); got != "NODE_FAIL lost -" || o.Succeeded() {
					t.Errorf("%s", got)
				}
				return
			}
			o, warns := b.look(ref)
			if o.Ended || o.Presence != slurm.Present || len(warns) != 1 || warns[0].Rule != "supervisor_gone" {
				t.Errorf("with orphans: %+v, %v", o, warns)
			}
			if err := b.Cancel(t.Context(), []string{ref.JobID}); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				if lives(pid) {
					t.Errorf("process %d outlives the cancel", pid)
				}
			}
			if o, _ := b.look(ref); !o.Ended || o.Cause != slurm.CauseCancelled || o.Succeeded() {
				t.Errorf("after cancel: %+v", o)
			}
		})
	}
}

// TestIdentity: what looks like the job and is not.
func TestIdentity(t *testing.T) {
	t.Parallel()
	fixed := func(t *testing.T, change func(*bench, slurm.Ref)) (slurm.Observation, []slurm.Warning) {
		b := newBench(t)
		ref := b.submit("", "echo \"main $$\"; sleep 300")
		main, super := b.pid("main"), b.supervisor(ref)
		t.Cleanup(func() {
			_ = syscall.Kill(super, syscall.SIGKILL)
			_ = syscall.Kill(-main, syscall.SIGKILL)
		})
		change(b, ref)
		return b.look(ref)
	}
	t.Run("the machine was restarted", func(t *testing.T) {
		t.Parallel()
		o, _ := fixed(t, func(b *bench, ref slurm.Ref) {
			b.setField(ref, "job.json", "boot_id", "another")
			b.setField(ref, "status.json", "boot_id", "another")
		})
		if got := verdict(o); got != "NODE_FAIL node_failure -" || !o.Ended {
			t.Errorf("%s, ended %t", got, o.Ended)
		}
	})
	t.Run("the pid is another process now", func(t *testing.T) {
		t.Parallel()
		o, warns := fixed(t, func(b *bench, ref slurm.Ref) { b.setField(ref, "status.json", "start_ticks", 1) })
		if o.Ended || len(warns) != 1 || warns[0].Rule != "supervisor_gone" {
			t.Errorf("%+v, %v", o, warns)
		}
	})
	t.Run("another host", func(t *testing.T) {
		t.Parallel()
		o, warns := fixed(t, func(b *bench, ref slurm.Ref) { b.setField(ref, "job.json", "host", "elsewhere") })
		if o.Presence != slurm.Unknown || o.Ended || len(warns) != 1 || warns[0].Rule != "other_host" {
			t.Errorf("%+v, %v", o, warns)
		}
	})
	t.Run("another name", func(t *testing.T) {
		t.Parallel()
		o, _ := fixed(t, func(b *bench, ref slurm.Ref) { b.setField(ref, "job.json", "name", "other") })
		if !o.Ended || o.Cause != slurm.CauseIDReused {
			t.Errorf("%+v", o)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		o, _ := b.look(slurm.Ref{Name: "job-a", JobID: "5"})
		if !o.Ended || o.Cause != slurm.CauseLost {
			t.Errorf("%+v", o)
		}
	})
	t.Run("broken files", func(t *testing.T) {
		t.Parallel()
		for _, file := range []string{"job.json", "status.json", "end.json"} {
			o, warns := fixed(t, func(b *bench, ref slurm.Ref) {
				if err := os.WriteFile(filepath.Join(b.root, ref.JobID, file), []byte("{\"sch"), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			if o.Presence != slurm.Unknown || o.Ended || len(warns) != 1 {
				t.Errorf("%s: %+v, %v", file, o, warns)
			}
		}
	})
}

func TestSecondSupervisor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ref := b.submit("", "echo \"main $$\"; sleep 300")
	b.pid("main")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := proc.Exec{}.Run(t.Context(), proc.Cmd{Name: exe, Args: []string{"runjob", filepath.Join(b.root, ref.JobID)}, Env: []string{"PATH=/usr/bin:/bin"}})
	if err != nil || out.Code != 1 || !strings.Contains(string(out.Stderr), "file exists") {
		t.Errorf("exit %d, %q, %v", out.Code, out.Stderr, err)
	}
	if o, _ := b.look(ref); o.State != slurm.Running {
		t.Errorf("%+v", o)
	}
	if err := b.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	b.ended(ref)
}
