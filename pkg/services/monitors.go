package services

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	monitoring "aifbench/pkg/services/monitors"
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
	GrafanaHome    string        `json:"grafana_home"`
	Exclusive      bool          `json:"exclusive"`
	ScrapeInterval time.Duration `json:"scrape_interval"`
	Retention      string        `json:"retention"`
}

func (p *monitorsParams) AddFlags(fs *pflag.FlagSet) {
	p.addFlags(fs, false)
	fs.StringVar(&p.Prometheus, "prometheus", "prometheus", "the prometheus command")
	fs.StringVar(&p.Collector, "collector", "", "the OpenTelemetry Collector command (default: otelcol or otelcol-contrib on PATH; absent: Chroma's own metrics are not collected)")
	fs.StringVar(&p.Grafana, "grafana", "", "the grafana command, e.g. /opt/grafana/bin/grafana (absent: no Grafana)")
	fs.StringVar(&p.GrafanaImage, "grafana-image", "", "container image with Grafana, instead of --grafana")
	fs.StringVar(&p.GrafanaHome, "grafana-home", "", "Grafana's home directory (default: beside its bin directory)")
	fs.BoolVar(&p.Exclusive, "exclusive", false, "ask for the node alone")
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

// monitorScript fills the three scripts; Command is one word or, for an image,
// the container command and its arguments.
type monitorScript struct {
	Command   []string
	Retention string
	Home      string
}

func draftMonitors(params Params, c Context) (Draft, error) {
	p, ok := params.(*monitorsParams)
	if !ok {
		return Draft{}, fmt.Errorf("draft monitors: parameters of another service")
	}
	d := Draft{Engine: EngineNative, Job: p.header(1)}
	d.Job.Exclusive = p.Exclusive
	m := node.Monitors{
		Home: c.Home, ScrapeIntervalS: p.ScrapeInterval.Seconds(), PrometheusBin: p.Prometheus, CollectorBin: p.Collector,
		GrafanaBin: p.Grafana, RetentionTime: p.Retention,
	}
	grafana := monitorScript{Command: []string{p.Grafana}, Home: filepath.Dir(filepath.Dir(p.Grafana))}
	if p.GrafanaHome != "" {
		grafana.Home = p.GrafanaHome
	}
	if p.GrafanaImage != "" {
		m.GrafanaBin = p.GrafanaImage
		grafana.Command = []string{c.Site.Profile.Container, "exec", "--cleanenv", "--no-home", p.GrafanaImage, "grafana"}
		grafana.Home = "/usr/share/grafana"
	}
	if p.Collector == "" {
		d.Warnings = append(d.Warnings, "no OpenTelemetry Collector given: Chroma's own metrics are not collected; add --collector PATH")
	}
	d.Plan = node.Plan{
		SchemaVersion: node.PlanVersion, Service: "monitors", Engine: EngineNative, Nodes: 1, LoadCPUs: p.LoadCPUs, TelemetryPeriodS: 2,
		StopGraceS: 20, ReadyTimeoutS: 120, Exposure: "none", Monitors: &m,
	}
	for _, part := range []struct {
		name     string
		given    bool
		optional bool
		data     monitorScript
	}{
		{monitoring.Prometheus, true, false, monitorScript{Command: []string{p.Prometheus}, Retention: p.Retention}},
		{monitoring.Collector, p.Collector != "", true, monitorScript{Command: []string{p.Collector}}},
		{monitoring.Grafana, m.GrafanaBin != "", true, grafana},
	} {
		if !part.given {
			continue
		}
		proc, err := node.MonitorProc(part.name)
		if err != nil {
			return Draft{}, err
		}
		proc.Script, proc.Optional = "engine-"+part.name+".sh", part.optional
		d.Plan.Procs = append(d.Plan.Procs, proc)
		d.Scripts = append(d.Scripts, Script{Name: proc.Script, Template: proc.Script + ".tmpl", Data: part.data})
	}
	return d, nil
}
