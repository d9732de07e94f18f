package node

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// split is how the allocation's logical CPUs are shared on one node. Both are
// nil when nothing is set apart.
type split struct {
	engines []int
	load    []int
}

// parseCPUs reads a CPU list such as 0-2,6. The result is sorted and has no
// CPU twice.
func parseCPUs(list string) ([]int, error) {
	const most = 8192 // more CPUs than any node has
	set := map[int]bool{}
	for _, part := range strings.Split(list, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.ParseUint(lo, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(hi, 10, 16)
		}
		if err != nil || b < a || b >= most {
			return nil, fmt.Errorf("parse CPU list: %.40q is not a list like 0-2,6", list)
		}
		for i := a; i <= b; i++ {
			set[int(i)] = true
		}
	}
	out := make([]int, 0, len(set))
	for i := range most {
		if set[i] {
			out = append(out, i)
		}
	}
	return out, nil
}

// splitCPUs sets load apart from the CPUs this job may use. A number alone is
// a count and takes the last ones.
func splitCPUs(load string, allowed []int) (split, error) {
	if load == "" {
		return split{}, nil
	}
	if n, err := strconv.Atoi(load); err == nil {
		if n < 1 || n >= len(allowed) {
			return split{}, fmt.Errorf("set load CPUs apart: %d of the %d CPUs of the allocation leaves none for the engine; start with --cpus above --load-cpus", n, len(allowed))
		}
		cut := len(allowed) - n
		return split{engines: allowed[:cut], load: allowed[cut:]}, nil
	}
	want, err := parseCPUs(load)
	if err != nil {
		return split{}, fmt.Errorf("set load CPUs apart: %w", err)
	}
	has := map[int]bool{}
	for _, c := range allowed {
		has[c] = true
	}
	s := split{load: want}
	for _, c := range want {
		if !has[c] {
			return split{}, fmt.Errorf("set load CPUs apart: CPU %d is not in the allocation (%s); start with --load-cpus within it, or with a count", c, listCPUs(allowed))
		}
		delete(has, c)
	}
	for _, c := range allowed {
		if has[c] {
			s.engines = append(s.engines, c)
		}
	}
	if len(s.engines) == 0 {
		return split{}, fmt.Errorf("set load CPUs apart: %s leaves no CPU of the allocation (%s) for the engine", load, listCPUs(allowed))
	}
	return s, nil
}

// listCPUs writes CPUs as a list with ranges.
func listCPUs(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(cpus[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", cpus[i], cpus[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// allowedCPUs is what the job's cpuset leaves this process.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read CPU affinity: %w", err)
	}
	var out []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			out = append(out, i)
		}
	}
	return out, nil
}
