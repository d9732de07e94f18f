package services

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/node"
	"aifbench/pkg/services/site"
)

var chroma = Service{
	Name:    "chroma",
	Summary: "Chroma vector database",
	New:     func() Params { return &chromaParams{} },
	Draft:   draftChroma,
	Bench:   true,
}

type chromaParams struct {
	shape
	Engine       string        `json:"engine"`
	Command      string        `json:"command"`
	Venv         string        `json:"venv"`
	Image        string        `json:"image"`
	Binds        []string      `json:"binds"`
	PersistDir   string        `json:"persist_dir"`
	ReadyTimeout time.Duration `json:"ready_timeout"`
	OTLPInterval time.Duration `json:"otlp_interval"`
}

func (p *chromaParams) AddFlags(fs *pflag.FlagSet) {
	p.addFlags(fs, true)
	fs.StringVar(&p.Engine, "engine", "", "native (chroma on PATH or --venv), apptainer (--image) or sim (built in, exact); default: apptainer with --image, else native")
	fs.StringVar(&p.Command, "chroma-command", "", "the chroma command of the native engine (default: chroma)")
	fs.StringVar(&p.Venv, "venv", "", "environment whose bin/chroma is used")
	fs.StringVar(&p.Image, "image", "", "container image of the apptainer engine")
	fs.StringArrayVar(&p.Binds, "bind", nil, "bind mount of the container; repeatable")
	fs.StringVar(&p.PersistDir, "persist-dir", "", "directory to make for the database; default: node-local scratch, gone with the job")
	fs.DurationVar(&p.ReadyTimeout, "ready-timeout", 5*time.Minute, "how long the engine may take to answer")
	fs.DurationVar(&p.OTLPInterval, "otlp-interval", 5*time.Second, "how often Chroma pushes its metrics while monitors run")
}

func (p *chromaParams) Validate(c Context) error {
	if err := p.validate(); err != nil {
		return err
	}
	if p.Engine == "" {
		p.Engine = EngineNative
		if p.Image != "" {
			p.Engine = EngineApptainer
		}
	}
	switch p.Engine {
	case EngineSim, EngineNative:
		if p.Image != "" {
			return usagef("--image belongs to the apptainer engine; leave it out or use --engine apptainer")
		}
	case EngineApptainer:
		if p.Image == "" {
			return usagef("the apptainer engine needs an image; add --image FILE.sif")
		}
		p.Image = c.Abs(p.Image)
		if _, err := c.Stat(p.Image); err != nil {
			return usagef("--image %s: %v; build or copy the image first, e.g. apptainer pull", p.Image, err)
		}
	default:
		return usagef("--engine %q: use native, apptainer or sim", p.Engine)
	}
	if p.Venv != "" {
		if p.Command != "" {
			return usagef("--venv and --chroma-command exclude each other; give one")
		}
		p.Command = filepath.Join(c.Abs(p.Venv), "bin", "chroma")
		if _, err := c.Stat(p.Command); err != nil {
			return usagef("--venv %s: %v; it must hold bin/chroma", p.Venv, err)
		}
	}
	if p.Command == "" {
		p.Command = "chroma"
	}
	if looksLikePath(p.Command) {
		p.Command = c.Abs(p.Command)
	}
	if p.PersistDir != "" {
		p.PersistDir = c.Abs(p.PersistDir)
	}
	if p.ReadyTimeout <= 0 || p.OTLPInterval <= 0 {
		return usagef("--ready-timeout and --otlp-interval must be above 0, e.g. 5m and 5s")
	}
	return nil
}

type chromaScript struct {
	*chromaParams
	RunDir           string
	Container        string
	ContainerOptions []string
	Prefix           string
	OTLPIntervalMS   int64
}

func draftChroma(params Params, c Context) (Draft, error) {
	p, ok := params.(*chromaParams)
	if !ok {
		return Draft{}, fmt.Errorf("draft chroma: parameters of another service")
	}
	q := *p
	q.Binds = append(slices.Clone(c.Site.Profile.Binds), p.Binds...)
	d := Draft{Engine: p.Engine, Job: p.header(1)}
	d.Job.Exclusive = !p.ShareNode
	exposure := "none"
	if p.Engine != EngineSim && (p.ShareNode || c.Site.Profile.Scheduler == site.SchedulerLocal) {
		exposure = "node_users"
		d.Warnings = append(d.Warnings, "Chroma has no authentication: other users of its node can reach it")
	}
	if p.PersistDir != "" {
		q.PersistDir = filepath.Join(p.PersistDir, "aifbench-"+c.RunID)
		d.Owned = []string{q.PersistDir}
	}
	data := chromaScript{chromaParams: &q, RunDir: c.RunDir, Container: c.Site.Profile.Container, ContainerOptions: c.Site.Profile.ContainerOpt, Prefix: envPrefix(c.Site.Profile.Container), OTLPIntervalMS: p.OTLPInterval.Milliseconds()}
	d.Scripts = []Script{{Name: "engine.sh", Template: "engine-chroma-" + p.Engine + ".sh.tmpl", Parts: []string{"parts-chroma.tmpl"}, Data: data}}
	proc := node.Proc{Name: "chroma", Script: "engine.sh", SendKey: p.Engine == EngineSim, Ready: node.Probe{Paths: []string{"/api/v2/healthcheck", "/api/v2/heartbeat"}}}
	if p.Engine == EngineSim {
		proc.MetricsPath = "/metrics"
	}
	d.Plan = node.Plan{
		SchemaVersion: node.PlanVersion, Service: "chroma", Engine: p.Engine, Nodes: 1, LoadCPUs: p.LoadCPUs, TelemetryPeriodS: 2,
		StopGraceS: 10, ReadyTimeoutS: p.ReadyTimeout.Seconds(), Exposure: exposure, DataDir: q.PersistDir, ForwardOTLP: p.Engine != EngineSim,
		Procs: []node.Proc{proc},
	}
	return d, nil
}
