package services

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/node"
	"aifbench/pkg/services/site"
)

// Engines a service can be executed by.
const (
	EngineNative    = "native"
	EngineApptainer = "apptainer"
	EngineSim       = "sim"
)

var vllm = Service{
	Name:    "vllm",
	Summary: "LLM inference server with the OpenAI API",
	New:     func() Params { return &vllmParams{} },
	Draft:   draftVLLM,
	Bench:   true,
}

type vllmParams struct {
	shape
	Engine           string        `json:"engine"`
	Model            string        `json:"model"`
	ServedName       string        `json:"served_name"`
	Nodes            int           `json:"nodes"`
	GPUs             int           `json:"gpus"`
	TensorParallel   int           `json:"tensor_parallel"`
	PipelineParallel int           `json:"pipeline_parallel"`
	MultiNode        string        `json:"multi_node"`
	MaxModelLen      int           `json:"max_model_len"`
	DType            string        `json:"dtype"`
	Args             []string      `json:"args"`
	Env              []string      `json:"env"`
	Command          string        `json:"command"`
	Venv             string        `json:"venv"`
	Image            string        `json:"image"`
	Binds            []string      `json:"binds"`
	HFHome           string        `json:"hf_home"`
	TokenFile        string        `json:"token_file"`
	Online           bool          `json:"online"`
	ReadyTimeout     time.Duration `json:"ready_timeout"`
	SimTTFT          time.Duration `json:"sim_ttft"`
	SimITL           time.Duration `json:"sim_itl"`
	SimSlots         int           `json:"sim_slots"`
	Exclusive        bool          `json:"exclusive"`
}

func (p *vllmParams) AddFlags(fs *pflag.FlagSet) {
	p.addFlags(fs, true)
	fs.StringVar(&p.Engine, "engine", "", "native (vllm on PATH or --venv), apptainer (--image) or sim (built in); default: apptainer with --image, else native")
	fs.StringVar(&p.Model, "model", "", "model name or directory; with sim any name")
	fs.StringVar(&p.ServedName, "served-name", "", "name the server lists (default: the model's last word)")
	fs.IntVar(&p.Nodes, "nodes", 1, "whole nodes to span")
	fs.IntVar(&p.GPUs, "gpus", -1, "GPUs on each node (-1: the site's gpus_per_node, else 0)")
	fs.IntVar(&p.TensorParallel, "tensor-parallel", 0, "tensor parallel size (0: all GPUs of a node)")
	fs.IntVar(&p.PipelineParallel, "pipeline-parallel", 0, "pipeline parallel size (0: the number of nodes)")
	fs.StringVar(&p.MultiNode, "multi-node", "own", "how several nodes are joined: own (vLLM's mode) or ray")
	fs.IntVar(&p.MaxModelLen, "max-model-len", 0, "context length (0: the model's)")
	fs.StringVar(&p.DType, "dtype", "", "auto, bfloat16, float16 or float32")
	fs.StringArrayVar(&p.Args, "vllm-arg", nil, "further argument of vllm serve, one each; repeatable")
	fs.StringArrayVar(&p.Env, "env", nil, "NAME=VALUE for the engine; repeatable; never for secrets")
	fs.StringVar(&p.Command, "vllm-command", "", "the vllm command of the native engine (default: vllm)")
	fs.StringVar(&p.Venv, "venv", "", "environment whose bin/vllm is used")
	fs.StringVar(&p.Image, "image", "", "container image of the apptainer engine")
	fs.StringArrayVar(&p.Binds, "bind", nil, "bind mount of the container; repeatable")
	fs.StringVar(&p.HFHome, "hf-home", "", "shared model cache (default: the site's hf_home)")
	fs.StringVar(&p.TokenFile, "hf-token-file", "", "file of mode 0600 with a Hugging Face token")
	fs.BoolVar(&p.Online, "online", false, "let the engine ask the model hub; by default it works from files alone")
	fs.DurationVar(&p.ReadyTimeout, "ready-timeout", 15*time.Minute, "how long the engine may take to answer")
	fs.DurationVar(&p.SimTTFT, "sim-ttft", 50*time.Millisecond, "time to first token of the sim engine")
	fs.DurationVar(&p.SimITL, "sim-itl", 10*time.Millisecond, "time between tokens of the sim engine")
	fs.IntVar(&p.SimSlots, "sim-slots", 32, "requests the sim engine serves at once")
	fs.BoolVar(&p.Exclusive, "exclusive", false, "ask for whole nodes: the default, but for the sim engine, unless --share-node")
}

