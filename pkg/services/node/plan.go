// Package node owns what happens inside a job: the supervisor that is the
// batch process, the engines it starts and watches, the door in front of
// them, the host and GPU exporter, the telemetry it appends, the requests it
// takes, and the agents on the other nodes. It must not know the scheduler's
// text, how load is made, or what a user typed: everything it needs is in
// node.json and the run directory.
package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
)

// PlanVersion is the version of node.json.
const PlanVersion = 1

// Plan is node.json: what the supervisor of a run does. `start` writes it
// from the catalogue before the job is submitted.
type Plan struct {
	SchemaVersion int    `json:"schema_version"`
	Service       string `json:"service"`
	Engine        string `json:"engine"`
	Model         string `json:"model,omitempty"`
	Nodes         int    `json:"nodes"`
	// Procs are the engine processes in the order they start. Each is ready
	// before the next begins.
	Procs []Proc `json:"procs"`
	// OneShot runs the only proc to its end; the run is ready when it exits 0
	// and the supervisor then leaves without waiting for more.
	OneShot bool `json:"one_shot"`
	// Watched gives a OneShot run a door and agents while it runs, so that its
	// nodes are scraped; it then leaves no endpoint.
	Watched bool `json:"watched,omitempty"`
	// LoadCPUs is set apart for load generators beside the service: a CPU list
	// ("6-7") or a count ("2": the last two of the allocation); "" means none
	// is set apart and results say so.
	LoadCPUs string `json:"load_cpus"`
	// TelemetryPeriodS is how often series are appended; 2 at most.
	TelemetryPeriodS float64 `json:"telemetry_period_s"`
	// StopGraceS is how long engines get between TERM and KILL.
	StopGraceS float64 `json:"stop_grace_s"`
	// ReadyTimeoutS bounds the start of each proc.
	ReadyTimeoutS float64 `json:"ready_timeout_s"`
	// TimeLimitS is the job's time limit, for schedulers that do not tell the
	// job its end; 0 when unknown.
	TimeLimitS float64 `json:"time_limit_s,omitempty"`
	// Exposure is copied to the endpoint: none, node_users or network.
	Exposure string `json:"exposure"`
	// DataDir is the persist or data directory of the service, "" for none.
	// An engine script may replace it by writing $AIFBENCH_SCRATCH/data_dir.
	DataDir string `json:"data_dir,omitempty"`
	// ForwardOTLP gives the engine AIFBENCH_OTLP_ENDPOINT on loopback and
	// forwards what it pushes to the live monitors of the same home.
	ForwardOTLP bool `json:"forward_otlp"`
	// Monitors is set for the monitors service alone.
	Monitors *Monitors `json:"monitors,omitempty"`
}

// Proc is one engine process.
type Proc struct {
	// Name is a lower-case word: vllm, chroma, prometheus, collector, grafana, prepare.
	Name string `json:"name"`
	// Script is the name of an executable in the run directory. It finds
	// AIFBENCH_RUN_DIR, AIFBENCH_BIN, AIFBENCH_PORT (free, on 127.0.0.1),
	// AIFBENCH_PORT_<NAME> of every extra port, AIFBENCH_KEY_FILE,
	// AIFBENCH_SCRATCH (0700, node-local, removed at the end), TMPDIR (the
	// same, with a path short enough for sockets),
	// AIFBENCH_NODE_RANK, AIFBENCH_NNODES, AIFBENCH_HEAD_ADDR and
	// AIFBENCH_OTLP_ENDPOINT in its environment.
	Script string `json:"script"`
	// ExtraPorts are further free ports by name, e.g. OTLP_GRPC.
	ExtraPorts []string `json:"extra_ports,omitempty"`
	// Ready says when it answers; the zero value means: when it has exited 0.
	Ready Probe `json:"ready"`
	// MetricsPath is scraped through the door at /engine/<name><path>; "" for none.
	MetricsPath string `json:"metrics_path,omitempty"`
	// SendKey makes the door and the probes send the run's key to the engine
	// as a bearer token; the engine checks it.
	SendKey bool `json:"send_key"`
	// BasicUser makes SendKey present the key as the password of this user
	// instead of a bearer token: Prometheus knows no other way.
	BasicUser string `json:"basic_user,omitempty"`
	// Socket procs listen on the Unix socket AIFBENCH_SOCKET, in the 0700
	// scratch directory, instead of AIFBENCH_PORT: no other user of the node
	// can reach them.
	Socket bool `json:"socket,omitempty"`
	// Optional procs may fail without failing the run; a warning is recorded.
	Optional bool `json:"optional"`
	// AllNodes starts the script on every node of the job, rank by rank.
	AllNodes bool `json:"all_nodes"`
}

// Probe is how readiness is asked. All of Paths must answer 200.
type Probe struct {
	Paths []string `json:"paths,omitempty"`
	// Model must be listed by GET /v1/models when set.
	Model string `json:"model,omitempty"`
	// VersionPath answers {"version": "..."}; it is asked once, when ready, and
	// its silence is no failure. "" asks nothing.
	VersionPath string `json:"version_path,omitempty"`
}

// Monitors is what the supervisor of a monitors run needs beside its procs.
type Monitors struct {
	// Home is $AIFBENCH_HOME, whose live runs are discovered.
	Home            string  `json:"home"`
	ScrapeIntervalS float64 `json:"scrape_interval_s"`
	PrometheusBin   string  `json:"prometheus_bin"`
	CollectorBin    string  `json:"collector_bin,omitempty"`
	GrafanaBin      string  `json:"grafana_bin,omitempty"`
	RetentionTime   string  `json:"retention_time,omitempty"`
}

var procName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func (p Plan) check() error {
	if p.SchemaVersion != PlanVersion {
		return fmt.Errorf("read plan: schema_version %d, this program reads %d", p.SchemaVersion, PlanVersion)
	}
	if len(p.Procs) == 0 {
		return errors.New("read plan: no procs")
	}
	if p.OneShot && len(p.Procs) != 1 {
		return errors.New("read plan: a one_shot plan has exactly one proc")
	}
	seen := map[string]bool{}
	for _, q := range p.Procs {
		switch {
		case !procName.MatchString(q.Name):
			return fmt.Errorf("read plan: %q is not a name of a proc", q.Name)
		case seen[q.Name]:
			return fmt.Errorf("read plan: two procs are named %s", q.Name)
		case q.Script == "" || filepath.Base(q.Script) != q.Script:
			return fmt.Errorf("read plan: script %q of %s is not a file of the run directory", q.Script, q.Name)
		}
		seen[q.Name] = true
	}
	return nil
}

// readyAtExit tells whether the proc is ready when it has exited 0.
func (p Proc) readyAtExit() bool { return len(p.Ready.Paths) == 0 && p.Ready.Model == "" }
