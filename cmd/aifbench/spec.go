package main

import (
	"encoding/json"
	"fmt"
	"time"

	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// Places where load is made.
const (
	whereBeside = "beside" // in the service's own job, started by its supervisor
	whereJob    = "job"    // in a job of its own
	whereHere   = "here"   // in this shell
)

// spec is bench.json: what a generator is told. It names files, never secrets.
type spec struct {
	SchemaVersion int             `json:"schema_version"`
	Service       string          `json:"service"`
	Where         string          `json:"where"`
	Target        string          `json:"target"` // run id of the service, "" for a URL or path
	TargetDir     string          `json:"target_dir"`
	Engine        string          `json:"engine"`
	Workload      json.RawMessage `json:"workload"`
	Gates         []string        `json:"gates"`
	LoadCPUs      string          `json:"load_cpus"`
	Warnings      []string        `json:"warnings"`
}

const specVersion = 1

func readSpec(d runs.Dir) (spec, error) {
	var s spec
	if err := runs.ReadJSON(d.File(runs.SpecFile), &s); err != nil {
		return s, fmt.Errorf("bench of %s: %w", d.ID(), err)
	}
	if s.SchemaVersion != specVersion {
		return s, fmt.Errorf("bench of %s: schema_version %d, this program reads %d", d.ID(), s.SchemaVersion, specVersion)
	}
	return s, nil
}

// gateSpecs parses the gates of a spec.
func gateSpecs(exprs []string) ([]result.GateSpec, error) {
	out := make([]result.GateSpec, 0, len(exprs))
	for _, e := range exprs {
		g, err := result.ParseGate(e)
		if err != nil {
			return nil, usage("--gate: "+err.Error(), "write FIGURE<=NUMBER; docs/figures.md lists the figures")
		}
		out = append(out, g)
	}
	return out, nil
}

// askFile is how another process tells a generator to stop early.
const askFile = "ask"

// askGenerator asks the generator of a bench run to drain and save.
func askGenerator(d runs.Dir, word string) error {
	return runs.WriteFile(d.File(askFile), []byte(word+"\n"))
}

// progressDoc is progress.json.
type progressDoc struct {
	SchemaVersion int       `json:"schema_version"`
	Updated       time.Time `json:"updated"`
	Point         string    `json:"point"`
	Phase         string    `json:"phase"`
	Done          int64     `json:"done"`
	Failed        int64     `json:"failed"`
	Total         int64     `json:"total"`
	Share         float64   `json:"share"`
}
