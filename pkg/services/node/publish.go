package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"aifbench/pkg/services/monitors"
	"aifbench/pkg/services/run"
)

// publish writes endpoint.json and says so in the journal.
func (s *supervisor) publish(ctx context.Context) error {
	extra, dataDir, version := s.notes()
	ep := run.Endpoint{
		DoorURL: s.door.url(), Node: s.Hostname, Model: s.Plan.Model, DataDir: dataDir, EngineVersion: version, Extra: extra,
	}
	for _, e := range s.engines {
		t := e.target.Load()
		if t == nil {
			continue
		}
		if ep.EngineVersion == "" {
			ep.EngineVersion = e.version(ctx)
		}
		if !e.Socket {
			extra[e.Name+"_url"] = t.base.String()
		}
	}
	if first := s.primary(); !first.Socket {
		if t := first.target.Load(); t != nil {
			ep.LocalURL = t.base.String()
		}
	}
	if e := s.engine(monitors.Collector); s.Plan.Monitors != nil && e != nil && e.target.Load() != nil {
		extra["otlp"] = tunnelPath
	}
	if s.Plan.ForwardOTLP {
		extra["otlp_forwarded"] = strconv.FormatBool(s.otlpURL != "")
	}
	if len(s.cpus.load) > 0 {
		extra["load_cpus"], extra["engine_cpus"] = listCPUs(s.cpus.load), listCPUs(s.cpus.engines)
	}
	return s.writeEndpoint(ep)
}

func (s *supervisor) writeEndpoint(ep run.Endpoint) error {
	ep.SchemaVersion, ep.Nonce = run.SchemaVersion, s.Dir.Intent.Nonce
	ep.JobID, ep.PID, ep.Started = s.jobID(), s.pid, s.started
	ep.Engine, ep.Exposure = s.Plan.Engine, s.Plan.Exposure
	ep.Node = s.Hostname
	if w := s.warned(); len(w) > 0 {
		ep.Extra["warnings"] = strings.Join(w, "; ")
	}
	if err := run.WriteJSON(s.Dir.File(run.EndpointFile), ep); err != nil {
		return fmt.Errorf("publish endpoint: %w", err)
	}
	s.isReady = true
	if err := s.Dir.Append(s.Now(), run.Event{Kind: run.EventReady, JobID: ep.JobID, Node: s.Hostname}); err != nil {
		return fmt.Errorf("publish endpoint: %w", err)
	}
	s.Log.Info("ready", "door", ep.DoorURL, "local", ep.LocalURL)
	return nil
}

// unpublish takes the address away before anything ends, so that no new work
// comes.
func (s *supervisor) unpublish() {
	for _, f := range []string{s.Dir.File(run.EndpointFile), s.doorFile()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.warn("remove address: " + err.Error())
		}
	}
}
