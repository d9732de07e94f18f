package monitors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/services/run"
)

// Job is one scrape job: a live run, or what engines pushed to the monitors.
type Job struct {
	Name        string
	KeyFile     string
	TargetsFile string
	Pushed      bool
}

// group is one entry of a file-service-discovery file.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// RenderPrometheus writes prometheus.yml for the jobs.
func RenderPrometheus(jobs []Job, interval time.Duration) ([]byte, error) {
	if interval <= 0 {
		interval = 5 * time.Second
	}
	return render("prometheus.yml.tmpl", map[string]any{
		"Interval": seconds(interval), "Timeout": seconds(min(interval, 10*time.Second)), "Jobs": jobs,
	})
}

// Discovery keeps the targets of Prometheus equal to the live runs of a home.
// One goroutine uses it.
type Discovery struct {
	Store    run.Store
	Files    Files
	Interval time.Duration

	ended   map[string]bool   // never looked at again
	written map[string][]byte // content of the targets files on disk
	config  []byte
}

// Scan looks at every run once and writes what changed. reload tells that the
// set of jobs changed and Prometheus must read its configuration again; target
// files it follows by itself. A run that cannot be read is a problem and loses
// its targets, never those of others.
func (d *Discovery) Scan() (reload bool, problems []error, err error) {
	if d.ended == nil {
		d.ended, d.written = map[string]bool{}, map[string][]byte{}
	}
	entries, err := os.ReadDir(d.Store.RunsDir())
	if err != nil {
		return false, nil, fmt.Errorf("discover runs: %w", err)
	}
	var jobs []Job
	want := map[string][]byte{}
	for _, e := range entries {
		if !e.IsDir() || !run.ValidID(e.Name()) || d.ended[e.Name()] {
			continue
		}
		groups, dir, bad := d.look(e.Name())
		problems = append(problems, bad...)
		for _, g := range groups {
			if len(g.list) == 0 {
				continue
			}
			raw, err := json.MarshalIndent(g.list, "", " ")
			if err != nil {
				return false, problems, fmt.Errorf("discover runs: %w", err)
			}
			file := d.Files.targets(g.file)
			want[file] = append(raw, '\n')
			jobs = append(jobs, Job{Name: g.job, KeyFile: dir.File(run.KeyFile), TargetsFile: file, Pushed: g.pushed})
		}
	}
	for file, raw := range want {
		if bytes.Equal(d.written[file], raw) {
			continue
		}
		if err := run.WriteFile(file, raw); err != nil {
			return false, problems, fmt.Errorf("discover runs: %w", err)
		}
		d.written[file] = raw
	}
	config, err := RenderPrometheus(jobs, d.Interval)
	if err != nil {
		return false, problems, err
	}
	if !bytes.Equal(config, d.config) {
		if err := run.WriteFile(d.Files.PrometheusConfig(), config); err != nil {
			return false, problems, fmt.Errorf("discover runs: %w", err)
		}
		d.config, reload = config, true
	}
	// After the configuration, so that no job names a file that is gone.
	for file := range d.written {
		if _, ok := want[file]; ok {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			problems = append(problems, fmt.Errorf("discover runs: %w", err))
			continue
		}
		delete(d.written, file)
	}
	return reload, problems, nil
}

type jobGroups struct {
	job, file string
	pushed    bool
	list      []group
}

// PushedPath is the scrape path of what engines pushed to a Collector.
const PushedPath = "/engine/" + Collector + "/metrics"

// look returns the targets of one run, none when it is not live.
func (d *Discovery) look(id string) ([]jobGroups, run.Dir, []error) {
	path := filepath.Join(d.Store.RunsDir(), id)
	names, err := os.ReadDir(filepath.Join(path, run.DoorsDir))
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(names) == 0) {
		return nil, run.Dir{}, nil
	}
	if err != nil {
		return nil, run.Dir{}, []error{fmt.Errorf("discover runs: %w", err)}
	}
	dir, err := run.Open(path)
	if errors.Is(err, run.ErrNotFound) {
		return nil, dir, nil
	}
	if err != nil {
		return nil, dir, []error{err}
	}
	if over(dir) {
		d.ended[id] = true
		return nil, dir, nil
	}
	doors, problems := Doors(dir)
	own := jobGroups{job: id, file: id}
	pushed := jobGroups{job: id + ":otlp", file: id + ".otlp", pushed: true}
	for _, door := range doors {
		host, err := hostPort(door.URL)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, p := range door.MetricsPaths {
			g := group{Targets: []string{host}, Labels: map[string]string{
				"__metrics_path__": p, "run": id, "service": dir.Intent.Service, "node": door.Host, "part": part(p),
			}}
			if p == PushedPath {
				pushed.list = append(pushed.list, g)
			} else {
				own.list = append(own.list, g)
			}
		}
	}
	return []jobGroups{own, pushed}, dir, problems
}

// Doors reads doors/*.json of a run. Files that cannot be read are problems.
func Doors(dir run.Dir) (doors []run.Door, problems []error) {
	entries, err := os.ReadDir(dir.File(run.DoorsDir))
	if err != nil {
		return nil, []error{fmt.Errorf("doors of %s: %w", dir.ID(), err)}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		var d run.Door
		if err := run.ReadJSON(dir.File(run.DoorsDir, e.Name()), &d); err != nil {
			problems = append(problems, fmt.Errorf("doors of %s: %w", dir.ID(), err))
			continue
		}
		doors = append(doors, d)
	}
	return doors, problems
}

// over tells that a run ended although its doors are still there: a job that
// was killed cannot take them away.
func over(dir run.Dir) bool {
	sentinels, _ := dir.Sentinels()
	open := false
	for _, s := range sentinels {
		open = open || (s.Phase != run.SentinelEnded && s.Phase != run.SentinelTruncated)
	}
	if len(sentinels) > 0 && !open {
		return true
	}
	return dir.State().Ended
}

// part names the source behind a door: node, or an engine's process.
func part(path string) string {
	if rest, ok := strings.CutPrefix(path, "/engine/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	return "node"
}

func hostPort(door string) (string, error) {
	u, err := url.Parse(door)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.Hostname() == "" {
		return "", fmt.Errorf("discover runs: door %.200q is not an http address", door)
	}
	return u.Host, nil
}

// Find returns the newest ready monitors run of a home that takes OTLP, and
// its endpoint.
func Find(store run.Store) (run.Dir, run.Endpoint, error) {
	entries, err := os.ReadDir(store.RunsDir())
	if err != nil {
		return run.Dir{}, run.Endpoint{}, fmt.Errorf("find monitors: %w", err)
	}
	slices.Reverse(entries) // ids of one word sort by time
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "monitors-") || !run.ValidID(e.Name()) {
			continue
		}
		dir, err := run.Open(filepath.Join(store.RunsDir(), e.Name()))
		if err != nil || dir.Intent.Service != "monitors" || dir.Intent.Verb != "start" {
			continue
		}
		ep, err := dir.ReadEndpoint()
		if err != nil || ep.DoorURL == "" || ep.Extra["otlp"] == "" || over(dir) {
			continue
		}
		return dir, ep, nil
	}
	return run.Dir{}, run.Endpoint{}, fmt.Errorf("find monitors: %w", ErrNoMonitors)
}
