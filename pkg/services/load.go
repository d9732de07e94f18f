package services

import (
	"time"

	"aifbench/pkg/services/node"
	"aifbench/pkg/slurm"
)

type loadScript struct{ RunDir string }

// LoadPlan is the plan of a load generator that has a job of its own, and the
// script its supervisor runs to the end.
func LoadPlan(service, runDir string, h slurm.Header) (node.Plan, Script) {
	script := Script{Name: "engine.sh", Template: "engine-load.sh.tmpl", Data: loadScript{runDir}}
	return node.Plan{
		SchemaVersion: node.PlanVersion, Service: service, Engine: "load", Nodes: max(1, h.Nodes), OneShot: true, Watched: true, TelemetryPeriodS: 2,
		// The generator drains and saves before it goes; its end is the job's.
		StopGraceS: 25, ReadyTimeoutS: max(h.Time, time.Minute).Seconds(), TimeLimitS: h.Time.Seconds(), Exposure: "none",
		Procs: []node.Proc{{Name: "load", Script: script.Name}},
	}, script
}
