package slurm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// GPUStyle is how a site wants GPUs asked for.
type GPUStyle string

// The styles. With none the partition or QOS brings the GPUs and no line is
// written.
const (
	GPUsPerNode GPUStyle = "gpus-per-node"
	GPUGres     GPUStyle = "gres"
	GPUNone     GPUStyle = "none"
)

// DefaultSignal warns the batch script two minutes before its time limit; Slurm
// may send it up to a minute early.
const DefaultSignal = "B:TERM@120"

// Header is what a job asks of the scheduler. Empty strings and zero numbers
// write no line, so that the site's defaults hold.
type Header struct {
	JobName     string
	Comment     string
	Partition   string
	Account     string
	QOS         string
	Constraint  string
	Reservation string
	Dependency  string // written with --kill-on-invalid-dep=yes
	// Time is the time limit, rounded up to whole seconds; Slurm rounds it up
	// to whole minutes.
	Time          time.Duration
	Nodes         int
	NTasksPerNode int
	CPUsPerTask   int
	// Mem is memory a node: "16G", "500M", or "0" for all.
	Mem       string
	GPUs      int // a node
	GPUStyle  GPUStyle
	GPUType   string
	Exclusive bool
	// Output is where stdout goes, and stderr too unless Error is set: an
	// absolute path on a file system the nodes see. Its %j and the like are
	// Slurm's; write a literal path through EscapePath.
	Output string
	Error  string
	Chdir  string
	// Signal is SIG@seconds; empty means DefaultSignal, "none" writes no line.
	Signal string
	// Requeue allows Slurm to start the job a second time over its own output.
	Requeue bool
	// Export is NONE, ALL or a list; empty leaves it to the site.
	Export string
	// Extra are further options, each --name or --name=value.
	Extra []string
}

