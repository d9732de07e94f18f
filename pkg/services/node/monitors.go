package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// SnapshotDir is where the Prometheus of a monitors run leaves its data,
// below the run's telemetry directory.
const SnapshotDir = "prometheus-snapshot"

// discoverEvery is how often the runs of the home are looked at.
const discoverEvery = 5 * time.Second

// MonitorProc is what a plan must say of one process of a monitors run; the
// script and whether it is optional are left to the plan.
func MonitorProc(name string) (Proc, error) {
	switch name {
	case monitors.Prometheus:
		return Proc{
			Name: name, MetricsPath: "/metrics", Ready: Probe{Paths: []string{"/-/ready"}}, SendKey: true, BasicUser: monitors.User,
		}, nil
	case monitors.Collector:
		return Proc{Name: name, MetricsPath: "/metrics", Ready: Probe{Paths: []string{"/metrics"}}, Socket: true}, nil
	case monitors.Grafana:
		return Proc{
			Name: name, MetricsPath: "/metrics", Ready: Probe{Paths: []string{"/api/health"}}, SendKey: true, BasicUser: monitors.User,
		}, nil
	}
	return Proc{}, fmt.Errorf("plan monitors: no process is named %q", name)
}

func (s *supervisor) monitorFiles() monitors.Files {
	return monitors.Files{Dir: filepath.Join(s.scratch, "monitors")}
}

func (s *supervisor) scrapeInterval() time.Duration {
	if s.Plan.Monitors == nil || s.Plan.Monitors.ScrapeIntervalS <= 0 {
		return 5 * time.Second
	}
	return time.Duration(s.Plan.Monitors.ScrapeIntervalS * float64(time.Second))
}

// discovered is the home whose live runs are scraped.
func (s *supervisor) discovered() run.Store {
	if h := s.Plan.Monitors.Home; h != "" {
		return run.Store{Home: h}
	}
	return s.store()
}

// prepareMonitors writes the configuration before anything starts.
func (s *supervisor) prepareMonitors() error {
	files := s.monitorFiles()
	socket := filepath.Join(s.scratch, monitors.Collector+".sock")
	if e := s.engine(monitors.Collector); e != nil {
		socket = e.socket
	}
	s.otlpHTTP = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", files.HTTPSocket())
		},
		IdleConnTimeout: 30 * time.Second,
	}
	return files.Prepare(s.key, socket, s.scrapeInterval())
}

// discover keeps the targets of Prometheus equal to the live runs.
func (s *supervisor) discover(ctx context.Context, d *monitors.Discovery) {
	tick := time.NewTicker(s.discoverEvery)
	defer tick.Stop()
	for {
		s.scan(ctx, d)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *supervisor) scan(ctx context.Context, d *monitors.Discovery) {
	reload, problems, err := d.Scan()
	for _, p := range problems {
		s.warn("discovery: " + p.Error())
	}
	if err != nil {
		s.warn("discovery: " + err.Error())
	}
	s.reload = s.reload || reload
	if !s.reload {
		return
	}
	if _, err := s.prometheus(ctx, http.MethodPost, "/-/reload"); err != nil {
		if ctx.Err() == nil {
			s.warn("Prometheus did not take its new configuration: " + err.Error())
		}
		return
	}
	s.reload = false
}

// prometheus puts one question to the run's own Prometheus.
func (s *supervisor) prometheus(ctx context.Context, method, path string) ([]byte, error) {
	e := s.engine(monitors.Prometheus)
	if e == nil {
		return nil, errors.New("no Prometheus in this run")
	}
	t := e.target.Load()
	if t == nil {
		return nil, errors.New("prometheus is not ready")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.base.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", t.auth)
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: status %d: %.200q", method, path, resp.StatusCode, body)
	}
	return body, nil
}

// snapshot asks Prometheus for a snapshot; it returns the directory to copy.
// When Prometheus was told to end at the same moment as we were, its data
// directory is copied after its end instead.
func (s *supervisor) snapshot() string {
	data := filepath.Join(s.scratch, "prometheus")
	body, err := s.prometheus(context.Background(), http.MethodPost, "/api/v1/admin/tsdb/snapshot")
	if err == nil {
		var answer struct {
			Data struct {
				Name string `json:"name"`
			} `json:"data"`
		}
		if err = json.Unmarshal(body, &answer); err == nil && filepath.Base(answer.Data.Name) == answer.Data.Name && answer.Data.Name != "" {
			return filepath.Join(data, "snapshots", answer.Data.Name)
		}
	}
	s.Log.Info("no snapshot of Prometheus, its data directory is copied instead", "err", err)
	return data
}

// keepSnapshot copies a Prometheus data directory into the run.
func (s *supervisor) keepSnapshot(from string) {
	to := s.Dir.File(run.TelemetryDir, SnapshotDir)
	if err := copyTree(from, to); err != nil {
		s.warn("the data of Prometheus is not kept: " + err.Error())
	}
}

// copyTree copies directories and regular files of from to to, which it makes.
func copyTree(from, to string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", filepath.Base(from), err)
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("copy %s: %w", path, err)
		}
		dst := filepath.Join(to, path)
		switch {
		case path == "snapshots" || path == "lock":
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return os.MkdirAll(dst, 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		return copyFile(root, path, dst)
	})
}

func copyFile(root *os.Root, path, dst string) (err error) {
	in, err := root.Open(path)
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return nil
}
