package services

import (
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/node"
)

var lustre = Service{
	Name:       "lustre",
	Summary:    "data directory on a parallel file system, for the IO500 phases",
	New:        func() Params { return &lustreParams{} },
	Draft:      draftLustre,
	Bench:      true,
	KeepsReady: true,
}

type lustreParams struct {
	Path        string `json:"path"`
	StripeCount int    `json:"stripe_count"`
	StripeSize  string `json:"stripe_size"`
	Pool        string `json:"pool"`
	Nodelist    string `json:"nodelist"`
}

var (
	stripeSize = regexp.MustCompile(`^[0-9]+[kKmMgG]?$`)
	poolName   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

func (p *lustreParams) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&p.Path, "path", "", "directory under which a new data directory is made (default: the site's scratch, else AIFBENCH_HOME/data)")
	fs.IntVar(&p.StripeCount, "stripe-count", 0, "lfs setstripe -c of the data directory; -1 for all targets, 0 for the default")
	fs.StringVar(&p.StripeSize, "stripe-size", "", "lfs setstripe -S, e.g. 4M")
	fs.StringVar(&p.Pool, "pool", "", "lfs setstripe -p")
	fs.StringVar(&p.Nodelist, "nodelist", "", "prepare on this node")
}

func (p *lustreParams) Validate(c Context) error {
	if p.Path == "" {
		p.Path = c.Site.Profile.Scratch
	}
	if p.Path == "" {
		p.Path = filepath.Join(c.Home, "data")
	} else {
		p.Path = c.Abs(p.Path)
		info, err := c.Stat(p.Path)
		if err != nil {
			return usagef("--path %s: %v; give a directory on the file system to measure", p.Path, err)
		}
		if !info.IsDir() {
			return usagef("--path %s: not a directory; give a directory on the file system to measure", p.Path)
		}
	}
	if p.StripeCount < -1 {
		return usagef("--stripe-count %d: use -1, 0 or more", p.StripeCount)
	}
	if p.StripeSize != "" && !stripeSize.MatchString(p.StripeSize) {
		return usagef("--stripe-size %q: use a number with k, M or G, e.g. 4M", p.StripeSize)
	}
	if p.Pool != "" && !poolName.MatchString(p.Pool) {
		return usagef("--pool %q: letters, digits, dot, dash and underscore only", p.Pool)
	}
	return nil
}

type lustreScript struct {
	*lustreParams
	RunDir  string
	DataDir string
}

func draftLustre(params Params, c Context) (Draft, error) {
	p, ok := params.(*lustreParams)
	if !ok {
		return Draft{}, fmt.Errorf("draft lustre: parameters of another service")
	}
	data := filepath.Join(p.Path, "aifbench-"+c.RunID)
	d := Draft{Engine: "prepare", Owned: []string{data}}
	d.Job.Nodes, d.Job.NTasksPerNode = 1, 1
	if p.Nodelist != "" {
		d.Job.Extra = []string{"--nodelist=" + p.Nodelist}
	}
	d.Scripts = []Script{{Name: "engine.sh", Template: "engine-lustre-prepare.sh.tmpl", Data: lustreScript{p, c.RunDir, data}}}
	d.Plan = node.Plan{
		SchemaVersion: node.PlanVersion, Service: "lustre", Engine: "prepare", Nodes: 1, OneShot: true, TelemetryPeriodS: 2, StopGraceS: 5,
		ReadyTimeoutS: (5 * time.Minute).Seconds(), Exposure: "none", DataDir: data, Procs: []node.Proc{{Name: "prepare", Script: "engine.sh"}},
	}
	return d, nil
}
