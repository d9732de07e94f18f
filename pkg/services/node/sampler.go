package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// sampler reads the machine every period, keeps the last sample for the door,
// appends it to the run's telemetry, and holds the logs of engines to a size.
type sampler struct {
	s      *supervisor
	c      *probe.Collector
	file   *probe.Telemetry
	last   atomic.Pointer[probe.Sample]
	flush  chan chan error
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// smiDeadline bounds one nvidia-smi: a sick driver makes it hang.
const smiDeadline = 10 * time.Second

func (s *supervisor) startSampler() (*sampler, error) {
	file, err := probe.CreateTelemetry(s.Dir.File(run.TelemetryDir), s.Hostname)
	if err != nil {
		return nil, err
	}
	m := &sampler{s: s, file: file, flush: make(chan chan error)}
	m.c = &probe.Collector{Groups: s.groups, Now: s.Now}
	if s.Runner != nil {
		m.c.SMI = func(ctx context.Context, args []string) (stdout, stderr []byte, code int, found bool, err error) {
			out, err := s.Runner.Run(ctx, proc.Cmd{Name: "nvidia-smi", Args: args, Env: s.Environ, Deadline: smiDeadline})
			if errors.Is(err, proc.ErrNotFound) {
				return nil, nil, 0, false, nil
			}
			return out.Stdout, out.Stderr, out.Code, true, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.take(ctx)
	m.wg.Go(func() { m.loop(ctx) })
	return m, nil
}

func (m *sampler) latest() *probe.Sample { return m.last.Load() }

func (m *sampler) loop(ctx context.Context) {
	tick := time.NewTicker(m.s.telemetryPeriod())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case reply := <-m.flush:
			m.take(ctx)
			reply <- m.file.Sync()
		case <-tick.C:
			m.take(ctx)
			m.s.trimLogs()
		}
	}
}

func (m *sampler) take(ctx context.Context) {
	sample := m.c.Collect(ctx)
	m.last.Store(&sample)
	if err := m.file.Append(sample); err != nil {
		m.s.warn("telemetry is not written: " + err.Error())
	}
}

// sync appends one more sample and makes the file durable.
func (m *sampler) sync(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case m.flush <- reply:
		return <-reply
	}
}

func (m *sampler) close() error {
	m.cancel()
	m.wg.Wait()
	if err := m.file.Close(); err != nil {
		return fmt.Errorf("close telemetry: %w", err)
	}
	return nil
}

// Engine logs end at logLimit: a server that writes kilobytes a request would
// fill the run's file system during a long bench. The last logKeep bytes are
// kept in <name>.1.
const (
	logLimit = 64 << 20
	logKeep  = 1 << 20
)

// trimLogs empties a log in place: the engine holds the file open for
// appending, so its next write begins the file anew.
func (s *supervisor) trimLogs() {
	for _, e := range s.engines {
		for _, ext := range []string{".out", ".err"} {
			path := s.Dir.File(run.LogsDir, e.Name+s.logSuffix+ext)
			info, err := os.Stat(path)
			if err != nil || info.Size() < s.logLimit {
				continue
			}
			tail, err := readTail(path, logKeep)
			if err == nil {
				err = run.WriteFile(path+".1", tail)
			}
			if err == nil {
				err = os.Truncate(path, 0)
			}
			if err != nil {
				s.warn("trim log: " + err.Error())
				continue
			}
			s.warn(fmt.Sprintf("the log %s%s passed %d MiB and was cut; its end before that is in %s%s.1", e.Name, ext, s.logLimit>>20, e.Name, ext))
		}
	}
}