var (
	optionForm = regexp.MustCompile(`^--([a-z][a-z0-9-]{0,40})(=(?s:.*))?$`)
	memForm    = regexp.MustCompile(`^[0-9]{1,12}[KMGTkmgt]?$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
	signalForm = regexp.MustCompile(`^([BR]{1,2}:)?[A-Za-z0-9]{1,10}(@[0-9]{1,5})?$`)
)

// reserved are the options that would change what a submission is.
var reserved = map[string]bool{
	"job-name": true, "wrap": true, "array": true, "wait": true, "parsable": true,
	"test-only": true, "quiet": true, "clusters": true, "no-requeue": true, "requeue": true,
}

// Options gives the header as command-line options, --name or --name=value.
func (h Header) Options() ([]string, error) {
	var out []string
	var err error
	add := func(name, value string) {
		if value == "" || err != nil {
			return
		}
		if e := checkValue(value); e != nil {
			err = fmt.Errorf("job header: %s: %w", name, e)
			return
		}
		out = append(out, "--"+name+"="+value)
	}
	count := func(name string, n int) {
		if n < 0 && err == nil {
			err = fmt.Errorf("job header: %s: %d is negative", name, n)
		}
		if n > 0 {
			add(name, strconv.Itoa(n))
		}
	}
	if h.JobName != "" && !nameForm.MatchString(h.JobName) {
		return nil, fmt.Errorf("job header: job name %q: want letters, digits and . _ + - only", clip(h.JobName))
	}
	add("job-name", h.JobName)
	add("comment", h.Comment)
	add("partition", h.Partition)
	add("account", h.Account)
	add("qos", h.QOS)
	add("constraint", h.Constraint)
	add("reservation", h.Reservation)
	if h.Dependency != "" {
		add("dependency", h.Dependency)
		add("kill-on-invalid-dep", "yes")
	}
	if h.Time < 0 {
		return nil, fmt.Errorf("job header: time: %s is negative", h.Time)
	}
	if h.Time > 0 {
		add("time", FormatLimit(h.Time))
	}
	count("nodes", h.Nodes)
	count("ntasks-per-node", h.NTasksPerNode)
	count("cpus-per-task", h.CPUsPerTask)
	if h.Mem != "" && !memForm.MatchString(h.Mem) {
		return nil, fmt.Errorf("job header: mem: %q: want a number with K, M, G or T", clip(h.Mem))
	}
	add("mem", h.Mem)
	gpus, e := h.gpuOption()
	if e != nil {
		return nil, e
	}
	if gpus != "" {
		name, value, _ := strings.Cut(gpus, "=")
		add(name, value)
	}
	if h.Exclusive {
		out = append(out, "--exclusive")
	}
	for _, p := range []struct{ name, path string }{{"output", h.Output}, {"error", h.Error}, {"chdir", h.Chdir}} {
		if p.path == "" && p.name == "output" {
			return nil, fmt.Errorf("job header: output: empty; Slurm would write into the working directory")
		}
		if p.path != "" && !filepath.IsAbs(p.path) {
			return nil, fmt.Errorf("job header: %s: %q is not absolute", p.name, clip(p.path))
		}
		if p.name != "chdir" && strings.Contains(p.path, `\`) {
			return nil, fmt.Errorf("job header: %s: %q: Slurm drops backslashes from output paths", p.name, clip(p.path))
		}
		add(p.name, p.path)
	}
	switch {
	case h.Signal == "":
		add("signal", DefaultSignal)
	case h.Signal == "none":
	case !signalForm.MatchString(h.Signal):
		return nil, fmt.Errorf("job header: signal: %q: want like B:TERM@120", clip(h.Signal))
	default:
		add("signal", h.Signal)
	}
	if h.Requeue {
		out = append(out, "--requeue")
	} else {
		out = append(out, "--no-requeue")
	}
	add("export", h.Export)
	extra, e := checkOptions(h.Extra)
	if e != nil {
		return nil, fmt.Errorf("job header: %w", e)
	}
	return append(out, extra...), err
}

func (h Header) gpuOption() (string, error) {
	switch {
	case h.GPUs < 0:
		return "", fmt.Errorf("job header: gpus: %d is negative", h.GPUs)
	case h.GPUs == 0 || h.GPUStyle == GPUNone:
		return "", nil
	}
	typ := ""
	if h.GPUType != "" {
		typ = h.GPUType + ":"
	}
	switch h.GPUStyle {
	case GPUsPerNode, "":
		return fmt.Sprintf("gpus-per-node=%s%d", typ, h.GPUs), nil
	case GPUGres:
		return fmt.Sprintf("gres=gpu:%s%d", typ, h.GPUs), nil
	}
	return "", fmt.Errorf("job header: gpu style %q: want gpus-per-node, gres or none", clip(string(h.GPUStyle)))
}

// Lines gives the header as #SBATCH lines, values quoted where they need it.
func (h Header) Lines() ([]string, error) {
	options, err := h.Options()
	if err != nil {
		return nil, err
	}
	lines := make([]string, 0, len(options))
	for _, o := range options {
		name, value, has := strings.Cut(o, "=")
		if has {
			quoted, err := Directive(value)
			if err != nil {
				return nil, fmt.Errorf("job header: %s: %w", name, err)
			}
			o = name + "=" + quoted
		}
		lines = append(lines, "#SBATCH "+o)
	}
	return lines, nil
}

func checkOptions(options []string) ([]string, error) {
	for _, o := range options {
		m := optionForm.FindStringSubmatch(o)
		if m == nil {
			return nil, fmt.Errorf("option %q: want --name or --name=value", clip(o))
		}
		if reserved[m[1]] {
			return nil, fmt.Errorf("option --%s: set by aifbench itself", m[1])
		}
		if err := checkValue(m[2]); err != nil {
			return nil, fmt.Errorf("option --%s: %w", m[1], err)
		}
	}
	return options, nil
}

func checkValue(value string) error {
	switch {
	case !utf8.ValidString(value):
		return fmt.Errorf("value is not UTF-8")
	case len(value) > 4000:
		// sbatch reads a directive into 8192 bytes and dies on more; every
		// byte may need an escape.
		return fmt.Errorf("value of %d bytes is too long", len(value))
	case strings.IndexFunc(value, unicode.IsControl) >= 0:
		return fmt.Errorf("value has a control character or a newline")
	}
	return nil
}

// Directive quotes value for an #SBATCH line. sbatch's own reader knows double
// quotes and a backslash before any byte, and takes an unquoted # for a
// comment. Control characters and newlines are refused.
func Directive(value string) (string, error) {
	if err := checkValue(value); err != nil {
		return "", err
	}
	safe := func(r rune) bool {
		return hostRune(r) || strings.ContainsRune("/:@=,+%", r)
	}
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !safe(r) }) < 0 {
		return value, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`, nil
}

// EscapePath makes a literal path safe for Header.Output: Slurm replaces %j and
// the like.
func EscapePath(path string) string { return strings.ReplaceAll(path, "%", "%%") }
