package probe

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	statText = "cpu  100 200 300 4000 50 6 7 8 90 10\ncpu0 1 2 3 4\nintr 5\n"
	loadText = "0.52 1.25 12.00 2/345 6789\n"
	memText  = "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   1024 kB\nHugePages_Total:       0\n"
	netText  = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n" +
		"    lo: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n" +
		"eth0.5:18446744073709551615 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"
	diskText = "   8       0 sda 5 0 100 1 6 0 200 2 0 3 3 0 0 0 0\n" +
		"   8       1 sda1 5 0 90 1 6 0 190 2 0 3 3\n" +
		"   7       0 loop0 5 0 1 1 6 0 2 2 0 3 3\n"
	pidText = "4242 (a (b) c) S 17 4240 4240 0 -1 4194304 100 0 0 0 150 50 9 9 20 0 1 0 12345 1000000 2560 18446744073709551615 1 1\n"
)

func TestParsersOfProc(t *testing.T) {
	t.Parallel()
	cpu, err := ParseStat([]byte(statText))
	// 100 ticks a second: 100 ticks are 1 s. Guest (90, 10) is in user and nice.
	if want := (CPU{1, 2, 3, 40, 0.5, 0.06, 0.07, 0.08}); err != nil || cpu != want {
		t.Errorf("ParseStat: %v, %v, want %v", cpu, err, want)
	}
	load, err := ParseLoad([]byte(loadText))
	if want := [3]float64{0.52, 1.25, 12}; err != nil || load != want {
		t.Errorf("ParseLoad: %v, %v, want %v", load, err, want)
	}
	mem, err := ParseMeminfo([]byte(memText))
	if want := (Mem{Total: 25282318336, Available: 1048576}); err != nil || mem != want {
		t.Errorf("ParseMeminfo: %v, %v, want %v", mem, err, want)
	}
	nets, err := ParseNetDev([]byte(netText))
	if d := cmp.Diff([]IO{{"lo", 1000, 2000}, {"eth0.5", math.MaxUint64, 7}}, nets); err != nil || d != "" {
		t.Errorf("ParseNetDev: %v %s", err, d)
	}
	disks, err := ParseDiskstats([]byte(diskText), func(dev string) bool { return dev == "sda" })
	if d := cmp.Diff([]IO{{"sda", 51200, 102400}}, disks); err != nil || d != "" {
		t.Errorf("ParseDiskstats: %v %s", err, d)
	}
	pid, err := ParsePidStat([]byte(pidText))
	if want := (PidStat{PID: 4242, PPID: 17, PGID: 4240, CPUSeconds: 2, ResidentPages: 2560}); err != nil || pid != want {
		t.Errorf("ParsePidStat: %+v, %v, want %+v", pid, err, want)
	}
}

