package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Runner runs nvidia-smi with args. found is false when there is no such
// command on this node; err is for a command that could not be run to its end.
type Runner func(ctx context.Context, args []string) (stdout, stderr []byte, code int, found bool, err error)

// Groups returns the process groups of the run by name, at this moment.
type Groups func() map[string]int

// Collector reads the machine. Its zero value reads /proc and /sys and looks
// for no GPU. It is used by one goroutine.
type Collector struct {
	// Root stands before /proc and /sys; "" is the machine itself.
	Root string
	// SMI runs nvidia-smi; nil means that no GPU is looked for.
	SMI Runner
	// Groups names the process groups to account; nil means none.
	Groups Groups
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time

	fields []string
	noGPU  error     // final: there is no command
	gpuErr error     // the last failure
	again  time.Time // nothing is asked before
}

// smiRetry is how long a failing nvidia-smi is left alone: it can take
// seconds to fail and holds locks of the driver meanwhile.
const smiRetry = 30 * time.Second

// Collect reads everything once. It never fails as a whole: what could not be
// read is in Missing.
func (c *Collector) Collect(ctx context.Context) Sample {
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	s := Sample{T: now()}
	c.node(&s)
	c.job(&s)
	c.groups(&s)
	c.lustre(&s)
	c.gpus(ctx, &s)
	s.normalise()
	return s
}

func (c *Collector) read(elem ...string) ([]byte, error) {
	raw, err := os.ReadFile(c.path(elem...))
	if err != nil {
		return nil, fmt.Errorf("read machine: %w", err)
	}
	return raw, nil
}

func (c *Collector) path(elem ...string) string {
	return filepath.Join(append([]string{"/", c.Root}, elem...)...)
}

func (c *Collector) node(s *Sample) {
	if raw, err := c.read("proc", "stat"); err != nil {
		s.miss("cpu", err)
	} else if cpu, err := ParseStat(raw); err != nil {
		s.miss("cpu", err)
	} else {
		for _, m := range cpu.modes() {
			s.put(nodeCPU, m.Seconds, Label{"mode", m.Name})
		}
	}
	if raw, err := c.read("proc", "loadavg"); err != nil {
		s.miss("load", err)
	} else if load, err := ParseLoad(raw); err != nil {
		s.miss("load", err)
	} else {
		s.put(nodeLoad1, load[0])
		s.put(nodeLoad5, load[1])
		s.put(nodeLoad15, load[2])
	}
	if raw, err := c.read("proc", "meminfo"); err != nil {
		s.miss("memory", err)
	} else if m, err := ParseMeminfo(raw); err != nil {
		s.miss("memory", err)
	} else {
		s.put(nodeMemTotal, float64(m.Total))
		s.put(nodeMemAvail, float64(m.Available))
	}
	if raw, err := c.read("proc", "net", "dev"); err != nil {
		s.miss("network", err)
	} else if devs, err := ParseNetDev(raw); err != nil {
		s.miss("network", err)
	} else {
		for _, d := range devs {
			s.put(nodeNetRx, float64(d.In), Label{"device", d.Device})
			s.put(nodeNetTx, float64(d.Out), Label{"device", d.Device})
		}
	}
	if raw, err := c.read("proc", "diskstats"); err != nil {
		s.miss("disk", err)
	} else if devs, err := ParseDiskstats(raw, c.wholeDisk); err != nil {
		s.miss("disk", err)
	} else {
		for _, d := range devs {
			s.put(nodeDiskRead, float64(d.In), Label{"device", d.Device})
			s.put(nodeDiskWrite, float64(d.Out), Label{"device", d.Device})
		}
	}
}

// wholeDisk tells a device from its partitions and from loop and RAM disks,
// whose bytes are counted on the device below.
func (c *Collector) wholeDisk(dev string) bool {
	for _, p := range []string{"loop", "ram", "zram"} {
		if len(dev) > len(p) && dev[:len(p)] == p && dev[len(p)] >= '0' && dev[len(p)] <= '9' {
			return false
		}
	}
	_, err := os.Stat(c.path("sys", "block", filepath.Base(dev)))
	return err == nil
}

func (c *Collector) job(s *Sample) {
	raw, err := c.read("proc", "self", "cgroup")
	if err != nil {
		s.miss("cgroup", err)
		return
	}
	cg, err := ParseCgroup(raw)
	if err != nil {
		s.miss("cgroup", err)
		return
	}
	const base = "sys/fs/cgroup"
	usage, limit := c.path(base, cg.V2, "memory.current"), c.path(base, cg.V2, "memory.max")
	cpu, v1cpu := c.path(base, cg.V2, "cpu.stat"), false
	if p, ok := cg.V1["memory"]; ok {
		usage, limit = c.path(base, "memory", p, "memory.usage_in_bytes"), c.path(base, "memory", p, "memory.limit_in_bytes")
	}
	if p, ok := cg.V1["cpuacct"]; ok {
		v1cpu = true
		cpu = c.path(base, "cpuacct", p, "cpuacct.usage")
	}
	count := func(what, file, name string, scale float64) {
		raw, err := os.ReadFile(file)
		if err != nil {
			s.miss(what, fmt.Errorf("read machine: %w", err))
			return
		}
		n, ok, err := ParseCount(raw)
		switch {
		case err != nil:
			s.miss(what, err)
		case ok:
			s.put(name, float64(n)/scale)
		}
	}
	count("cgroup memory", usage, jobMem, 1)
	count("cgroup memory limit", limit, jobMemLimit, 1)
	if v1cpu {
		count("cgroup cpu", cpu, jobCPU, 1e9)
		return
	}
	if raw, err := os.ReadFile(cpu); err != nil {
		s.miss("cgroup cpu", fmt.Errorf("read machine: %w", err))
	} else if v, err := ParseCPUStat(raw); err != nil {
		s.miss("cgroup cpu", err)
	} else {
		s.put(jobCPU, v)
	}
}