// vllmOwned are the arguments that the engine script sets itself.
var vllmOwned = []string{
	"--host", "--port", "--uds", "--api-key", "--model", "--served-model-name", "--tensor-parallel-size", "-tp",
	"--pipeline-parallel-size", "-pp", "--max-model-len", "--dtype", "--nnodes", "--node-rank", "--master-addr", "--master-port", "--headless", "--hf-token",
}

func (p *vllmParams) Validate(c Context) error {
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
	case EngineSim:
		if p.Model == "" {
			p.Model = "sim"
		}
		if p.SimSlots < 1 || p.SimTTFT < 0 || p.SimITL < 0 {
			return usagef("--sim-slots must be 1 or more, --sim-ttft and --sim-itl 0 or more")
		}
		if p.MaxModelLen == 0 {
			p.MaxModelLen = 4096
		}
		if p.Nodes > 1 {
			return usagef("--nodes %d: the sim engine runs on one node; leave --nodes out", p.Nodes)
		}
	case EngineNative, EngineApptainer:
		if p.Model == "" {
			return usagef("vllm needs a model: add --model NAME or --model /path/of/model (or --engine sim for the built-in simulator)")
		}
		if looksLikePath(p.Model) {
			p.Model = c.Abs(p.Model)
			if _, err := c.Stat(p.Model); err != nil {
				return usagef("--model %s: %v; give a directory that the nodes see, or the name of a model in the cache", p.Model, err)
			}
		}
	default:
		return usagef("--engine %q: use native, apptainer or sim", p.Engine)
	}
	if p.Engine == EngineApptainer {
		if p.Image == "" {
			return usagef("the apptainer engine needs an image; add --image FILE.sif")
		}
		p.Image = c.Abs(p.Image)
		if _, err := c.Stat(p.Image); err != nil {
			return usagef("--image %s: %v; build or copy the image first, e.g. apptainer pull", p.Image, err)
		}
	} else if p.Image != "" {
		return usagef("--image belongs to the apptainer engine; leave it out or use --engine apptainer")
	}
	if p.Venv != "" {
		if p.Command != "" {
			return usagef("--venv and --vllm-command exclude each other; give one")
		}
		p.Command = filepath.Join(c.Abs(p.Venv), "bin", "vllm")
		if _, err := c.Stat(p.Command); err != nil {
			return usagef("--venv %s: %v; it must hold bin/vllm", p.Venv, err)
		}
	}
	if p.Command == "" {
		p.Command = "vllm"
	}
	if looksLikePath(p.Command) {
		p.Command = c.Abs(p.Command)
	}
	if p.Nodes < 1 {
		return usagef("--nodes %d: use 1 or more", p.Nodes)
	}
	if p.MultiNode != "own" && p.MultiNode != "ray" {
		return usagef("--multi-node %q: use own or ray", p.MultiNode)
	}
	if !slices.Contains([]string{"", "auto", "half", "float16", "bfloat16", "float", "float32"}, p.DType) {
		return usagef("--dtype %q: use auto, bfloat16, float16 or float32", p.DType)
	}
	if p.GPUs < 0 {
		p.GPUs = 0
		if p.Engine != EngineSim && c.Site.Profile.Scheduler != site.SchedulerLocal && c.Site.Profile.GPUStyle != site.GPUNone {
			p.GPUs = c.Site.Profile.GPUsPerNode
		}
	}
	if p.TensorParallel == 0 {
		p.TensorParallel = max(1, p.GPUs)
	}
	if p.PipelineParallel == 0 {
		p.PipelineParallel = p.Nodes
	}
	if p.Nodes > 1 && p.TensorParallel*p.PipelineParallel != p.Nodes*max(1, p.GPUs) {
		return usagef("--tensor-parallel %d x --pipeline-parallel %d does not use the %d x %d GPUs asked for; make the products equal", p.TensorParallel, p.PipelineParallel, p.Nodes, max(1, p.GPUs))
	}
	if p.Nodes > 1 {
		p.Exclusive = true
	}
	switch {
	case p.ShareNode && p.Exclusive:
		return usagef("--share-node excludes --exclusive and several nodes; leave --share-node out")
	case p.Engine != EngineSim && !p.ShareNode:
		// vLLM checks its key on /v1 alone.
		p.Exclusive = true
	}
	if p.ServedName == "" {
		p.ServedName = filepath.Base(p.Model)
		if !looksLikePath(p.Model) {
			p.ServedName = p.Model
		}
	}
	for flag, v := range map[string]string{"--model": p.Model, "--served-name": p.ServedName} {
		if strings.HasPrefix(v, "-") {
			return usagef("%s %q: begins with a dash, which vllm takes for an option; give a name or a path", flag, v)
		}
	}
	if p.HFHome == "" {
		p.HFHome = c.Site.Profile.HFHome
	}
	if p.TokenFile != "" {
		p.TokenFile = c.Abs(p.TokenFile)
		if err := checkSecretFile(c, "--hf-token-file", p.TokenFile); err != nil {
			return err
		}
	}
	if _, err := parseEnv(p.Env); err != nil {
		return err
	}
	if p.Engine == EngineApptainer {
		for flag, path := range map[string]string{"--model": p.Model, "--hf-home": p.HFHome} {
			if strings.HasPrefix(path, "/") && strings.ContainsAny(path, ",:") {
				return usagef("%s %s: a container cannot bind a path with a comma or colon; give a link to it without one", flag, path)
			}
		}
	}
	if p.CPUs == 0 && c.Site.Profile.Scheduler != site.SchedulerLocal && p.Engine != EngineSim && (p.Exclusive || p.GPUs > 0 && p.GPUs == c.Site.Profile.GPUsPerNode) {
		p.CPUs = c.Site.Profile.CPUsPerNode // else one CPU a task, for all of a node
	}
	if p.ReadyTimeout <= 0 {
		return usagef("--ready-timeout must be above 0, e.g. 15m")
	}
	return checkArgs("--vllm-arg", p.Args, vllmOwned...)
}

