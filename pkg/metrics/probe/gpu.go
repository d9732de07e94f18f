package probe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// smiFields is what nvidia-smi is asked for, in order.
var smiFields = []string{
	"index", "uuid", "name", "utilization.gpu", "memory.used", "memory.total",
	"temperature.gpu", "power.draw", "mig.mode.current",
}

// smiFieldsOld leaves out what drivers before MIG refuse to answer.
var smiFieldsOld = smiFields[:len(smiFields)-1]

// SMIArgs are the arguments of nvidia-smi for fields.
func SMIArgs(fields []string) []string {
	return []string{"--query-gpu=" + strings.Join(fields, ","), "--format=csv,noheader,nounits"}
}

// Reading is a number, or the reason why there is none.
type Reading struct {
	V      float64
	Reason string // "" when V is valid
}

// GPU is one row of nvidia-smi in base units.
type GPU struct {
	Index       string
	UUID        string
	Name        string
	UtilRatio   Reading
	MemUsed     Reading // bytes
	MemTotal    Reading // bytes
	Temperature Reading // degrees Celsius
	Power       Reading // watts
	MIG         bool
}

// ParseSMI reads rows of `nvidia-smi --query-gpu=fields
// --format=csv,noheader,nounits`. Lines that are not rows (a GPU that fell off
// the bus speaks among them, a killed process stops in the middle of one) come
// back as problems beside the rows that are whole.
func ParseSMI(raw []byte, fields []string) (gpus []GPU, problems []error) {
	seen := map[string]bool{}
	for i, line := range lines(raw) {
		line = strings.TrimRight(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		cell := strings.Split(line, ",")
		if len(cell) != len(fields) {
			problems = append(problems, fmt.Errorf("parse nvidia-smi: line %d: %d columns, want %d: %.120q", i+1, len(cell), len(fields), line))
			continue
		}
		g, err := parseGPU(cell, fields)
		if err != nil {
			problems = append(problems, fmt.Errorf("parse nvidia-smi: line %d: %w", i+1, err))
			continue
		}
		if seen[g.UUID] {
			problems = append(problems, fmt.Errorf("parse nvidia-smi: line %d: GPU %s comes twice", i+1, g.UUID))
			continue
		}
		seen[g.UUID] = true
		gpus = append(gpus, g)
	}
	return gpus, problems
}

func parseGPU(cell, fields []string) (GPU, error) {
	const mib = 1 << 20
	var g GPU
	for i, f := range fields {
		v := strings.TrimSpace(cell[i])
		switch f {
		case "index":
			if _, err := strconv.ParseUint(v, 10, 16); err != nil {
				return g, fmt.Errorf("%.40q is not an index", v)
			}
			g.Index = v
		case "uuid":
			if v == "" || strings.ContainsAny(v, " []") {
				return g, fmt.Errorf("%.60q is not a uuid", v)
			}
			g.UUID = v
		case "name":
			g.Name = v
		case "utilization.gpu":
			g.UtilRatio = reading(v, 0.01, 0, 100)
		case "memory.used":
			g.MemUsed = reading(v, mib, 0, 1<<40)
		case "memory.total":
			g.MemTotal = reading(v, mib, 0, 1<<40)
		case "temperature.gpu":
			g.Temperature = reading(v, 1, -100, 1000)
		case "power.draw":
			g.Power = reading(v, 1, 0, 1e6)
		case "mig.mode.current":
			g.MIG = v == "Enabled"
		}
	}
	if g.MIG && g.UtilRatio.Reason != "" {
		g.UtilRatio.Reason = "the GPU is in MIG mode: it has no utilization of its own"
	}
	return g, nil
}

// reading turns a cell into a number in base units. Division by 100 is exact
// where multiplication by 0.01 is not, hence the two ways.
func reading(v string, factor, lo, hi float64) Reading {
	switch {
	case v == "":
		return Reading{Reason: "empty"}
	case strings.HasPrefix(v, "[") || v == "N/A" || v == "ERR!":
		return Reading{Reason: "nvidia-smi says " + v}
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= lo && n <= hi) { // the negation catches NaN too
		return Reading{Reason: fmt.Sprintf("nvidia-smi says %.40q", v)}
	}
	if factor == 0.01 {
		return Reading{V: n / 100}
	}
	return Reading{V: n * factor}
}

// smiFailure turns an exit code and what was printed into a reason.
func smiFailure(code int, stdout, stderr []byte) error {
	text := strings.TrimSpace(string(stdout) + " " + string(stderr))
	text = strings.Join(strings.Fields(text), " ")
	why := map[int]string{
		2: "a field is not known to this driver", 4: "no permission", 6: "no GPU on this node",
		9: "the driver is not loaded", 12: "the NVML library is missing", 18: "driver and library versions differ",
	}[code]
	if why == "" {
		why = "nvidia-smi failed"
	}
	return fmt.Errorf("%s (exit code %d: %.160q)", why, code, text)
}

var errNoSMI = errors.New("nvidia-smi is not on this node")