func (c *Collector) groups(s *Sample) {
	if c.Groups == nil {
		return
	}
	groups := c.Groups()
	if len(groups) == 0 {
		return
	}
	byGroup := map[int]string{}
	for name, pgid := range groups {
		byGroup[pgid] = name
	}
	entries, err := os.ReadDir(c.path("proc"))
	if err != nil {
		s.miss("processes", fmt.Errorf("read machine: %w", err))
		return
	}
	cpu, rss := map[string]float64{}, map[string]float64{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		raw, err := c.read("proc", e.Name(), "stat")
		if err != nil {
			continue // it ended while we looked
		}
		st, err := ParsePidStat(raw)
		if err != nil {
			s.miss("process "+e.Name(), err)
			continue
		}
		if name, ok := byGroup[st.PGID]; ok {
			cpu[name] += st.CPUSeconds
			rss[name] += float64(st.ResidentPages) * float64(os.Getpagesize())
		}
	}
	for name := range groups {
		if _, ok := rss[name]; !ok {
			s.miss("process group "+name, errors.New("no process is left"))
			continue
		}
		s.put(procCPU, cpu[name], Label{"proc", name})
		s.put(procRSS, rss[name], Label{"proc", name})
	}
}

func (c *Collector) lustre(s *Sample) {
	for _, base := range []string{"proc/fs/lustre/llite", "sys/kernel/debug/lustre/llite"} {
		entries, err := os.ReadDir(c.path(base))
		if err != nil {
			continue // no Lustre, or not ours to read: the common case
		}
		for _, e := range entries {
			fs := lliteName(e.Name())
			raw, err := c.read(base, e.Name(), "stats")
			if err != nil {
				if !errors.Is(err, os.ErrNotExist) {
					s.miss("lustre "+fs, err)
				}
				continue
			}
			l, err := ParseLlite(raw)
			if err != nil {
				s.miss("lustre "+fs, err)
				continue
			}
			s.put(lustreRead, float64(l.ReadBytes), Label{"fs", fs})
			s.put(lustreWrite, float64(l.WriteBytes), Label{"fs", fs})
			for _, op := range l.Ops {
				s.put(lustreOps, float64(op.N), Label{"fs", fs}, Label{"op", op.Kind})
			}
		}
	}
}

func (c *Collector) gpus(ctx context.Context, s *Sample) {
	if c.SMI == nil {
		return
	}
	if c.noGPU != nil {
		s.miss("gpu", c.noGPU)
		return
	}
	if c.gpuErr != nil && s.T.Before(c.again) {
		s.miss("gpu", c.gpuErr)
		return
	}
	if c.fields == nil {
		c.fields = smiFields
	}
	stdout, stderr, code, found, err := c.SMI(ctx, SMIArgs(c.fields))
	if found && err == nil && code == 2 && len(c.fields) == len(smiFields) {
		c.fields = smiFieldsOld
		stdout, stderr, code, found, err = c.SMI(ctx, SMIArgs(c.fields))
	}
	if !found {
		c.noGPU = errNoSMI
		s.miss("gpu", c.noGPU)
		return
	}
	if err != nil {
		c.fail(s, fmt.Errorf("run nvidia-smi: %w", err))
		return
	}
	gpus, problems := ParseSMI(stdout, c.fields)
	if len(gpus) == 0 {
		if code == 0 && len(problems) == 0 {
			c.fail(s, errors.New("nvidia-smi lists no GPU"))
			return
		}
		c.fail(s, smiFailure(code, stdout, stderr))
		return
	}
	c.gpuErr = nil
	for _, p := range problems {
		s.miss("gpu row", p)
	}
	for _, g := range gpus {
		id := []Label{{"gpu", g.Index}, {"uuid", g.UUID}}
		s.put(gpuPresent, 1, id...)
		for _, r := range []struct {
			name, what string
			r          Reading
		}{
			{gpuUtil, "utilization", g.UtilRatio},
			{gpuMemUsed, "memory used", g.MemUsed},
			{gpuMemTotal, "memory total", g.MemTotal},
			{gpuTemp, "temperature", g.Temperature},
			{gpuPower, "power", g.Power},
		} {
			if r.r.Reason != "" {
				s.miss("gpu"+g.Index+" "+r.what, errors.New(r.r.Reason))
				continue
			}
			s.put(r.name, r.r.V, id...)
		}
	}
}

func (c *Collector) fail(s *Sample, err error) {
	c.gpuErr, c.again = err, s.T.Add(smiRetry)
	s.miss("gpu", err)
}
