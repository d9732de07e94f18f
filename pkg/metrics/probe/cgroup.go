package probe

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// Cgroup says where the control group files of a process are.
type Cgroup struct {
	V2 string // path below the unified mount, "" when there is none
	// V1 is the path below the mount of a controller, by controller.
	V1 map[string]string
}

// ParseCgroup reads /proc/<pid>/cgroup. A line "0::/path" is version 2; on
// hybrid machines the controllers stay in version 1.
func ParseCgroup(raw []byte) (Cgroup, error) {
	c := Cgroup{V1: map[string]string{}}
	for i, line := range lines(raw) {
		if line == "" {
			continue
		}
		part := strings.SplitN(line, ":", 3)
		if len(part) != 3 || !strings.HasPrefix(part[2], "/") {
			return Cgroup{}, fmt.Errorf("parse cgroup: line %d: %q is not id:controllers:path", i+1, line)
		}
		path := filepath.Clean(part[2])
		if part[0] == "0" && part[1] == "" {
			c.V2 = path
			continue
		}
		for _, ctl := range strings.Split(part[1], ",") {
			if ctl != "" && !strings.HasPrefix(ctl, "name=") {
				c.V1[ctl] = path
			}
		}
	}
	return c, nil
}

// ParseCount reads a file with one number. "max" is the absence of a limit
// and gives ok false.
func ParseCount(raw []byte) (n uint64, ok bool, err error) {
	s := strings.TrimSpace(string(raw))
	if s == "max" {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("parse count: line 1: %q is not a count", s)
	}
	// Version 1 writes the largest page-aligned number for "no limit".
	if n >= math.MaxInt64/2 {
		return 0, false, nil
	}
	return n, true, nil
}

// ParseCPUStat reads usage_usec of a version 2 cpu.stat, in seconds.
func ParseCPUStat(raw []byte) (float64, error) {
	for i, line := range lines(raw) {
		v, ok := strings.CutPrefix(line, "usage_usec ")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse cpu.stat: line %d: %q is not a count", i+1, v)
		}
		return float64(n) / 1e6, nil
	}
	return 0, errors.New("parse cpu.stat: no usage_usec")
}
