package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one line of /proc/PID/stat.
type process struct {
	pid, parent int
	state       byte   // Z is a zombie: it has ended
	start       uint64 // clock ticks since boot
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// parseStat reads /proc/PID/stat. The command's name in brackets may hold
// blanks and brackets, so fields count from the last one.
func parseStat(text []byte) (process, error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return process{}, fmt.Errorf("parse stat %q: no command name", text)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open])))
	if err != nil {
		return process{}, fmt.Errorf("parse stat: pid: %w", err)
	}
	f := strings.Fields(string(text[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return process{}, fmt.Errorf("parse stat of %d: %d fields after the name, want 20", pid, len(f))
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return process{}, fmt.Errorf("parse stat of %d: parent: %w", pid, err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("parse stat of %d: start time: %w", pid, err)
	}
	return process{pid: pid, parent: parent, state: f[0][0], start: start}, nil
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(text)
}

// processes lists all that /proc shows; those that end meanwhile are left out.
func processes() ([]process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var out []process
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		p, err := parseStat(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// members lists the live processes of a job, supervisor excluded: what descends
// from root (a subreaper, so orphans stay below it), and what carries the job's
// nonce in its environment, which finds them when the supervisor is gone.
func members(root int, nonce string) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	below := map[int]bool{}
	if root > 0 {
		below[root] = true
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if below[p.parent] && !below[p.pid] {
				below[p.pid], grew = true, true
			}
		}
	}
	self := os.Getpid()
	return slices.DeleteFunc(all, func(p process) bool {
		switch {
		case p.pid == self || p.pid == root || p.state == 'Z' || p.state == 'X':
			return true
		case below[p.pid]:
			return false
		}
		return !carries(p.pid, nonce)
	}), nil
}

// carries tells whether the process was started inside the job. Other users'
// environments cannot be read, and are none of ours.
func carries(pid int, nonce string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	want := []byte(nonceVar + "=" + nonce)
	for e := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(e, want) {
			return true
		}
	}
	return false
}

// alive tells whether the supervisor of a status still runs.
func (s statusFile) alive(boot string) bool {
	if s.BootID != boot || s.PID <= 0 {
		return false
	}
	p, err := readProcess(s.PID)
	return err == nil && p.start == s.StartTicks && p.state != 'Z' && p.state != 'X'
}

// signalAll signals processes just listed. One that is gone is no error.
func signalAll(list []process, sig syscall.Signal) error {
	var first error
	for _, p := range list {
		if err := syscall.Kill(p.pid, sig); err != nil && err != syscall.ESRCH && first == nil {
			first = fmt.Errorf("signal process %d: %w", p.pid, err)
		}
	}
	return first
}
