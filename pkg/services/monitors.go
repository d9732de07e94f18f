package services

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"aifbench/pkg/services/node"
)

var monitors = Service{
	Name:    "monitors",
	Summary: "Prometheus, OpenTelemetry Collector and, where given, Grafana in one job",
	New:     func() Params { return &monitorsParams{} },
	Draft:   draftMonitors,
}

type monitorsParams struct {
	shape
	Prometheus     string        `json:"prometheus"`
	Collector      string        `json:"collector"`
	Grafana        string        `json:"grafana"`
	GrafanaImage   string        `json:"grafana_image"`
	ScrapeInterval time.Duration `json:"scrape_interval"`
	Retention      string        `json:"retention"`
}

func (p *monitorsParams) AddFlags(fs *pflag.FlagSet) {
	p.addFlags(fs, true)
	fs.StringVar(&p.Prometheus, "prometheus", "prometheus", "the prometheus command")
	fs.StringVar(&p.Collector, "collector", "", "the OpenTelemetry Collector command (default: otelcol or otelcol-contrib on PATH; absent: Chroma's own metrics are not collected)")
	fs.StringVar(&p.Grafana, "grafana", "", "the grafana command, e.g. /opt/grafana/bin/grafana (absent: no Grafana)")
	fs.StringVar(&p.GrafanaImage, "grafana-image", "", "container image with Grafana, instead of --grafana")
	fs.DurationVar(&p.ScrapeInterval, "scrape-interval", 5*time.Second, "how often targets are scraped")
	fs.StringVar(&p.Retention, "retention", "15d", "how long Prometheus keeps samples while the job lives")
}

func (p *monitorsParams) Validate(c Context) error {
	if err := p.validate(); err != nil {
		return err
	}
	find := func(flag, name string) (string, error) {
		if looksLikePath(name) {
			name = c.Abs(name)
			if _, err := c.Stat(name); err != nil {
				return "", usagef("--%s %s: %v; give the path of the command as the nodes see it", flag, name, err)
			}
			return name, nil
		}
		path, err := c.LookPath(name)
		if err != nil {
			return "", usagef("monitors need %s and it is not on PATH; give its path with --%s", name, flag)
		}
		return path, nil
	}
	var err error
	if p.Prometheus, err = find("prometheus", p.Prometheus); err != nil {
		return err
	}
	if p.Collector == "" {
		for _, name := range []string{"otelcol", "otelcol-contrib"} {
			if path, err := c.LookPath(name); err == nil {
				p.Collector = path
				break
			}
		}
	} else if p.Collector, err = find("collector", p.Collector); err != nil {
		return err
	}
	if p.Grafana != "" {
		if p.GrafanaImage != "" {
			return usagef("--grafana and --grafana-image exclude each other; give one")
		}
		if p.Grafana, err = find("grafana", p.Grafana); err != nil {
			return err
		}
	}
	if p.GrafanaImage != "" {
		p.GrafanaImage = c.Abs(p.GrafanaImage)
		if _, err := c.Stat(p.GrafanaImage); err != nil {
			return usagef("--grafana-image %s: %v; build or copy the image first", p.GrafanaImage, err)
		}
	}
	if p.ScrapeInterval < 100*time.Millisecond || p.ScrapeInterval > 10*time.Minute {
		return usagef("--scrape-interval %s: use 100ms to 10m", p.ScrapeInterval)
	}
	if !promDuration.MatchString(p.Retention) {
		return usagef("--retention %q: write a number with h, d, w or y, e.g. 15d", p.Retention)
	}
	return nil
}

type monitorsScript struct {
	*monitorsParams
	Container string
}

func draftMonitors(params Params, c Context) (Draft, error) {
	p, ok := params.(*monitorsParams)
	if !ok {
		return Draft{}, fmt.Errorf("draft monitors: parameters of another service")
	}
	d := Draft{Engine: EngineNative, Job: p.header(1)}
	d.Job.Exclusive = !p.ShareNode
	exposure := "none"
	if p.ShareNode {
		exposure = "node_users"
		d.Warnings = append(d.Warnings, "the Collector has no authentication: other users of the node can reach it")
	}
	data := monitorsScript{p, c.Site.Profile.Container}
	d.Plan = node.Plan{
		SchemaVersion: node.PlanVersion, Service: "monitors", Engine: EngineNative, Nodes: 1, LoadCPUs: p.LoadCPUs, TelemetryPeriodS: 2,
		StopGraceS: 20, ReadyTimeoutS: 120, Exposure: exposure,
		Monitors: &node.Monitors{
			Home: c.Home, ScrapeIntervalS: p.ScrapeInterval.Seconds(), PrometheusBin: p.Prometheus, CollectorBin: p.Collector,
			GrafanaBin: p.Grafana, RetentionTime: p.Retention,
		},
	}
	add := func(proc node.Proc, template string) {
		proc.Script = proc.Name + ".sh"
		d.Plan.Procs = append(d.Plan.Procs, proc)
		d.Scripts = append(d.Scripts, Script{Name: proc.Script, Template: template, Data: data})
	}
	if p.Collector != "" {
		add(node.Proc{Name: "collector", ExtraPorts: []string{"OTLP_GRPC", "OTLP_HTTP", "EXPORTER", "HEALTH"}, Optional: true}, "engine-collector.sh.tmpl")
	} else {
		d.Warnings = append(d.Warnings, "no OpenTelemetry Collector given: Chroma's own metrics are not collected; add --collector PATH")
	}
	add(node.Proc{Name: "prometheus", Ready: node.Probe{Paths: []string{"/-/ready"}}}, "engine-prometheus.sh.tmpl")
	if p.Grafana != "" || p.GrafanaImage != "" {
		add(node.Proc{Name: "grafana", Optional: true, Ready: node.Probe{Paths: []string{"/api/health"}}}, "engine-grafana.sh.tmpl")
	}
	return d, nil
}