type vllmScript struct {
	*vllmParams
	Env              []EnvVar
	Offline          bool
	Ray              bool
	OwnMultiNode     bool
	Container        string
	ContainerOptions []string
	Prefix           string // of variables handed into the container
	CommandDir       string // directory of the command, "" when it is found on PATH
}

func draftVLLM(params Params, c Context) (Draft, error) {
	p, ok := params.(*vllmParams)
	if !ok {
		return Draft{}, fmt.Errorf("draft vllm: parameters of another service")
	}
	env, err := parseEnv(p.Env)
	if err != nil {
		return Draft{}, err
	}
	several := p.Nodes > 1
	q := *p
	q.Binds = append(slices.Clone(c.Site.Profile.Binds), p.Binds...)
	if p.HFHome != "" {
		q.Binds = append(q.Binds, p.HFHome)
	}
	if strings.HasPrefix(p.Model, "/") {
		q.Binds = append(q.Binds, p.Model)
	}
	data := vllmScript{
		vllmParams: &q, Env: env, Offline: !p.Online, Ray: several && p.MultiNode == "ray", OwnMultiNode: several && p.MultiNode == "own",
		Container: c.Site.Profile.Container, ContainerOptions: slices.Clone(c.Site.Profile.ContainerOpt),
		Prefix: envPrefix(c.Site.Profile.Container),
	}
	if p.GPUs > 0 {
		data.ContainerOptions = append(data.ContainerOptions, c.Site.Profile.GPUContainerOpt...)
	}
	if filepath.IsAbs(p.Command) {
		data.CommandDir = filepath.Dir(p.Command)
	}
	d := Draft{Engine: p.Engine, Job: p.header(p.Nodes)}
	d.Job.GPUs = p.GPUs
	d.Job.Exclusive = p.Exclusive
	script := Script{Name: "engine.sh", Template: "engine-vllm-" + p.Engine + ".sh.tmpl", Data: data}
	if p.Engine != EngineSim {
		script.Parts = []string{"parts-vllm.tmpl"}
	}
	d.Scripts = []Script{script}
	if p.Engine == EngineApptainer && !p.Online && p.HFHome == "" && !strings.HasPrefix(p.Model, "/") {
		d.Warnings = append(d.Warnings, "the container sees no model cache: add --hf-home DIR, or give the model's directory, unless the image holds it")
	}
	exposure := "node_users"
	switch {
	case several:
		// The ranks talk to each other over ports that vLLM and its
		// communication library open on the nodes' own addresses.
		exposure = "network"
	case p.Engine == EngineSim, p.Exclusive && c.Site.Profile.Scheduler != site.SchedulerLocal:
		exposure = "none"
	}
	if exposure == "node_users" {
		d.Warnings = append(d.Warnings, "vLLM answers /health, /version, /metrics and /tokenize without a key to other users of its node; without --share-node it has the node alone")
	}
	d.Plan = node.Plan{
		SchemaVersion: node.PlanVersion, Service: "vllm", Engine: p.Engine, Model: p.ServedName, Nodes: p.Nodes,
		LoadCPUs: p.LoadCPUs, TelemetryPeriodS: 2, StopGraceS: 20, ReadyTimeoutS: p.ReadyTimeout.Seconds(), Exposure: exposure,
		Procs: []node.Proc{{
			Name: "vllm", Script: "engine.sh", ExtraPorts: []string{"MASTER"}, SendKey: true, AllNodes: several, MetricsPath: "/metrics",
			Ready: node.Probe{Paths: []string{"/health", "/v1/models"}, Model: p.ServedName, VersionPath: "/version"},
		}},
	}
	return d, nil
}
