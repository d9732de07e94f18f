// Package run owns the run directory: its layout, the intent and the journal
// in it, claims between shells that start the same thing, references to runs,
// and the removal of what a run owns. A run is one `start` or one `bench`.
// Nothing lives in memory between two commands; any command can pick up where
// another one left off by reading the directory. The package must not know
// Slurm's text, HTTP, or what a service does.
package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// SchemaVersion is the version of run.json, journal events, endpoint and sentinels.
const SchemaVersion = 1

// Param is one resolved parameter and where its value came from: flag, env,
// file, site, default.
type Param struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Binary names the copy of this program that the job runs.
type Binary struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Arch   string `json:"arch"`
}

// Intent is run.json: what was asked, written before anything is submitted and
// never changed afterwards.
type Intent struct {
	SchemaVersion int              `json:"schema_version"`
	ID            string           `json:"id"`
	Verb          string           `json:"verb"` // start or bench
	Service       string           `json:"service"`
	Engine        string           `json:"engine"`
	Nonce         string           `json:"nonce"`
	JobName       string           `json:"job_name"` // "" when the run has no job of its own
	Created       time.Time        `json:"created"`
	User          string           `json:"user"`
	Host          string           `json:"host"`
	Site          string           `json:"site"`
	Scheduler     string           `json:"scheduler"` // slurm or local
	Params        map[string]Param `json:"params"`
	ParamsHash    string           `json:"params_hash"`
	Nodes         int              `json:"nodes"`
	Exposure      string           `json:"exposure"` // none, node_users or network
	Where         string           `json:"where,omitempty"`
	Target        string           `json:"target,omitempty"`
	Binary        Binary           `json:"binary"`
	OwnedPaths    []string         `json:"owned_paths"`
}

// Dir is one run directory whose intent was read.
type Dir struct {
	Path   string
	Intent Intent
}

// ID returns the run's id.
func (d Dir) ID() string { return d.Intent.ID }

// File returns the path of a file of the run.
func (d Dir) File(elem ...string) string {
	return filepath.Join(append([]string{d.Path}, elem...)...)
}

// Names of the files and directories of a run.
const (
	IntentFile   = "run.json"
	ScriptFile   = "job.sbatch"
	EngineScript = "engine.sh"
	PlanFile     = "node.json"
	SpecFile     = "bench.json"
	EndpointFile = "endpoint.json"
	KeyFile      = "key"
	ResultFile   = "result.json"
	ProgressFile = "progress.json"
	JournalDir   = "journal"
	RequestsDir  = "requests"
	SentinelDir  = "sentinel.d"
	DoorsDir     = "doors"
	LogsDir      = "logs"
	TelemetryDir = "telemetry"
)

// Errors to branch on.
var (
	// ErrNotFound: no run answers to the reference.
	ErrNotFound = errors.New("no such run")
	// ErrAmbiguous: more than one run answers to the reference.
	ErrAmbiguous = errors.New("more than one run")
	// ErrDamaged: the directory is there but its intent cannot be read.
	ErrDamaged = errors.New("damaged run directory")
)

var idPattern = regexp.MustCompile(`^[a-z][a-z0-9-]*-[0-9]{8}-[0-9]{6}-[a-z2-7]{4}$`)

// ValidID tells whether s has the shape of a run id.
func ValidID(s string) bool { return idPattern.MatchString(s) }

// Open reads the run directory at path. A missing directory is ErrNotFound, an
// unreadable or half-written one ErrDamaged with the cause.
func Open(path string) (Dir, error) {
	var in Intent
	if err := readIntent(path, &in); err != nil {
		return Dir{}, err
	}
	return checked(path, in)
}

// openBrief is Open without the parameters, which are nine tenths of the work
// of reading an intent.
func openBrief(path string) (Dir, error) {
	var in struct {
		Intent
		Params struct{} `json:"params"` // hides the field of Intent
	}
	if err := readIntent(path, &in); err != nil {
		return Dir{}, err
	}
	return checked(path, in.Intent)
}

func readIntent(path string, in any) error {
	raw, err := os.ReadFile(filepath.Join(path, IntentFile))
	if err != nil {
		if _, serr := os.Stat(path); errors.Is(serr, os.ErrNotExist) {
			return fmt.Errorf("open run %s: %w", filepath.Base(path), ErrNotFound)
		}
		return fmt.Errorf("open run %s: %w: %w", filepath.Base(path), ErrDamaged, err)
	}
	if err := json.Unmarshal(raw, in); err != nil {
		return fmt.Errorf("open run %s: %w: %s: %w", filepath.Base(path), ErrDamaged, IntentFile, err)
	}
	return nil
}

func checked(path string, in Intent) (Dir, error) {
	if in.SchemaVersion != SchemaVersion {
		return Dir{}, fmt.Errorf("open run %s: %w: schema_version %d, this program reads %d", filepath.Base(path), ErrDamaged, in.SchemaVersion, SchemaVersion)
	}
	if in.ID != filepath.Base(path) || !ValidID(in.ID) {
		return Dir{}, fmt.Errorf("open run %s: %w: %s names another run %q", filepath.Base(path), ErrDamaged, IntentFile, in.ID)
	}
	return Dir{Path: path, Intent: in}, nil
}
