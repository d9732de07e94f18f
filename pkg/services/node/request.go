package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// Bounds of a request that is answered through files.
const (
	requestTimeout = 60 * time.Second
	requestBytes   = 8 << 20
)

// clerk takes the requests of a run: benches one at a time, in the order they
// were asked; everything else at once.
type clerk struct {
	s       *supervisor
	seen    map[string]bool
	benches chan run.Request
	wg      sync.WaitGroup
}

// takeRequests serves until the context ends, then lets the running bench save
// and answers those that wait. It returns when all are answered.
func (s *supervisor) takeRequests(ctx context.Context) {
	c := &clerk{s: s, seen: map[string]bool{}, benches: make(chan run.Request, 1024)}
	c.wg.Go(func() {
		for r := range c.benches {
			c.bench(ctx, r)
		}
	})
	tick := time.NewTicker(s.Poll)
	defer tick.Stop()
	for {
		c.poll(ctx)
		select {
		case <-ctx.Done():
			close(c.benches)
			c.wg.Wait()
			return
		case <-tick.C:
		}
	}
}

func (c *clerk) poll(ctx context.Context) {
	requests, problems := c.s.Dir.Requests()
	for _, p := range problems {
		c.s.warn("requests: " + p.Error())
	}
	for _, r := range requests {
		if c.seen[r.ID] || ctx.Err() != nil {
			continue
		}
		c.seen[r.ID] = true
		switch r.Kind {
		case run.RequestBench:
			// Accepted first: the answer that follows must not be overwritten.
			c.reply(run.Answer{ID: r.ID, State: run.AnswerAccepted, Message: "waits for its turn"})
			select {
			case c.benches <- r:
			default:
				c.fail(r, "too many benches wait")
			}
		case run.RequestHTTP:
			c.wg.Go(func() { c.http(ctx, r) })
		case run.RequestFlush:
			c.wg.Go(func() { c.flush(ctx, r) })
		default:
			c.fail(r, fmt.Sprintf("unknown kind %.60q", r.Kind))
		}
	}
}

func (c *clerk) reply(a run.Answer) {
	a.Updated = c.s.Now().UTC()
	if err := c.s.Dir.Reply(a); err != nil {
		c.s.warn("answer request: " + err.Error())
	}
}

func (c *clerk) fail(r run.Request, why string) {
	c.reply(run.Answer{ID: r.ID, State: run.AnswerFailed, Message: why})
}

// bench runs the generator of a bench's directory beside the service. It is
// done when the generator leaves a result, whatever its exit code: the result
// says how it went.
func (c *clerk) bench(ctx context.Context, r run.Request) {
	if ctx.Err() != nil {
		c.fail(r, "the service stopped before this bench began")
		return
	}
	dir, err := run.Open(r.BenchDir)
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	p, err := c.startLoad(dir)
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	c.reply(run.Answer{ID: r.ID, State: run.AnswerAccepted, Message: fmt.Sprintf("runs as process %d", p.PID())})
	stopped := false
	select {
	case <-p.Done():
	case <-ctx.Done():
		stopped = true
		c.s.signal("load generator", p, syscall.SIGTERM)
		timer := time.NewTimer(c.s.drainLimit(context.Cause(ctx)))
		defer timer.Stop()
		select {
		case <-p.Done():
		case <-timer.C:
			c.s.warn("the load generator of " + dir.ID() + " did not save in time and was killed")
			c.s.signal("load generator", p, syscall.SIGKILL)
		}
	}
	code, err := p.Wait()
	c.s.signal("load generator", p, syscall.SIGKILL) // helpers it left behind
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	a := run.Answer{ID: r.ID, State: run.AnswerDone, ExitCode: &code}
	if _, err := os.Stat(dir.File(run.ResultFile)); err != nil {
		a.State = run.AnswerFailed
		a.Message = fmt.Sprintf("the generator ended with exit code %d and left no result; see its logs", code)
	}
	if stopped {
		a.Message = strings.TrimPrefix(a.Message+"; the service was stopped while it ran", "; ")
	}
	c.reply(a)
}

func (c *clerk) startLoad(dir run.Dir) (*proc.Process, error) {
	if dir.Intent.Verb != "bench" {
		return nil, fmt.Errorf("start load: %s is not a bench", dir.ID())
	}
	stdout, err := openLog(dir, "load.out")
	if err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	defer stdout.Close()
	stderr, err := openLog(dir, "load.err")
	if err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	defer stderr.Close()
	p, err := c.s.Start(proc.StartSpec{
		Cmd:    proc.Cmd{Name: c.s.Bin, Args: []string{"node", "load", "--run", dir.Path}, Dir: dir.Path, Env: c.s.Environ},
		Stdout: stdout, Stderr: stderr, CPUs: c.s.cpus.load,
	})
	if err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	return p, nil
}

// http puts one question to an engine for a shell that cannot reach the door.
func (c *clerk) http(ctx context.Context, r run.Request) {
	e := c.s.primary()
	if r.Engine != "" {
		e = c.s.engine(r.Engine)
	}
	if e == nil {
		c.fail(r, fmt.Sprintf("no engine is named %.60q", r.Engine))
		return
	}
	t := e.target.Load()
	switch {
	case t == nil:
		c.fail(r, e.Name+" is not ready")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		c.fail(r, "only GET and POST are forwarded")
		return
	case !strings.HasPrefix(r.Path, "/"):
		c.fail(r, "the path must begin with /")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, t.base.String()+r.Path, bytes.NewReader([]byte(r.Body)))
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	if t.auth != "" {
		req.Header.Set("Authorization", t.auth)
	}
	if r.Method == http.MethodPost {
		req.Header.Set("Content-Type", contentType(r.Body))
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, requestBytes+1))
	if err != nil {
		c.fail(r, err.Error())
		return
	}
	if len(body) > requestBytes {
		c.fail(r, fmt.Sprintf("the answer is larger than %d bytes", requestBytes))
		return
	}
	c.reply(run.Answer{ID: r.ID, State: run.AnswerDone, Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Body: body})
}

// contentType tells a form (PromQL is posted as one) from JSON.
func contentType(body string) string {
	if b := strings.TrimSpace(body); strings.HasPrefix(b, "{") || strings.HasPrefix(b, "[") {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

func (c *clerk) flush(ctx context.Context, r run.Request) {
	if err := c.s.sampler.sync(ctx); err != nil {
		c.fail(r, err.Error())
		return
	}
	c.reply(run.Answer{ID: r.ID, State: run.AnswerDone, Message: "telemetry is on disk"})
}
