package services

import (
	"fmt"
	"runtime"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

// JobTemplate is the sbatch script of every run: directives, the site's set-up
// lines, and one exec of the program as supervisor or generator.
const JobTemplate = "job.sbatch.tmpl"

// JobData fills JobTemplate.
type JobData struct {
	Directives []string
	Setup      []string
	Machine    string // uname -m the binary runs on
	Arch       string
	Bin        string
	Args       []string
}

// machines maps GOARCH to uname -m.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// JobScript renders the script of a job that runs the program with args.
func JobScript(h slurm.Header, s site.Site, bin string, args []string) ([]byte, error) {
	lines, err := h.Lines()
	if err != nil {
		return nil, fmt.Errorf("render job script: %w", err)
	}
	machine := machines[runtime.GOARCH]
	if machine == "" {
		machine = runtime.GOARCH
	}
	return Render(Script{Name: "job.sbatch", Template: JobTemplate, Data: JobData{
		Directives: lines, Setup: s.Profile.Setup, Machine: machine, Arch: runtime.GOARCH, Bin: bin, Args: args,
	}})
}

// CheckArch refuses a site whose nodes cannot run this binary.
func CheckArch(s site.Site) error {
	if a := s.Profile.Arch; a != "" && a != runtime.GOARCH {
		return usagef("the nodes of site %s are %s and this program is built for %s; use the %s build of aifbench, or set arch: %s if that is wrong", s.Name, a, runtime.GOARCH, a, runtime.GOARCH)
	}
	return nil
}

// SiteHeader fills what every job of the site carries.
func SiteHeader(h slurm.Header, s site.Site) (slurm.Header, error) {
	p := s.Profile
	limit, err := site.ParseDuration(p.TimeLimit)
	if err != nil {
		return h, fmt.Errorf("time limit of site %s: %w", s.Name, err)
	}
	h.Time = limit
	h.Account, h.QOS, h.Constraint, h.Reservation, h.Export = p.Account, p.QOS, p.Constraint, p.Reservation, p.Export
	h.Partition = p.Partition
	if h.GPUs > 0 {
		if p.GPUPartition != "" {
			h.Partition = p.GPUPartition
		}
		h.GPUStyle, h.GPUType = slurm.GPUStyle(p.GPUStyle), p.GPUType
	}
	if p.Scheduler == site.SchedulerLocal {
		h.GPUs = 0
		h.Exclusive = false
	}
	h.Extra = append(h.Extra, p.ExtraSbatch...)
	return h, nil
}

// shape are the flags every service job has: how much of a node it asks for.
type shape struct {
	CPUs      int    `json:"cpus"`
	Mem       string `json:"mem"`
	LoadCPUs  string `json:"load_cpus"`
	ShareNode bool   `json:"share_node"`
	Nodelist  string `json:"nodelist"`
}

func (s *shape) addFlags(fs *pflag.FlagSet, exclusiveDefault bool) {
	fs.IntVar(&s.CPUs, "cpus", 0, "CPUs of the job on each node (0: the scheduler's default)")
	fs.StringVar(&s.Mem, "mem", "", "memory of the job on each node, e.g. 16G (empty: the scheduler's default)")
	fs.StringVar(&s.LoadCPUs, "load-cpus", "", "CPUs set apart for load generators beside the service: a count (2) or a list (6-7)")
	fs.StringVar(&s.Nodelist, "nodelist", "", "run on these nodes")
	if exclusiveDefault {
		fs.BoolVar(&s.ShareNode, "share-node", false, "share the node with other users, whom this engine answers some or all requests without a key")
	}
}

func (s *shape) validate() error {
	if s.CPUs < 0 {
		return usagef("--cpus %d: use 0 or more", s.CPUs)
	}
	if s.LoadCPUs != "" && !cpuList.MatchString(s.LoadCPUs) {
		return usagef("--load-cpus %q: use a count such as 2 or a list such as 0-1,6", s.LoadCPUs)
	}
	if s.Mem != "" && !memory.MatchString(s.Mem) {
		return usagef("--mem %q: use a number with K, M, G or T, e.g. 16G", s.Mem)
	}
	return nil
}

func (s *shape) header(nodes int) slurm.Header {
	h := slurm.Header{Nodes: nodes, NTasksPerNode: 1, CPUsPerTask: s.CPUs, Mem: s.Mem}
	if s.Nodelist != "" {
		h.Extra = append(h.Extra, "--nodelist="+s.Nodelist)
	}
	return h
}
