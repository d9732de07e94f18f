package run

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Endpoint is endpoint.json: where a ready service answers. The supervisor
// writes it when the service is ready and removes it when it stops.
type Endpoint struct {
	SchemaVersion int               `json:"schema_version"`
	Nonce         string            `json:"nonce"`
	LocalURL      string            `json:"local_url"` // loopback of the node; for load beside the service; "" when there is no engine
	DoorURL       string            `json:"door_url"`  // the only port open to other nodes; wants the run's key
	Node          string            `json:"node"`
	JobID         string            `json:"job_id"`
	PID           int               `json:"pid"`
	Started       time.Time         `json:"started"`
	Engine        string            `json:"engine"`
	EngineVersion string            `json:"engine_version,omitempty"`
	Model         string            `json:"model,omitempty"`
	DataDir       string            `json:"data_dir,omitempty"` // persist or data directory
	Exposure      string            `json:"exposure"`
	Extra         map[string]string `json:"extra,omitempty"` // e.g. otlp_url, grafana_url, collector_url, fs_type
}

// ReadEndpoint returns the endpoint of the run; os.ErrNotExist is wrapped when
// the run is not ready.
func (d Dir) ReadEndpoint() (Endpoint, error) {
	var e Endpoint
	if err := ReadJSON(d.File(EndpointFile), &e); err != nil {
		return e, fmt.Errorf("endpoint of %s: %w", d.ID(), err)
	}
	if e.Nonce != d.Intent.Nonce {
		return e, fmt.Errorf("endpoint of %s: %w: written by another run", d.ID(), ErrDamaged)
	}
	return e, nil
}

// Door is doors/<host>.json: one door, the supervisor's or an agent's.
type Door struct {
	SchemaVersion int    `json:"schema_version"`
	Host          string `json:"host"`
	URL           string `json:"url"`
	PID           int    `json:"pid"`
	// MetricsPaths are the scrape paths behind the door, e.g. /metrics, /engine/metrics.
	MetricsPaths []string `json:"metrics_paths"`
}

// Sentinel phases.
const (
	SentinelStarted   = "started"
	SentinelDraining  = "draining"
	SentinelTruncated = "truncated"
	SentinelEnded     = "ended"
)

// Sentinel is sentinel.d/<host>.json: what the process inside the job says of
// itself. It outranks the scheduler for times and completeness; a process that
// was killed leaves only `started`.
type Sentinel struct {
	SchemaVersion int        `json:"schema_version"`
	Nonce         string     `json:"nonce"`
	Host          string     `json:"host"`
	JobID         string     `json:"job_id"`
	PID           int        `json:"pid"`
	Phase         string     `json:"phase"`
	Started       time.Time  `json:"started"`
	Updated       time.Time  `json:"updated"`
	ExitCode      *int       `json:"exit_code"`
	RestartCount  int        `json:"restart_count"`
	Complete      bool       `json:"complete"`
	Message       string     `json:"message,omitempty"`
	Ended         *time.Time `json:"ended,omitempty"`
}

// WriteSentinel writes the sentinel of this host.
func (d Dir) WriteSentinel(s Sentinel) error {
	s.SchemaVersion, s.Nonce = SchemaVersion, d.Intent.Nonce
	return WriteJSON(d.File(SentinelDir, fileWord(s.Host)+".json"), s)
}

// Sentinels reads all sentinels that carry the run's nonce; files that cannot
// be read are returned as problems.
func (d Dir) Sentinels() ([]Sentinel, []error) {
	entries, err := os.ReadDir(d.File(SentinelDir))
	if err != nil {
		return nil, []error{fmt.Errorf("sentinels of %s: %w", d.ID(), err)}
	}
	var out []Sentinel
	var problems []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		var s Sentinel
		if err := ReadJSON(d.File(SentinelDir, e.Name()), &s); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				problems = append(problems, fmt.Errorf("sentinels of %s: %w", d.ID(), err))
			}
			continue
		}
		if s.Nonce != d.Intent.Nonce {
			problems = append(problems, fmt.Errorf("sentinels of %s: %s carries another run's nonce", d.ID(), e.Name()))
			continue
		}
		out = append(out, s)
	}
	return out, problems
}

// Key reads the run's secret.
func (d Dir) Key() (string, error) {
	raw, err := os.ReadFile(d.File(KeyFile))
	if err != nil {
		return "", fmt.Errorf("key of %s: %w", d.ID(), err)
	}
	k := strings.TrimSpace(string(raw))
	if k == "" {
		return "", fmt.Errorf("key of %s: %w: the key file is empty", d.ID(), ErrDamaged)
	}
	return k, nil
}

// KeyMatches compares a presented key in constant time.
func KeyMatches(key, presented string) bool {
	return subtle.ConstantTimeCompare([]byte(key), []byte(presented)) == 1
}

// fileWord makes a host name safe as a file name.
func fileWord(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, s)
}
