package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"aifbench/pkg/services/run"
)

// probeTimeout bounds one question; an engine that loads a model may accept a
// connection long before it answers.
const probeTimeout = 5 * time.Second

// awaitReady waits until the engine answers all of its probe, ends, or the
// time is up.
func (s *supervisor) awaitReady(ctx context.Context, e *engine) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.readyTimeout(), errReadyTimeout)
	defer cancel()
	t := e.newTarget(s.key)
	defer func() {
		if e.target.Load() == nil {
			t.transport.CloseIdleConnections()
		}
	}()
	var last error = errors.New("it has not answered yet")
	pause := 50 * time.Millisecond
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), errReadyTimeout) {
				return &EngineError{Name: e.Name, Cause: fmt.Sprintf("not ready after %s: %v; its last line: %s", s.readyTimeout(), last, s.lastLine(e))}
			}
			return context.Cause(ctx)
		case <-e.p.Done():
			timer.Stop()
			code, err := e.p.Wait()
			if err != nil {
				return err
			}
			if e.readyAtExit() && code == 0 {
				return nil
			}
			if !e.readyAtExit() && s.portConflict(e) {
				return errPortTaken
			}
			if sleep(ctx, s.settle) != nil && !errors.Is(context.Cause(ctx), errReadyTimeout) {
				return context.Cause(ctx) // the scheduler ends all processes at once
			}
			return &EngineError{Name: e.Name, Code: code, Cause: fmt.Sprintf("ended with exit code %d before it was ready; its last line: %s", code, s.lastLine(e))}
		case <-timer.C:
		}
		pause = min(pause*3/2, 500*time.Millisecond)
		if e.readyAtExit() {
			continue
		}
		if !e.Socket {
			switch holder(e.port, e.p.PID()) {
			case heldByOther:
				return errPortTaken
			case heldByNobody:
				last = fmt.Errorf("nothing listens on its port %d", e.port)
				continue
			case heldByUs, heldUnknown:
			}
		}
		if last = ask(ctx, t, e.Ready); last == nil {
			e.target.Store(t)
			return nil
		}
		if wrong, ok := errors.AsType[*wrongModelError](last); ok {
			return &EngineError{Name: e.Name, Cause: wrong.Error()}
		}
	}
}

var errReadyTimeout = errors.New("ready timeout")

// portConflict tells whether an engine that ended did so because its port was
// taken.
func (s *supervisor) portConflict(e *engine) bool {
	if !e.Socket && holder(e.port, e.p.PID()) == heldByOther {
		return true
	}
	for _, ext := range []string{".err", ".out"} {
		tail, err := readTail(s.Dir.File(run.LogsDir, e.Name+s.logSuffix+ext), 4096)
		if err == nil && strings.Contains(strings.ToLower(string(tail)), "address already in use") {
			return true
		}
	}
	return false
}

// wrongModelError says that the server answers and serves something else.
type wrongModelError struct {
	want string
	got  []string
}

func (e *wrongModelError) Error() string {
	return fmt.Sprintf("it serves %.300q, not the model asked for, %q", e.got, e.want)
}

// ask puts all questions of a probe once.
func ask(ctx context.Context, t *target, p Probe) error {
	for _, path := range p.Paths {
		if _, err := get(ctx, t, path); err != nil {
			return err
		}
	}
	if p.Model == "" {
		return nil
	}
	body, err := get(ctx, t, "/v1/models")
	if err != nil {
		return err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("GET /v1/models: %w", err)
	}
	var got []string
	for _, m := range list.Data {
		if m.ID == p.Model {
			return nil
		}
		got = append(got, m.ID)
	}
	return &wrongModelError{want: p.Model, got: got}
}

// get asks the engine and returns the body of a 200.
func get(ctx context.Context, t *target, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	if t.auth != "" {
		req.Header.Set("Authorization", t.auth)
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
	}
	return body, nil
}

// version asks a ready engine for its version; silence is "".
func (e *engine) version(ctx context.Context) string {
	t := e.target.Load()
	if t == nil || e.Ready.VersionPath == "" {
		return ""
	}
	body, err := get(ctx, t, e.Ready.VersionPath)
	if err != nil {
		return ""
	}
	var v struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	return fmt.Sprintf("%.64s", v.Version)
}

// notes reads what engine scripts leave in the scratch directory: extra.json
// (a map of strings), data_dir and engine_version (one line each).
func (s *supervisor) notes() (extra map[string]string, dataDir, version string) {
	extra = map[string]string{}
	if err := run.ReadJSON(s.scratch+"/extra.json", &extra); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.warn(fmt.Sprintf("extra.json of the engine script: %v", err))
		extra = map[string]string{}
	}
	line := func(name string) string {
		raw, err := os.ReadFile(s.scratch + "/" + name)
		if err != nil {
			return ""
		}
		first, _, _ := strings.Cut(string(raw), "\n")
		return strings.TrimSpace(first)
	}
	dataDir = s.Plan.DataDir
	if d := line("data_dir"); d != "" {
		dataDir = d
	}
	return extra, dataDir, line("engine_version")
}
