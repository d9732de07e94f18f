// Package monitors owns what is particular to the monitors service: the
// configuration of Prometheus, Collector and Grafana, and the discovery of the
// live runs that Prometheus scrapes through their doors. It must not know how
// processes are started, what a user typed, or what the series mean.
package monitors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"golang.org/x/crypto/bcrypt"

	"aifbench/pkg/services/run"
	"aifbench/templates"
)

// Names of the processes of a monitors run.
const (
	Prometheus = "prometheus"
	Collector  = "collector"
	Grafana    = "grafana"
)

// User is the name under which the run's key opens Prometheus and Grafana.
const User = "aifbench"

// Files is where the configuration of one monitors run lies. Dir is on the
// node and has mode 0700.
type Files struct{ Dir string }

// PrometheusConfig is the path of prometheus.yml.
func (f Files) PrometheusConfig() string { return filepath.Join(f.Dir, "prometheus.yml") }

// WebConfig is the path of Prometheus' web configuration.
func (f Files) WebConfig() string { return filepath.Join(f.Dir, "web.yml") }

// CollectorConfig is the path of collector.yaml.
func (f Files) CollectorConfig() string { return filepath.Join(f.Dir, "collector.yaml") }

// GRPCSocket is where the Collector takes OTLP over gRPC.
func (f Files) GRPCSocket() string { return filepath.Join(f.Dir, "otlp-grpc.sock") }

// HTTPSocket is where the Collector takes OTLP over HTTP.
func (f Files) HTTPSocket() string { return filepath.Join(f.Dir, "otlp-http.sock") }

// HealthSocket is where the Collector's health check answers.
func (f Files) HealthSocket() string { return filepath.Join(f.Dir, "health.sock") }

func (f Files) targets(name string) string { return filepath.Join(f.Dir, "targets", name+".json") }

// socketLimit is the longest path of a Unix socket on Linux.
const socketLimit = 107

// Prepare makes the directories and writes what does not change while the run
// lives: the web configuration, the Collector's, and a prometheus.yml without
// runs. metricsSocket is where the Collector's exporter listens.
func (f Files) Prepare(key, metricsSocket string, interval time.Duration) error {
	for _, d := range []string{f.Dir, filepath.Join(f.Dir, "targets"), filepath.Join(f.Dir, "grafana")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("prepare monitors: %w", err)
		}
	}
	if n := len(f.GRPCSocket()); n > socketLimit {
		return fmt.Errorf("prepare monitors: the scratch path is %d bytes too long for a socket (%s); set TMPDIR to a shorter node-local directory", n-socketLimit, f.Dir)
	}
	// The key has 256 random bits: no work factor makes guessing it harder,
	// and every scrape and query would pay for one.
	hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("prepare monitors: %w", err)
	}
	if err := f.write(f.WebConfig(), "prometheus-web.yml.tmpl", map[string]string{"User": User, "Hash": string(hash)}); err != nil {
		return err
	}
	if err := f.write(f.CollectorConfig(), "collector.yaml.tmpl", map[string]any{
		"GRPCSocket": f.GRPCSocket(), "HTTPSocket": f.HTTPSocket(), "HealthSocket": f.HealthSocket(),
		"MetricsSocket": metricsSocket, "MemoryMiB": 512, "SpikeMiB": 128,
	}); err != nil {
		return err
	}
	raw, err := RenderPrometheus(nil, interval)
	if err != nil {
		return err
	}
	return run.WriteFile(f.PrometheusConfig(), raw)
}

// PrepareGrafana writes the provisioning: one data source that reads the key
// from its file, and the dashboards.
func (f Files) PrepareGrafana(prometheusURL, keyFile string, interval time.Duration) error {
	base := filepath.Join(f.Dir, "grafana")
	boards := filepath.Join(base, "boards")
	for _, d := range []string{"datasources", "dashboards", "boards", "plugins", "alerting"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o700); err != nil {
			return fmt.Errorf("prepare grafana: %w", err)
		}
	}
	if err := f.write(filepath.Join(base, "datasources", "prometheus.yaml"), "grafana-datasource.yaml.tmpl", map[string]string{
		"PrometheusURL": prometheusURL, "User": User, "Interval": seconds(interval), "KeyRef": "$__file{" + keyFile + "}",
	}); err != nil {
		return err
	}
	if err := f.write(filepath.Join(base, "dashboards", "dashboards.yaml"), "grafana-dashboards.yaml.tmpl", map[string]string{"Dir": boards}); err != nil {
		return err
	}
	all, err := Dashboards()
	if err != nil {
		return err
	}
	for name, raw := range all {
		if err := run.WriteFile(filepath.Join(boards, name), raw); err != nil {
			return fmt.Errorf("prepare grafana: %w", err)
		}
	}
	return nil
}

// Dashboards returns the dashboards by file name.
func Dashboards() (map[string][]byte, error) {
	entries, err := fs.ReadDir(templates.FS, "dashboards")
	if err != nil {
		return nil, fmt.Errorf("read dashboards: %w", err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		raw, err := fs.ReadFile(templates.FS, "dashboards/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("read dashboards: %w", err)
		}
		out[e.Name()] = raw
	}
	return out, nil
}

func (f Files) write(path, name string, data any) error {
	raw, err := render(name, data)
	if err != nil {
		return err
	}
	if err := run.WriteFile(path, raw); err != nil {
		return fmt.Errorf("prepare monitors: %w", err)
	}
	return nil
}

func render(name string, data any) ([]byte, error) {
	text, err := fs.ReadFile(templates.FS, name)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"yaml": quoteYAML, "expanded": quoteExpanded}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return []byte(b.String()), nil
}

// quoteYAML writes text as one YAML scalar: a JSON string is one.
func quoteYAML(s string) (string, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("quote for YAML: %w", err)
	}
	return string(raw), nil
}

// quoteExpanded is quoteYAML for the Collector, which expands dollars.
func quoteExpanded(s string) (string, error) {
	return quoteYAML(strings.ReplaceAll(s, "$", "$$"))
}

// seconds writes a duration the way Prometheus reads it.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%dms", d.Milliseconds())
}

// ErrNoMonitors: no monitors run of this home is ready.
var ErrNoMonitors = errors.New("no live monitors")