func TestParsersOfProcRefuse(t *testing.T) {
	t.Parallel()
	bad := map[string]func() error{
		"no cpu":        func() error { _, err := ParseStat([]byte("intr 1\n")); return err },
		"short cpu":     func() error { _, err := ParseStat([]byte("cpu 1 2\n")); return err },
		"negative tick": func() error { _, err := ParseStat([]byte("cpu 1 -2 3 4 5\n")); return err },
		"NaN load":      func() error { _, err := ParseLoad([]byte("NaN 0 0")); return err },
		"one load":      func() error { _, err := ParseLoad([]byte("1")); return err },
		"mem in MB":     func() error { _, err := ParseMeminfo([]byte("MemTotal: 1 MB\nMemAvailable: 1 kB\n")); return err },
		"no available":  func() error { _, err := ParseMeminfo([]byte("MemTotal: 1 kB\n")); return err },
		"net words":     func() error { _, err := ParseNetDev([]byte("lo: a 0 0 0 0 0 0 0 1\n")); return err },
		"short disk":    func() error { _, err := ParseDiskstats([]byte("8 0 sda 1"), nil); return err },
		"no command":    func() error { _, err := ParsePidStat([]byte("1 S 2")); return err },
		"cgroup":        func() error { _, err := ParseCgroup([]byte("0:nonsense")); return err },
		"count":         func() error { _, _, err := ParseCount([]byte("many")); return err },
		"cpu.stat":      func() error { _, err := ParseCPUStat([]byte("user_usec 1\n")); return err },
		"llite":         func() error { _, err := ParseLlite([]byte("open x samples [usec]\n")); return err },
	}
	for name, f := range bad {
		if f() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestParseCgroup(t *testing.T) {
	t.Parallel()
	got, err := ParseCgroup([]byte("9:name=systemd:/x\n4:memory:/slurm/uid_1/job_2\n2:cpu,cpuacct:/slurm/a:b\n0::/slurm/v2\n"))
	want := Cgroup{V2: "/slurm/v2", V1: map[string]string{"memory": "/slurm/uid_1/job_2", "cpu": "/slurm/a:b", "cpuacct": "/slurm/a:b"}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for text, want := range map[string]struct {
		n  uint64
		ok bool
	}{
		"12\n": {12, true}, "max\n": {0, false}, "9223372036854771712\n": {0, false},
	} {
		n, ok, err := ParseCount([]byte(text))
		if err != nil || n != want.n || ok != want.ok {
			t.Errorf("ParseCount(%q) = %d, %v, %v", text, n, ok, err)
		}
	}
	if v, err := ParseCPUStat([]byte("usage_usec 2500000\nuser_usec 1\n")); err != nil || v != 2.5 {
		t.Errorf("ParseCPUStat: %v, %v", v, err)
	}
}

const lliteText = `snapshot_time             1620000000.123456789 secs.nsecs
read_bytes                1000 samples [bytes] 4096 1048576 1048576000
write_bytes               89467810 samples [bytes] 4096 1048576 93813797294080
open                      7 samples [usecs] 1 90 300 20000
statfs                    2 samples [regs]
`

func TestParseLlite(t *testing.T) {
	t.Parallel()
	got, err := ParseLlite([]byte(lliteText))
	want := Llite{ReadBytes: 1048576000, WriteBytes: 93813797294080, Ops: []Op{{"read_bytes", 1000}, {"write_bytes", 89467810}, {"open", 7}, {"statfs", 2}}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	if n := lliteName("scratch-2-ffff8a1b2c3d4e00"); n != "scratch-2" {
		t.Errorf("name %q", n)
	}
}

// machine writes a root with the files of a machine.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func fullMachine() map[string]string {
	return map[string]string{
		"proc/stat": statText, "proc/loadavg": loadText, "proc/meminfo": memText, "proc/net/dev": netText,
		"proc/diskstats": diskText, "sys/block/sda/size": "1", "sys/block/loop0/size": "1",
		"proc/self/cgroup": "0::/job_7/step\n", "sys/fs/cgroup/job_7/step/memory.current": "4096\n",
		"sys/fs/cgroup/job_7/step/memory.max": "max\n", "sys/fs/cgroup/job_7/step/cpu.stat": "usage_usec 3000000\n",
		"proc/4242/stat": pidText,
		"proc/4243/stat": "4243 (x) S 1 4240 1 0 -1 0 0 0 0 0 50 0 0 0 20 0 1 0 1 1 40 1\n",
		"proc/fs/lustre/llite/work-ffff8a1b/stats": lliteText,
	}
}

func TestCollectOfAFakeMachine(t *testing.T) {
	t.Parallel()
	c := Collector{Root: machine(t, fullMachine()), Groups: func() map[string]int { return map[string]int{"vllm": 4240, "gone": 99} }}
	s := c.Collect(t.Context())
	page := float64(os.Getpagesize())
	want := map[string]float64{
		`aifbench_node_cpu_seconds_total{mode="idle"}`:            40,
		`aifbench_node_load15`:                                    12,
		`aifbench_node_memory_total_bytes`:                        25282318336,
		`aifbench_node_network_transmit_bytes_total{device="lo"}`: 2000,
		`aifbench_node_disk_written_bytes_total{device="sda"}`:    102400,
		`aifbench_job_memory_used_bytes`:                          4096,
		`aifbench_job_cpu_seconds_total`:                          3,
		`aifbench_process_cpu_seconds_total{proc="vllm"}`:         2.5,
		`aifbench_process_resident_memory_bytes{proc="vllm"}`:     2600 * page,
		`aifbench_lustre_written_bytes_total{fs="work"}`:          93813797294080,
		`aifbench_lustre_operations_total{fs="work",op="open"}`:   7,
	}
	for k, v := range want {
		if got, ok := s.Get(k); !ok || got != v {
			t.Errorf("%s = %v, %v, want %v", k, got, ok, v)
		}
	}
	for _, k := range []string{
		"aifbench_job_memory_limit_bytes", `aifbench_node_disk_read_bytes_total{device="sda1"}`, `aifbench_node_disk_read_bytes_total{device="loop0"}`,
		`aifbench_process_cpu_seconds_total{proc="gone"}`,
	} {
		if v, ok := s.Get(k); ok {
			t.Errorf("%s = %v, want it absent", k, v)
		}
	}
	if d := cmp.Diff([]Missing{{"process group gone", "no process is left"}}, s.Missing); d != "" {
		t.Error(d)
	}
}

func TestCollectOfAnEmptyMachineSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := Collector{Root: t.TempDir()}
	s := c.Collect(t.Context())
	if len(s.Values) != 0 {
		t.Errorf("values from nowhere: %v", s.Values)
	}
	var what []string
	for _, m := range s.Missing {
		what = append(what, m.What)
	}
	if d := cmp.Diff([]string{"cpu", "load", "memory", "network", "disk", "cgroup"}, what); d != "" {
		t.Error(d)
	}
}

// The kernel's own answer to sysinfo(2) is the oracle for meminfo.
func TestCollectAgreesWithTheKernel(t *testing.T) {
	t.Parallel()
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	c := Collector{}
	s := c.Collect(t.Context())
	got, ok := s.Get("aifbench_node_memory_total_bytes")
	if want := float64(info.Totalram) * float64(info.Unit); !ok || math.Abs(got-want) > 4096 {
		t.Errorf("memory %v, the kernel says %v", got, want)
	}
}

func FuzzParsers(f *testing.F) {
	for _, s := range []string{statText, loadText, memText, netText, diskText, pidText, lliteText, "0::/a\n", "max", "usage_usec 1\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := ParseStat(raw); err == nil && !(c.User >= 0 && c.Idle >= 0) {
			t.Errorf("negative time %v", c)
		}
		if l, err := ParseLoad(raw); err == nil && !(l[0] >= 0) {
			t.Errorf("load %v", l)
		}
		_, _ = ParseMeminfo(raw)
		_, _ = ParseNetDev(raw)
		_, _ = ParseDiskstats(raw, func(string) bool { return true })
		if p, err := ParsePidStat(raw); err == nil && !(p.CPUSeconds >= 0) {
			t.Errorf("negative time %v", p)
		}
		_, _ = ParseCgroup(raw)
		_, _, _ = ParseCount(raw)
		_, _ = ParseCPUStat(raw)
		_, _ = ParseLlite(raw)
	})
}
