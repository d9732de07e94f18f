package probe

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// userHZ is the unit of processor times in /proc: the kernel reports 100 a
// second to user space on every Linux this program runs on.
const userHZ = 100

// CPU is the first line of /proc/stat in seconds by mode.
type CPU struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal float64
}

// modes lists the modes in the order of the kernel. Guest time is part of
// user and nice and would be counted twice.
func (c CPU) modes() []Mode {
	return []Mode{
		{"user", c.User},
		{"nice", c.Nice},
		{"system", c.System},
		{"idle", c.Idle},
		{"iowait", c.IOWait},
		{"irq", c.IRQ},
		{"softirq", c.SoftIRQ},
		{"steal", c.Steal},
	}
}

// Mode is a mode of the processor and the seconds spent in it.
type Mode struct {
	Name    string
	Seconds float64
}

// ParseStat reads the line "cpu" of /proc/stat.
func ParseStat(raw []byte) (CPU, error) {
	for i, line := range lines(raw) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "cpu" {
			continue
		}
		if len(f) < 5 {
			return CPU{}, fmt.Errorf("parse stat: line %d: %d fields", i+1, len(f))
		}
		var v [8]float64
		for k := range v {
			if k+1 >= len(f) {
				break // old kernels have fewer modes
			}
			n, err := strconv.ParseUint(f[k+1], 10, 64)
			if err != nil {
				return CPU{}, fmt.Errorf("parse stat: line %d: %q is not a count", i+1, f[k+1])
			}
			v[k] = float64(n) / userHZ
		}
		return CPU{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}, nil
	}
	return CPU{}, fmt.Errorf("parse stat: no line cpu")
}

// ParseLoad reads the three averages of /proc/loadavg.
func ParseLoad(raw []byte) (load [3]float64, err error) {
	f := strings.Fields(string(raw))
	if len(f) < 3 {
		return load, fmt.Errorf("parse loadavg: line 1: %d fields", len(f))
	}
	for i := range load {
		load[i], err = strconv.ParseFloat(f[i], 64)
		if err != nil || load[i] < 0 || load[i] > 1e9 || load[i] != load[i] {
			return load, fmt.Errorf("parse loadavg: line 1: %q is not a load", f[i])
		}
	}
	return load, nil
}

// Mem is what is read of /proc/meminfo, in bytes.
type Mem struct{ Total, Available uint64 }

// ParseMeminfo reads MemTotal and MemAvailable of /proc/meminfo.
func ParseMeminfo(raw []byte) (Mem, error) {
	var m Mem
	var found int
	for i, line := range lines(raw) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok || (name != "MemTotal" && name != "MemAvailable") {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return Mem{}, fmt.Errorf("parse meminfo: line %d: %q is not in kB", i+1, line)
		}
		kb, err := strconv.ParseUint(f[0], 10, 50)
		if err != nil {
			return Mem{}, fmt.Errorf("parse meminfo: line %d: %q is not a size", i+1, f[0])
		}
		if name == "MemTotal" {
			m.Total = kb * 1024
		} else {
			m.Available = kb * 1024
		}
		found++
	}
	if found < 2 {
		return Mem{}, fmt.Errorf("parse meminfo: MemTotal and MemAvailable are not both there")
	}
	return m, nil
}

// IO is two byte counters of a device.
type IO struct {
	Device  string
	In, Out uint64
}

// ParseNetDev reads /proc/net/dev: bytes received and sent by device, the
// loopback included.
func ParseNetDev(raw []byte) ([]IO, error) {
	var out []IO
	for i, line := range lines(raw) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue // the two head lines
		}
		f := strings.Fields(rest)
		if len(f) < 9 {
			return nil, fmt.Errorf("parse net dev: line %d: %d fields", i+1, len(f))
		}
		rx, err1 := strconv.ParseUint(f[0], 10, 64)
		tx, err2 := strconv.ParseUint(f[8], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("parse net dev: line %d: bytes are not counts", i+1)
		}
		out = append(out, IO{Device: strings.TrimSpace(name), In: rx, Out: tx})
	}
	return out, nil
}

// sectorSize is the unit of /proc/diskstats whatever the device's own is.
const sectorSize = 512

// ParseDiskstats reads /proc/diskstats: bytes read and written by device.
// Partitions are in the file too; whole decides which devices are kept.
func ParseDiskstats(raw []byte, whole func(device string) bool) ([]IO, error) {
	var out []IO
	for i, line := range lines(raw) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 10 {
			return nil, fmt.Errorf("parse diskstats: line %d: %d fields", i+1, len(f))
		}
		if !whole(f[2]) {
			continue
		}
		rd, err1 := strconv.ParseUint(f[5], 10, 54)
		wr, err2 := strconv.ParseUint(f[9], 10, 54)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("parse diskstats: line %d: sectors are not counts", i+1)
		}
		out = append(out, IO{Device: f[2], In: rd * sectorSize, Out: wr * sectorSize})
	}
	return out, nil
}

// PidStat is what is read of /proc/<pid>/stat.
type PidStat struct {
	PID, PPID, PGID int
	CPUSeconds      float64
	ResidentPages   uint64
}

// ParsePidStat reads /proc/<pid>/stat. The command may hold blanks and
// parentheses, so fields are counted after the last ")".
func ParsePidStat(raw []byte) (PidStat, error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 1 || end < open {
		return PidStat{}, fmt.Errorf("parse pid stat: line 1: no command")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw[:open])))
	if err != nil {
		return PidStat{}, fmt.Errorf("parse pid stat: line 1: %q is not a pid", raw[:open])
	}
	f := strings.Fields(string(raw[end+1:])) // f[0] is field 3 of proc(5)
	if len(f) < 22 {
		return PidStat{}, fmt.Errorf("parse pid stat: line 1: %d fields after the command", len(f))
	}
	s := PidStat{PID: pid}
	var errs [5]error
	s.PPID, errs[0] = strconv.Atoi(f[1])
	s.PGID, errs[1] = strconv.Atoi(f[2])
	utime, e2 := strconv.ParseUint(f[11], 10, 64)
	stime, e3 := strconv.ParseUint(f[12], 10, 64)
	errs[2], errs[3] = e2, e3
	rss, e4 := strconv.ParseInt(f[21], 10, 64)
	errs[4] = e4
	for _, e := range errs {
		if e != nil {
			return PidStat{}, fmt.Errorf("parse pid stat: line 1: %w", e)
		}
	}
	s.CPUSeconds = float64(utime)/userHZ + float64(stime)/userHZ
	s.ResidentPages = uint64(max(rss, 0))
	return s, nil
}

func lines(raw []byte) []string {
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}
